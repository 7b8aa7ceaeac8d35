package main

// Call runs archive-cmd within the test's process.
var Call = program.Call

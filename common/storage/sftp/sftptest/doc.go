// Package sftptest runs OpenSSH's server for tests, and stands between it and a client.
package sftptest

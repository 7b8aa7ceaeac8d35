// Package account acts for the user to whom a directory belongs. A program that runs as root gives that user the files that it
// makes there, and runs programs as that user. Where the program does not run as root, and on Windows, everything stays its
// own user's.
package account

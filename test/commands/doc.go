// Package commands tests the programs as people use them: real processes on ports
// of their own, command lines, exit codes, what is printed and where.
//
// The one invariant: every test says something a user could rely on; how it comes
// about is tested beside the code. Nothing here asserts how long something takes,
// but the log names it. Start at TestHello in call_test.go.
package commands

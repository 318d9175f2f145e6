// Package foreign drives a real mdbroker process with the ZeroMQ peers that exist:
// libzmq under python3-zmq and php-zmq, speaking MDP/0.1, MDP/0.2 and their
// dialects, well and badly. It has tests only.
//
// The one invariant: the broker under test is a separate process and its peers are
// not written in Go, so that nothing of ours can agree with itself by accident.
//
// Start with harness_test.go (the broker, the peers) and forms_test.go (what each
// dialect writes); then one file per topic.
package foreign

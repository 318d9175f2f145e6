// Package federation breaks what is between brokers, and brokers beside brokers, and
// looks at what becomes of the calls: brokers are real processes, where it matters on
// hosts of their own (network namespaces) whose cable is unplugged, cut one way, shaken
// and made to lose packets; workers write down each execution, callers each answer.
// It has tests only.
//
// The one invariant: a call ends once, with its own answer or with an error its caller
// must expect; what a `once` call asked for is executed at most once, and every further
// execution of any call is a counted attempt. Outcomes and counters are asserted, times
// are printed; a guard of ten times what is promised ends what hangs.
//
// Start with partition_test.go; what all tests share is in site_test.go (brokers,
// workers), load_test.go (callers) and ledger_test.go (executions).
package federation

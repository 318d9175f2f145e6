package main

// allListings are the questions to the broker that have a command of their own.
// Keys are a contract: more may come, these stay.
var allListings = []listing{
	{
		name: "services", question: "mmi.services", short: "List services: workers, queue, what happened so far",
		text: "Counters are of\nthis broker, since its start.",
		columns: []column{{"SERVICE", "name"}, {"WORKERS", "workers"}, {"IDLE", "idle"}, {"QUEUE", "queue"}, {"RUNNING", "running"},
			{"PEERS", "peers"}, {"MEAN_US", "mean_us"}, {"ANSWERED", "answered"}, {"FAILED", "failed"}, {"REDELIVERED", "redelivered"}},
		keys: [][2]string{
			{"name", "of the service"}, {"workers", "sessions of workers here"}, {"idle", "of those, with nothing to do"},
			{"queue", "requests that wait"}, {"running", "requests given to a worker or peer"},
			{"oldest_ms", "age of the oldest that waits"}, {"mean_us", "mean time of a call at the worker"},
			{"wait", "from entry to the first dispatch: count, mean_us, p50_us, p99_us"}, {"run", "from dispatch to the answer, the same"},
			{"octets", "of all its requests held"}, {"peers", "linked brokers that offer it"},
			{"requests", "taken so far"}, {"answered", "with a final"}, {"failed", "with an error"},
			{"returned", "to the linked broker that sent them, not started here"},
			{"redelivered", "given to another worker"}, {"late", "answers after the first"}, {"expired", "deadline passed"},
			{"cancelled", "given up by the client"}, {"offloaded", "given to a peer"}, {"busy", "refused for want of room"},
		},
	},
	{
		name: "workers", question: "mmi.workers", short: "List worker sessions",
		text: "Those at linked brokers are not\namong them.",
		columns: []column{{"SERVICE", "service"}, {"REMOTE", "remote"}, {"DIALECT", "dialect"}, {"HOST", "host"}, {"PID", "pid"},
			{"SCOPE", "scope"}, {"CONCURRENCY", "concurrency"}, {"RUNNING", "running"}, {"SUSPECT", "suspect"}},
		keys: [][2]string{
			{"service", "it offers"}, {"remote", "address of its connection"}, {"dialect", "native, 0.1 or 0.2"},
			{"host", "it runs on (native only)"}, {"pid", "there (native only)"}, {"version", "of its library (native only)"},
			{"scope", "mesh, or local: not offered to peers"}, {"tags", "it gave itself, if any"},
			{"concurrency", "requests it runs at once"}, {"running", "requests it has"},
			{"draining", "true: takes no more"}, {"since_ms", "age of the session"},
			{"suspect", "true: silent since it was given a request"}, {"rtt_us", "round trip of probes, 0: unknown"},
		},
	},
	{
		name: "brokers", question: "mmi.brokers", short: "List the broker asked and those linked with it",
		text:    "Clients and\nworkers learn from it where else to go.",
		columns: []column{{"NAME", "name"}, {"SELF", "self"}, {"ENDPOINTS", "endpoints"}, {"PUBLISH", "publish"}, {"SUBSCRIBE", "subscribe"}},
		keys: [][2]string{
			{"name", "of the broker"}, {"incarnation", "another with each start"}, {"self", "true: the one that answers"},
			{"endpoints", "for clients and workers; empty if it advertises none"}, {"publish", "for PUB sockets, if any"},
			{"subscribe", "for SUB sockets, if any"},
		},
	},
	{
		name: "peers", question: "mmi.peers", short: "List links to other brokers",
		text: "Those that are down are\namong them: configured ones, and for ten minutes those that others dialled.",
		columns: []column{{"NAME", "name"}, {"ENDPOINT", "endpoint"}, {"STATE", "state"}, {"RTT_US", "rtt_us"}, {"SINCE_MS", "since_ms"},
			{"REASON", "reason"}, {"ERROR", "error"}},
		keys: [][2]string{
			{"name", "of the peer, if known"}, {"endpoint", "dialled, or its address"}, {"state", "up; slow: late; blocked: works and gets nothing; down"},
			{"reason", "of slow and blocked"}, {"zone", "where the peer stands"}, {"cost_us", "configured for the link"},
			{"events_lost", "that did not come over the link"},
			{"reads", "system calls that brought something over the link, since it came up"},
			{"writes", "system calls that sent something over it"},
			{"dialled", "true: by this broker"}, {"since_ms", "in this state"}, {"rtt_us", "round trip, if up"},
			{"error", "the last, if down"},
		},
	},
	{
		name: "poison", question: "mmi.poison", short: "List the last requests that no worker survived",
		text:    "The broker gives a\nrequest up after three attempts, and remembers the last 100 of them.",
		columns: []column{{"ID", "id"}, {"SERVICE", "service"}, {"ATTEMPTS", "attempts"}, {"OCTETS", "octets"}, {"AGE_MS", "age_ms"}, {"REASON", "reason"}},
		keys: [][2]string{
			{"id", "of the request"}, {"service", "it was for"}, {"attempts", "made"}, {"octets", "of memory it took up: body, frames and what the broker notes of it"},
			{"reason", "of the last failure"}, {"worker", "that had it last"}, {"at_ms", "since the broker's start"}, {"age_ms", "since it was given up"},
		},
	},
}

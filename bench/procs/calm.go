package procs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// calm is the part of the processor time it wanted that a machine may be denied by its
// hypervisor while something is measured: more shows in tails of latency, and less is rare.
const calm = 0.01

// Calmest measures until the machine was left alone meanwhile, at most so many times,
// and returns the result of the calmest time, with the part of the processor time that
// was stolen, of all that was wanted: 0 where the kernel tells of none.
func Calmest[T any](tries int, measure func() (T, error)) (best T, stolen float64, err error) {
	return calmest(tries, readMachine, measure)
}

func calmest[T any](tries int, read func() machine, measure func() (T, error)) (best T, stolen float64, err error) {
	for try := range max(tries, 1) {
		before := read()
		one, err := measure()
		if err != nil {
			return one, 0, err
		}
		part := read().stolenSince(before)
		if try == 0 || part < stolen {
			best, stolen = one, part
		}
		if part <= calm {
			break
		}
		if try+1 < tries {
			fmt.Printf("  the hypervisor took %.1f %% of it: once more\n", 100*part)
		}
	}
	return best, stolen, nil
}

// machine is what all processors have done so far, in ticks.
type machine struct{ busy, stolen int64 }

func readMachine() machine {
	text, _ := os.ReadFile("/proc/stat") // without it nothing was stolen
	return parseMachine(string(text))
}

// parseMachine reads the first line of /proc/stat: user, nice, system, idle, iowait,
// irq, softirq, steal, and guests, which are in user and nice already.
func parseMachine(stat string) (m machine) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return machine{}
	}
	at := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel writes numbers
		return n
	}
	return machine{busy: at(1) + at(2) + at(3) + at(6) + at(7), stolen: at(8)}
}

func (m machine) stolenSince(before machine) float64 {
	wanted := m.busy - before.busy + m.stolen - before.stolen
	return float64(m.stolen-before.stolen) / float64(max(wanted, 1))
}

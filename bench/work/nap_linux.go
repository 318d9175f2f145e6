package work

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// alarm is a timer of the kernel's, which the runtime waits for as for a connection.
// time.Sleep is no such: the runtime waits in whole milliseconds, so that a sleep is
// half of one too long in the mean.
type alarm struct {
	file *os.File
	fd   int
}

var alarms = sync.Pool{New: func() any {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		panic(fmt.Sprintf("work: create a timer: %v", err)) // no descriptors
	}
	return &alarm{os.NewFile(uintptr(fd), "timer"), fd}
}}

// sleepUntil returns when Now is at.
func sleepUntil(at time.Duration) {
	a := alarms.Get().(*alarm)
	defer alarms.Put(a)
	when := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(at), 1))} // 0 would switch it off
	if err := unix.TimerfdSettime(a.fd, unix.TFD_TIMER_ABSTIME, &when, nil); err != nil {
		panic(fmt.Sprintf("work: set a timer: %v", err))
	}
	var count [8]byte
	_, _ = a.file.Read(count[:])
}

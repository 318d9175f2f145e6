package rig

import "golang.org/x/sys/unix"

// descriptors sets how many descriptors a live process may have, unless limit is nil,
// and tells how many it might before.
func descriptors(pid int, limit *unix.Rlimit) (before unix.Rlimit, err error) {
	err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, limit, &before)
	return before, err
}

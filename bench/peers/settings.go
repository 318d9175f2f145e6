package main

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings come from the environment, because that is what make passes on.
type settings struct {
	rounds   int           // ROUNDS=5
	duration time.Duration // DURATION=3s, of one measurement
	parts    []string      // PARTS=grid,idle,memory,overload
	shapes   []string      // SHAPES=i,ii,... (default all)
	idlers   int           // IDLE=2000 connections
	minutes  float64       // MINUTES=1 of shape iii, watching memory
	out      string        // OUT=bench/results/peers.json
}

func fromEnvironment() (s settings, err error) {
	s.out = cmp.Or(os.Getenv("OUT"), "bench/results/peers.json")
	s.parts = strings.Split(cmp.Or(os.Getenv("PARTS"), "grid,idle,memory,overload"), ",")
	if list := os.Getenv("SHAPES"); list != "" {
		s.shapes = strings.Split(list, ",")
	}
	number := func(name, otherwise string) float64 {
		v, e := strconv.ParseFloat(cmp.Or(os.Getenv(name), otherwise), 64)
		if (e != nil || v <= 0) && err == nil {
			err = fmt.Errorf("%s=%s: give a number above 0", name, os.Getenv(name))
		}
		return v
	}
	s.rounds, s.idlers, s.minutes = int(number("ROUNDS", "5")), int(number("IDLE", "2000")), number("MINUTES", "1")
	duration, e := time.ParseDuration(cmp.Or(os.Getenv("DURATION"), "3s"))
	if (e != nil || duration <= 0) && err == nil {
		err = fmt.Errorf("DURATION=%s: give a time such as 3s", os.Getenv("DURATION"))
	}
	s.duration = duration
	return s, err
}

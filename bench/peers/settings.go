package main

import (
	"time"

	"github.com/mdmesh/mdmesh/bench/setting"
)

// settings come from the environment.
type settings struct {
	rounds   int           // ROUNDS=5
	duration time.Duration // DURATION=3s, of one measurement
	parts    []string      // PARTS=grid,idle,memory,overload
	shapes   []string      // SHAPES=i,ii,... (default all)
	systems  []string      // SYSTEMS=mdmesh,plain,... (default all)
	idlers   int           // IDLE=2000 connections
	minutes  float64       // MINUTES=1 of shape iii, watching memory
	out      string        // OUT=bench/results/peers.json
}

func fromEnvironment() (settings, error) {
	var env setting.Env
	s := settings{
		rounds: int(env.Number("ROUNDS", "5")), duration: env.Duration("DURATION", "3s"),
		parts: env.Words("PARTS", "grid,idle,memory,overload"), shapes: env.Words("SHAPES", ""), systems: env.Words("SYSTEMS", ""),
		idlers: int(env.Number("IDLE", "2000")), minutes: env.Number("MINUTES", "1"), out: env.Text("OUT", "bench/results/peers.json"),
	}
	return s, env.Err
}

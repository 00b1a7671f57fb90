"""Demand and catalogue in, a plan out; the simulator replays it."""

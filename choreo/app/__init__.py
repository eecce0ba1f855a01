"""Use cases: run a step, track, publish, operate, ask. Each takes the ports it needs and knows no adapter."""

"""Use cases: run a step, track, publish, operate, query. Each takes the ports it needs and knows no adapter."""

"""The pure core: flows, the fold of the log, the tracker's decisions. No clock, no I/O, no ids of its own making."""

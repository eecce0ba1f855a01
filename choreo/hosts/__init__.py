"""The loops: what polls, waits and commits. What follows from a record is decided in `app` and `core`."""

"""The interfaces that choreo needs, one small Protocol a file. Adapters implement them; each port has one suite."""

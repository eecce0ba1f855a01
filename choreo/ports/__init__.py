"""What choreo needs of the outside, one small Protocol a file. Adapters implement them, held to one suite a port."""

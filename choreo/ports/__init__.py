"""What choreo needs of the outside, one small Protocol a file. Adapters implement them, one conformance suite per port."""

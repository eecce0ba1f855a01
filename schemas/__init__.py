"""The contract of the reference flow: its event classes, and beside them the Avro schemas frozen from these."""

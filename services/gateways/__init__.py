"""Small simulated outside systems, each with durable books of its own. They know nothing of choreo or of events."""

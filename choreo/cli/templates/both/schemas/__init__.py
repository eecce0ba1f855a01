"""The contract: event classes, and their frozen schemas beside them."""

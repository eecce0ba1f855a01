"""What users and choreo itself test with: given/when/then, the virtual clock, the conformance suites."""

from choreo.testing.given import Story, Telling, elapsed, event, foreign, given, twin, undo

__all__ = ["Story", "Telling", "elapsed", "event", "foreign", "given", "twin", "undo"]

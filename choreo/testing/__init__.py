"""What users and choreo itself test with: given/when/then, the virtual clock, the conformance suites."""

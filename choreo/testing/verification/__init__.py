"""Verification: every reachable state of the real core for a flow, under every order of outcomes and faults."""

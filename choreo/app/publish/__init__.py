"""Publish events from outside: check the key, ask whether a run awaits the event, append it.

Parts in the order in which an event passes through them: `awaiting`, `publisher`.
"""

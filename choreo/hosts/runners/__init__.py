"""Runners: call handlers off the host's event loop, so that none of them delays a heartbeat or another key.

In the order in which an attempt passes through them: `port` (an attempt, its result, and the interface that a host
uses), `runners` (the event loop of async handlers, and the choice between it and threads), `threads` (plain handlers
and those that block). `watchdog` times attempts out.
"""

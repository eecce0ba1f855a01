"""The bound of every wait for a fact on real servers.

A wait ends the moment its fact is true: a generous bound costs nothing, a tight one fails on a busy machine.
"""

from __future__ import annotations

PATIENCE_S = 180.0
"""Seconds until a fact counts as missing; three times as long as the slowest that was seen on two busy cores."""

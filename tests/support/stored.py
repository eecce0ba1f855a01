"""The stored form of a state in the tracker's changelog."""

from choreo.adapters.faust.stored_state import pack
from choreo.core.state import KeyState, encode
from choreo.core.timers import next_due
from choreo.ports.state import StateRow


def stored(state: KeyState) -> bytes:
    """Return the value of its record in the changelog; key and partition are no part of it."""
    return pack(StateRow("", 0, "", state.position, encode(state), next_due(state), state.unacknowledged))

"""A state as the tracker on Kafka stores it, made from nothing but the state."""

from choreo.core.due import next_due
from choreo.core.state import KeyState, encode
from choreo.hosts.tracker_faust_partition import pack
from choreo.ports.state import StateRow


def stored(state: KeyState) -> bytes:
    """What stands in the changelog for it, whatever its key and wherever."""
    return pack(StateRow("", 0, "", state.position, encode(state), next_due(state), state.unsaid))

"""The stored form of a state, and the pending part that is read without decoding it."""

import pytest

from choreo.adapters.faust.stored_state import pending_of, position_of, row_of
from choreo.core.errors import StorageError
from choreo.core.state import KeyState, encode
from choreo.ports.state import PendingKey
from tests.support.stored import stored


def test_a_stored_state_has_its_position_and_comes_back() -> None:
    """The later offset is the greater value too, with any states."""
    state = KeyState(position=7)
    packed = stored(state)
    assert position_of(packed) == 7
    assert row_of("order", 0, "o-1", packed).state == encode(state)
    assert stored(KeyState(position=8)) > packed
    assert pending_of("o-1", packed) == PendingKey("o-1", 0, unacknowledged=False)


def test_a_state_of_another_version_is_refused_with_the_way_out() -> None:
    """A bare position before the state was the first form."""
    old = (7).to_bytes(8, "big") + encode(KeyState(position=7))
    with pytest.raises(StorageError, match=r"another version.*changelog topic"):
        pending_of("o-1", old)

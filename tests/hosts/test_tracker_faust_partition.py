"""What is stored of a key, and what its owner knows without decoding it."""

import pytest

from choreo.core.errors import StorageError
from choreo.core.state import KeyState, decode, encode
from choreo.hosts.tracker_faust_index import KeyIndex
from choreo.hosts.tracker_faust_partition import index_stored, position_of, state_of
from tests.support.stored import stored


def test_a_stored_state_says_its_position_and_comes_back() -> None:
    """The later position is the greater value too, whatever the states are."""
    state = KeyState(position=7)
    packed = stored(state)
    assert position_of(packed) == 7
    assert encode(state_of(packed)) == encode(decode(encode(state)))
    assert stored(KeyState(position=8)) > packed


def test_a_state_of_another_version_is_refused_with_the_way_out() -> None:
    """A bare position before the state was the first form."""
    state = KeyState(position=7)
    old = (7).to_bytes(8, "big") + encode(state)
    with pytest.raises(StorageError, match=r"another version.*changelog topic"):
        index_stored(KeyIndex(), "o-1", old)

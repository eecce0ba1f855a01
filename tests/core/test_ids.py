"""Derived ids: the same fact has the same id, and different facts do not collide."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from choreo.core import ids

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://choreo.dev/ids")
words = st.text(st.characters(exclude_characters="\x1f", exclude_categories=("Cs",)))


@given(st.lists(words, min_size=1, max_size=4))
def test_an_id_is_the_uuid5_of_its_parts(parts: list[str]) -> None:
    """RFC 9562, section 5.5: the standard library agrees."""
    assert ids.derive(*parts) == str(uuid.uuid5(NAMESPACE, "\x1f".join(parts)))


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, min_size=1, max_size=4))
def test_different_parts_give_different_ids(one: list[str], other: list[str]) -> None:
    """Where one part ends and the next begins is part of the id."""
    assert (ids.derive(*one) == ids.derive(*other)) == (one == other)


def test_a_start_differs_by_its_idempotency_key_only() -> None:
    """A start sent twice is one start; with another Idempotency-Key it is another."""
    assert ids.start("order", "o-1") == ids.start("order", "o-1", "")
    assert ids.start("order", "o-1", "second") != ids.start("order", "o-1")
    assert ids.start("order", "o-2") != ids.start("order", "o-1")


def test_an_outcome_is_named_by_trigger_step_and_place_not_by_type_or_attempt() -> None:
    """A step has one outcome per trigger and place, of any type and after any number of attempts."""
    assert ids.outcome("trigger", "payment.charge") == ids.outcome("trigger", "payment.charge", 0)
    different = {ids.outcome("trigger", "payment.charge", 1), ids.outcome("trigger", "payment.refuse")}
    assert ids.outcome("trigger", "payment.charge") not in different


def test_a_failed_attempt_has_an_id_of_its_own() -> None:
    """The second long wait is not taken for the first."""
    assert ids.attempt_failed("t", "s", 1) != ids.attempt_failed("t", "s", 2)


def test_each_round_of_an_undo_has_ids_of_its_own_but_its_event_has_one() -> None:
    """A new round is asked and answered anew; `PaymentRefunded` happens once for an entry."""
    kinds = ("undo-request", "nothing", "undo-failed")
    rounds = {ids.of_round(kind, "entry", round_) for kind in kinds for round_ in (1, 2)}
    assert len(rounds) == 6
    assert ids.undo("entry") not in rounds
    assert ids.undo("entry") == ids.undo("entry", 0)


def test_an_entry_is_one_whether_certain_or_in_doubt() -> None:
    """Its id comes from run, step and trigger alone."""
    assert ids.entry("r", "s", "t") == ids.entry("r", "s", "t")
    assert len({ids.entry("r", "s", "t"), ids.entry("r2", "s", "t"), ids.entry("r", "s", "t2")}) == 3


def test_a_timer_is_named_by_what_it_is_about_and_when() -> None:
    """A deadline that moved (a pause) is another fact than the one before."""
    assert ids.timer("step", "t/s", 1_000) != ids.timer("step", "t/s", 2_000)


def test_an_event_without_an_id_is_known_by_its_first_position() -> None:
    """Two records of a foreign producer are two events."""
    assert ids.foreign("order", 0, 7) == ids.foreign("order", 0, 7)
    assert len({ids.foreign("order", 0, 7), ids.foreign("order", 1, 7), ids.foreign("order", 0, 8)}) == 3

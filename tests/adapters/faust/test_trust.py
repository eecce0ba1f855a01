"""Which states of the tracker may be trusted: by the committed notes, and the present log and changelog."""

from __future__ import annotations

import pytest

from tests.support import required

required.needed("confluent_kafka", "kafka")

from choreo.adapters.faust.trust import Missing, Span, Trust, describe, has_hole, note_of, take_over, trust_of  # noqa: E402
from choreo.adapters.kafka.cluster.log_identity import Origin, noted  # noqa: E402
from choreo.adapters.kafka.cluster.requests import Commit  # noqa: E402

ORIGIN = Origin("log-id", 8)
TRUST = Trust("changelog-id", 0)
LOG: Span = (0, 100)
CHANGELOG: Span = (0, 40)


def committed(offset: int = 90, trust: Trust = TRUST) -> Commit:
    """Return a tracker's commit in the log."""
    return Commit(offset, note_of(ORIGIN, trust))


def restored(offset: int = 40, trust: Trust = TRUST) -> Commit:
    """Return a tracker's commit in the changelog."""
    return Commit(offset, note_of(ORIGIN, trust))


def test_states_of_the_same_topics_are_gone_on_from() -> None:
    """The next tracker reads on at the last commit."""
    take = take_over(LOG, committed(), "changelog-id", CHANGELOG, restored())
    assert (take.position, take.anew, take.lost, take.trust) == (90, "", None, TRUST)


@pytest.mark.parametrize("commit", [None, Commit(0, ""), committed(0)])
def test_a_group_without_a_position_begins_with_the_first_record(commit: Commit | None) -> None:
    """States in the changelog have their own positions; no commit in it is missed."""
    take = take_over(LOG, commit, "changelog-id", CHANGELOG, None)
    assert (take.position, take.anew, take.lost) == (0, "", None)


@pytest.mark.parametrize(
    ("commit", "behind", "changelog_id", "changelog", "cause"),
    [
        (Commit(90, ""), restored(), "changelog-id", CHANGELOG, "not committed by a tracker"),
        (Commit(90, "somebody"), restored(), "changelog-id", CHANGELOG, "not committed by a tracker"),
        (Commit(90, noted(ORIGIN, "{}")), restored(), "changelog-id", CHANGELOG, "not committed by a tracker"),
        (committed(), None, "changelog-id", (0, 0), "made again"),
        (committed(), None, "another-id", (0, 0), "made again"),
        (committed(), restored(), "another-id", CHANGELOG, "made again"),
        (committed(), restored(), "changelog-id", (40, 40), "deleted up to offset 40"),
        (committed(), restored(), "changelog-id", (1, 40), "deleted up to offset 1"),
        (committed(), restored(41), "changelog-id", CHANGELOG, "ends at offset 40"),
    ],
)
def test_states_that_may_be_missing_are_folded_anew(
    commit: Commit, behind: Commit | None, changelog_id: str, changelog: Span, cause: str
) -> None:
    """From the first record that the log still has, on the footing that holds from now on."""
    take = take_over((3, 100), commit, changelog_id, changelog, behind)
    assert take.position == 3
    assert cause in take.anew
    assert take.trust == Trust(changelog_id, changelog[0])


def test_what_was_cut_before_a_fold_is_no_reason_for_another() -> None:
    """The fold that followed has noted where the changelog begins since."""
    since = Trust("changelog-id", 40)
    take = take_over(LOG, committed(90, since), "changelog-id", (40, 60), restored(60, since))
    assert (take.position, take.anew) == (90, "")


def test_records_that_are_gone_before_they_were_read_are_known_from_then_on() -> None:
    """The range is noted with every later position, until somebody adopts the log as it is."""
    take = take_over((95, 100), committed(90), "changelog-id", CHANGELOG, restored())
    assert (take.position, take.lost) == (95, Missing(90, 95))
    again = take_over((95, 120), committed(110, take.trust), "changelog-id", CHANGELOG, restored(40, take.trust))
    assert (again.position, again.lost, again.trust.missing) == (110, None, Missing(90, 95))
    assert describe({3: Missing(90, 95)}) == "offsets 90 to 94 of partition 3"


def test_a_note_is_read_as_it_was_written() -> None:
    """With a range, and without."""
    for trust in (TRUST, Trust("", 7, Missing(1, 2))):
        assert trust_of(note_of(ORIGIN, trust)) == trust


@pytest.mark.parametrize(
    ("reached", "changelog", "hole"),
    [(None, (50, 60), False), (49, (50, 60), False), (48, (50, 60), True), (59, (50, 60), False), (60, (0, 60), True)],
)
def test_a_local_copy_with_a_hole_is_seen(reached: int | None, changelog: Span, hole: bool) -> None:
    """It was restored to before the first record of the changelog, or to behind its end."""
    assert has_hole(reached, changelog) is hole

"""`choreo groups`: each partition of each group, for people and as JSON."""

from __future__ import annotations

from typing import Any

from choreo.cli.failures import NOT_FOUND
from choreo.surfaces.group_format import GroupList


def test_each_partition_of_each_group_is_a_row(desk: Any) -> None:
    """Without a process there is no owner; a lag whose rate is not known says so."""
    desk.opened("t-1")
    answer = desk("groups", "--watch", "0")
    assert answer.code == 0
    rows = [line.split() for line in answer.out.splitlines() if line.startswith("desk")]
    (seats,) = [row for row in rows if row[1:3] == ["seats", "0"]]
    assert seats == ["desk", "seats", "0", "none", "0", "1", "1", "not", "known"]
    lagging = desk("groups", "desk", "--lagging", "--watch", "0.01")
    assert "0.0/s" in lagging.out
    assert desk("groups", "nothing").code == NOT_FOUND


def test_json_is_the_document_of_the_rest_view(desk: Any) -> None:
    """The same fields as GET /groups."""
    desk.opened("t-1")
    answer = desk("groups", "-o", "json", "--watch", "0").json
    assert set(answer) == set(GroupList.model_fields)
    (seats,) = [group for group in answer["items"] if group["name"] == "seats"]
    assert (seats["lag"], seats["eta_s"], seats["members"]) == (1, None, [])
    assert seats["partitions"][0]["end"] == 1

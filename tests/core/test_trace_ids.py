"""Ids of traces and spans: derived, of the right form, and fair to a sampler by ratio."""

from __future__ import annotations

import re

import pytest

from choreo.core import trace_ids
from choreo.core.ids import derive
from choreo.core.trace_ids import SpanId


def test_ids_have_the_form_of_w3c() -> None:
    """32 and 16 hexadecimal digits; each part of the name counts."""
    assert re.fullmatch("[0-9a-f]{32}", trace_ids.trace_id("r"))
    assert re.fullmatch("[0-9a-f]{16}", trace_ids.span_id("t", "a.b", 1))
    assert trace_ids.trace_id("r") == trace_ids.trace_id("r", "") != trace_ids.trace_id("r", "s")
    assert len({trace_ids.span_id("t", "a.b", number) for number in range(100)}) == 100


def test_every_segment_of_a_run_is_recognised() -> None:
    """A caller's trace, or another run's, is not taken for one."""
    assert trace_ids.is_of_run(trace_ids.trace_id("r"), "r")
    assert trace_ids.is_of_run(trace_ids.trace_id("r", "timer-1"), "r")
    assert not trace_ids.is_of_run(trace_ids.trace_id("r"), "s")
    assert not trace_ids.is_of_run("ab" * 16, "r")


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 0.9])
def test_the_ratio_is_the_share_of_the_runs(ratio: float) -> None:
    """A UUID as it stands would not do: two of its bits are fixed, and half of all ratios would sample nothing."""
    runs = [derive("run", number) for number in range(20_000)]
    share = sum(trace_ids.chance(run) < ratio for run in runs) / len(runs)
    assert abs(share - ratio) < 0.01
    first, later = trace_ids.trace_id(runs[0]), trace_ids.trace_id(runs[0], "timer-1")
    assert first[16:] == later[16:]


def test_a_header_is_written_and_read() -> None:
    """Both flags."""
    for span in (SpanId("ab" * 16, "cd" * 8), SpanId("ab" * 16, "cd" * 8, sampled=False)):
        assert trace_ids.read(span.traceparent) == span


@pytest.mark.parametrize(
    "header",
    ["", "00-a-b-01", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01",
     f"00-{'A' * 32}-{'1' * 16}-01"],
)  # fmt: skip
def test_a_malformed_header_names_no_span(header: str) -> None:
    """As the specification says: it is as if there were none."""
    assert trace_ids.read(header) is None

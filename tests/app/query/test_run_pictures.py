"""The state of each part of a flow's picture, the bars of a timeline, and the state of a run at every position."""

from __future__ import annotations

import pytest

from choreo.app.query.graph_state import parts_of
from choreo.app.query.installation import Installation
from choreo.app.query.past import Pasts, Until
from choreo.app.query.readers import attributes_of_flows, fields_of_flows
from choreo.app.query.spans import GAP_MAX, axis_of, bars_of
from choreo.app.query.timeline import TimelineRow
from choreo.app.tracking.views import detail_of, view
from choreo.core import facts
from choreo.core.drawing.picture import picture
from choreo.core.drawing.svg import svg
from choreo.core.react import react
from choreo.core.state import KeyState
from tests.app.harness import Shop

DAY_MS = 24 * 3_600_000


def row(at_ms: int, type_: str, kind: str = "done", **fields: object) -> TimelineRow:
    """Return a line of a timeline."""
    return TimelineRow(at_ms, at_ms, at_ms, kind, type_, "payment.charge", type_, "r", **fields)  # type: ignore[arg-type]


def pasts_of(shop: Shop) -> Pasts:
    """Return the past of the shop's runs."""
    backend = shop.backend
    recording = Installation(backend.log, backend.read_model, backend.dead_letters, shop.clock, "the shop")
    readers = (attributes_of_flows(shop.codec, shop.flows), fields_of_flows(shop.codec, shop.flows))
    return Pasts(shop.flows, recording, shop.codec, *readers)


async def parts(shop: Shop, key: str, until: Until) -> dict[str, str]:
    """Return the state of each part of a run at a position."""
    past = await pasts_of(shop).at("order", key, until)
    found = parts_of(shop.table.flow, past.instance.detail, past.timeline)
    return {name: part.state for name, part in found.items()}


@pytest.mark.parametrize("story", ["charged", "completed", "compensated", "stuck"])
async def test_the_state_at_every_position_is_the_fold_up_to_it(story: str) -> None:
    """Of each history, position by position; the detail is the tracker's own, byte for byte."""
    shop = await Shop().open()
    await getattr(shop, story)("o-1")
    history = await shop.backend.read_model.history("order", "o-1")
    state = KeyState()
    for record in history:
        state, _ = react(shop.table, state, record)
        past = await pasts_of(shop).at("order", "o-1", Until(record.offset))
        shown = view(shop.table, record.partition, "o-1", state.runs[-1])
        assert past.instance.detail == detail_of(shown)
        assert past.timeline[-1].offset == record.offset
    assert len(history) > 2


async def test_parts_have_the_states_of_their_steps() -> None:
    """Under way and waiting; then done; on the way back undone or failed. At an earlier position they are ahead."""
    shop = await Shop().open()
    await shop.charged("o-1")
    open_ = await parts(shop, "o-1", Until())
    assert (open_["step payment.charge"], open_["wait.ShipmentPicked"]) == ("done", "active")
    assert (open_["event PaymentCharged"], "step desk.confirm" in open_) == ("done", False)
    first = (await shop.backend.read_model.history("order", "o-1"))[0]
    begun = {"event OrderPlaced": "done", "step stock.reserve": "active"}
    assert await parts(shop, "o-1", Until(first.offset)) == begun
    await shop.compensated("o-2")
    undone = await parts(shop, "o-2", Until())
    assert (undone["step stock.reserve"], undone["step payment.charge"]) == ("undone", "failed")
    await shop.stuck("o-3")
    assert (await parts(shop, "o-3", Until()))["step stock.reserve"] == "failed"
    await shop.completed("o-4")
    assert (await parts(shop, "o-4", Until()))["completed"] == "done"


def test_the_picture_of_the_page_is_that_of_the_command_line() -> None:
    """The same boxes at the same places, the same curves."""
    flow = Shop().table.flow
    drawn, file = picture(flow), svg(flow)
    assert all(f'd="{line.path}"' in file for line in drawn.lines)
    assert all(f'x="{node.x:g}" y="{node.y:g}"' in file for node in drawn.nodes)
    assert f'width="{drawn.width:g}" height="{drawn.height:g}"' in file


def test_a_month_with_forty_milliseconds_of_work_is_readable() -> None:
    """The work is wide enough to be seen, and the month is short and labelled."""
    rows = [
        row(0, "OrderPlaced", "start"),
        row(40, "PaymentCharged", took_ms=40),
        row(30 * DAY_MS, "Picked", "outside"),
    ]
    bars = bars_of(rows, ["Picked"])
    axis = axis_of(each for bar in bars for each in (bar.begin_ms, bar.end_ms))
    assert [bar.kind for bar in bars] == ["work", "wait"]
    assert axis.marks[40] - axis.marks[0] >= 20
    assert [(gap.length_ms, gap.width) for gap in axis.gaps] == [(30 * DAY_MS - 40, GAP_MAX)]
    assert axis.width < 200


def test_backoff_and_undos_are_bars_of_their_own() -> None:
    """An attempt that failed begins a backoff, which the next attempt ends."""
    rows = [
        row(0, "OrderPlaced", "start"),
        row(10, facts.STEP_ATTEMPT_FAILED, "retry"),
        row(5_010, facts.STEP_RETRY_DUE, "retry"),
        row(5_020, "PaymentCharged", took_ms=5_020),
        row(9_000, "PaymentRefunded", "undo", took_ms=100, compensation=True),
    ]
    found = [(bar.kind, bar.begin_ms, bar.end_ms) for bar in bars_of(rows)]
    assert found == [("backoff", 10, 5_010), ("work", 0, 5_020), ("undo", 8_900, 9_000)]

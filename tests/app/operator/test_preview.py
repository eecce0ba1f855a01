"""Previews: the consequences in words and values, the same refusals as the action, and nothing written."""

import pytest

from choreo.app.operator.actions import Action, Kind
from choreo.app.operator.preview import Preview
from choreo.core import facts
from choreo.core.errors import ConflictError, NotFoundError
from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter
from tests.app.harness import PaymentDeclined, Shop, StockReserved


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


async def _preview(shop: Shop, kind: Kind, key: str = "o-1", entry: str = "") -> Preview:
    """Return the preview; nothing is written by it."""
    before = [await shop.backend.log.end("order", number) for number in range(4)]
    preview = await shop.operator.preview(Action(kind, "order", key, entry=entry))
    assert before == [await shop.backend.log.end("order", number) for number in range(4)]
    return preview


async def test_a_cancel_tells_the_order_of_the_undos_and_the_end(shop: Shop) -> None:
    """The newest effect first; the deadlines that end are named."""
    await shop.charged("o-1")
    preview = await _preview(shop, Kind.CANCEL)
    assert [undo.step for undo in preview.undos] == ["payment.charge", "stock.reserve"]
    assert (preview.status, preview.becomes, preview.end) == ("running", "compensating", "compensated")
    assert [fact.type for fact in preview.decided] == [facts.COMPENSATION_STARTED, facts.COMPENSATION_REQUESTED]
    assert preview.sentences == [
        "The run is running, and becomes compensating.",
        "Undoes payment.charge, stock.reserve, in this order.",
        "No longer due: the timeout of the wait for ShipmentPicked, the flow's deadline.",
        "If every compensation answers, the run ends compensated.",
    ]


async def test_a_step_under_way_whose_compensation_cannot_ask_is_named(shop: Shop) -> None:
    """Refund has bars=False: if the charge ends in doubt, the run ends stuck."""
    await shop.start("o-1")
    await shop.outcome("stock.reserve", StockReserved(order_id="o-1"))
    preview = await _preview(shop, Kind.CANCEL)
    assert (preview.under_way, preview.fragile, preview.end) == (["payment.charge"], ["payment.charge"], "compensated")
    assert "If payment.charge ends in doubt, the run ends stuck: the compensation cannot ask." in preview.sentences


async def test_an_effect_in_doubt_that_cannot_be_undone_ends_stuck(shop: Shop) -> None:
    """Foresight and the fold agree: a person is needed."""
    await shop.start("o-1")
    await shop.outcome("stock.reserve", StockReserved(order_id="o-1"))
    await shop.operator.pause("order", "o-1")
    await shop.track()
    await shop.outcome("payment.charge", PaymentDeclined(order_id="o-1"))  # not certain: in doubt
    preview = await _preview(shop, Kind.RESUME)
    assert [(undo.step, undo.in_doubt, bool(undo.cause)) for undo in preview.undos] == [
        ("payment.charge", True, True),
        ("stock.reserve", False, False),
    ]
    assert preview.end == "stuck"
    assert preview.sentences[-1] == "The run ends stuck: an operator is needed."


async def test_a_pause_stops_the_deadlines_and_a_resume_moves_them(shop: Shop) -> None:
    """By the length of the pause."""
    await shop.charged("o-1")
    paused = await _preview(shop, Kind.PAUSE)
    assert paused.timers == []
    assert "Every deadline stands still until the run is resumed." in paused.sentences
    await shop.operator.pause("order", "o-1")
    await shop.track()
    await shop.clock.advance(3_600)  # type: ignore[attr-defined]
    resumed = await _preview(shop, Kind.RESUME)
    assert {each.about: each.after_ms - each.before_ms for each in resumed.timers} == {
        "the timeout of the wait for ShipmentPicked": 3_600_000,
        "the flow's deadline": 3_600_000,
    }
    waiting = await _preview(shop, Kind.CANCEL)
    assert (waiting.end, waiting.sentences[-1]) == ("", "Nothing is undone until the run is resumed.")


async def test_a_terminate_names_the_effects_that_stay(shop: Shop) -> None:
    """It needs no reason yet: that comes with the action."""
    await shop.charged("o-1")
    preview = await _preview(shop, Kind.TERMINATE)
    assert (preview.becomes, preview.remaining) == ("terminated", ["stock.reserve", "payment.charge"])
    assert preview.undos == []


async def test_a_retry_and_a_resolution_of_a_failed_undo(shop: Shop) -> None:
    """Both let the run end compensated."""
    await shop.stuck("o-1")
    retried = await _preview(shop, Kind.RETRY, entry="stock.reserve")
    resolved = await _preview(shop, Kind.RESOLVE, entry="stock.reserve")
    assert [undo.step for undo in retried.undos] == ["stock.reserve"]
    assert resolved.undos == []
    assert (retried.end, resolved.end) == ("compensated", "compensated")


async def test_a_preview_refuses_what_the_action_refuses(shop: Shop) -> None:
    """With the same error."""
    await shop.completed("o-1")
    for act in (shop.operator.preview, shop.operator.act):
        with pytest.raises(ConflictError, match="the run has ended"):
            await act(Action(Kind.CANCEL, "order", "o-1"))
        with pytest.raises(NotFoundError):
            await act(Action(Kind.CANCEL, "order", "o-9"))


async def test_the_log_counts_where_the_views_are_behind(shop: Shop) -> None:
    """An event that no tracker has folded is part of the preview."""
    await shop.start("o-1")
    run = shop.run("o-1")
    expected = run.expected[0]
    content = {"content_type": shop.codec.content_type, "data": shop.codec.encode(StockReserved(order_id="o-1"))}
    event = Envelope(
        "e-1", "StockReserved", "o-1", "order", run.id, expected.step, causation=expected.trigger, **content
    )
    await shop.backend.log.append("order", [event])
    preview = await _preview(shop, Kind.CANCEL)
    assert [undo.step for undo in preview.undos] == ["stock.reserve"]


async def test_a_redrive_to_the_log_is_folded_and_one_to_a_step_is_told(shop: Shop) -> None:
    """The outcome of a step that runs again is not foreseen."""
    await shop.start("o-1")
    outside = Envelope("e-1", "ShipmentPicked", "o-1", "order", shop.run("o-1").id)
    (start,) = await shop.backend.read_model.history("order", "o-1")
    letters = [
        DeadLetter("a", "order", 0, 7, "", "", "it came too early", 0, Record("order", 0, 7, 0, outside)),
        DeadLetter("b", "order", start.partition, start.offset, "stock", "stock.reserve", "broken", 0, start),
    ]
    await shop.backend.dead_letters.add(letters)
    to_the_log = await shop.operator.preview_of_redrive("a")
    to_its_step = await shop.operator.preview_of_redrive("b")
    assert to_the_log.fact == "ShipmentPicked"
    assert to_its_step.fact == facts.REDRIVEN
    assert to_its_step.sentences == ["The step runs once more on the same event, under its old id."]

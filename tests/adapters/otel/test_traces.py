"""Traces of runs of the reference flow, with the real hosts and OpenTelemetry's SDK, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from choreo import Flow, Retry, Service, StepContext
from choreo.adapters.otel.tracing import OtelTracing
from choreo.core import trace_ids
from choreo.testing import FlowTest
from schemas.orders import Item, OrderPlaced, ShipmentPicked
from services.order_flow import order
from tests.support.seats import Asked, Freed, Held, Paid, Printed, Unpaid

hall = Service("hall")
desk = Service("desk")


@hall.step(
    on=Asked, emits=Held, timeout="5s", retry=Retry(initial="1m", backoff=40, max_interval="2h", inline_up_to="2m")
)
async def hold(event: Asked, ctx: StepContext) -> Held:
    """Hold a seat."""
    return Held(order_id=event.order_id)


@hold.compensate(emits=Freed, timeout="5s", retry=Retry(initial="1s", max_attempts=2))
async def release(held: Held | None, ctx: StepContext) -> Freed | None:
    """Free it."""
    return Freed(order_id=ctx.key)


@desk.step(on=Paid, emits=Printed, effect=False, timeout="5s", retry=Retry(initial="1s", max_attempts=2))
async def issue(event: Paid, ctx: StepContext) -> Printed:
    """Print the ticket; a call to the printer carries the attempt's own context."""
    SENT.append(ctx.traceparent)
    return Printed(order_id=event.order_id)


SENT: list[str] = []
ticket = Flow("ticket", key="order_id", starts=Asked, completes=Printed, deadline="90d", services=[hall, desk])
ticket.wait(on=Held, until=Paid, timeout="30d", fails=Unpaid)

CALLER = f"00-{'ab' * 16}-{'cd' * 8}-01"


def placed(key: str = "traced-1", card: str = "visa") -> OrderPlaced:
    """Return an order."""
    items = [Item(sku="tea", quantity=1)]
    return OrderPlaced(order_id=key, customer_id="ada", amount=Decimal("9.90"), items=items, card=card)


def picked(key: str = "traced-1") -> ShipmentPicked:
    """Return the warehouse's answer."""
    return ShipmentPicked(order_id=key)


class Traced:
    """The spans of a test."""

    def __init__(self, *flows: Flow, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = OtelTracing(SimpleSpanProcessor(self.exporter), **options)
        self.env = FlowTest(*(flows or (order,)), tracing=self.tracing)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Return all of them, in the order of their ends."""
        return self.exporter.get_finished_spans()

    def tree(self, key: str = "traced-1") -> list[str]:
        """Return the spans of a key, segment by segment, each indented below its parent, with its links."""
        known = {span.context.span_id: span for span in self.spans}
        lines: list[str] = []

        def below(parent: int | None, depth: int) -> None:
            for span in self.spans:
                if (span.parent.span_id if span.parent else None) == parent and span.attributes[KEY] == key:
                    kinds = [
                        f"{link.attributes['choreo.link']}={named(known, link.context.span_id)}"
                        for link in span.links
                        if link.attributes["choreo.link"] != "run"
                    ]
                    failed = [span.attributes["error.type"]] if span.status.status_code is StatusCode.ERROR else []
                    lines.append("  " * depth + " ".join([span.name, *failed, *kinds]))
                    below(span.context.span_id, depth + 1)

        below(None, 0)
        return lines


KEY = "messaging.kafka.message.key"


def named(known: dict[int, ReadableSpan], span_id: int) -> str:
    """Return the name of a span; "?" for one of another system."""
    return known[span_id].name if span_id in known else "?"


@pytest.fixture(autouse=True)
def whole() -> Iterator[list[Traced]]:
    """Check each test's spans: every one has an end; every parent is there, in the same trace; every cause is there."""
    made: list[Traced] = []
    yield made
    for traced in made:
        spans = traced.spans
        ids = [(span.context.trace_id, span.context.span_id) for span in spans]
        assert spans
        assert [span.name for span in spans if not (span.start_time and span.end_time)] == []
        assert [span.name for span in spans if span.start_time > span.end_time] == []
        assert len(ids) == len(set(ids))
        for span in spans:
            if span.parent is not None:
                assert (span.context.trace_id, span.parent.span_id) in ids, f"{span.name} has no parent"
                assert span.parent.trace_id == span.context.trace_id
            causes = [link for link in span.links if link.attributes["choreo.link"] in ("cause", "undoes", "joins")]
            assert [link for link in causes if (link.context.trace_id, link.context.span_id) not in ids] == []
            run = str(span.attributes["choreo.run"])
            assert trace_ids.is_of_run(f"{span.context.trace_id:032x}", run)


def traced(made: list[Traced], *flows: Flow, **options: Any) -> Traced:
    """Return a test whose spans are checked at its end."""
    made.append(Traced(*flows, **options))
    return made[-1]


def test_the_reference_flow_is_one_trace_until_it_waits(whole: list[Traced]) -> None:
    """Each attempt is the child of the one that made its trigger; the event from outside begins a new segment."""
    shop = traced(whole)
    with shop.env as env:
        env.publish(placed())
        env.skip("1m")
        env.publish(picked())
        env.skip("1m")
        run = env.instance("traced-1").row.run
    assert shop.tree() == [
        "inventory.reserve order",
        "  payment.charge order cause=inventory.reserve order",
        "    shipping.create order cause=payment.charge order",
        "notification.confirm order cause=shipping.create order",
        "run order",
    ]
    traces = {span.name: f"{span.context.trace_id:032x}" for span in shop.spans}
    first = trace_ids.trace_id(run)
    assert traces["inventory.reserve order"] == traces["run order"] == first
    assert traces["notification.confirm order"] not in (first, "")
    (whole_run,) = (span for span in shop.spans if span.name == "run order")
    assert whole_run.context.span_id == int(trace_ids.span_id(run, "run"), 16)
    assert (whole_run.attributes["choreo.status"], whole_run.attributes["choreo.undone"]) == ("completed", 0)
    others = [span for span in shop.spans if span is not whole_run]
    assert all(any(link.context.span_id == whole_run.context.span_id for link in span.links) for span in others)


def test_an_attempt_has_the_names_of_messaging(whole: list[Traced]) -> None:
    """A consumer's span with the conventions' attributes; the resource is the service."""
    shop = traced(whole)
    with shop.env as env:
        env.publish(placed())
        env.skip("1m")
        run = env.instance("traced-1").row.run
    span = next(span for span in shop.spans if span.name == "payment.charge order")
    assert span.kind is SpanKind.CONSUMER
    assert span.resource.attributes["service.name"] == "payment"
    attributes = dict(span.attributes)
    assert attributes.pop("messaging.message.id")
    assert attributes == {
        "messaging.system": "sqlite",
        "messaging.operation.name": "payment.charge",
        "messaging.operation.type": "process",
        "messaging.destination.name": "order",
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": "payment",
        "messaging.message.conversation_id": run,
        "messaging.kafka.message.key": "traced-1",
        "messaging.kafka.offset": 1,
        "choreo.event": "StockReserved",
        "choreo.attempt": 1,
        "choreo.undo": False,
        "choreo.flow": "order",
        "choreo.run": run,
        "choreo.version": 1,
    }


def test_failed_attempts_are_errors_and_a_long_retry_begins_a_segment(whole: list[Traced]) -> None:
    """A retry in memory stands beside the first attempt; one that the tracker asks for has a trace of its own."""
    shop = traced(whole, ticket)
    with shop.env as env:
        env.fail("hall.hold", "no answer", times=3)
        env.publish(Asked(order_id="t-1"))
        env.skip("3d")
        run = env.instance("t-1").row.run
    assert shop.tree("t-1") == [
        "hall.hold ticket PlannedError",
        "hall.hold ticket PlannedError",
        "StepRetryDue ticket cause=hall.hold ticket",
        "  hall.hold ticket PlannedError cause=StepRetryDue ticket",
        "StepRetryDue ticket cause=hall.hold ticket",
        "  hall.hold ticket cause=StepRetryDue ticket",
    ]
    failed = [span for span in shop.spans if span.status.status_code is StatusCode.ERROR]
    assert [span.attributes["choreo.attempt"] for span in failed] == [1, 2, 3]
    assert {span.context.trace_id for span in failed[:2]} == {int(trace_ids.trace_id(run), 16)}


def test_an_undo_names_the_attempt_that_it_undoes(whole: list[Traced]) -> None:
    """After the wait's time is over: the timer's fact begins a segment, and the undo follows in it."""
    shop = traced(whole, ticket)
    with shop.env as env:
        env.publish(Asked(order_id="t-2"))
        env.skip("31d")
        assert env.instance("t-2").row.status == "compensated"
    assert shop.tree("t-2") == [
        "hall.hold ticket",
        "Unpaid ticket cause=hall.hold ticket",
        "  hall.hold undo ticket cause=Unpaid ticket undoes=hall.hold ticket",
        "run ticket",
    ]


def test_an_operators_fact_begins_a_segment(whole: list[Traced]) -> None:
    """A cancel: the undo stands in the trace that the cancel began."""
    shop = traced(whole, ticket)
    with shop.env as env:
        env.publish(Asked(order_id="t-3"))
        env.skip("1h")
        env.cancel("t-3", reason="the customer rang")
        env.skip("1h")
    assert shop.tree("t-3") == [
        "hall.hold ticket",
        "CancelRequested ticket cause=hall.hold ticket",
        "  hall.hold undo ticket cause=CancelRequested ticket undoes=hall.hold ticket",
        "run ticket",
    ]


def test_a_pause_begins_a_segment(whole: list[Traced]) -> None:
    """A step that a pause has held runs after the resume in a trace of its own."""
    shop = traced(whole, ticket)
    with shop.env as env:
        env.publish(Asked(order_id="t-4"))
        env.pause("t-4", reason="a look at the books")
        env.publish(Paid(order_id="t-4"))
        env.skip("1h")
        env.resume("t-4")
        env.skip("1h")
        assert env.instance("t-4").row.status == "completed"
    assert shop.tree("t-4") == [
        "hall.hold ticket",
        "StepRetryDue ticket cause=hall.hold ticket",
        "  desk.issue ticket cause=StepRetryDue ticket",
        "run ticket",
    ]


def test_a_long_wait_in_the_queue_begins_a_segment(whole: list[Traced]) -> None:
    """A service that died and came back: its attempt is linked to its cause, and no child of it."""
    shop = traced(whole, ticket, gap_ms=500)
    with shop.env as env:
        env.publish(Asked(order_id="t-5"))
        env.kill("desk.issue")
        env.publish(Paid(order_id="t-5"))
        env.skip("1m")
        assert env.instance("t-5").row.status == "completed"
    assert shop.tree("t-5") == [
        "hall.hold ticket",
        "desk.issue ticket cause=hall.hold ticket",
        "run ticket",
    ]


def test_the_first_span_is_linked_to_the_caller(whole: list[Traced]) -> None:
    """The caller's trace may be one that nobody records: the run is a root of its own."""
    shop = traced(whole, ticket)
    with shop.env as env:
        env.publish(Asked(order_id="t-6"), traceparent=CALLER)
        run = env.instance("t-6").row.run
    assert shop.tree("t-6") == ["hall.hold ticket caller=?"]
    (span,) = shop.spans
    (caller, _) = span.links
    assert f"{caller.context.trace_id:032x}" == "ab" * 16
    assert f"{span.context.trace_id:032x}" == trace_ids.trace_id(run)


def test_a_handler_gets_the_context_of_its_own_span(whole: list[Traced]) -> None:
    """A call that it makes becomes a child of the attempt."""
    shop = traced(whole, ticket)
    SENT.clear()
    with shop.env as env:
        env.publish(Asked(order_id="t-7"))
        env.publish(Paid(order_id="t-7"))
    span = next(span for span in shop.spans if span.name == "desk.issue ticket")
    assert [f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"] == SENT


def test_a_run_is_sampled_with_all_its_segments_or_not_at_all(whole: list[Traced]) -> None:
    """Half of the runs: each of those has every span, the others have none, and are as without tracing."""
    shop = traced(whole, ticket, ratio=0.5)
    keys = [f"s-{number}" for number in range(40)]
    SENT.clear()
    with shop.env as env:
        for key in keys:
            env.publish(Asked(order_id=key))
        env.skip("1d")
        for key in keys:
            env.publish(Paid(order_id=key))
        runs = {key: env.instance(key).row.run for key in keys}
    sampled = {key for key in keys if trace_ids.chance(runs[key]) < 0.5}
    assert 10 <= len(sampled) <= 30
    names = {"hall.hold ticket", "desk.issue ticket", "run ticket"}
    found = {key: {span.name for span in shop.spans if span.attributes[KEY] == key} for key in keys}
    assert found == {key: names if key in sampled else set() for key in keys}
    assert sorted(sent[-2:] for sent in SENT) == [""] * (40 - len(sampled)) + ["01"] * len(sampled)


def test_without_tracing_events_carry_what_the_caller_gave() -> None:
    """Nothing is derived, and nothing is sent."""
    SENT.clear()
    with FlowTest(ticket) as env:
        env.publish(Asked(order_id="t-8"), traceparent=CALLER)
        env.publish(Paid(order_id="t-8"))
    assert SENT == [CALLER]

"""A parent and its children on logs in memory: trackers, hosts and the bridge take turns in any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.crossing import CROSSING, ORDERS, Plan, Start, crossings, encode
from choreo.core.definition import ChildrenDefinition, CompensationDefinition, FlowDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState, Run, decode
from choreo.core.state import encode as encoded
from tests.core.plain import HOUR_MS, flow, step

BY_ORDER = CompensationDefinition(emits=(), takes_none=True, bars=True, timeout_ms=30_000, deadline_ms=HOUR_MS)
SPLIT = step("fulfilment.split", "StockReserved", "ParcelsShipped", fails="ParcelsFailed")
RESERVE = step("stock.reserve", "OrderPlaced", "StockReserved", fails="StockRejected", undone="StockReleased")
CONFIRM = step("mail.confirm", "ParcelsShipped", "OrderConfirmed", fails="MailBounced")


def parent(rule: ChildrenDefinition, *, goes_on: bool = False) -> FlowDefinition:
    """Return an order whose parcels are children; where they are not joined it is compensated, unless it `goes_on`."""
    split, confirm = replace(SPLIT, children=rule, compensation=BY_ORDER), CONFIRM
    if goes_on:
        split = replace(split, emits=("ParcelsShipped", "ParcelsLost"), fails=())
        confirm = replace(CONFIRM, any_of=("ParcelsShipped", "ParcelsLost"))
    names = ("order_id", "results", "all_results", "completed", "failed")
    events = dict.fromkeys(("ParcelsShipped", "ParcelsLost") if goes_on else ("ParcelsShipped",), names)
    return flow(RESERVE, split, confirm, events=events, fails="OrderCancelled")


PARCEL = flow(
    step("carrier.book", "ParcelRequested", "ParcelBooked", fails="ParcelRefused", undone="ParcelRecalled"),
    step("carrier.tell", "ParcelBooked", "ParcelTold"),
    name="parcel",
    key="parcel_id",
    starts="ParcelRequested",
    completes="ParcelTold",
    events=dict.fromkeys(
        ("ParcelRequested", "ParcelBooked", "ParcelRefused", "ParcelRecalled", "ParcelTold"), ("parcel_id",)
    ),
)


class Family:
    """One order and its parcels. Each reader has a cursor into each log; `turn` lets one of them read one record."""

    def __init__(
        self,
        rule: ChildrenDefinition,
        parcels: int,
        *,
        refused: frozenset[int] = frozenset(),
        batch: int = 2,
        answers: Mapping[str, str] | None = None,
        goes_on: bool = False,
    ) -> None:
        """Place the order; `refused` parcels fail, and `answers` replaces the outcome on a trigger."""
        self.tables = {"order": FlowTable(parent(rule, goes_on=goes_on)), "parcel": FlowTable(PARCEL)}
        self.logs: dict[str, list[Record]] = {"order": [], "parcel": []}
        self.states: dict[tuple[str, str], KeyState] = {}
        self.cursors = {(reader, name): 0 for reader in ("tracker", "bridge", "host") for name in self.logs}
        self.parcels, self.refused, self.batch = parcels, refused, batch
        confirmed = dict.fromkeys(("ParcelsShipped", "ParcelsLost"), "OrderConfirmed")
        self.answers = {"OrderPlaced": "StockReserved", **confirmed, **(answers or {})}
        self.open_most = 0
        self.handled: set[tuple[str, str]] = set()
        self.say(Envelope(id=ids.start("order", "o-1"), type="OrderPlaced", key="o-1", flow="order"))

    def say(self, event: Envelope) -> None:
        """Append an event to the log that it names."""
        log = self.logs[event.flow]
        log.append(Record(event.flow, 0, len(log), 1_000_000 + 1_000 * sum(map(len, self.logs.values())), event))

    def run_all(self, choose: Callable[[int], int] = lambda _: 0) -> Family:
        """Let readers take turns, as `choose` says, until there is nothing left to read."""
        while ready := [cursor for cursor, at in self.cursors.items() if at < len(self.logs[cursor[1]])]:
            self.turn(ready[choose(len(ready))])
        return self

    def turn(self, cursor: tuple[str, str]) -> None:
        """Let this reader read its next record of this log."""
        reader, name = cursor
        record = self.logs[name][self.cursors[cursor]]
        self.cursors[cursor] += 1
        for event in {"tracker": self._track, "bridge": self._carry, "host": self._handle}[reader](record):
            self.say(event)

    def _track(self, record: Record) -> list[Envelope]:
        place = (record.topic, record.event.key)
        state, decisions = react(self.tables[record.topic], self.states.get(place, KeyState()), record)
        self.states[place] = decode(encoded(state))
        if record.topic == "parcel":
            self.open_most = max(self.open_most, sum(not run.ended for run in self.runs("parcel")))
        return decisions

    def _carry(self, record: Record) -> list[Envelope]:
        if record.event.type not in CROSSING:
            return []
        planned = self.logs[record.topic][record.event.outcome].event if record.event.type in ORDERS else None
        return crossings(record.event, planned)

    def _handle(self, record: Record) -> list[Envelope]:
        about = (record.event.id, record.event.type)
        if about in self.handled:
            return []
        self.handled.add(about)
        event = replace(record.event, run=record.event.run or record.event.id, parent="")
        if event.type == facts.COMPENSATION_REQUESTED and event.step != SPLIT.name:
            undo = self.tables[event.flow].steps[event.step].compensation
            assert undo is not None
            return [replace(event, id=ids.undo(event.entry), type=undo.emits[0], causation=event.id)]
        event = replace(event, trigger="", n=0)
        if event.type == "StockReserved":
            return self._plans(event)
        type_ = self.answers.get(event.type, "")
        if event.type == "ParcelRequested":
            type_ = "ParcelRefused" if int(event.key) in self.refused else "ParcelBooked"
        if event.type == "ParcelBooked":
            type_ = "ParcelTold"
        table = self.tables[event.flow]
        makers = [maker.name for maker in table.triggers.get(event.type, ())]
        if not type_ or not makers or self._is_turned(event):
            return self._skipped(event, makers)
        return [replace(event, id=ids.outcome(event.id, makers[0]), type=type_, step=makers[0], causation=event.id)]

    def _is_turned(self, event: Envelope) -> bool:
        about = (record.event for record in self.logs[event.flow] if record.event.run == (event.run or event.id))
        return any(fact.type == facts.COMPENSATION_STARTED for fact in about)

    def _skipped(self, event: Envelope, makers: list[str]) -> list[Envelope]:
        if not makers or not self._is_turned(event):
            return []
        fact = replace(event, id=ids.outcome(event.id, makers[0]), type=facts.STEP_SKIPPED, step=makers[0])
        return [replace(fact, run=event.run or event.id, causation=event.id, certain=True)]

    def _plans(self, event: Envelope) -> list[Envelope]:
        if self._is_turned(event):
            return self._skipped(event, [SPLIT.name])
        keys = list(range(self.parcels))
        batches = [keys[at : at + self.batch] for at in range(0, len(keys), self.batch)] or [[]]
        return [
            replace(
                event,
                id=ids.outcome(event.id, SPLIT.name, n),
                type=facts.CHILDREN_PLANNED,
                step=SPLIT.name,
                causation=event.id,
                trigger=event.id,
                n=n,
                data=encode(
                    Plan("parcel", "ParcelRequested", 1, self.parcels, self.batch, "", [Start(str(k), b"") for k in ks])
                ),
            )
            for n, ks in enumerate(batches)
        ]

    def runs(self, name: str) -> list[Run]:
        """Return all runs of a flow."""
        return [run for (flow_name, _), state in self.states.items() if flow_name == name for run in state.runs]

    @property
    def order(self) -> Run:
        """Return the run of the order."""
        return self.runs("order")[0]

    @property
    def parcel_statuses(self) -> list[str]:
        """Return the status of each parcel, by its key."""
        found = {int(key): state for (name, key), state in self.states.items() if name == "parcel"}
        return [found[key].runs[0].shown for key in sorted(found)]

    def types(self, name: str) -> list[str]:
        """Return the types in a log, each event once."""
        return list({(r.event.id, r.event.type): r.event.type for r in self.logs[name]}.values())

    def joined(self) -> dict[str, object]:
        """Return the content of the join's event."""
        event = next(r.event for r in self.logs["order"] if r.event.type in ("ParcelsShipped", "ParcelsFailed"))
        content: dict[str, object] = msgspec.json.decode(event.data)
        return content

    def order_of(self, type_: str, **fields: object) -> Envelope:
        """Return a fact of an operator about the order."""
        run = self.runs("order")[0]
        about = {"n": run.pause_n + 1} if type_ in (facts.FLOW_PAUSED, facts.FLOW_RESUMED) else {}
        id_ = ids.derive("told", type_, len(self.logs["order"]))
        return Envelope(id=id_, type=type_, key="o-1", flow="order", run=run.id, **(about | fields))  # type: ignore[arg-type]

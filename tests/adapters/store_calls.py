"""One call of each kind to stores on a server: all of them meet a server that is away, or another one."""

from collections.abc import Awaitable, Callable

from choreo.ports.backend import Stores
from choreo.ports.inbox import AttemptLease, AttemptRequest, RunMark
from choreo.ports.read_model import Filter
from choreo.testing.conformance import TOPIC
from choreo.testing.conformance.inbox import outcome
from choreo.testing.conformance.projections import batch
from choreo.testing.conformance.read_model import view

Call = Callable[[Stores], Awaitable[object]]
CALLS: dict[str, Call] = {
    "begin": lambda stores: stores.inbox("payment").begin([AttemptRequest("t-2", "charge", "r-2")]),
    "renew": lambda stores: stores.inbox("payment").renew([("t-1", "charge")], AttemptLease("a", 1_000)),
    "record": lambda stores: stores.inbox("payment").record([outcome(trigger="t-2")]),
    "mark": lambda stores: stores.inbox("payment").mark({"r-2": RunMark(compensating=True)}),
    "forget": lambda stores: stores.inbox("payment").forget(0),
    "recorded": lambda stores: stores.inbox("payment").recorded([("t-1", "charge")]),
    "positions": lambda stores: stores.projections.positions(TOPIC),
    "save": lambda stores: stores.projections.save(batch(0, 5, view(1))),
    "drop": lambda stores: stores.read_model.drop(TOPIC),
    "counts": lambda stores: stores.read_model.counts(TOPIC),
    "instances": lambda stores: stores.read_model.instances(Filter(), 10),
    "recall": lambda stores: stores.recall(TOPIC, "note"),
}

"""Plan a batch: choose its items, and tell beforehand which of them would be refused, and why. Writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from choreo.app.operator.actions import NEEDS_REASON, Action, Kind, Subject, fact_of, open_one
from choreo.app.operator.dead_letters import Redriver
from choreo.app.operator.operator import REASON_TO_COME
from choreo.app.query.dead_letter_groups import DeadLetterGroup, Fault, counted_in, group_of, largest_first
from choreo.app.query.queries import Queries
from choreo.app.tracking.views import detail_of
from choreo.core import ids
from choreo.core.access import Actor
from choreo.core.batch import ITEMS_MAX, RATE_MAX, RATE_MIN, SHOWN_MAX, Item, Plan, Refused
from choreo.core.errors import ConflictError, DecodeError, NotFoundError
from choreo.core.wording import counted
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.read_model import Filter

PAGE = 500
FIRST = 20
"""Items that a dry run shows."""


class Wish(NamedTuple):
    """The wish for a batch: an action, its author, and how fast it may go."""

    action: str
    """Kind of the operator's action, or `redrive`."""
    flow: str
    by: Actor
    rate: float
    token: str
    """Two wishes with the same token are one batch."""
    reason: str = ""
    entry: str = ""


class Draft(msgspec.Struct, frozen=True):
    """A plan, and the items that it leaves out because they would be refused."""

    plan: Plan
    refused: int
    reasons: list[Refused]
    """The first of them."""

    @property
    def first(self) -> list[Item]:
        """Return the items that are acted on first."""
        return self.plan.items[:FIRST]


class Planner:
    """Plans batches. Raises NotFoundError on an unknown flow or group, DecodeError on a wish that cannot be met."""

    def __init__(self, queries: Queries, redriver: Redriver, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._queries = queries
        self._redriver = redriver
        self._clock = clock

    async def of_runs(self, wish: Wish, wanted: Filter, *, dry: bool) -> Draft:
        """Plan an action on every run that the filter shows. A dry run needs no reason."""
        kind = Kind(wish.action)
        if dry and kind in NEEDS_REASON and not wish.reason.strip():
            wish = wish._replace(reason=REASON_TO_COME)
        table, draft = self._queries.flows.table(wish.flow), _Draft(wish)
        cursor = ""
        while True:
            page = await self._queries.instances(msgspec.structs.replace(wanted, flow=wish.flow), PAGE, cursor)
            for row in page.items:
                item = Item(row.run, row.key)
                action = Action(kind, wish.flow, row.key, row.run, wish.entry, wish.reason)
                try:
                    subject = open_one(Subject(table, row, detail_of(row)), action)
                    fact_of(action, subject, wish.by, self._clock.now_ms())
                except (ConflictError, NotFoundError) as error:
                    draft.refuse(item, error)
                else:
                    draft.add(item)
            cursor = page.cursor
            if not cursor:
                return draft.planned(_shown(wanted), self._clock.now_ms())

    async def of_dead_letters(self, wish: Wish, group: str) -> Draft:
        """Plan the redrive of every dead letter of a group that was not redriven yet; without `group` of every one."""
        self._queries.flows.definition(wish.flow)
        draft, known = _Draft(wish), False
        async for letter in self._letters(wish.flow):
            of_group = not group or group_of(letter) == group
            known = known or of_group
            if not of_group or letter.redriven:
                continue
            item = Item(letter.id, letter.record.event.key, letter.redriven)
            try:
                await self._redriver.event_of(letter, wish.by)
            except (ConflictError, NotFoundError) as error:
                draft.refuse(item, error)
            else:
                draft.add(item)
        if group and not known:
            raise NotFoundError(
                f"there is no group {group!r:.60} of dead letters",
                where=f"flow {wish.flow}",
                remedy=f"`choreo dlq groups {wish.flow}` lists them.",
            )
        about = f"dead letters of group {group}" if group else "dead letters"
        return draft.planned(about, self._clock.now_ms())

    async def groups(self, flow: str) -> list[DeadLetterGroup]:
        """Return the dead letters of a flow in groups of one cause, the largest first."""
        self._queries.flows.definition(flow)
        groups: dict[Fault, DeadLetterGroup] = {}
        async for letter in self._letters(flow):
            counted_in(groups, letter)
        return largest_first(groups.values())

    async def _letters(self, flow: str) -> AsyncIterator[DeadLetter]:
        after = ""
        while page := await self._queries.dead_letters(flow, PAGE, after):
            for letter in page:
                yield letter
            after = page[-1].id


class _Draft:
    """A draft in the making."""

    def __init__(self, wish: Wish) -> None:
        """Refuse a rate that cannot be held."""
        if not RATE_MIN <= wish.rate <= RATE_MAX:
            raise DecodeError(
                f"{wish.rate} is no rate of a batch",
                where="rate",
                remedy=f"Give a number of items a second from {RATE_MIN:g} to {RATE_MAX:g}.",
            )
        self._wish = wish
        self._items: list[Item] = []
        self._refused = 0
        self._reasons: list[Refused] = []

    def add(self, item: Item) -> None:
        if len(self._items) == ITEMS_MAX:
            raise DecodeError(
                f"the batch has more than {counted(ITEMS_MAX, 'item')}",
                where=f"batch on flow {self._wish.flow}",
                remedy="Narrow the filter, and run several batches.",
            )
        self._items.append(item)

    def refuse(self, item: Item, error: ConflictError | NotFoundError) -> None:
        self._refused += 1
        if len(self._reasons) < SHOWN_MAX:
            self._reasons.append(Refused(item.id, item.key, f"{error.what}. {error.remedy}"))

    def planned(self, about: str, now_ms: int) -> Draft:
        wish = self._wish
        plan = Plan(
            id=ids.derive("batch", wish.flow, wish.action, wish.token),
            action=wish.action,
            flow=wish.flow,
            about=about,
            items=self._items,
            by=wish.by.text,
            rate=wish.rate,
            created_ms=now_ms,
            reason=wish.reason,
            entry=wish.entry,
        )
        return Draft(plan, self._refused, self._reasons)


def _shown(wanted: Filter) -> str:
    """Return a filter in words."""
    parts = [f"status {wanted.status}"] if wanted.status else []
    parts += [f"key {wanted.key}"] if wanted.key else []
    parts += [f"{name}={value}" for name, value in wanted.attributes.items()]
    parts += [f"{each.name}{each.operator}{each.key}" for each in wanted.conditions]
    parts += ["a span of starts"] if wanted.started_from_ms or wanted.started_before_ms else []
    return f"runs with {', '.join(parts)}" if parts else "every run"

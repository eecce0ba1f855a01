"""Preview a rebuild: fold the log under the present declaration, and compare the result with the rows shown now.

A row of the read model is true at one offset of the log. The fold is compared with it at that offset, so that a tracker
that goes on meanwhile makes no difference. Reads everything and changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from choreo.app.paging import Pages
from choreo.app.tracking.fold import FieldsOf, PartitionFold, no_attributes
from choreo.app.tracking.views import Detail, detail_of
from choreo.core.errors import ConflictError, StorageError
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.core.wording import counted
from choreo.ports.log import Log
from choreo.ports.read_model import Filter, InstanceView, ReadModel

READ_AT_ONCE = 2_000
"""Records of a read: some milliseconds of folding."""
PAGE = 500
LISTED_MAX = 50
"""Runs that the refusal lists; their number is in the message."""


class Change(msgspec.Struct, frozen=True):
    """A run that a rebuild would change."""

    key: str
    run: str
    shown: str
    """Its status and effects in the read model."""
    folded: str
    """Its status and effects by the log under the present declaration."""

    def __str__(self) -> str:
        """Return it in a line."""
        return f"{self.key} (run {self.run}): is {self.shown}, would be {self.folded}"


async def changes(table: FlowTable, log: Log, read_model: ReadModel, fields_of: FieldsOf | None = None) -> list[Change]:
    """Return the runs whose status or effects a rebuild would change, by partition and offset."""
    flow = table.flow.name
    partitions = await log.partitions(flow)
    rows: dict[int, dict[int, list[InstanceView]]] = {number: {} for number in range(partitions)}
    async for row in _rows(read_model, flow):
        rows.setdefault(row.partition, {}).setdefault(row.position, []).append(row)
    found: list[Change] = []
    for partition, by_offset in rows.items():
        if by_offset:
            fold = PartitionFold(table, partition, partitions, no_attributes, fields_of)
            found += await _compared(table, log, fold, by_offset)
    return found


def refusal(flow: str, found: Sequence[Change]) -> ConflictError:
    """Return the error that lists the changes of a rebuild."""
    more = f"\n  and {len(found) - LISTED_MAX} more" if len(found) > LISTED_MAX else ""
    listed = "".join(f"\n  {change}" for change in found[:LISTED_MAX])
    return ConflictError(
        f"the flow as it is declared now would change {counted(len(found), 'instance')}:{listed}{more}",
        where=f"flow {flow}, rebuild",
        remedy="Declare it as it was when they ran, or accept the changes with --accept-changes.",
    )


async def _rows(read_model: ReadModel, flow: str) -> AsyncIterator[InstanceView]:
    cursor = ""
    while True:
        page = await read_model.instances(Filter(flow=flow), PAGE, cursor)
        for row in page.items:
            yield row
        cursor = page.cursor
        if not cursor:
            return


async def _compared(
    table: FlowTable, log: Log, tracker: PartitionFold, rows: Mapping[int, Sequence[InstanceView]]
) -> list[Change]:
    """Fold one partition up to the last row, and compare each row at its offset."""
    found: list[Change] = []
    position, last, pages = 0, max(rows), Pages(READ_AT_ONCE)
    while position <= last:
        records = await log.read(table.flow.name, tracker.partition, position, pages.limit(READ_AT_ONCE))
        if not records:
            break
        pages.read(records)
        for piece in _pieces(records, rows):
            tracker.put({}, tracker.missing(piece))
            views = {(view.key, view.run): view for view in tracker.fold(piece, 0).views}
            for row in rows.get(piece[-1].offset, ()):
                found += _changed(table, row, views.get((row.key, row.run)))
        position = records[-1].offset + 1
    return found


def _pieces(records: Sequence[Record], rows: Mapping[int, object]) -> list[Sequence[Record]]:
    """Return the records in pieces, each of which ends where a row is true, or where they end."""
    ends = [at + 1 for at, record in enumerate(records) if record.offset in rows or at + 1 == len(records)]
    return [records[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _changed(table: FlowTable, row: InstanceView, folded: InstanceView | None) -> list[Change]:
    """Return the change, if it is one. Of a row that another version of choreo wrote only the status is known."""
    if folded is None:
        return [Change(row.key, row.run, row.status, "unknown")]
    before, after = _detail(row), _detail(folded)
    same = row.status == folded.status
    if same and before is not None and after is not None:
        # A step may have been renamed since: its old name is not compared.
        named = all(effect.step in table.steps for effect in before.ledger)
        same = _effects(before, named=named) == _effects(after, named=named)
    return [] if same else [Change(row.key, row.run, _shown(row.status, before), _shown(folded.status, after))]


def _detail(row: InstanceView) -> Detail | None:
    try:
        return detail_of(row)
    except StorageError:
        return None


def _effects(detail: Detail, *, named: bool) -> list[tuple[str, str, bool]]:
    """Return the effects with their states."""
    return sorted((effect.step if named else "", effect.state, effect.in_doubt) for effect in detail.ledger)


def _shown(status: str, detail: Detail | None) -> str:
    effects = ", ".join(f"{effect.step} {effect.state}" for effect in detail.ledger) if detail else ""
    return f"{status} ({effects})" if effects else status

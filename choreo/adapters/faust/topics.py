"""The log and the changelog of one session: looked up in the cluster when it begins, and watched.

States belong to one log and one changelog. States of any other are dropped from the local copy; partitions without
usable states are folded anew (`trust` decides).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from choreo.adapters.faust.local_copy import LocalCopy
from choreo.adapters.faust.options import FaustOptions
from choreo.adapters.faust.trust import Span, TakeOver, describe, has_hole, take_over
from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.cluster.log_identity import Origin
from choreo.adapters.kafka.cluster.requests import Commit
from choreo.core.errors import (
    ChoreoError,
    NotFoundError,
    SettingsError,
    SkippedError,
    StorageError,
    UnavailableError,
)

_log = logging.getLogger(__name__)


class SessionTopics:
    """Log and changelog of one flow, as they were when the session began."""

    def __init__(
        self,
        flow: str,
        log: KafkaLog,
        changelog: str,
        origin: Origin,
        changelog_id: str,
        count: Callable[[str, float], None],
    ) -> None:
        """Take `changelog`, its name without the prefix, and the identities of both; `count` adds to a counter."""
        self.origin = origin
        self.changelog_id = changelog_id
        self.changelog = changelog
        self.written: dict[int, int] = {}
        """Where the changelog of each partition ended when it was taken over."""
        self._flow = flow
        self._log = log
        self._begins: Mapping[int, int] = {}
        self._count = count

    @classmethod
    async def found(
        cls,
        flow: str,
        log: KafkaLog,
        options: FaustOptions,
        local: LocalCopy,
        count: Callable[[str, float], None],
    ) -> SessionTopics:
        """Look the topics up; drop states of other topics from the local copy.

        Raises SettingsError where topic and changelog do not fit or one is missing, ReplacedLogError, StorageError.
        """
        changelog = options.changelog(flow).removeprefix(options.prefix)
        try:
            origin, behind = await asyncio.gather(log.origin(flow), log.described(changelog))
        except (StorageError, UnavailableError):
            raise
        except ChoreoError as error:
            remedy = "Make the topics: `choreo topics apply`."
            raise SettingsError(error.what, where=error.where, remedy=remedy) from error
        if origin.partitions != behind.partitions:
            raise SettingsError(
                f"it has {behind.partitions} partitions, the flow's topic {origin.partitions}",
                where=f"topic {changelog}",
                remedy="If the flow's topic is as it was made: remove this one, and let `choreo topics apply` make it.",
            )
        topics = cls(flow, log, changelog, origin, behind.topic_id, count)
        await topics._sweep(local, f"{origin} {behind}")
        return topics

    async def check(self) -> None:
        """Raise ReplacedLogError where the topic is another log; SkippedError where the changelog is another one."""
        await self._log.origin(self._flow)
        try:
            topic_id = (await self._log.described(self.changelog)).topic_id
            begins = {number: span[0] for number, span in (await self._log.spans(self.changelog)).items()}
        except NotFoundError as error:
            raise SkippedError(
                "there is no such topic", where=f"topic {self.changelog}", remedy="Make it: `choreo topics apply`."
            ) from error
        if topic_id != self.changelog_id or begins != self._begins:
            raise SkippedError(
                "it was made again or records of it were deleted: states are folded anew from the log",
                where=f"topic {self.changelog}",
            )

    async def spans(self) -> Mapping[int, Span]:
        """Return the first offset of each partition of the log, and the offset of its next record."""
        return await self._log.spans(self._flow)

    async def look_over(self, ours: Collection[int]) -> dict[int, TakeOver]:
        """Return how to take over these partitions: from the log's start where their states cannot be trusted."""
        log, flow = self._log, self._flow
        commits = await log.tracked((flow, self.changelog), flow)
        committed, restored = commits[flow], commits[self.changelog]
        spans, behind = await asyncio.gather(self.spans(), log.spans(self.changelog))
        takes: dict[int, TakeOver] = {}
        for number in ours:
            takes[number] = self._take(number, spans[number], committed, behind[number], restored)
            self.written[number] = behind[number][1]
        lost = {number: take.lost for number, take in takes.items() if take.lost}
        if lost:
            _log.error("tracker of %s: records were deleted before they were read: %s", flow, describe(lost))
        return takes

    def _take(
        self, number: int, span: Span, committed: Mapping[int, Commit], behind: Span, restored: Mapping[int, Commit]
    ) -> TakeOver:
        take = take_over(span, committed.get(number), self.changelog_id, behind, restored.get(number))
        if take.anew:
            self._count("tracker_folded_anew", 1)
            _log.warning(
                "tracker of %s: partition %d is folded anew from offset %d: %s",
                self._flow,
                number,
                take.position,
                take.anew,
            )
        return take

    async def _sweep(self, local: LocalCopy, origin: str) -> None:
        if local.set_aside:
            self._count("tracker_copies_set_aside", 1)
        if not local.belong_to(origin):
            _log.warning("tracker of %s: its local copy was of other topics, and is dropped", self._flow)
        spans = await self._log.spans(self.changelog)
        for partition, span in spans.items():
            if has_hole(local.reached(partition), span):
                _log.warning(
                    "tracker of %s: partition %d of its local copy does not fit the changelog, and is dropped",
                    self._flow,
                    partition,
                )
                local.drop(partition)
        self._begins = {partition: span[0] for partition, span in spans.items()}

"""Heartbeats: attempts of steps with `heartbeat=` report that they go on, and how far they have come.

An attempt that is silent for too long is given up, by the time that has passed on the host's clock. Its last report
lies in the inbox, a row per trigger and step beside the gates: the next attempt gets it, also in another process.
A host without such steps does nothing here.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any

from choreo.app.steps.jobs import HeartbeatMissed, Job
from choreo.core.durations import human_of
from choreo.core.errors import ProgressError, StorageError
from choreo.hosts.runners.port import Attempt
from choreo.hosts.step.context import HostContext
from choreo.ports.inbox import GateRow, GateSave

_log = logging.getLogger(__name__)

PROGRESS_BYTES = 16_384
"""A place to go on from, never the work itself; a thousand of them in one write are 16 MB."""
SHAPE = "progress"
"""The name under which the inbox keeps reports: gates have the digest of a declaration there."""
LOOKS = 4
"""Looks within a heartbeat: a silent attempt is given up at most a quarter of it late."""
AGAIN_S = 0.5
"""Delay after a write that failed."""
_BEATS_MAX = 1 << 32
"""Reports of one attempt. Their places in the inbox grow with attempt and report, below 2**53."""


class Report:
    """See `choreo.core.context.Reported`."""

    __slots__ = ("_stored",)

    def __init__(self) -> None:
        self._stored: Future[None] = Future()
        self._stored.set_running_or_notify_cancel()  # a handler that is cancelled does not take it back

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until the report is stored."""
        return asyncio.wrap_future(self._stored).__await__()

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the report is stored."""
        self._stored.result(timeout_s)

    def done(self) -> None:
        """Note that the report, or a later one, is stored; or that nobody will store it any more."""
        if not self._stored.done():
            self._stored.set_result(None)


class AttemptPulse:
    """The heartbeats of one attempt, see `choreo.core.context.Pulse`. Its handler calls it in any thread."""

    def __init__(self, job: Job, elapsed_ms: Callable[[], int], news: Callable[[AttemptPulse], None]) -> None:
        """Call `news` when there is a report to be stored."""
        self.job: Job = job
        self.attempt: int = job.attempt
        self.is_cancelled: bool = False
        self.heard_ms: int = -1
        """When the attempt began or reported last, by `elapsed_ms`; -1: it was not seen to begin."""
        self._elapsed_ms = elapsed_ms
        self._news = news
        self._lock = Lock()
        self._reports: list[Report] = []
        self._data = b""
        self._beats = 0

    def beat(self, progress: Any) -> Report:
        """Report that the attempt is alive; store `progress` unless it is None."""
        report = Report()
        if progress is None:
            report.done()
        else:
            data = _encoded(progress, self.job.spec.step)
            with self._lock:
                self._data = data
                self._beats += 1
                self._reports.append(report)
            self._news(self)
        self.heard_ms = self._elapsed_ms()
        return report

    def take(self) -> tuple[int, bytes, list[Report]]:
        """Return the newest report with its place in the series, and the reports that are done once it is stored."""
        with self._lock:
            reports, self._reports = self._reports, []
            return self.attempt * _BEATS_MAX + self._beats, self._data, reports


class Heartbeats:
    """The attempts of one host that report."""

    def __init__(self, context: HostContext, give_up: Callable[[Attempt, BaseException], None]) -> None:
        """Give silent attempts up through `give_up`."""
        self._inbox = context.ports.inbox
        self._clock = context.ports.clock
        self._flow = context.topic
        self._give_up = give_up
        specs = [spec for each in context.handlers.whole for spec in each.forward.values() if spec.heartbeat_ms]
        self._look_s = min((spec.heartbeat_ms for spec in specs), default=0) / 1_000 / LOOKS
        self._open: dict[int, tuple[Attempt, AttemptPulse]] = {}
        self._lock = Lock()
        self._unsaved: dict[int, AttemptPulse] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_news = asyncio.Event()
        self._has_open = asyncio.Event()
        self._closed = False

    @property
    def is_used(self) -> bool:
        """Return whether a step of the service has `heartbeat=`."""
        return self._look_s > 0

    async def reported(self, jobs: Iterable[Job]) -> dict[int, Any]:
        """Return by `id(job)` the last reports of earlier attempts of these jobs."""
        keys = {id(job): _key(job) for job in jobs if job.spec.heartbeat_ms}
        if not keys:
            return {}
        found = await self._inbox.gates(self._flow, SHAPE, sorted(set(keys.values())))
        return {place: json.loads(found[key]) for place, key in keys.items() if key in found}

    def pulse(self, job: Job) -> AttemptPulse | None:
        """Return the pulse of an attempt about to start; None for a step without `heartbeat=`."""
        return AttemptPulse(job, self._clock.elapsed_ms, self._reported) if job.spec.heartbeat_ms else None

    def started(self, attempts: Sequence[Attempt]) -> None:
        """Watch those of these attempts that report."""
        for attempt in attempts:
            if isinstance(attempt.context.pulse, AttemptPulse):
                self._open[id(attempt)] = (attempt, attempt.context.pulse)
                self._has_open.set()

    async def keep(self) -> None:
        """Store reports, and give up silent attempts, until cancelled."""
        if not self.is_used:
            return
        self._loop = asyncio.get_running_loop()
        if self._unsaved:
            self._has_news.set()
        saving = asyncio.create_task(self._save())
        try:
            while True:
                await self._has_open.wait()
                await self._clock.sleep(self._look_s)
                self._look(self._clock.elapsed_ms())
                if not self._open:
                    self._has_open.clear()
        finally:
            saving.cancel()
            self._close()

    def _look(self, now_ms: int) -> None:
        for place, (attempt, pulse) in list(self._open.items()):
            if attempt.reported:
                del self._open[place]
            elif not attempt.started_s:
                continue  # it waits for room
            elif pulse.heard_ms < 0:
                pulse.heard_ms = now_ms
            elif now_ms - pulse.heard_ms >= attempt.spec.heartbeat_ms:
                del self._open[place]
                silence = human_of(attempt.spec.heartbeat_ms, attempt.spec.time_scale)
                self._give_up(attempt, HeartbeatMissed(f"reported nothing for {silence}"))

    def _reported(self, pulse: AttemptPulse) -> None:
        with self._lock:
            self._unsaved[id(pulse)] = pulse
            loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._has_news.set)
        if self._closed:
            self._close()

    async def _save(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            with self._lock:
                pulses, self._unsaved = list(self._unsaved.values()), {}
            now_ms = self._clock.now_ms()
            taken = [(pulse, *pulse.take()) for pulse in pulses]
            rows = {_key(pulse.job): GateRow(0, place, now_ms, data) for pulse, place, data, _ in taken}
            try:
                await self._stored(GateSave(self._flow, SHAPE, {}, rows))
            finally:  # also where it is cancelled: nobody else knows of these reports
                for _, _, _, reports in taken:
                    for report in reports:
                        report.done()

    async def _stored(self, save: GateSave) -> None:
        """Store reports, as soon as storage allows; ones that cannot be stored at all are dropped."""
        while True:
            try:
                await self._inbox.keep_gates(save)
            except StorageError as error:
                _log.warning("progress of %d attempts is not stored: %s", len(save.rows), error)
                await self._clock.sleep(AGAIN_S)
            except Exception:  # noqa: BLE001 - it must not end the task: every later report would wait for ever
                _log.exception("progress of %d attempts is dropped", len(save.rows))
                return
            else:
                return

    def _close(self) -> None:
        """Let handlers go on that wait for a report which nobody will store."""
        self._closed = True
        with self._lock:
            pulses, self._unsaved = list(self._unsaved.values()), {}
        for pulse in pulses:
            for report in pulse.take()[2]:
                report.done()


def _key(job: Job) -> str:
    return f"{job.inbox_id}/{job.spec.step}"


def _encoded(progress: Any, step: str) -> bytes:
    where = f"step {step}, heartbeat"
    try:
        data = json.dumps(progress, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProgressError(
            f"the progress is not JSON: {error}",
            where=where,
            remedy="Report texts, numbers, lists and dicts, such as the number of the last line.",
        ) from error
    if len(data) > PROGRESS_BYTES:
        raise ProgressError(
            f"the progress has {len(data):,} bytes, {PROGRESS_BYTES:,} are allowed",
            where=where,
            remedy="Report a place to go on from; keep the work itself elsewhere.",
        )
    return data

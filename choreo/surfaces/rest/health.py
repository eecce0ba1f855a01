"""Routes for what watches the process: is it alive, may it be asked, and the numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from choreo.app.query import READ_MODEL, Lag
from choreo.core.errors import UnavailableError
from choreo.core.state import STATUSES
from choreo.surfaces.rest.doors import Doors, Given
from choreo.surfaces.rest.models import LivenessAnswer, ReadinessAnswer
from choreo.surfaces.rest.problems import NotReadyError
from choreo.surfaces.rest.refusals import refused

router: APIRouter = APIRouter(tags=["health"])


@router.get("/livez", operation_id="isAlive", summary="Whether the process makes progress", responses=refused())
async def livez(doors: Given) -> LivenessAnswer:
    """200 while the loop answers and every host of this process polls; else restart it."""
    now_ms = doors.clock.now_ms()
    ages = {name: round(max(0, now_ms - polled_ms) / 1_000, 3) for name, polled_ms in doors.heartbeats().items()}
    hanging = [f"{name} ({age:g} s)" for name, age in ages.items() if age > doors.poll_age_s_max]
    if hanging:
        raise UnavailableError(
            f"hosts do not poll: {', '.join(hanging)}",
            where="this process",
            remedy="Restart it: its partitions go to others.",
        )
    return LivenessAnswer(status="ok", hosts=ages)


@router.get("/readyz", operation_id="isReady", summary="Whether this process can do its work", responses=refused())
async def readyz(doors: Given) -> ReadinessAnswer:
    """200 while every dependency can be used and the read model, where it is read, is not far behind; else 503."""
    unavailable = doors.dependencies.all()
    if unavailable:
        raise NotReadyError(unavailable)
    lags = {flow: _read_model_lag(await doors.queries.lags(flow)) for flow in doors.flows.names}
    behind = {flow: lag for flow, lag in lags.items() if lag > doors.read_model_lag_max}
    if behind and doors.reads:
        raise UnavailableError(
            f"the read model is {behind} records behind, more than {doors.read_model_lag_max}",
            where="read model",
            remedy="Wait, or start what fills it: `choreo run tracker`, on Kafka `choreo run projector`.",
        )
    return ReadinessAnswer(status="ok", read_model_lag=lags)


def _read_model_lag(lags: Iterable[Lag]) -> int:
    return sum(lag.behind for lag in lags if lag.group == READ_MODEL)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refused()},
)
async def metrics(doors: Given) -> Response:
    """Runs by status, dead letters, lag by group, and what the hosts of this process count."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(await _families(doors)))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Numbers(Collector):
    """What was gathered for one scrape; a registry of its own, so that nothing of another library slips in."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """As prometheus-client asks for it."""
        return self._families


async def _families(doors: Doors) -> list[GaugeMetricFamily]:
    runs = GaugeMetricFamily("choreo_instances", "Runs by status.", labels=("flow", "status"))
    letters = GaugeMetricFamily("choreo_dead_letters", "Records set aside.", labels=("flow",))
    lag = GaugeMetricFamily(
        "choreo_lag_records", "Records not yet finished by a group.", labels=("flow", "group", "partition")
    )
    hosts = GaugeMetricFamily("choreo_host", "What the hosts of this process count.", labels=("counter",))
    gone, age = _unavailable(doors)
    for flow in doors.flows.names:
        counts = await doors.queries.counts(flow)
        for status in STATUSES:
            runs.add_metric((flow, status), counts.get(status, 0))
        letters.add_metric((flow,), await doors.queries.dead_letter_count(flow))
        for item in await doors.queries.lags(flow):
            lag.add_metric((flow, item.group, str(item.partition)), item.behind)
    for name, value in doors.counters().items():
        hosts.add_metric((name,), value)
    return [runs, letters, lag, hosts, gone, age]


def _unavailable(doors: Doors) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    gone = GaugeMetricFamily(
        "choreo_dependency_unavailable", "1 while this process cannot use it.", labels=("dependency",)
    )
    age = GaugeMetricFamily(
        "choreo_dependency_unavailable_seconds", "How long it cannot be used.", labels=("dependency",)
    )
    now_ms = doors.clock.now_ms()
    for one in doors.dependencies.all():
        gone.add_metric((one.name,), 1)
        age.add_metric((one.name,), max(0, now_ms - one.since_ms) / 1_000)
    return gone, age

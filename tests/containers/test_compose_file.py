"""The compose file as it is read: every role of the flow, any number of each, and one image that may do little."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from choreo.settings import Settings
from services.order_flow import order
from services.travel.ticket_flow import ticket
from services.travel.trip_flow import trip

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES = [service.name for service in order.services]
OBSERVERS = ["prometheus", "alertmanager"]
TRAVEL = [service.name for flow in (trip, ticket) for service in flow.services]
ROLES = [*SERVICES, "travel", "bridge", "tracker", "projector", "rest"]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_runs_after_its_topics_are_made(role: str) -> None:
    """Services, the bridge, the tracker, the projector and the REST view; those of the travel flow in one process."""
    service = COMPOSE[role]
    assert service["command"] == ["run", *(TRAVEL if role == "travel" else [role])]
    assert service["depends_on"] == {
        "topics": {"condition": "service_completed_successfully"},
        "redis": {"condition": "service_healthy"},
    }
    assert "profiles" not in service


@pytest.mark.parametrize("role", [role for role in ROLES if role != "rest"])
def test_any_number_of_a_role_can_run(role: str) -> None:
    """`--scale payment=3`: neither a name nor a port of the host belongs to one container."""
    assert "container_name" not in COMPOSE[role]
    assert "ports" not in COMPOSE[role]


def test_two_trackers_run_each_with_states_of_its_own() -> None:
    """One may die; a shared folder would be two owners of one store, a volume without a name stays behind."""
    assert COMPOSE["tracker"]["deploy"]["replicas"] == 2
    assert COMPOSE["tracker"]["volumes"] == []
    assert COMPOSE["tracker"]["read_only"] is False


def test_what_is_reached_from_outside_is_reached_from_this_machine_only() -> None:
    """And every port can be chosen, so that two checkouts run beside each other."""
    ports = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert ports
    for port in ports:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{CHOREO_(REST|BROKER|REDIS|PROMETHEUS|ALERTS)_PORT:-\d+\}:\d+", port)


def test_no_variable_of_compose_is_taken_for_a_setting_of_ours() -> None:
    """A shell that exports one for `make servers` also calls `choreo`; CHOREO_KAFKA_PORT would reach librdkafka."""
    variables = set(re.findall(r"\$\{CHOREO_(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert variables
    assert not {name for name in variables if name.startswith("KAFKA_") or name.lower() in Settings.model_fields}


def test_one_image_is_built_once_for_all_that_run_it() -> None:
    """By the service that all others wait for; nobody looks for it in a registry."""
    ours = {name: service for name, service in COMPOSE.items() if name not in ("kafka", "redis", *OBSERVERS)}
    assert {service["image"] for service in ours.values()} == {"${CHOREO_IMAGE:-choreo:local}"}
    assert {service["pull_policy"] for service in ours.values()} == {"never"}
    assert [name for name, service in ours.items() if "build" in service] == ["topics"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_no_more_than_it_must(role: str) -> None:
    """No rights beyond its user's, a root file system that cannot be written, and a restart when it ends."""
    service = COMPOSE[role]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is (role != "tracker")
    assert service["restart"] == "unless-stopped"


def test_the_command_line_and_the_demo_start_only_when_they_are_asked_for() -> None:
    """Each in a profile of its own name."""
    assert {name: service["profiles"] for name, service in COMPOSE.items() if "profiles" in service} == {
        "cli": ["cli"],
        "demo": ["demo"],
        "prometheus": ["observe"],
        "alertmanager": ["observe"],
    }


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_may_do_no_more_than_they_must(name: str) -> None:
    """Debian's programs, as nobody, with the files of deploy/observe."""
    service = COMPOSE[name]
    assert service["build"] == "deploy/observe"
    assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
    assert "USER 65534:65534" in (ROOT / "deploy" / "observe" / "Dockerfile").read_text()


def test_prometheus_scrapes_every_role() -> None:
    """The REST view once, every container of the others."""
    jobs = yaml.safe_load((ROOT / "deploy" / "observe" / "prometheus.yml").read_text())["scrape_configs"]
    found = {job["job_name"]: job for job in jobs}
    assert found["rest"]["static_configs"] == [{"targets": ["rest:8080"]}]
    (roles,) = found["roles"]["dns_sd_configs"]
    assert sorted([*roles["names"], "rest"]) == sorted(ROLES)
    assert f"CHOREO_HEALTH_PORT={roles['port']}" in DOCKERFILE


@pytest.mark.parametrize(
    "line",
    [
        "USER choreo",
        "STOPSIGNAL SIGTERM",
        'ENTRYPOINT ["choreo"]',
        "HEALTHCHECK --interval=3s",
        "--require-hashes -r requirements-kafka.lock",
    ],
)
def test_the_image_is_not_roots_and_is_made_of_what_is_locked(line: str) -> None:
    """Its process stops on an orchestrator's signal, and reports whether it lives."""
    assert line in DOCKERFILE


def test_the_engine_is_sent_only_what_the_image_is_made_of() -> None:
    """Everything the Dockerfile copies, and nothing else: a secret beside it stays where it is."""
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    sent = {line.removeprefix("!") for line in rest if line.startswith("!")}
    copied: set[Any] = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        copied.update(name for name in line.split()[:-1])
    assert first == "*"
    assert sent == copied

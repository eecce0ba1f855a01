"""The compose file as a user runs it: an order posted to the REST view completes, with any number of workers.

Needs a Docker engine and Compose v2; with CHOREO_REQUIRE_DOCKER=1 their absence is a failure.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
ROLES = ("inventory", "payment", "shipping", "notification", "tracker", "projector", "rest")
ENDS_WITHIN_S = 60.0
"""What an order may take on a busy machine; alone it takes well under a second."""

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1_200)]


def missing() -> str:
    """What of a Docker engine is not there; empty if all is."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command, what in ((["docker", "compose", "version"], "Compose v2"), (["docker", "info"], "a Docker daemon")):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return f"{what} is not there (`{' '.join(command)}` fails)"
    return ""


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    """The user's own."""
    return str(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    """Beside a stack that runs already."""
    return f"choreo-test-{os.getpid()}"


@pytest.fixture(scope="session")
def docker_setup() -> Iterator[list[str]]:
    """Build; starting is what the tests look at. The REST view gets a port that nobody has."""
    if lacking := missing():
        said = f"tests in containers need Docker: {lacking}"
        if os.environ.get("CHOREO_REQUIRE_DOCKER") == "1":
            pytest.fail(f"{said} (CHOREO_REQUIRE_DOCKER=1)", pytrace=False)
        pytest.skip(said)
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as free:
        patch.setenv("CHOREO_REST_PORT", str(free.getsockname()[1]))
        free.close()
        yield ["build"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    """Leave nothing, but say first what was said where a test has failed: pytest shows it with the failure."""
    return ["logs --no-color --tail 40", "down --volumes --remove-orphans --timeout 20"]


class Stack:
    """The containers, by compose's commands, and the REST view."""

    def __init__(self, services: Any) -> None:
        """Nothing runs yet."""
        self._services = services

    def compose(self, command: str) -> str:
        """What a command answers; raises with its output where it fails."""
        return str(self._services._docker_compose.execute(command).decode())

    def rest(self) -> httpx.Client:
        """The REST view, where this machine reaches it."""
        port = self._services.port_for("rest", 8080)
        return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def containers(self, role: str) -> list[dict[str, Any]]:
        """The containers of a role, also those that have ended."""
        lines = self.compose(f"ps --all --format json {role}").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def place(self, key: str) -> None:
        """Post an order."""
        fields = {
            "order_id": key,
            "customer_id": "ada",
            "amount": "12.50",
            "items": [{"sku": "tea", "quantity": 2}],
            "card": "visa",
        }
        self._post(key, "OrderPlaced", fields)

    def pick(self, key: str) -> None:
        """What the warehouse says once the shipment is created."""
        self._post(key, "ShipmentPicked", {"order_id": key})

    def instance(self, key: str) -> dict[str, Any]:
        """The instance as the view shows it; empty as long as it does not know it."""
        with self.rest() as rest:
            answer = rest.get(f"/flows/order/instances/{key}")
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else {}

    def complete(self, keys: list[str]) -> None:
        """Place these orders, let each be picked, and wait until all are completed."""
        for key in keys:
            self.place(key)
        for key in keys:
            self.until(lambda key=key: self.instance(key).get("waits"))
            self.pick(key)
        for key in keys:
            self.until(lambda key=key: self.instance(key).get("status") == "completed")

    def until(self, check: Any) -> None:
        """Wait for a fact."""
        self._services.wait_until_responsive(check, timeout=ENDS_WITHIN_S, pause=0.2)

    def _post(self, key: str, type_: str, fields: dict[str, Any]) -> None:
        with self.rest() as rest:
            answer = rest.post("/flows/order/events", json={"type": type_, "fields": fields})
        assert answer.status_code == httpx.codes.CREATED, f"{type_} of {key}: {answer.text}"


@pytest.fixture(scope="session")
def stack(docker_services: Any) -> Stack:
    """All of it, up and healthy, as `make up` starts it."""
    started = Stack(docker_services)
    started.compose("up --detach --wait --wait-timeout 180")
    return started


def test_every_role_is_healthy_and_nobody_is_root(stack: Stack) -> None:
    """Two trackers among them; the topics were made before."""
    for role in ROLES:
        found = stack.containers(role)
        assert len(found) == (2 if role == "tracker" else 1)
        assert {container["Health"] for container in found} == {"healthy"}, role
    assert stack.compose("exec -T payment python -c 'import os; print(os.getuid())'").strip() == "10001"
    (topics,) = stack.containers("topics")
    assert (topics["State"], topics["ExitCode"]) == ("exited", 0)


def test_an_order_posted_to_the_rest_view_completes(stack: Stack) -> None:
    """Through four services, the tracker, the projector and back to the view."""
    stack.complete(["o-1"])
    instance = stack.instance("o-1")
    assert [effect["step"] for effect in instance["ledger"]] == [
        "inventory.reserve",
        "payment.charge",
        "shipping.create",
    ]


def test_an_order_that_fails_is_undone(stack: Stack) -> None:
    """Nobody picks it up: it is cancelled through the view, and what was done is undone."""
    stack.place("o-2")
    stack.until(lambda: stack.instance("o-2").get("waits"))
    with stack.rest() as rest:
        assert rest.post("/flows/order/instances/o-2/cancel").status_code == httpx.codes.ACCEPTED
    stack.until(lambda: stack.instance("o-2").get("status") == "compensated")


def test_three_workers_of_a_service_share_its_partitions(stack: Stack) -> None:
    """`--scale payment=3`: the group has three members, each with partitions, and orders complete."""
    stack.compose("up --detach --no-recreate --wait --wait-timeout 120 --scale payment=3")
    assert len(stack.containers("payment")) == 3
    group = (
        "/opt/kafka/bin/kafka-consumer-groups.sh --bootstrap-server localhost:9092 --describe --group payment --members"
    )

    def shared() -> bool:
        rows = [
            row.split() for row in stack.compose(f"exec -T kafka {group}").splitlines() if row.startswith("payment")
        ]
        return len(rows) == 3 and all(int(row[-1]) > 0 for row in rows)

    stack.until(shared)
    stack.complete([f"o-3{number:02}" for number in range(20)])


def test_a_worker_that_is_told_to_stop_drains_and_ends_well(stack: Stack) -> None:
    """SIGTERM within the grace period; 137 would be a kill."""
    stack.compose("stop payment shipping tracker rest")
    for role in ("payment", "shipping", "tracker", "rest"):
        assert {container["ExitCode"] for container in stack.containers(role)} == {0}, role

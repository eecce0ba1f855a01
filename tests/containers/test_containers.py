"""The compose file as a user runs it: orders complete with any number of workers, and after any kill or stop.

Needs a Docker engine and Compose v2; CHOREO_REQUIRE_DOCKER=1 or CHOREO_REQUIRE_KAFKA=1 makes their absence a failure.
One `make up` for all of it, under a name, an image and ports of its own; the tests run in their order.
"""

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import required
from tests.support.containers import ROOT, Stack, environment, missing, output, ran

ROLES = ("inventory", "payment", "shipping", "notification", "travel", "bridge", "tracker", "projector", "rest")
PROJECT = f"choreo-test-{os.getpid()}"
SLOW = "visa+slow:4"
"""A card with charges of four seconds each: long enough to be caught at it, short enough to be made before a stop."""
SLOWER = "visa+slow:15"
"""A card with charges that a kill meets on a busy machine, too; half as long as an attempt may take."""
OUTAGE_S = 80.0
"""A client learns after 10 s that it left its group, if it learns it at all, and is made anew after 60 more."""
PAGES = (ROOT / "README.md").read_text() + (ROOT / "docs" / "containers.md").read_text()
COMMANDS = dict(re.findall(r"<!-- commands: (containers|servers) -->\n```sh\n(.*?)```", PAGES, re.DOTALL))

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    """Return the user's own."""
    return str(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    """Return a name that differs from a stack that runs already."""
    return PROJECT


@pytest.fixture(scope="session")
def docker_setup() -> Iterator[list[str]]:
    """Yield without a command: the tests themselves start the stack. The image is removed at the end."""
    if lacking := missing():
        what = f"tests in containers need Docker: {lacking}"
        if os.environ.get("CHOREO_REQUIRE_DOCKER") == "1":
            pytest.fail(f"CHOREO_REQUIRE_DOCKER=1, and {what}", pytrace=False)
        required.absent(what)
    with ExitStack() as held:
        names = ("REST", "BROKER", "REDIS")
        taken = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
        ports = {name: listener.getsockname()[1] for name, listener in taken.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(PROJECT, ports).items():
            patch.setenv(name, value)
        yield []
    ran("docker", "image", "rm", "--force", f"{PROJECT}:local")


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    """Leave nothing."""
    return ["--profile '*' down --volumes --remove-orphans --timeout 20"]


@pytest.fixture(scope="session")
def stack(docker_services: Any) -> Stack:
    """Return all of it, up and healthy."""
    started = Stack(docker_services)
    started.up()
    return started


def test_every_role_is_healthy_and_the_topics_were_made_before(stack: Stack) -> None:
    """Two trackers among them."""
    for role in ROLES:
        found = stack.containers(role)
        assert len(found) == (2 if role == "tracker" else 1)
        assert {container["Health"] for container in found} == {"healthy"}, role
    (topics,) = stack.containers("topics")
    assert (topics["State"], topics["ExitCode"]) == ("exited", 0)


def test_a_container_is_not_roots_and_holds_no_tools_to_build_with(stack: Stack) -> None:
    """Its user is nobody on a node, its files cannot be changed, and there is no pip to bring others."""
    payment = stack.the("payment")
    assert output("docker", "exec", payment, "id", "-u").strip() == "10001"
    for refused in (("touch", "/app/services/new.py"), ("python", "-m", "pip", "--version"), ("touch", "/new")):
        assert ran("docker", "exec", payment, *refused).returncode, refused
    state = output("docker", "exec", payment, "cat", "/proc/1/status")
    assert re.search(r"^CapEff:\s0+$", state, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s1$", state, re.MULTILINE)


def test_the_health_check_means_progress(stack: Stack) -> None:
    """A process that is there and does nothing is not well; it is again when it goes on."""
    shipping = stack.the("shipping")
    assert stack.well(shipping)
    stack.signal(shipping, "STOP")
    assert not stack.well(shipping)
    stack.signal(shipping, "CONT")
    stack.until(lambda: stack.well(shipping))


def test_an_order_posted_to_the_rest_view_completes(stack: Stack) -> None:
    """Through four services, the tracker, the projector and back to the view; and nobody is behind afterwards."""
    stack.place("o-1")
    stack.until(lambda: stack.instance("o-1").get("waits"))
    stack.pick("o-1")
    stack.becomes("o-1", "completed")
    steps = [effect["step"] for effect in stack.instance("o-1")["ledger"]]
    assert steps == ["inventory.reserve", "payment.charge", "shipping.create"]
    assert re.search(r"o-1 +completed", stack.compose("run --rm cli list order"))
    stack.until(lambda: stack.get("/readyz").get("status") == "ok" and lag(stack) == 0)
    with stack.rest() as rest:
        assert 'choreo_runs{flow="order",status="completed"} 1.0' in rest.get("/metrics").text


def test_a_trip_with_its_tickets_completes_beside_the_orders(stack: Stack) -> None:
    """Three bookings side by side, an approval, a ticket for each traveller; one that is refused is undone."""
    travellers = [{"name": name, "card": "visa", "fare": "100"} for name in ("ada", "grace")]
    for key, flight, status in (("t-1", "LH-1", "completed"), ("t-2", "none", "compensated")):
        about = {"customer_id": "ada", "flight": flight, "hotel": "Ritz", "car": "van"}
        stack.post("TripRequested", "trip", trip_id=key, travellers=travellers, **about)
        if status == "completed":
            stack.until(lambda key=key: stack.instance(key, "trip").get("waits"))
            stack.post("TripApproved", "trip", trip_id=key)
        stack.becomes(key, status, "trip")
    tickets = [stack.instance(f"t-1-{number}", "ticket").get("status") for number in range(2)]
    assert tickets == ["completed", "completed"]


def lag(stack: Stack) -> float:
    """Return the lag of all groups together, from the metrics."""
    with stack.rest() as rest:
        lags = re.findall(r"^choreo_group_lag_records\{.*\} (.*)$", rest.get("/metrics").text, re.MULTILINE)
    assert lags
    return sum(map(float, lags))


def test_an_order_whose_card_is_declined_is_undone(stack: Stack) -> None:
    """Its stock is given back; the bank holds no charge."""
    stack.place("o-2", "declined")
    stack.becomes("o-2", "compensated")
    said_of_it = stack.types("o-2")
    assert said_of_it.index("PaymentDeclined") < said_of_it.index("StockReleased") < said_of_it.index("OrderCancelled")
    assert stack.rows("bank", "SELECT status FROM charges WHERE order_id = 'o-2'") == [["declined"]]


def test_a_service_that_is_killed_at_work_comes_back_and_its_order_completes(stack: Stack) -> None:
    """A kill -9 while the bank is being asked: Docker starts it again, and the bank has charged once."""
    payment = stack.the("payment")
    before, calls = stack.inspect(payment)["RestartCount"], _calls(stack)
    stack.place("o-3", SLOWER)
    stack.until(lambda: _calls(stack) > calls)
    stack.signal(payment, "KILL")
    stack.pick("o-3")
    stack.becomes("o-3", "completed")
    assert stack.inspect(payment)["RestartCount"] == before + 1
    assert _calls(stack) >= calls + 2, "the first attempt was not killed at work"
    assert stack.rows("bank", "SELECT status FROM charges WHERE order_id = 'o-3'") == [["charged"]]


def _calls(stack: Stack) -> int:
    """Return how often the bank was asked to charge, answered or not."""
    return int(stack.rows("bank", "SELECT coalesce(sum(count), 0) FROM calls WHERE operation = 'charge'")[0][0])


def test_three_workers_of_a_service_share_its_partitions(stack: Stack) -> None:
    """`--scale payment=3`: the group has three consumers, each with partitions, and orders complete."""
    stack.compose("up --detach --no-recreate --wait --scale payment=3")
    assert len(stack.containers("payment")) == 3
    group = "kafka-consumer-groups.sh --bootstrap-server localhost:9092 --describe --group payment --members"

    def shared() -> bool:
        rows = [row.split() for row in stack.compose(f"exec -T kafka /opt/kafka/bin/{group}").splitlines()]
        shares = [int(row[-1]) for row in rows if row[:1] == ["payment"]]
        return len(shares) == 3 and min(shares) > 0 and sum(shares) == 8

    stack.until(shared)
    keys = [f"o-4{number:02}" for number in range(30)]
    for key in keys:
        stack.place(key)
        stack.pick(key)
    for key in keys:
        stack.becomes(key, "completed")


def test_workers_that_are_told_to_stop_drain_and_end_well(stack: Stack) -> None:
    """SIGTERM: the charge under way is made and published before its process ends; 0 is no kill. Nothing is lost."""
    calls = _calls(stack)
    stack.place("o-5", SLOW)
    stack.until(lambda: _calls(stack) > calls)
    assert "PaymentCharged" not in stack.types("o-5")
    stack.compose("stop payment tracker shipping")
    for role in ("payment", "tracker", "shipping"):
        ends = {(container["State"], container["ExitCode"]) for container in stack.containers(role)}
        assert ends == {("exited", 0)}, role
    stack.until(lambda: "PaymentCharged" in stack.types("o-5"))
    stack.compose("stop projector rest")
    assert {container["ExitCode"] for role in ("projector", "rest") for container in stack.containers(role)} == {0}
    stack.compose("start payment tracker shipping projector rest")
    stack.until(lambda: _answers(stack))
    stack.pick("o-5")
    stack.becomes("o-5", "completed")
    assert _calls(stack) == calls + 1


def _answers(stack: Stack) -> bool:
    """Return whether the REST view is there again."""
    return stack.well(stack.the("rest"))


def test_services_find_back_after_an_outage_in_which_the_brokers_name_is_gone(stack: Stack) -> None:
    """Longer than a client that fell out of its group is waited for: orders complete as before."""
    stack.place("o-6")
    stack.compose("stop kafka")
    over_s = time.monotonic() + OUTAGE_S
    stack.until(lambda: time.monotonic() > over_s)
    stack.compose("start kafka")
    stack.until(lambda: stack.takes("OrderPlaced", **stack.order("o-7")))
    for key in ("o-6", "o-7"):
        stack.until(lambda key=key: stack.instance(key).get("waits"))
        stack.pick(key)
        stack.becomes(key, "completed")


def test_a_port_that_somebody_has_is_named_before_anything_is_built(stack: Stack) -> None:
    """Another project on this one's ports: the sentence names the port, and how to choose another."""
    other = {**os.environ, "COMPOSE_PROJECT_NAME": f"{PROJECT}-other"}
    done = ran("make", "up", env=other)
    assert done.returncode
    assert re.search(r"Port \d+ of 127\.0\.0\.1 is in use\. .* choose another: CHOREO_REST_PORT", done.stderr)
    assert not output("docker", "ps", "--all", "--quiet", "--filter", f"name={PROJECT}-other")
    assert stack.containers()


def test_the_commands_of_the_readme_do_what_they_say(stack: Stack) -> None:
    """All of them, in their order, to `make down`: an order from outside, three workers, the audited demo."""
    with stack.rest() as rest:
        here = COMMANDS["containers"].replace("http://localhost:8080", str(rest.base_url).rstrip("/"))
    assert here != COMMANDS["containers"]
    done = ran("bash", "-euxo", "pipefail", "-c", here, timeout_s=560)
    assert done.returncode == 0, f"{done.stdout[-4_000:]}\n{done.stderr[-4_000:]}"
    assert re.search(r"^order o-1001 +completed$", done.stdout, re.MULTILINE)
    assert "500 orders: 345 completed, 155 compensated, 0 stuck" in done.stdout
    assert "Money and stock add up." in done.stdout
    assert stack.containers() == []


def test_services_in_a_checkout_reach_the_servers_alone(docker_services: Any, tmp_path: Path) -> None:
    """`make servers`, and the lines after it: Kafka under the name it gives itself, and Redis."""
    stack = Stack(docker_services)
    output("make", "down")
    here = COMMANDS["servers"]
    for said_there, name in (("29092", "CHOREO_BROKER_PORT"), ("26379", "CHOREO_REDIS_PORT")):
        assert said_there in here
        here = here.replace(said_there, os.environ[name])
    here, _, after = here.partition("choreo dev")
    assert after.startswith("  "), "the last line is what a developer stays in"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "choreo").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m choreo "$@"\n')
    (programs / "choreo").chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    order = """{"order_id": "o-9", "customer_id": "ada", "amount": 1, "card": "visa", "items": [{"sku": "tea",
        "quantity": 1}]}"""
    looked = f"choreo topics diff && choreo publish order OrderPlaced --json '{order}' && choreo list order"
    done = ran("bash", "-euo", "pipefail", "-c", f"{here}{looked}", env=env)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"localhost:{os.environ['CHOREO_BROKER_PORT']}" in done.stdout
    assert {container["Service"] for container in stack.containers()} == {"kafka", "redis"}

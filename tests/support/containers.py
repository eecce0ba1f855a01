"""The stack of docker-compose.yml for tests: compose's commands, the REST view, and an operator's view.

Needs a Docker engine and Compose v2; names the missing one. Knows nothing of choreo but its ports.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
ENDS_WITHIN_S = 180.0
"""Bound for one fact where two cores have forty processes to run: the start of nine took half of it, alone 5 s."""


def ran(
    *command: str, timeout_s: float = 300, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout to its end, good or bad."""
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)


def output(*command: str) -> str:
    """Return a command's output; raise with all of it where the command fails."""
    done = ran(*command)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def missing() -> str:
    """Return the missing part of a Docker engine; empty if none is missing."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command, what in ((["docker", "compose", "version"], "Compose v2"), (["docker", "info"], "a Docker daemon")):
        if ran(*command).returncode:
            return f"{what} is not there (`{' '.join(command)}` fails)"
    return ""


class Stack:
    """The containers and the addresses of one compose project. `services` is pytest-docker's."""

    def __init__(self, services: Any) -> None:
        """Start with no container."""
        self._services = services

    def up(self) -> None:
        """Run `make up` as a user does; where it fails, raise with the logs of the containers that are not healthy."""
        done = ran("make", "--no-print-directory", "up", timeout_s=480)
        if done.returncode == 0:
            return
        unwell = [
            container["Name"]
            for container in self.containers()
            if container["State"] != "running" or container["Health"] != "healthy"
        ]
        logs = "".join(self.log(name) for name in unwell)
        raise AssertionError(f"make up ended with {done.returncode}:\n{done.stdout}{done.stderr[-4_000:]}\n{logs}")

    def compose(self, command: str) -> str:
        """Return a command's output; raise with it where the command fails."""
        return str(self._services._docker_compose.execute(command).decode())

    def containers(self, role: str = "") -> list[dict[str, Any]]:
        """Return the containers of a role, or all; also those that have ended."""
        lines = self.compose(f"ps --all --format json {role}").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def the(self, role: str) -> str:
        """Return the name of the one container of a role."""
        (container,) = self.containers(role)
        return str(container["Name"])

    def inspect(self, container: str) -> dict[str, Any]:
        """Return all that the engine knows of a container."""
        (known,) = json.loads(output("docker", "inspect", container))
        return dict(known)

    def log(self, container: str) -> str:
        """Return the last lines that a container has said."""
        done = ran("docker", "logs", "--tail", "40", container)
        return f"--- {container}\n{done.stdout}{done.stderr}"

    def signal(self, container: str, name: str) -> None:
        """Send a signal to a container's process past Docker, which would take `docker kill` for the user's will."""
        known = self.inspect(container)
        output(
            "docker", "run", "--rm", "--pid=host", "--user=0", "--entrypoint=bash",
            known["Config"]["Image"], "-c", f"kill -{name} {known['State']['Pid']}",
        )  # fmt: skip

    def well(self, container: str) -> bool:
        """Return whether the image's own health check, asked now, says so."""
        test = self.inspect(container)["Config"]["Healthcheck"]["Test"]
        return ran("docker", "exec", container, "timeout", "4", *test[1:]).returncode == 0

    def rows(self, book: str, sql: str) -> list[list[Any]]:
        """Return rows of a pretended gateway's books, read by plain SQL in a container that shares them."""
        read = f"sqlite3.connect('.choreo/books/{book}.sqlite').execute({sql!r}).fetchall()"
        script = f"import json, sqlite3; print(json.dumps({read}))"
        found: list[list[Any]] = json.loads(output("docker", "exec", self.the("inventory"), "python", "-c", script))
        return found

    def rest(self) -> httpx.Client:
        """Return the REST view, where this machine reaches it."""
        port = self._services.port_for("rest", 8080)
        return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def get(self, path: str) -> Mapping[str, Any]:
        """Return the view's answer; empty as long as it has none."""
        with self.rest() as rest:
            answer = rest.get(path)
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else {}

    def post(self, type_: str, flow: str = "order", **fields: Any) -> None:
        """Publish an event through the view."""
        answer = self._post(type_, fields, flow)
        assert answer.status_code == httpx.codes.CREATED, f"{type_} {fields}: {answer.text}"

    def takes(self, type_: str, **fields: Any) -> bool:
        """Return whether the view publishes an event; it says 503 where the log is away."""
        return self._post(type_, fields).status_code == httpx.codes.CREATED

    def _post(self, type_: str, fields: Mapping[str, Any], flow: str = "order") -> httpx.Response:
        with self.rest() as rest:
            return rest.post(f"/flows/{flow}/events", json={"type": type_, "fields": fields}, timeout=30)

    def order(self, key: str, card: str = "visa") -> dict[str, Any]:
        """Return an order; the card decides the pretended bank's answer."""
        items = [{"sku": "tea", "quantity": 2}]
        return {"order_id": key, "customer_id": "ada", "amount": "12.50", "items": items, "card": card}

    def place(self, key: str, card: str = "visa") -> None:
        """Post an order."""
        self.post("OrderPlaced", **self.order(key, card))

    def pick(self, key: str) -> None:
        """Post the warehouse's event for a shipment."""
        self.post("ShipmentPicked", order_id=key)

    def instance(self, key: str, flow: str = "order") -> Mapping[str, Any]:
        """Return the instance as the view shows it."""
        return self.get(f"/flows/{flow}/instances/{key}")

    def types(self, key: str) -> list[str]:
        """Return the events of an instance, in their order."""
        return [row["type"] for row in self.get(f"/flows/order/instances/{key}/timeline").get("items", [])]

    def becomes(self, key: str, status: str, flow: str = "order") -> None:
        """Wait until an instance has a status."""
        self.until(lambda: self.instance(key, flow).get("status") == status)

    def until(self, fact: Callable[[], Any]) -> None:
        """Wait for a fact; if it does not come, fail with the output of all containers."""
        try:
            self._services.wait_until_responsive(lambda: bool(fact()), timeout=ENDS_WITHIN_S, pause=0.2)
        except Exception as error:
            logs = "".join(self.log(container["Name"]) for container in self.containers())
            raise AssertionError(f"{error}\n{logs}") from error


def environment(project: str, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables that let a stack run beside the user's: another name, image and ports."""
    names = {f"CHOREO_{name}_PORT": str(port) for name, port in ports.items()}
    return {"COMPOSE_PROJECT_NAME": project, "CHOREO_IMAGE": f"{project}:local", **names}

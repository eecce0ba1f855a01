"""The stack of docker-compose.yml for tests: compose's commands, the REST view, and what only an operator sees.

Needs a Docker engine and Compose v2; says which is missing. Knows nothing of choreo but its doors.
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
"""What one fact may take where two cores have forty processes to run: the start of nine took half of it, alone 5 s."""


def ran(
    *command: str, timeout_s: float = 300, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command in the checkout, to its end, whatever that is."""
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)


def said(*command: str) -> str:
    """What a command prints; raises with all of it where it fails."""
    done = ran(*command)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def missing() -> str:
    """What of a Docker engine is not there; empty if all is."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command, what in ((["docker", "compose", "version"], "Compose v2"), (["docker", "info"], "a Docker daemon")):
        if ran(*command).returncode:
            return f"{what} is not there (`{' '.join(command)}` fails)"
    return ""


class Stack:
    """The containers and the doors of one compose project. `services` is pytest-docker's."""

    def __init__(self, services: Any) -> None:
        """Nothing runs yet."""
        self._services = services

    def up(self) -> None:
        """`make up`, as a user does it; where it fails, with what the containers that are not well have said."""
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
        """What a command answers; raises with its output where it fails."""
        return str(self._services._docker_compose.execute(command).decode())

    def containers(self, role: str = "") -> list[dict[str, Any]]:
        """The containers of a role, or all; also those that have ended."""
        lines = self.compose(f"ps --all --format json {role}").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def the(self, role: str) -> str:
        """The name of the one container of a role."""
        (container,) = self.containers(role)
        return str(container["Name"])

    def inspect(self, container: str) -> dict[str, Any]:
        """All that the engine knows of a container."""
        (known,) = json.loads(said("docker", "inspect", container))
        return dict(known)

    def log(self, container: str) -> str:
        """The last lines that a container has said."""
        done = ran("docker", "logs", "--tail", "40", container)
        return f"--- {container}\n{done.stdout}{done.stderr}"

    def signal(self, container: str, name: str) -> None:
        """Send a signal to a container's process past Docker, which would take `docker kill` for the user's will."""
        known = self.inspect(container)
        said(
            "docker", "run", "--rm", "--pid=host", "--user=0", "--entrypoint=bash",
            known["Config"]["Image"], "-c", f"kill -{name} {known['State']['Pid']}",
        )  # fmt: skip

    def well(self, container: str) -> bool:
        """Whether the image's own health check, asked now, says so."""
        test = self.inspect(container)["Config"]["Healthcheck"]["Test"]
        return ran("docker", "exec", container, "timeout", "4", *test[1:]).returncode == 0

    def rows(self, book: str, sql: str) -> list[list[Any]]:
        """What stands in the books of a pretended gateway, read by plain SQL in a container that shares them."""
        read = f"sqlite3.connect('.choreo/books/{book}.sqlite').execute({sql!r}).fetchall()"
        script = f"import json, sqlite3; print(json.dumps({read}))"
        found: list[list[Any]] = json.loads(said("docker", "exec", self.the("inventory"), "python", "-c", script))
        return found

    def rest(self) -> httpx.Client:
        """The REST view, where this machine reaches it."""
        port = self._services.port_for("rest", 8080)
        return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def get(self, path: str) -> Mapping[str, Any]:
        """What the view answers; empty as long as it does not know it or cannot say."""
        with self.rest() as rest:
            answer = rest.get(path)
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else {}

    def post(self, type_: str, **fields: Any) -> None:
        """Publish an event through the view."""
        answer = self._post(type_, fields)
        assert answer.status_code == httpx.codes.CREATED, f"{type_} {fields}: {answer.text}"

    def takes(self, type_: str, **fields: Any) -> bool:
        """Whether the view publishes an event; it says 503 where the log is away."""
        return self._post(type_, fields).status_code == httpx.codes.CREATED

    def _post(self, type_: str, fields: Mapping[str, Any]) -> httpx.Response:
        with self.rest() as rest:
            return rest.post("/flows/order/events", json={"type": type_, "fields": fields}, timeout=30)

    def order(self, key: str, card: str = "visa") -> dict[str, Any]:
        """An order; the card says what the pretended bank does with it."""
        items = [{"sku": "tea", "quantity": 2}]
        return {"order_id": key, "customer_id": "ada", "amount": "12.50", "items": items, "card": card}

    def place(self, key: str, card: str = "visa") -> None:
        """Post an order."""
        self.post("OrderPlaced", **self.order(key, card))

    def pick(self, key: str) -> None:
        """What the warehouse says of a shipment, in its own time."""
        self.post("ShipmentPicked", order_id=key)

    def instance(self, key: str) -> Mapping[str, Any]:
        """The instance as the view shows it."""
        return self.get(f"/flows/order/instances/{key}")

    def types(self, key: str) -> list[str]:
        """The events of an instance, in their order."""
        return [row["type"] for row in self.get(f"/flows/order/instances/{key}/timeline").get("items", [])]

    def becomes(self, key: str, status: str) -> None:
        """Wait until an instance has a status."""
        self.until(lambda: self.instance(key).get("status") == status)

    def until(self, fact: Callable[[], Any]) -> None:
        """Wait for a fact; where it does not come, with what all containers have said."""
        try:
            self._services.wait_until_responsive(lambda: bool(fact()), timeout=ENDS_WITHIN_S, pause=0.2)
        except Exception as error:
            logs = "".join(self.log(container["Name"]) for container in self.containers())
            raise AssertionError(f"{error}\n{logs}") from error


def environment(project: str, ports: Mapping[str, int]) -> dict[str, str]:
    """What lets a stack run beside the user's: another name, image and ports."""
    names = {f"CHOREO_{name}_PORT": str(port) for name, port in ports.items()}
    return {"COMPOSE_PROJECT_NAME": project, "CHOREO_IMAGE": f"{project}:local", **names}

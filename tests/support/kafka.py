"""A real Kafka broker for tests: one Java process from Maven's jars, on a port of its own, gone with the test run.

Needs Java 17 or newer, and Maven the first time; says which is missing. Knows nothing of choreo.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

VERSION = "4.1.0"
START_S = 120.0
DOWNLOAD_S = 240.0

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>choreo</groupId><artifactId>test-broker</artifactId><version>1</version>
<dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
</dependency><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version>
</dependency></dependencies></project>
"""
_SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:{controller}
listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}
advertised.listeners=PLAINTEXT://localhost:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


class MissingError(Exception):
    """A part that a broker needs and this machine lacks."""


def jars() -> Path:
    """Return the folder with the broker's jars, downloaded once a machine; raise MissingError."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "choreo" / f"kafka-{VERSION}"
    if (folder / ".complete").exists() and (folder / f"kafka-tools-{VERSION}.jar").exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingError(f"Maven (mvn), to download the jars of Kafka {VERSION}")
    with tempfile.TemporaryDirectory() as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(_POM, encoding="utf-8")
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
    if done.returncode:
        raise MissingError(f"the jars of Kafka {VERSION}: {done.stdout[-500:]}{done.stderr[-500:]}")
    (folder / ".complete").touch()
    return folder


class Broker:
    """One broker in a folder. It can be stopped and started again on the same port with the same data."""

    def __init__(self, folder: Path) -> None:
        """Make its folder; raises MissingError."""
        java = shutil.which("java")
        if java is None:
            raise MissingError("Java 17 or newer (java)")
        self._java = [java, "-Xms128m", "-Xmx512m", "-cp", f"{jars()}/*"]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = free_ports(2)
        self.bootstrap = f"localhost:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = folder / "server.properties"
        self._settings.write_text(_SETTINGS.format(folder=folder, port=port, controller=controller), encoding="utf-8")
        # Never with a dash in front: the tool would take it for an option.
        cluster = urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        self._run("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(self._settings))

    def start(self) -> None:
        """Start it, and wait until it serves."""
        # Where util-linux has it: a test run that is killed leaves no broker behind.
        guard = [found, "--pdeathsig", "KILL"] if (found := shutil.which("setpriv")) else []
        command = [*guard, *self._java, "kafka.Kafka", str(self._settings)]
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder)
        until = time.monotonic() + START_S
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise MissingError(f"a broker that starts: {(self._folder / 'broker.log').read_text()[-1_000:]}")

    @property
    def pid(self) -> int:
        """Return its process; 0 while it is not started."""
        return self._process.pid if self._process else 0

    def stop(self) -> None:
        """Let it end in order, or kill it if it does not."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def tool(self, name: str) -> list[str]:
        """Return the command of one of Kafka's own tools, by its class."""
        return [*self._java, name]

    def freeze(self) -> None:
        """Let it hang: it takes connections and requests, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with all that was sent meanwhile."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _serves(self) -> bool:
        """Return whether it answers; waits a moment for it."""
        try:
            AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            return False
        return True

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([*self._java, *arguments], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise MissingError(f"a broker that can be set up: {done.stdout[-500:]}{done.stderr[-500:]}")


def free_ports(number: int) -> list[int]:
    """Return ports nobody listens on just now."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(number)]
        return [server.getsockname()[1] for server in taken]

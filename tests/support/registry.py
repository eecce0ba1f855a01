"""A schema registry for tests: the part of Confluent's HTTP interface that its Python client uses, held in memory.

It knows nothing of choreo, and nothing of compatibility.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class Registered(NamedTuple):
    """One version of a subject."""

    id: int
    version: int
    schema: str


class Schemas:
    """Subjects with their versions. Equal texts have the same id."""

    def __init__(self) -> None:
        self.subjects: dict[str, list[Registered]] = {}
        self._ids: dict[str, int] = {}

    def register(self, subject: str, schema: str) -> Registered:
        """Return the version with this text, which may be new."""
        versions = self.subjects.setdefault(subject, [])
        for known in versions:
            if known.schema == schema:
                return known
        versions.append(Registered(self._ids.setdefault(schema, len(self._ids) + 1), len(versions) + 1, schema))
        return versions[-1]

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """Return the registry's answer; raise LookupError on an absent entry."""
        if path == "/subjects":
            return list(self.subjects)
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            (schema,) = [text for text, number in self._ids.items() if number == int(found[1])] or [None]
            if schema is None:
                raise LookupError
            return {"schema": schema}
        found = re.fullmatch(r"/subjects/([^/]+)(?:/versions)?(?:/(\w+))?", path)
        if found is None:
            raise LookupError
        subject, version = found[1], found[2]
        if method == "POST":
            return self._shown(subject, self.register(subject, body["schema"]))
        versions = self.subjects[subject]
        if version is None:
            return [known.version for known in versions]
        return self._shown(subject, versions[-1 if version == "latest" else int(version) - 1])

    def _shown(self, subject: str, known: Registered) -> dict[str, Any]:
        return {"subject": subject, "schemaType": "AVRO", **known._asdict()}


class _Handler(BaseHTTPRequestHandler):
    """Requests to one registry."""

    protocol_version = "HTTP/1.1"
    schemas: Schemas

    def do_GET(self) -> None:
        """Answer."""
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            status, answer = 200, self.schemas.answer(self.command, self.path.partition("?")[0].rstrip("/"), body)
        except LookupError:
            status, answer = 404, {"error_code": 40403, "message": f"no {self.path}"}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", MEDIA_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the server's own name

    def log_message(self, *_message: object) -> None:
        """Write nothing."""


@contextmanager
def schema_registry() -> Iterator[str]:
    """Serve an empty registry; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Own", (_Handler,), {"schemas": Schemas()}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The REST view. Importing it without the `web` extra says which extra is missing."""

from __future__ import annotations

from importlib.util import find_spec

from choreo.core.errors import MissingExtraError

for _name in ("fastapi", "fastapi_swagger", "httptools", "prometheus_client", "uvicorn"):
    if find_spec(_name) is None:
        raise MissingExtraError.of(
            f"the REST view needs {_name}, which is not installed",
            where="choreo.surfaces.rest",
            extra="web",
        )

from choreo.surfaces.rest.app import create_app  # noqa: E402 - only after what it needs was looked for
from choreo.surfaces.rest.doors import Doors  # noqa: E402

__all__ = ["Doors", "create_app"]

"""The REST view. Without the `web` extra its import fails with an error that names the missing extra."""

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

from choreo.surfaces.rest.app import create_app  # noqa: E402 - only after the check for the extra
from choreo.surfaces.rest.use_cases import UseCases  # noqa: E402

__all__ = ["UseCases", "create_app"]

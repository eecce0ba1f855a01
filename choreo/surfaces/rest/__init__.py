"""The REST view. Importing it without the `web` extra says which extra is missing."""

from __future__ import annotations

from choreo.core.errors import MissingExtraError

try:
    import fastapi as _fastapi
    import prometheus_client as _prometheus_client
    import uvicorn as _uvicorn
except ImportError as error:
    raise MissingExtraError(
        f"the REST view needs {error.name}, which is not installed",
        where="choreo.surfaces.rest",
        remedy="Install the extra: pip install 'choreo[web]'.",
    ) from error

from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.doors import Doors

__all__ = ["Doors", "create_app"]

del _fastapi, _prometheus_client, _uvicorn

"""Routes with a JSON body: numbers keep their digits, no name is repeated; see `choreo.app.exact_json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from choreo.app.exact_json import read


class _ExactRequest(Request):
    """A request with a body that is read exactly."""

    async def json(self) -> Any:
        """Read the body; raises json.JSONDecodeError or HTTPException, which are answered with 400."""
        body = (await self.body()).decode()
        try:
            return read(body)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise HTTPException(400, f"the body cannot be parsed: {error}") from error


class ExactRoute(APIRoute):
    """A route that reads its requests exactly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler, so that it gets an exact request."""
        handler = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handler(_ExactRequest(request.scope, request.receive))

        return exact

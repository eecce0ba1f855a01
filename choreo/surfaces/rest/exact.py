"""Routes whose JSON body keeps the digits of its numbers, and names nothing twice; see `choreo.app.exact_json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from choreo.app.exact_json import read


class _ExactRequest(Request):
    """A request whose body is read so."""

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
    """A route whose requests are such."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Handle each request as one of ours."""
        handler = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handler(_ExactRequest(request.scope, request.receive))

        return exact

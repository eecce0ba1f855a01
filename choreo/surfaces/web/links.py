"""Links between pages, relative to the page that is shown: they work below any path at which a proxy serves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode

from starlette.requests import Request

_HERE = "ui/"


class Links:
    """Links from one page. A browser resolves them against the path that it asked for."""

    def __init__(self, path: str, query: str = "") -> None:
        """Take the path of the request as the client sent it, such as `/ui/flows/order`, and its query."""
        depth = path.count("/") - 1
        self._up = "../" * (depth - 1) if depth else _HERE
        last = path.rpartition("/")[2]
        self.place: str = f"{path.removeprefix('/ui').lstrip('/')}{f'?{query}' if query else ''}"
        """The page below `/ui`, to come back to."""
        kept = "&".join(part for part in query.split("&") if part and not part.startswith("after="))
        self.here: str = f"{last or './'}{f'?{kept}' if kept else ''}"
        """The page itself, without the write that it had to wait for."""

    @classmethod
    def of(cls, request: Request) -> Links:
        """Return the links from the page of a request."""
        raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"], safe="%/:@!$&'()*+,;=~-._").encode()
        return cls(raw.decode("latin-1"), request.scope["query_string"].decode("latin-1"))

    def to(self, *segments: str, **query: object) -> str:
        """Return the link to a page by the segments of its path below `/ui`; empty parameters are left out."""
        path = "/".join(quote(segment, safe="") for segment in segments)
        return f"{self._up}{path}{query_of(query)}" or "./"

    def api(self, *segments: str) -> str:
        """Return the link to a path of the REST view, which stands beside `/ui`."""
        up = "" if self._up == _HERE else f"{self._up}../"
        return up + "/".join(quote(segment, safe="") for segment in segments)

    def repeated(self, *segments: str, pairs: Iterable[tuple[str, str]]) -> str:
        """Return the link to a page with parameters of which some stand several times."""
        text = urlencode([(name, value) for name, value in pairs if value != ""])
        return self.to(*segments) + (f"?{text}" if text else "")


def query_of(values: Mapping[str, object]) -> str:
    """Return the query with its question mark; "" where no parameter has a value."""
    given = {name.rstrip("_"): value for name, value in values.items() if value not in ("", None)}
    return f"?{urlencode(given)}" if given else ""

"""The page that documents the API: Swagger UI with files of its own, so that it works without the internet.

The files are those of the package fastapi-swagger (MIT), which carries Swagger UI (Apache-2.0).
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse, Response

router = APIRouter(include_in_schema=False)

_PACKAGE = "fastapi_swagger.resources"
_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_UNFRAMED = {"Content-Security-Policy": "frame-ancestors 'none'", "X-Content-Type-Options": "nosniff"}
"""Another site's page could put this page into a frame and make a person press its buttons unknowingly."""


@router.get("/")
async def begin() -> Response:
    """Redirect to the page."""
    return RedirectResponse("docs")


@router.get("/docs")
async def page() -> HTMLResponse:
    """Return the page; its links are relative, so that it works below a path of a proxy."""
    html = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="choreo",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
    )
    html.headers.update(_UNFRAMED)
    return html


def _serve(name: str, media_type: str) -> None:
    @router.get(f"/docs/{name}")
    async def file() -> Response:
        return Response(files(_PACKAGE).joinpath(name).read_bytes(), media_type=media_type)


for _name, _media_type in _FILES.items():
    _serve(_name, _media_type)

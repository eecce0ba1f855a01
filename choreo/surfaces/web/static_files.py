"""The page's own files: scripts and styles. A file with a version in its name never changes, so it may be stored."""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePosixPath

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.exceptions import HTTPException

PATH = "/static/{name}"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_STORED = "public, max-age=31536000, immutable"
_CHECKED = "no-cache"

router: APIRouter = APIRouter(prefix="/ui", include_in_schema=False)


def _read() -> dict[str, bytes]:
    """Return the files to serve by name; licences and the list of hashes are not among them."""
    folder = files("choreo.surfaces.web").joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir() if PurePosixPath(file.name).suffix in _TYPES}


_files = _read()


@router.get(PATH)
async def _file(name: str) -> Response:
    """Return a file; 404 for a name that is none of them."""
    content = _files.get(name)
    if content is None:
        raise HTTPException(404)
    stored = _STORED if any(character.isdigit() for character in name) else _CHECKED
    return Response(content, media_type=_TYPES[PurePosixPath(name).suffix], headers={"Cache-Control": stored})

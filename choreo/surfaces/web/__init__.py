"""The web page, under `/ui` beside the REST view: templates on the server, forms and links that work without scripts.

`site` joins both applications, `app` makes the page's, `pages` has one module for each page, `rendering` and `links`
are shared by all of them. Without the `web` extra the import fails with an error that names the missing extra.
"""

from __future__ import annotations

from importlib.util import find_spec

from choreo.core.errors import MissingExtraError

if find_spec("jinja2") is None:
    raise MissingExtraError.of(
        "the web page needs jinja2, which is not installed",
        where="choreo.surfaces.web",
        extra="web",
    )

from choreo.surfaces.web.site import create_site

__all__ = ["create_site"]

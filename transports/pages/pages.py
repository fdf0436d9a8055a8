"""The two pages for people: the console at `/` and the playground at `GET /graphql`.

Every asset is served by this server, and no page reflects input into HTML. The exception is Strawberry's stock GraphiQL
page, which loads pinned, integrity-checked assets from a CDN. It is served where the package `raqcoon-playground` was
installed without its page.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from strawberry.http.ides import get_graphql_ide_html

from transports.pages.files import File, Files

_CONSOLE = Path(__file__).parent / "console"
_YEAR_SECONDS = 365 * 24 * 60 * 60
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)

REVALIDATED = "no-cache"
"""`Cache-Control` of what keeps its name when it changes: browsers store it, and ask by its ETag whether it is new."""
IMMUTABLE = f"public, max-age={_YEAR_SECONDS}, immutable"
"""`Cache-Control` of files with a hash of their content in their names."""


def installed_playground() -> Path | None:
    """Where the package `raqcoon-playground` has put the built page; None where it is not installed."""
    spec = find_spec("raqcoon_playground")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "dist"


def _headers(content_security_policy: Mapping[str, str]) -> dict[str, str]:
    policy = {"default-src": "'self'", **content_security_policy}
    policy |= {"object-src": "'none'", "base-uri": "'none'", "frame-ancestors": "'none'"}
    return {
        "Content-Security-Policy": "; ".join(f"{directive} {sources}" for directive, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


_CONSOLE_HEADERS = _headers({"form-action": "'self'"})

# GraphiQL's editor (Monaco) writes style elements, carries its fonts as data, and starts workers from blobs.
_GRAPHIQL_SOURCES = {
    "style-src": "'self' 'unsafe-inline'",
    "font-src": "'self' data:",
    "img-src": "'self' data:",
    "worker-src": "'self' blob:",
    "form-action": "'none'",
}
_PLAYGROUND_HEADERS = _headers(_GRAPHIQL_SOURCES)


def _stock_page() -> HTMLResponse:
    """Strawberry's GraphiQL page; its one inline script is allowed by its hash."""
    html = get_graphql_ide_html(graphql_ide="graphiql")
    digests = [hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(html)]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    cdn = "https://unpkg.com"
    sources = {
        **_GRAPHIQL_SOURCES,
        "script-src": f"'self' {cdn} {hashes}",
        "style-src": f"{_GRAPHIQL_SOURCES['style-src']} {cdn}",
    }
    return HTMLResponse(html, headers={**_headers(sources), "Cache-Control": REVALIDATED})


class Pages:
    """Handlers of the console and the playground.

    `playground_directory` holds the files of the built playground; None where it was not built. It is looked at when
    this is made: a playground that is installed later is served after the next start.
    """

    def __init__(self, playground_directory: Path | None = None) -> None:
        directory = playground_directory or Path("no-such-directory")
        page = directory / "index.html"
        self._playground_assets = directory / "playground"
        self.playground_is_built = page.is_file() and self._playground_assets.is_dir()
        self._playground: ASGIApp = (
            File(page, {**_PLAYGROUND_HEADERS, "Cache-Control": REVALIDATED})
            if self.playground_is_built
            else _stock_page()
        )

    def routes(self) -> list[BaseRoute]:
        """Routes of `/`, `/console/…` and, when the playground is built, `/playground/…`; GET and HEAD only."""
        headers = {**_CONSOLE_HEADERS, "Cache-Control": REVALIDATED}
        routes: list[BaseRoute] = [
            Route("/", File(_CONSOLE / "index.html", headers), include_in_schema=False),
            Mount("/console", Files(_CONSOLE, headers)),
        ]
        if self.playground_is_built:
            assets = Files(self._playground_assets, {**_PLAYGROUND_HEADERS, "Cache-Control": IMMUTABLE})
            routes.append(Mount("/playground", assets))
        return routes

    async def playground(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a browser's `GET /graphql` (or HEAD) with the playground's page."""
        await self._playground(scope, receive, send)

"""What the pages are served with: policies, caching, and no trace of foreign or inline code."""

import asyncio
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from transports.pages.pages import IMMUTABLE, REVALIDATED, Pages

CONSOLE = Path(__file__).parent.parent.parent / "transports" / "pages" / "console"


class _Endpoint:
    def __init__(self, pages: Pages) -> None:
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.pages.playground(scope, receive, send)


def client_of(pages: Pages) -> httpx.AsyncClient:
    app = Starlette(routes=[*pages.routes(), Route("/graphql", _Endpoint(pages))])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://raqcoon.test")


@pytest.fixture
def built(tmp_path: Path) -> Pages:
    (tmp_path / "playground").mkdir()
    (tmp_path / "index.html").write_text('<script type="module" src="./playground/index-C0FFEE.js"></script>')
    (tmp_path / "playground" / "index-C0FFEE.js").write_text("export {};")
    return Pages(tmp_path)


@pytest.fixture
def unbuilt(tmp_path: Path) -> Pages:
    return Pages(tmp_path / "dist")


def policy_of(response: httpx.Response) -> dict[str, str]:
    directives = (part.strip().partition(" ") for part in response.headers["content-security-policy"].split(";"))
    return {name: sources for name, _, sources in directives}


class _Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


async def test_console_page_is_served_with_a_strict_policy(unbuilt: Pages) -> None:
    async with client_of(unbuilt) as client:
        response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == REVALIDATED
    policy = policy_of(response)
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert not {"script-src", "style-src", "connect-src"} & policy.keys()


def test_console_page_has_nothing_inline_and_nothing_foreign() -> None:
    for tag, attributes in _Tags((CONSOLE / "index.html").read_text()).tags:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href", "action"):
            address = attributes.get(name)
            assert address is None or not re.match(r"[a-z]+:|//", address), address


def test_console_page_every_field_has_a_label() -> None:
    tags = _Tags((CONSOLE / "index.html").read_text()).tags
    labelled = {attributes.get("for") for tag, attributes in tags if tag == "label"}
    html = (CONSOLE / "index.html").read_text()
    wrapped = set(re.findall(r'<label[^>]*>(?:(?!</label>).)*?\bid="(\w+)"', html))
    fields = {attributes["id"] for tag, attributes in tags if tag in ("input", "textarea", "select")}
    assert fields <= labelled | wrapped


@pytest.mark.parametrize("script", sorted(CONSOLE.glob("*.js")), ids=lambda path: path.name)
def test_console_script_never_turns_text_into_markup(script: Path) -> None:
    source = script.read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://", source
    )


async def test_console_assets_that_the_page_names_are_all_there(unbuilt: Pages) -> None:
    sources = [CONSOLE / "index.html", *CONSOLE.glob("*.js")]
    named = {match for source in sources for match in re.findall(r"(?:console|'\.)/([\w-]+\.\w+)", source.read_text())}
    assert named == {path.name for path in CONSOLE.iterdir()} - {"index.html"}
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    async with client_of(unbuilt) as client:
        for name in named:
            response = await client.get(f"/console/{name}")
            assert response.status_code == 200
            assert response.headers["content-type"].startswith(types[Path(name).suffix])
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["cache-control"] == REVALIDATED


async def test_console_asset_unchanged_is_answered_304(unbuilt: Pages) -> None:
    async with client_of(unbuilt) as client:
        first = await client.get("/console/console.js")
        again = await client.get("/console/console.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/console/%2e%2e/pages.py", "/console/..%2fpages.py", "/console/nothing.js", "/console/"]
)
async def test_console_path_outside_its_folder_is_not_found(unbuilt: Pages, path: str) -> None:
    async with client_of(unbuilt) as client:
        assert (await client.get(path)).status_code == 404


async def test_file_asked_for_again_and_again_is_read_once(built: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read_bytes(path))  # type: ignore[func-returns-value]
    async with client_of(built) as client:
        answers = await asyncio.gather(*(client.get("/playground/index-C0FFEE.js") for _ in range(50)))
        answers += await asyncio.gather(*(client.get("/graphql") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(reads) == 2


async def test_pages_other_methods_are_refused(built: Pages) -> None:
    async with client_of(built) as client:
        for path in ("/", "/console/console.js", "/playground/index-C0FFEE.js"):
            assert (await client.post(path)).status_code == 405
            assert (await client.head(path)).status_code == 200


async def test_playground_built_serves_its_page_and_immutable_assets(built: Pages) -> None:
    async with client_of(built) as client:
        page = await client.get("/graphql")
        asset = await client.get("/playground/index-C0FFEE.js")
        missing = await client.get("/playground/index-0.js")
    assert page.status_code == asset.status_code == 200
    assert page.headers["cache-control"] == REVALIDATED
    assert asset.headers["cache-control"] == IMMUTABLE
    assert missing.status_code == 404
    assert "cache-control" not in missing.headers
    policy = policy_of(page)
    assert policy["worker-src"] == "'self' blob:"
    assert policy["frame-ancestors"] == "'none'"
    assert "script-src" not in policy
    assert "http" not in page.headers["content-security-policy"]


async def test_playground_not_built_serves_the_stock_page_with_pinned_assets(unbuilt: Pages) -> None:
    assert not unbuilt.playground_is_built
    async with client_of(unbuilt) as client:
        page = await client.get("/graphql")
        assert (await client.get("/playground/index.js")).status_code == 404
    assert page.status_code == 200
    foreign = [attributes for _, attributes in _Tags(page.text).tags if "//" in (attributes.get("src") or "")]
    assert foreign
    for attributes in foreign:
        assert re.search(r"@\d+\.\d+\.\d+/", attributes["src"] or "")
        assert (attributes["integrity"] or "").startswith("sha384-")
    scripts = policy_of(page)["script-src"]
    assert "unsafe-inline" not in scripts
    assert scripts.count("'sha256-") == 1

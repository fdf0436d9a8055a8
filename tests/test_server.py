"""The whole server as its operator meets it: what it prints, what it refuses, how it goes."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest

from server import COMMANDS
from tests.engine.engine_server import EngineServer
from tests.server_process import REPOSITORY


def started(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the server until it ends by itself, which it must."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "server.py")],
        env=os.environ
        | {"RAQCOON_PORT": "0"}
        | {f"RAQCOON_{name.upper()}": value for name, value in variables.items()},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_server_on_start_prints_address_log_and_pages(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "server.py"), "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        printed = "".join(server.stdout.readline() for _ in range(4))
    finally:
        server.terminate()
        assert server.wait(20) == 0
        server.stdout.close()
    address = re.match(r"RAQCOON listens on (http://127\.0\.0\.1:\d+)\n", printed)
    assert address is not None
    assert str(tmp_path / "data" / "raqcoon.db") in printed
    assert f"console     {address[1]}/\n" in printed
    assert f"playground  {address[1]}/graphql\n" in printed


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "server.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_help_lists_flags_and_every_command() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert "--port" in shown.stdout
    for name, command in COMMANDS.items():
        assert f"  {name} {command.arguments}" in shown.stdout
        assert command.summary in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_command_tells_of_itself(name: str) -> None:
    shown = run(name, "--help")
    assert shown.returncode == 0
    assert f"server.py {name}" in shown.stdout


def test_command_that_does_not_exist_is_refused_with_one_line() -> None:
    ended = run("cpoy")
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert "cpoy" in line
    assert "--help" in line


def test_version_is_the_projects() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    shown = run("--version")
    assert (shown.returncode, shown.stdout) == (0, f"raqcoon {project['version']}\n")


async def test_second_server_on_the_same_file_is_refused_with_one_line(tmp_path: Path) -> None:
    async with EngineServer(tmp_path):
        second = await asyncio.to_thread(started, tmp_path, database_url=f"sqlite:///{tmp_path}/raqcoon.db")
        assert second.returncode == 2
        [line] = second.stderr.splitlines()
        assert f"{tmp_path}/raqcoon.db" in line
        assert second.stdout == ""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_trusted_documents_that_are_not_there_are_refused_before_anything_is_begun(
    tmp_path: Path, workers: str
) -> None:
    for variables in ({"only_trusted_documents": "true"}, {"trusted_documents": str(tmp_path / "missing.json")}):
        ended = started(tmp_path, workers=workers, **variables)
        assert ended.returncode == 2
        [line] = ended.stderr.splitlines()
        assert "RAQCOON_TRUSTED_DOCUMENTS" in line
        assert not (tmp_path / "data").exists()


async def test_only_trusted_documents_others_are_forbidden(tmp_path: Path) -> None:
    documents = tmp_path / "documents.json"
    trusted = "{ channels { edges { node { id } } } }"
    documents.write_text(json.dumps({"known": trusted}))
    async with EngineServer(tmp_path, trusted_documents=documents, only_trusted_documents=True) as server:
        answer = (await server.http.post("/graphql", json={"query": trusted})).json()
        assert answer["data"] == {"channels": {"edges": []}}
        refused = (await server.http.post("/graphql", json={"query": "{ __typename }"})).json()
        assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_sigterm_with_an_open_event_stream_ends_soon_and_with_exit_code_0(tmp_path: Path) -> None:
    async with EngineServer(tmp_path, drain_seconds=20) as server:
        query = {"query": 'subscription { messages(channelId: "general") { id } }'}
        headers = {"accept": "text/event-stream"}
        async with server.http.stream("POST", "/graphql", json=query, headers=headers) as stream:
            assert stream.status_code == 200
            began = asyncio.get_running_loop().time()
            ending = asyncio.create_task(server.stop())
            try:
                async for _ in stream.aiter_bytes():
                    pass
            except httpx.RemoteProtocolError:
                pass  # Cut in the middle of a chunked answer: an event stream has no other way to say "come again".
            assert await ending == 0
            assert asyncio.get_running_loop().time() - began < 10
        assert "Traceback" not in server.log()


async def test_second_sigterm_changes_nothing(tmp_path: Path) -> None:
    async with EngineServer(tmp_path, drain_seconds=2) as server:
        ending = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        server.terminate()
        assert await ending == 0


@pytest.mark.parametrize(
    ("workers", "variables"),
    [
        ("1", {}),
        ("1", {"jwt_secret": "s" * 32, "jwt_jwks": "keys.json"}),
        ("2", {"jwt_secret": "short"}),
        ("2", {"jwt_jwks": "missing.json"}),
    ],
)
def test_jwt_without_a_key_or_with_a_bad_one_is_refused_before_anything_is_begun(
    tmp_path: Path, workers: str, variables: dict[str, str]
) -> None:
    ended = started(tmp_path, workers=workers, auth="jwt", **variables)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert "RAQCOON_JWT" in line or "missing.json" in line
    assert "s" * 32 not in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_proxy_that_is_no_address_is_refused_before_anything_is_begun(tmp_path: Path, workers: str) -> None:
    ended = started(tmp_path, workers=workers, trusted_proxies="10.0.0.0/8, nginx")
    assert ended.returncode == 2
    assert not (tmp_path / "data").exists()
    [line] = ended.stderr.splitlines()
    assert "RAQCOON_TRUSTED_PROXIES" in line


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        ({}, False),
        ({"RAQCOON_HOST": "0.0.0.0"}, True),
        ({"RAQCOON_HOST": "0.0.0.0", "RAQCOON_AUTH": "jwt", "RAQCOON_JWT_SECRET": "s" * 32}, False),
    ],
)
def test_server_open_to_the_network_for_anybody_warns_loudly(
    tmp_path: Path, variables: dict[str, str], warned: bool
) -> None:
    server = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "server.py"), "--port", "0"],
        env=os.environ | variables,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    server.stdout.readline()
    server.terminate()
    _, told = server.communicate(timeout=20)
    assert ("ANYBODY WHO CAN REACH 0.0.0.0" in told) is warned
    assert "s" * 32 not in told


async def test_idle_http_connection_outlives_what_clients_keep_theirs(tmp_path: Path) -> None:
    async with EngineServer(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            for pause_seconds in (6.0, 0.0):  # httpx uses a connection again for 5 s.
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(pause_seconds)
                await reader.read(1000)
                assert not reader.at_eof()
        finally:
            writer.close()


async def test_living_http_connections_hear_503_while_the_server_drains(tmp_path: Path) -> None:
    async with EngineServer(tmp_path) as server:
        clients = [httpx.AsyncClient(base_url=server.url) for _ in range(3)]
        body = {"channel_id": "general", "author": "ann", "content": "x"}
        for client in clients:
            assert (await client.post("/api/messages", json=body)).status_code == 200
        asking, posting, _idle = clients
        server_ends = asyncio.create_task(server.stop())
        while "draining" not in server.log():
            await asyncio.sleep(0.01)
        ready = await asking.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert ready.headers["connection"] == "close"
        refused = await posting.post("/api/messages", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        async with asyncio.timeout(8):
            assert await server_ends == 0
        for client in clients:
            await client.aclose()


CLOSES_SLOWLY = """
import asyncio, sys
from message_log.sql import SqlMessageLog
import server
close = SqlMessageLog.close
async def slowly(self):
    print("closing", flush=True)
    await asyncio.sleep(1)
    await close(self)
SqlMessageLog.close = slowly
sys.exit(server.main(["--port", "0"]))
"""


def test_second_sigterm_changes_nothing_even_while_the_log_is_being_closed(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", CLOSES_SLOWLY],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        for awaited in ("playground", "closing"):
            while awaited not in server.stdout.readline():
                assert server.poll() is None
            server.terminate()
        while server.poll() is None:
            server.terminate()
            time.sleep(0.002)
        assert server.wait() == 0
    finally:
        server.kill()
        server.stdout.close()

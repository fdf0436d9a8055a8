"""The 61 audits of the npm package graphql-http, which is the reference of the GraphQL-over-HTTP specification."""

import asyncio
import json
import shutil
from pathlib import Path

from schema.operations import Operations
from tests import node
from tests.fakes import memory_chat
from tests.transports.live_server import serve
from transports.app import build_app

HERE = Path(__file__).parent


def test_lockfile_names_no_registry() -> None:
    assert "resolved" not in (HERE / "package-lock.json").read_text()


async def test_every_audit_passes() -> None:
    await asyncio.to_thread(node.install, HERE)
    environment = node.environment()
    async with memory_chat() as chat, serve(build_app(chat, Operations())) as port:
        audits = await asyncio.create_subprocess_exec(
            shutil.which("node", path=environment["PATH"]) or "node",
            str(HERE / "audit.mjs"),
            f"http://127.0.0.1:{port}/graphql",
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        output, _ = await audits.communicate()
    results = json.loads(output)
    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) == 61

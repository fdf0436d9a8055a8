"""schemathesis against a real server, by its OpenAPI description and its GraphQL schema; a short run of a fixed seed.

`RAQCOON_TEST_FUZZ_SECONDS` makes it as long, with seeds of chance.
"""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.engine_server import EngineServer
from tests.fuzzing import FUZZ_SECONDS

StartServer = Callable[..., Any]
LENGTH = ["--max-time", f"{FUZZ_SECONDS:.0f}"] if FUZZ_SECONDS else ["--max-examples", "20", "--seed", "1"]
EXCLUDED = {
    # The input rules count bytes and forbid characters, which neither schema says.
    "/openapi.json": "positive_data_acceptance",
    # It takes every error whose code it does not know, IDEMPOTENCY_CONFLICT for one, for the server's own fault. The
    # server's count of refusals tells them apart.
    "/graphql": "positive_data_acceptance,not_a_server_error",
}
REFUSALS = {
    "BAD_USER_INPUT",
    "CURSOR_INVALID",
    "IDEMPOTENCY_CONFLICT",
    "MESSAGE_COMPLETE",
    "REVISION_CONFLICT",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
}
"""What a client that sends nonsense may be told."""


@pytest.mark.timeout(FUZZ_SECONDS + 600)
@pytest.mark.parametrize("path", ["/openapi.json", "/graphql"])
async def test_no_request_that_fits_the_schema_or_nearly_does_breaks_the_server(
    start_server: StartServer, tmp_path: Path, path: str
) -> None:
    server: EngineServer = await start_server()
    command = ["-m", "schemathesis.cli", "run", f"{server.url}{path}", *LENGTH]
    fuzzing = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--no-color",
        f"--exclude-checks={EXCLUDED[path]}",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await fuzzing.communicate()
    assert fuzzing.returncode == 0, output.decode()
    assert "Traceback" not in server.log()
    refusals = re.compile(r"raqcoon_refusals_total{(\w+)}")
    told = {
        found[1] for name, count in (await server.metrics()).items() if count and (found := refusals.fullmatch(name))
    }
    assert told <= REFUSALS

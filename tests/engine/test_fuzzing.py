"""schemathesis against a real server, by its OpenAPI description and its GraphQL schema; a short run of a fixed seed.

`RAQCOON_TEST_FUZZ_EXAMPLES` (20 by default) makes it longer.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.server_process import EngineServer

StartServer = Callable[..., Any]
EXAMPLES = os.environ.get("RAQCOON_TEST_FUZZ_EXAMPLES", "20")

EXCLUDED = "positive_data_acceptance"
"""The input rules count bytes and forbid characters, which neither schema says."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", ["/openapi.json", "/graphql"])
async def test_no_request_that_fits_the_schema_or_nearly_does_breaks_the_server(
    start_server: StartServer, tmp_path: Path, path: str
) -> None:
    server: EngineServer = await start_server()
    command = ["-m", "schemathesis.cli", "run", f"{server.url}{path}", "--max-examples", EXAMPLES, "--seed", "1"]
    fuzzing = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--no-color",
        f"--exclude-checks={EXCLUDED}",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await fuzzing.communicate()
    assert fuzzing.returncode == 0, output.decode()
    assert "Traceback" not in server.log()
    seen = await server.metrics()
    assert seen.get("raqcoon_refusals_total{INTERNAL_SERVER_ERROR}", 0) == 0

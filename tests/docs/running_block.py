"""A code block as a running program."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests import node
from tests.clients.workspace import NODE_FLAGS
from tests.docs.blocks import REPOSITORY, Block

# A person sees a refusal, but a test needs an exit code.
_SHELL_PRELUDE = 'set -eo pipefail\ncurl() { command curl --silent --show-error --fail-with-body "$@"; }\n'


class RunningBlock:
    """The program of a block. `output` is what it has printed so far, including its errors."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.output = ""
        self._process = process
        self._changed = asyncio.Event()
        self.ended = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def start(cls, block: Block, address: str, workspace: Path) -> AsyncIterator["RunningBlock"]:
        """Runs the block against the server at `address` (host and port). Afterwards it ends the program and its
        children."""
        text = block.text.replace("127.0.0.1:8010", address)
        match block.language:
            case "sh":
                command = ["bash", "-c", _SHELL_PRELUDE + text]
            case "python":
                command = [sys.executable, "-u", "-c", text]
            case _:
                program = workspace / f"block.{'ts' if block.language == 'ts' else 'mjs'}"
                program.write_text(text)
                command = ["node", *NODE_FLAGS, str(program)]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=REPOSITORY,
            env=node.environment(PYTHONPATH=str(REPOSITORY)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        running = cls(process)
        try:
            yield running
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            await running.ended

    async def until_printed(self, text: str) -> None:
        """Waits until `text` is in the output. Fails if the program ends before."""
        while text not in self.output:
            assert not self.ended.done(), f"it ended without having printed {text!r}\n{self.output}"
            self._changed.clear()
            await self._changed.wait()

    async def _read(self) -> int:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65536):
            self.output += data.decode()
            self._changed.set()
        code = await self._process.wait()
        self._changed.set()
        return code

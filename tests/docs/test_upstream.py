"""The faults that we work around are still there: when one is mended, its workaround can go (`docs/upstream`)."""

import asyncio
import sys
from pathlib import Path

import pytest

UPSTREAM = Path(__file__).parents[2] / "docs" / "upstream"
PROGRAMS = sorted(UPSTREAM.glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
async def test_fault_below_us_is_still_there(program: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 1, f"{said.decode()}mended? Then its workaround can go"
    assert b"Traceback" not in said, said.decode()


def test_every_program_has_its_row() -> None:
    page = (UPSTREAM / "README.md").read_text()
    assert PROGRAMS
    assert [program.name for program in PROGRAMS if f"({program.name})" not in page] == []

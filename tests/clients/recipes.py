"""Code of docs/clients/others.md for clients and gateways that have to be built, and the tools that build them."""

import re
import subprocess
from pathlib import Path

from tests import node

SCHEMA = node.REPOSITORY / "schema" / "schema.graphql"
_PAGE = node.REPOSITORY / "docs" / "clients" / "others.md"


def blocks(language: str, heading: str) -> list[str]:
    """The code blocks of one language under a heading of the page, in order."""
    part = _PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", part, re.S)


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a Node tool, which must succeed, and returns what it prints."""
    done = subprocess.run(
        command, cwd=cwd, env=node.environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

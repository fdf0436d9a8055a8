"""A directory in which Node finds the packages of this directory, and the part of the examples that people copy."""

import shutil
from pathlib import Path

from tests import node

HERE = Path(__file__).parent
RECONNECT = node.REPOSITORY / "examples" / "reconnect" / "reconnect.ts"
NODE_FLAGS = ("--experimental-strip-types", "--no-warnings")
"""Lets Node run TypeScript files. Newer versions of Node 22 to 24 do this without a flag."""


def make_workspace(directory: Path) -> Path:
    """Makes `directory` and returns it. Installs the packages, unless that was done before."""
    node.install(HERE)
    directory.mkdir()
    (directory / "node_modules").symlink_to(HERE / "node_modules")
    (directory / "package.json").write_text('{"type": "module"}')
    shutil.copy(RECONNECT, directory)
    return directory

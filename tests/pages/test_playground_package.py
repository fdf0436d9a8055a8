"""The playground's page comes with the installation; one made without the npm registry says that it is missing."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from transports.pages.pages import Pages, installed_playground

PLAYGROUND = Path(__file__).parent.parent.parent / "playground"


def test_playground_page_is_installed_with_the_server() -> None:
    assert Pages(installed_playground()).playground_is_built


def test_package_without_the_npm_registry_is_built_without_the_page_and_says_so(tmp_path: Path) -> None:
    source = tmp_path / "playground"
    shutil.copytree(PLAYGROUND, source, ignore=shutil.ignore_patterns("node_modules", "dist"))
    build = subprocess.run(
        ["uv", "build", "--wheel", "--out-dir", str(tmp_path / "wheels"), str(source)],
        env={**os.environ, "npm_config_registry": "http://127.0.0.1:9", "npm_config_cache": str(tmp_path / "npm")},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert build.returncode == 0, build.stderr
    assert "could not be built" in build.stderr
    assert "uv sync --reinstall-package raqcoon-playground" in build.stderr
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "raqcoon_playground/__init__.py" in names
    assert not [name for name in names if "dist/" in name]

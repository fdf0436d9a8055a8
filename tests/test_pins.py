"""Every installed package is pinned, to the version that is installed."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_pins_every_installed_package_is_pinned_to_its_version() -> None:
    pins = dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
    installed = {normalised(d.metadata["Name"]): d.version for d in distributions()}
    for other in ("pip", "setuptools", "wheel", "uv", "raqcoon-playground"):  # the last one is part of this repository
        installed.pop(other, None)
    assert {name: version for name, version in installed.items() if pins.get(name) != version} == {}

"""Pins every package, also transitive ones, to the newest versions that work together.

    uv run scripts/refresh_pins.py

Resolves without the present pins and writes the result into `[tool.uv] constraint-dependencies` of `pyproject.toml`.
`uv.lock` itself is not committed, because it names the registry that it was made from.
"""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = re.compile(r"(?ms)^constraint-dependencies = \[\n.*?^\]\n")


def resolved() -> list[str]:
    """`name==version` of every package in `uv.lock`, sorted. A package whose version differs by platform is not
    pinned."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    versions: dict[str, set[str]] = {}
    for package in packages:
        if "version" in package and not {"virtual", "directory"} & package.get("source", {}).keys():
            versions.setdefault(package["name"], set()).add(package["version"])
    return [f"{name}=={found.pop()}" for name, found in sorted(versions.items()) if len(found) == 1]


def main() -> None:
    project = ROOT / "pyproject.toml"
    text = project.read_text()
    project.write_text(PINS.sub("constraint-dependencies = [\n]\n", text))
    try:
        subprocess.run(["uv", "lock", "--upgrade"], cwd=ROOT, check=True)
    except BaseException:
        project.write_text(text)
        raise
    pins = "".join(f'    "{pin}",\n' for pin in resolved())
    project.write_text(PINS.sub(lambda _: f"constraint-dependencies = [\n{pins}]\n", text))
    subprocess.run(["uv", "lock"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()

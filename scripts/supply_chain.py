"""Writes of what an installation of the server consists: requirements with hashes, and an SBOM.

    uv run python -m scripts.supply_chain DIRECTORY

`requirements.txt` is for `pip install --require-hashes -r`: exact versions, each with the SHA-256 of its files.
`sbom.cdx.json` is a CycloneDX 1.5 document. Neither file names a registry, so the files are the same for every
registry.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent


def requirements() -> str:
    """The packages that the server needs at run time, also transitive ones, with hashes."""
    return _export("--no-header", "--no-annotate")


def sbom() -> dict[str, Any]:
    """The same as a CycloneDX document. Where uv writes a file's address, it has the file's name."""
    document: dict[str, Any] = json.loads(_export("--format", "cyclonedx1.5"))
    for component in document["components"]:
        for reference in component.get("externalReferences", ()):
            reference["url"] = PurePosixPath(urlsplit(reference["url"]).path).name
    return document


def _export(*options: str) -> str:
    # The playground is built from this repository; it is no package of a registry.
    command = (os.environ.get("UV", "uv"), "export", "--quiet", "--no-default-groups", "--no-emit-project", *options)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.supply_chain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="where the two files are written")
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "requirements.txt").write_text(requirements())
    (directory / "sbom.cdx.json").write_text(json.dumps(sbom(), indent=2) + "\n")


if __name__ == "__main__":
    main()

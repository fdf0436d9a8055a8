"""What an installation consists of can be exported, with hashes; what the audit proves is said, and no more."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.audit import outcome
from tests.server_process import REPOSITORY


def test_export_has_every_package_with_hashes_and_names_no_registry(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "scripts.supply_chain", tmp_path], cwd=REPOSITORY, check=True, timeout=60)
    text = (tmp_path / "requirements.txt").read_text()
    packages = re.findall(r"^([a-z0-9-]+(?:\[[a-z,]+\])?)==(\S+)((?:.*\\\n.*)*)$", text, re.M)
    found = {re.sub(r"\[.*\]", "", name): version for name, version, _ in packages}
    pins = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    assert {f"{name}=={version}" for name, version in found.items()} <= set(pins)
    assert {"uvicorn", "strawberry-graphql", "graphql-core", "psycopg-binary"} <= found.keys()
    assert "pytest" not in found
    assert all("--hash=sha256:" in hashes for _, _, hashes in packages)
    document = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    listed = {component["name"]: component for component in document["components"]}
    assert found.items() <= {name: component["version"] for name, component in listed.items()}.items()
    assert listed["uvicorn"]["externalReferences"][0]["hashes"][0]["alg"] == "SHA-256"
    assert not any("://" in path.read_text() for path in tmp_path.iterdir())


def test_export_is_what_an_installer_checks(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "scripts.supply_chain", tmp_path], cwd=REPOSITORY, check=True, timeout=60)
    uv = os.environ.get("UV", "uv")
    command = [
        uv,
        "pip",
        "install",
        "--dry-run",
        "--require-hashes",
        "--python",
        sys.executable,
        "-r",
        "requirements.txt",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "line", "code", "code_required"),
    [
        ([GOOD], "no known vulnerability in 1 packages", 0, 0),
        ([GOOD, UNKNOWN], "no known vulnerability in 1 of 2 packages", 0, 1),
        ([UNKNOWN, UNKNOWN], "proves nothing, the registry serves no advisories (0 of 2 packages)", 0, 1),
        ([GOOD, BAD, UNKNOWN], "known vulnerabilities in b 2 (CVE-1, CVE-2)", 1, 1),
    ],
)
def test_audit_says_what_it_proves(packages: list[object], line: str, code: int, code_required: int) -> None:
    assert outcome({"dependencies": packages}, required=False) == (f"audit: {line}", code)
    assert outcome({"dependencies": packages}, required=True) == (f"audit: {line}", code_required)


@pytest.mark.parametrize(
    ("code", "last"),
    [
        (0, ["1880 passed in 840.12s (0:14:00) | audit: proves nothing, (0 of 3)", "1880 passed in 840.12s (0:14:00)"]),
        (1, ["audit: proves nothing, (0 of 3)"]),
    ],
)
def test_ci_ends_in_the_tests_summary_and_the_audits(tmp_path: Path, code: int, last: list[str]) -> None:
    script = (REPOSITORY / ".ci" / "run").read_text()
    (report := tmp_path / "report").write_text("x\n=== 1880 passed in 840.12s (0:14:00) ===\n")
    binary = tmp_path / "uv"
    binary.write_text(f"#!/bin/sh\necho 'audit: proves nothing, (0 of 3)'\nexit {code}\n")
    binary.chmod(0o755)
    ending = script[script.index('step "known vulnerabilities') :]
    program = f"set -euo pipefail\nstep() {{ :; }}\nreport={report}\naudit_required=1\n{ending}"
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.splitlines()[-len(last) :] == last

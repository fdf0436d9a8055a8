"""Compares the installed packages with the advisories of the package registry, and says in one line what that proves.

    uv run python -m scripts.audit

If the registry serves no advisories, nothing is proved, and the line says so. The exit code is 1 if a package has a
known vulnerability, or if packages could not be audited and `RAQCOON_AUDIT_REQUIRED=1` is set. Otherwise it is 0.
"""

import json
import os
import subprocess
import sys
from typing import Any

COMMAND = (sys.executable, "-m", "pip_audit", "--local", "--progress-spinner", "off", "--format", "json")


def outcome(report: dict[str, Any], *, required: bool) -> tuple[str, int]:
    """The line and the exit code for pip-audit's report."""
    packages = report["dependencies"]
    unaudited = [package for package in packages if "skip_reason" in package]
    vulnerable = [
        f"{package['name']} {package['version']} ({', '.join(found['id'] for found in package['vulns'])})"
        for package in packages
        if package.get("vulns")
    ]
    audited = len(packages) - len(unaudited)
    if vulnerable:
        return f"audit: known vulnerabilities in {', '.join(vulnerable)}", 1
    if not audited:
        return f"audit: proves nothing, the registry serves no advisories (0 of {len(packages)} packages)", int(
            required
        )
    if unaudited:
        return f"audit: no known vulnerability in {audited} of {len(packages)} packages", int(required)
    return f"audit: no known vulnerability in {audited} packages", 0


def main() -> int:
    """Runs pip-audit and prints the line."""
    run = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    try:
        report = json.loads(run.stdout)
    except ValueError:
        print(run.stderr, file=sys.stderr)
        print("audit: pip-audit failed")
        return 1
    line, code = outcome(report, required=os.environ.get("RAQCOON_AUDIT_REQUIRED") == "1")
    print(line)
    return code


if __name__ == "__main__":
    sys.exit(main())

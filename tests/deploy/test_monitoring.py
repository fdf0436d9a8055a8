"""Alert rules and the dashboard ask for metrics that the server has, in expressions that Prometheus understands."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.server_process import ServerProcess, running

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool on this machine (Debian: apt-get install prometheus)"
)


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana" / "raqcoon.json").read_text())
    return loaded


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def promtool(*arguments: str) -> None:
    done = subprocess.run([str(PROMTOOL), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@needs_promtool
def test_alert_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", str(DEPLOY / "prometheus" / "alerts.yaml"))
    promtool("test", "rules", str(DEPLOY / "prometheus" / "alerts_test.yaml"))


@needs_promtool
def test_dashboard_expressions_are_valid(tmp_path: Path) -> None:
    variables = {"$job": "raqcoon", "$instance": ".*", "$__rate_interval": "1m"}
    rules = []
    for number, expression in enumerate(dashboard_expressions()):
        for name, value in variables.items():
            expression = expression.replace(name, value)
        rules.append({"record": f"panel:{number}", "expr": expression})
    written = tmp_path / "dashboard.yaml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(written))


def test_dashboard_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


async def test_metrics_that_are_asked_for_exist(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    async with running(server), httpx.AsyncClient() as client:
        served = (await client.get(f"{server.url}/metrics")).text
    families = set(re.findall(r"^# TYPE (\w+) ", served, re.M))
    asked = "\n".join([*dashboard_expressions(), (DEPLOY / "prometheus" / "alerts.yaml").read_text()])
    # The process's figures are read from /proc as the server starts; the labelled counters exist before they count.
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\braqcoon_\w+", asked)}
    assert names
    assert {name for name in names if name not in families and name.removesuffix("_total") not in families} == set()

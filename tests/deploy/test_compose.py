"""The files of `deploy/` name only what exists. `tests.cluster.compose` runs them where there is a container engine."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import yaml

from settings import Settings
from tests.test_rooms import MAY_IMPORT

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_files_name_settings_that_exist() -> None:
    known = {f"RAQCOON_{name.upper()}" for name in Settings.model_fields}
    for path in (DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", ROOT / "docs" / "many-nodes.md"):
        named = set(re.findall(r"\bRAQCOON_\w+", path.read_text()))
        assert named <= known, f"{path.name}: {named - known}"


def test_image_holds_every_room_and_nothing_else() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.M))
    words = {word.strip("/").removesuffix(".py") for line in copied for word in line.split()}
    assert words >= {*MAY_IMPORT, "server", "pyproject.toml", "playground"}
    assert "tests" not in words
    assert re.search(r"^USER 10001$", dockerfile, re.M)
    assert "HEALTHCHECK" in dockerfile
    for room in MAY_IMPORT:
        if (ROOT / room).is_dir():
            assert f"!{room}" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


def test_compose_runs_three_equal_nodes_that_write_nowhere() -> None:
    services = compose()["services"]
    nodes = [service for name, service in services.items() if name.startswith("node-")]
    assert len(nodes) == 3
    for node in nodes:
        assert node == nodes[0]
        assert node["read_only"]
        assert node["cap_drop"] == ["ALL"]
        drain_seconds = float(node["environment"]["RAQCOON_DRAIN_SECONDS"])
        assert float(node["stop_grace_period"].removesuffix("s")) > drain_seconds + 5
        Settings(drain_seconds=drain_seconds)


def test_balancer_knows_every_node_and_asks_whether_it_is_ready() -> None:
    balancer = (DEPLOY / "haproxy.cfg").read_text()
    names = {name for name in compose()["services"] if name.startswith("node-")}
    assert set(re.findall(r"^    server \w+ ([\w-]+):8010$", balancer, re.M)) == names
    assert "GET /readyz" in balancer


def test_balancer_may_open_two_files_for_each_connection() -> None:
    (connections,) = re.findall(r"^    maxconn (\d+)$", (DEPLOY / "haproxy.cfg").read_text(), re.M)
    assert compose()["services"]["balancer"]["ulimits"]["nofile"] >= 2 * int(connections) + 100


def test_balancer_has_an_address_that_nodes_trust_and_nobody_else_is_given() -> None:
    deployed = compose()
    (addresses,) = deployed["networks"]["inside"]["ipam"]["config"]
    fixed = deployed["services"]["balancer"]["networks"]["inside"]["ipv4_address"]
    assert deployed["services"]["node-a"]["environment"]["RAQCOON_TRUSTED_PROXIES"] == fixed
    assert ipaddress.ip_address(fixed) in ipaddress.ip_network(addresses["subnet"])
    assert ipaddress.ip_address(fixed) not in ipaddress.ip_network(addresses["ip_range"])


def test_balancer_serves_no_metrics_and_logs_no_query() -> None:
    balancer = (DEPLOY / "haproxy.cfg").read_text()
    assert "http-request deny deny_status 404 if { path,url_dec -m beg /metrics }" in balancer
    assert "httplog" not in balancer
    assert "%HP" in balancer
    assert not re.search(r"%(HU|HQ|r|\{\+Q\}r)\b", balancer)

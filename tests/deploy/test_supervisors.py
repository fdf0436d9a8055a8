"""The files for systemd, Kubernetes and Traefik, read by the tools and schemas that exist for them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from settings import Settings

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
ANALYZE = shutil.which("systemd-analyze")


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


@pytest.mark.parametrize("name", ["raqcoon.service", "nginx.conf", "traefik.yaml", "kubernetes.yaml"])
def test_files_name_settings_that_exist(name: str) -> None:
    known = {f"RAQCOON_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bRAQCOON_\w+", (DEPLOY / name).read_text())) <= known


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze on this machine (Debian: apt-get install systemd)")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "raqcoon.service"
    # The only thing that this machine lacks is the installation in /opt.
    unit.write_text((DEPLOY / "raqcoon.service").read_text().replace("/opt/raqcoon/.venv/bin/python", sys.executable))
    verified = subprocess.run([str(ANALYZE), "verify", str(unit)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_systemd_unit_gives_a_drain_the_time_that_it_takes() -> None:
    unit = (DEPLOY / "raqcoon.service").read_text()
    stop_seconds = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)
    assert stop_seconds is not None
    assert int(stop_seconds[1]) > Settings.model_fields["drain_seconds"].default + 5


@pytest.mark.parametrize("manifest", manifests(), ids=lambda manifest: manifest["kind"])
def test_kubernetes_manifest_fits_the_schema(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_pod_is_asked_and_ended_as_the_server_expects() -> None:
    deployment, service, budget = manifests()
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    values = {each["name"]: each.get("value") for each in container["env"]}
    drain_seconds = float(values["RAQCOON_DRAIN_SECONDS"])
    pause = re.search(r"sleep\((\d+)\)", container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pause is not None
    assert pod["terminationGracePeriodSeconds"] > drain_seconds + int(pause[1]) + 5
    assert container["securityContext"]["readOnlyRootFilesystem"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]


def test_traefik_names_only_parts_that_it_defines() -> None:
    http = yaml.safe_load((DEPLOY / "traefik.yaml").read_text())["http"]
    for router in http["routers"].values():
        assert router["service"] in http["services"]
        assert set(router.get("middlewares", ())) <= set(http["middlewares"])
    balancer = http["services"]["raqcoon"]["loadBalancer"]
    assert balancer["healthCheck"]["path"] == "/readyz"
    assert balancer["serversTransport"] in http["serversTransports"]

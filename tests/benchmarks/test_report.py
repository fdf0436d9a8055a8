"""Table and plots from made-up results, and what the benchmark's own files promise."""

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import plots, report
from benchmarks.machine import RealtimePriority, refuse_realtime_priority
from benchmarks.runner import Cell, Outcome, arguments, chosen
from benchmarks.scenarios import FANOUT, POSTING
from benchmarks.servers import NODE_PEERS, SERVERS


def _report(rate: float, cpu_us: float, latency_ms: float, **changes: Any) -> dict[str, Any]:
    times = {"p50": latency_ms, "p99": latency_ms * 3}
    return {
        "complete": True,
        "problems": {"missing": 0, "first": ""},
        "subscribers": 1000,
        "posts": 100,
        "posts_per_second": 10.0,
        "deliveries": 4,
        "deliveries_per_second": rate,
        "server_cpu_us_per_delivery": cpu_us,
        "server_cpu_seconds": 1.0,
        "load_cpu_share": 0.5,
        "elsewhere_cpu_share": 0.0,
        "connect_seconds": 1.0,
        "connect_server_cpu_seconds": 1.0,
        "rss_before_kib": 50_000,
        "rss_idle_kib": 62_000,
        "rss_end_kib": 63_024,
        "samples": [[0, 0, 60_000], [1, 1, 62_000], [2, 4, 63_000]],
        "latency_ms": times,
        "post_ms": times,
        "ping_probe_ms": times,
        "post_probe_ms": times,
        **changes,
    }


@pytest.fixture
def outcome() -> Outcome:
    figures = {"raqcoon": (600_000, 1.5, 8.0), "floor": (150_000, 6.0, 6.0), "strawberry": (3_000, 260.0, 300.0)}
    cells = {
        (scenario.key, key): Cell(scenario.key, key, [_report(*values) for _ in range(3)])
        for scenario in FANOUT
        for key, values in figures.items()
        if key in scenario.servers
    }
    host: dict[str, str | int] = {
        "cpu": "A CPU", "cores": 2, "memory_gib": 8, "kernel": "6.1", "python": "3.11", "pinned": "both", "nice": 0
    }  # fmt: skip
    settings: dict[str, float | str] = {"seconds": 10.0, "runs": 3, "date": "2026-11-22"}
    return Outcome(host, settings, {"raqcoon": "uvicorn 1"}, cells)


def test_real_time_priority_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_realtime_priority()
    monkeypatch.setattr("os.sched_getscheduler", lambda _: os.SCHED_FIFO)
    with pytest.raises(RealtimePriority, match="nice -n -20"):
        refuse_realtime_priority()


def test_render_shows_ratio_and_targets(outcome: Outcome) -> None:
    text = report.render(outcome, FANOUT)
    assert "200.0 x" in text  # over Strawberry
    assert "deliveries/s at least 100 x Strawberry, as it comes" in text
    assert "less reliable" not in text
    unmet = [line for line in text.splitlines() if line.endswith("NO |")]
    assert not unmet


def test_render_marks_incomplete_and_disturbed_runs(outcome: Outcome) -> None:
    bad = outcome.cells["thousand", "floor"].reports[0]
    bad.update(complete=False, problems={"missing": 7, "first": ""}, elsewhere_cpu_share=1.4)
    text = report.render(outcome, FANOUT)
    assert "C floor: a send() each (no GraphQL) *" in text
    assert "incomplete in 1 of 3 rounds, {'missing': 7}" in text
    assert "other programs used up to 1.4 cores" in text


def test_render_of_failed_server_says_so(outcome: Outcome) -> None:
    outcome.cells["thousand", "floor"] = Cell("thousand", "floor", [], ["C floor: ended with 1"])
    text = report.render(outcome, FANOUT)
    assert "failed" in text
    assert "ended with 1" in text


def test_median_of_even_rounds_is_the_lower_one() -> None:
    cell = Cell("s", "k", [{"v": 3}, {"v": 1}, {"v": 2}, {"v": 9}])
    assert cell.median(lambda row: row["v"]) == 2


def test_outcome_survives_writing_and_reading(outcome: Outcome, tmp_path: Path) -> None:
    outcome.write(tmp_path / "fanout.json")
    assert report.render(Outcome.read(tmp_path / "fanout.json"), FANOUT) == report.render(outcome, FANOUT)


def test_plots_are_well_formed_and_name_the_servers(outcome: Outcome, tmp_path: Path) -> None:
    drawn = plots.draw_fanout(outcome, tmp_path)
    names = ["deliveries", "latency", "cost", "selections"]
    assert [path.name for path in drawn] == [f"fanout-{name}.svg" for name in names]
    for path in drawn:
        texts = [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
        assert "RAQCOON" in texts


def test_scenarios_name_known_servers_and_have_unique_keys() -> None:
    scenarios = (*FANOUT, *POSTING)
    assert len({scenario.key for scenario in scenarios}) == len(scenarios)
    for scenario in scenarios:
        assert set(scenario.servers) <= set(SERVERS)
        for target in scenario.targets:
            assert {target.subject, *target.rivals} <= set(scenario.servers)


def test_node_peers_lockfile_names_no_registry() -> None:
    packages = json.loads((NODE_PEERS / "package-lock.json").read_text())["packages"]
    assert packages
    assert not [name for name, package in packages.items() if "resolved" in package]


def test_targets_leave_those_whom_they_compare() -> None:
    left = {scenario.key: scenario.servers for scenario in chosen(FANOUT, arguments(None, ["--targets"]))}
    assert left["paced-5"] == ("raqcoon", "floor")
    assert left["sse"] == ("raqcoon-sse", "strawberry-sse")
    assert left["million"] == ("raqcoon",)
    assert "few-10" not in left


def test_another_working_tree_is_measured_right_after_this_one(tmp_path: Path) -> None:
    parsed = arguments("", ["--only", "channels", "--targets", "--tree", str(tmp_path)])
    try:
        (scenario,) = chosen(FANOUT, parsed)
        assert scenario.servers[:2] == ("raqcoon", "raqcoon-before")
        assert "floor-before" not in scenario.servers
        assert SERVERS["raqcoon-before"].command(1)[-1] == str(tmp_path / "server.py")
    finally:
        for name in [key for key in SERVERS if key.endswith("-before")]:
            del SERVERS[name]

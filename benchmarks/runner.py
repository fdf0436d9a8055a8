"""Runs scenarios. In each round, every server of a scenario is measured once, each time in a new process."""

import json
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import machine, native
from benchmarks.load_generator import LoadFailed, run
from benchmarks.processes import ServerFailed, raise_file_limit, running
from benchmarks.scenarios import Scenario
from benchmarks.servers import SERVERS, add_before

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Cell:
    """One server in one scenario: a report for each round, and errors."""

    scenario: str
    server: str
    reports: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def median(self, read: Any) -> float | None:
        """The (lower) median of a figure over the rounds. None if no round could be measured."""
        values = sorted(read(report) for report in self.reports)
        return float(values[(len(values) - 1) // 2]) if values else None


@dataclass
class Outcome:
    machine: dict[str, str | int]
    settings: dict[str, float | str]
    versions: dict[str, str]
    cells: dict[tuple[str, str], Cell]

    def write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        document = {
            "machine": self.machine,
            "settings": self.settings,
            "versions": self.versions,
            "cells": [vars(cell) for cell in self.cells.values()],
        }
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Outcome":
        document = json.loads(path.read_text())
        cells = [Cell(**cell) for cell in document["cells"]]
        return cls(
            document["machine"],
            document["settings"],
            document["versions"],
            {(cell.scenario, cell.server): cell for cell in cells},
        )


def arguments(description: str | None, argv: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="3 s once instead of 10 s five times")
    parser.add_argument("--seconds", type=float, help="of load in each round")
    parser.add_argument("--runs", type=int, help="rounds; the table shows medians")
    parser.add_argument("--only", nargs="+", default=[], metavar="SCENARIO", help="scenario keys, or their beginnings")
    parser.add_argument("--servers", nargs="+", default=[], metavar="SERVER", choices=sorted(SERVERS))
    parser.add_argument("--targets", action="store_true", help="only RAQCOON and whom a target holds it against")
    parser.add_argument("--tree", type=Path, help="another working tree, measured beside this one as `before`")
    parser.add_argument("--list", action="store_true", help="name the scenarios and servers, measure nothing")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    parser.add_argument("--render", action="store_true", help="print table and plots of the last results again")
    parser.add_argument("--label", default="", help="results go to another file, named with this label")
    parsed = parser.parse_args(argv)
    if parsed.tree:
        add_before(parsed.tree.resolve())
    parsed.seconds = parsed.seconds or (3.0 if parsed.quick else 10.0)
    parsed.runs = parsed.runs or (1 if parsed.quick else 5)
    return parsed


def chosen(scenarios: Sequence[Scenario], parsed: Namespace) -> list[Scenario]:
    """The scenarios that `--only` names, each with the servers that `--servers` and `--targets` leave.

    `--tree` adds those of the other working tree.
    """
    found = [s for s in scenarios if not parsed.only or any(s.key.startswith(key) for key in parsed.only)]
    if parsed.servers:
        found = [replace(s, servers=tuple(k for k in s.servers if k in parsed.servers)) for s in found]
    if parsed.targets:
        found = [replace(s, servers=tuple(key for key in s.servers if key in s.compared)) for s in found]
    if parsed.tree:
        found = [replace(s, servers=_with_before(s.servers)) for s in found]
    return [s for s in found if s.servers]


def _with_before(keys: Sequence[str]) -> tuple[str, ...]:
    """Each server, followed by the same server of the other tree. So the machine is in the same state for both."""
    return tuple(both for key in keys for both in (key, f"{key}-before") if both in SERVERS)


def leaves_out(parsed: Namespace) -> bool:
    """Whether the run leaves something out, or has a name of its own."""
    return bool(parsed.only or parsed.servers or parsed.targets or parsed.tree or parsed.label)


def _installed_versions(keys: Sequence[str]) -> dict[str, str]:
    """Installs what the servers need, before anything is measured. Returns their versions."""
    for key in keys:
        SERVERS[key].prepare()
    return {key: SERVERS[key].versions() for key in keys}


def measure(scenarios: Sequence[Scenario], parsed: Namespace, results: Path) -> Outcome:
    """Runs everything. Each round measures all servers once. So if the machine becomes slower or faster, this affects
    all servers alike.

    If a server fails, this is recorded, and the server is left out of this scenario from then on. Results are written
    after each measurement, so that `--resume` can continue after an interruption.

    Raises:
        CompilerMissing: the load generator cannot be built.
        RealtimePriority: the figures would be unfair.
    """
    machine.refuse_realtime_priority()
    raise_file_limit()
    native.load_generator()
    keys = [key for key in SERVERS if any(key in scenario.servers for scenario in scenarios)]
    settings: dict[str, float | str] = {
        "seconds": parsed.seconds,
        "runs": parsed.runs,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    outcome = Outcome(machine.describe(), settings, _installed_versions(keys), {})
    if parsed.resume and results.exists():
        outcome.cells = Outcome.read(results).cells
    steps = [(number, s, key) for number in range(parsed.runs) for s in scenarios for key in s.servers]
    with tqdm(steps, unit="run", file=sys.stderr, dynamic_ncols=True) as progress:
        for number, scenario, key in progress:
            progress.set_description(f"{scenario.key} / {key}")
            cell = outcome.cells.setdefault((scenario.key, key), Cell(scenario.key, key))
            if cell.failures or len(cell.reports) > number:
                continue
            load = scenario.load
            if 0 < load.seconds < 100:
                load = replace(load, seconds=parsed.seconds)
            try:
                with running(SERVERS[key]) as target:
                    cell.reports.append(run(target, load))
            except (ServerFailed, LoadFailed, subprocess.TimeoutExpired) as failure:
                cell.failures.append(str(failure))
                progress.write(f"{scenario.key} / {key}: {str(failure)[-400:]}", file=sys.stderr)
            outcome.write(results)
    return outcome

"""Writes the table: medians, ratios, goals, and everything that makes a figure less reliable."""

from collections.abc import Sequence
from math import inf

from benchmarks.runner import Outcome
from benchmarks.scenarios import Metric, Scenario, Target
from benchmarks.servers import SERVERS

DISTURBED_CORES = 0.1
"""A run is called disturbed if other programs used this many cores or more."""
LOAD_SHARE_MAX = 0.9
"""If the load generator used this share of its core or more, it may have been the bottleneck."""


def _figure(value: float | None, metric: Metric) -> str:
    return "failed" if value is None else f"{value:,.{metric.digits}f}"


def ratio(outcome: Outcome, scenario: Scenario, key: str, metric: Metric, subject: str) -> float | None:
    """How many times better `subject` is than `key`. Above 1 is better, also if less is better in this metric."""
    ours, theirs = (_value(outcome, scenario, name, metric) for name in (subject, key))
    if ours is None or theirs is None:
        return None
    over, under = (ours, theirs) if metric.better == "more" else (theirs, ours)
    return over / under if under else inf


def _value(outcome: Outcome, scenario: Scenario, key: str, metric: Metric) -> float | None:
    cell = outcome.cells.get((scenario.key, key))
    return cell.median(metric.read) if cell else None


def _subject(scenario: Scenario) -> str | None:
    return next((key for key in scenario.servers if key.startswith("raqcoon")), None)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return [line(header), rule, *(line(row) for row in rows)]


def _scenario_table(outcome: Outcome, scenario: Scenario) -> list[str]:
    subject = _subject(scenario)
    header = [scenario.title, *(metric.label for metric in scenario.metrics)]
    if subject:
        header.append(f"{SERVERS[subject].label} is better by")
    rows = []
    for key in scenario.servers:
        cell = outcome.cells.get((scenario.key, key))
        if cell is None:
            continue
        times = ratio(outcome, scenario, key, scenario.metrics[0], subject) if subject and key != subject else None
        mark = " *" if cell.failures or not all(report["complete"] for report in cell.reports) else ""
        rows.append(
            [
                SERVERS[key].label + mark,
                *(_figure(cell.median(metric.read), metric) for metric in scenario.metrics),
                *(["" if times is None else f"{times:,.1f} x"] if subject else []),
            ]
        )
    return [*_markdown(header, rows), ""] if rows else []


def _target_row(outcome: Outcome, scenario: Scenario, target: Target) -> list[str] | None:
    metric = scenario.metrics[target.metric]
    ours = _value(outcome, scenario, target.subject, metric)
    if ours is None:
        return None
    if not target.rivals:
        met = ours <= target.factor if metric.better == "less" else ours >= target.factor
        return [
            scenario.title,
            f"{metric.label} at most {target.factor:g}",
            _figure(ours, metric),
            "yes" if met else "NO",
        ]
    values = {key: _value(outcome, scenario, key, metric) for key in target.rivals}
    known = {key: value for key, value in values.items() if value is not None}
    if not known:
        return None
    rival = (max if metric.better == "more" else min)(known, key=lambda key: known[key])
    reached = ours / known[rival] if known[rival] else inf
    met = reached >= target.factor if metric.better == "more" else reached <= target.factor
    bound = "at least" if metric.better == "more" else "at most"
    wanted = f"{metric.label} {bound} {target.factor:g} x {SERVERS[rival].label}"
    return [scenario.title, wanted, f"{reached:,.2f} x", "yes" if met else "NO"]


def _distrust(outcome: Outcome) -> list[str]:
    lines = []
    for cell in outcome.cells.values():
        where = f"{cell.scenario} / {SERVERS[cell.server].label}"
        lines += [f"- {where}: {failure.strip().splitlines()[-1][:300]}" for failure in cell.failures]
        bad = [report for report in cell.reports if not report["complete"]]
        if bad:
            problems = {name: count for name, count in bad[0]["problems"].items() if count}
            lines.append(f"- {where}: incomplete in {len(bad)} of {len(cell.reports)} rounds, {problems}")
        share = cell.median(lambda report: report["load_cpu_share"])
        if share is not None and share > LOAD_SHARE_MAX:
            lines.append(f"- {where}: the load generator used {share:.0%} of its core and may have been the bottleneck")
    elsewhere = [report["elsewhere_cpu_share"] for cell in outcome.cells.values() for report in cell.reports]
    disturbed = sum(share > DISTURBED_CORES for share in elsewhere)
    if disturbed:
        lines.append(
            f"- {disturbed} of {len(elsewhere)} runs were disturbed: other programs used up to {max(elsewhere):.1f} "
            "cores. This affects CPU per delivery least, and rates and latencies most."
        )
    return lines


def render(outcome: Outcome, scenarios: Sequence[Scenario]) -> str:
    """The whole report as Markdown."""
    settings, host = outcome.settings, outcome.machine
    lines = [
        f"Medians of {settings['runs']:g} rounds of {settings['seconds']:g} s, {settings['date']}. "
        f"{host['cpu']}, {host['cores']} cores, {host['memory_gib']} GiB, Linux {host['kernel']}, "
        f"Python {host['python']}; pinned: {host['pinned']}, nice {host['nice']}. RAQCOON stores posts durably "
        "(SQLite), and the other servers keep them in memory. 8 fields, 64 bytes of content.",
        "",
    ]
    for scenario in scenarios:
        lines += _scenario_table(outcome, scenario)
    targets = [_target_row(outcome, scenario, target) for scenario in scenarios for target in scenario.targets]
    if any(targets):
        lines += _markdown(["Goal", "bound", "reached", "met"], [row for row in targets if row])
        lines.append("")
    lines += [f"- {SERVERS[key].label}: {versions}" for key, versions in outcome.versions.items()]
    distrust = _distrust(outcome)
    if distrust:
        lines += [
            "",
            "These figures are less reliable (* above: not every message arrived exactly once, in order and in time):",
            *distrust,
        ]
    return "\n".join(lines)

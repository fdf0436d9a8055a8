"""Draws the plots as SVG files, without a plotting library. Text stays text."""

from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, log10
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.runner import Outcome
from benchmarks.scenarios import CPU, CPU_PER_POST, DELIVERIES, FANOUT, P50, P99, Metric, Scenario
from benchmarks.servers import SERVERS

WIDTH = 860
LABELS = 290
"""The width for the names of the servers, left of the bars."""
BAR_HEIGHT, BAR_GAP = 20, 10
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#64748b", "#dc2626")
OURS, PEER, BARE = "#2563eb", "#94a3b8", "#cbd5e1"


class _Canvas:
    def __init__(self, title: str, subtitle: str, height: int) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        ]
        self.text(20, 30, title, size=17, weight=600)
        self.text(20, 50, subtitle, size=12, colour="#64748b")

    def text(
        self, x: float, y: float, text: str, *, size: int = 13, anchor: str = "start", weight: int = 400,
        colour: str = "#1e293b",
    ) -> None:  # fmt: skip
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{colour}">{escape(text)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.0, width):.1f}" height="{height}" rx="2" fill="{colour}"/>'
        )

    def line(self, points: Iterable[tuple[float, float]], colour: str, width: float = 1) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*self._parts, "</svg>", ""]))
        return path


def _short(value: float) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _log_scale(values: Sequence[float], start: float, end: float) -> tuple[Callable[[float], float], list[float]]:
    """Maps values to pixels on a logarithmic axis, and knows the powers of ten that get a grid line."""
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    return (
        lambda value: start + (log10(max(value, 10.0**low)) - low) / (high - low) * (end - start),
        [10.0**power for power in range(low, high + 1)],
    )


def _colour(key: str) -> str:
    return OURS if key.startswith("raqcoon") else BARE if SERVERS[key].dialect == "plain" else PEER


def _values(outcome: Outcome, scenario: Scenario, metric: Metric) -> dict[str, float]:
    cells = ((key, outcome.cells.get((scenario.key, key))) for key in scenario.servers)
    values = {key: cell.median(metric.read) for key, cell in cells if cell}
    return {key: value for key, value in values.items() if value}


def bars(
    outcome: Outcome, scenario: Scenario, metrics: Sequence[Metric], title: str, subtitle: str, path: Path
) -> Path | None:
    """One bar for each server and metric, on a logarithmic scale, the best first. None if nothing was measured."""
    columns = [_values(outcome, scenario, metric) for metric in metrics]
    keys = [key for key in columns[0] if all(key in column for column in columns)]
    if not keys:
        return None
    keys.sort(key=lambda key: columns[0][key], reverse=metrics[0].better == "more")
    group = BAR_HEIGHT * len(metrics) + BAR_GAP
    height = 110 + group * len(keys)
    canvas = _Canvas(title, subtitle, height)
    everything = [value for column in columns for value in column.values()]
    place, grid = _log_scale(everything, LABELS, WIDTH - 90)
    for value in grid:
        canvas.line([(place(value), 66), (place(value), height - 34)], "#e2e8f0")
        canvas.text(place(value), height - 16, _short(value), size=11, anchor="middle", colour="#64748b")
    for row, key in enumerate(keys):
        top = 72 + row * group
        ours = key.startswith("raqcoon")
        middle = top + BAR_HEIGHT * len(metrics) / 2 + 4
        canvas.text(LABELS - 10, middle, SERVERS[key].label, anchor="end", weight=600 if ours else 400)
        for number, (metric, column) in enumerate(zip(metrics, columns, strict=True)):
            y = top + number * BAR_HEIGHT
            canvas.bar(LABELS, y + 2, place(column[key]) - LABELS, BAR_HEIGHT - 4, _colour(key))
            note = f" {metric.label.partition(' ')[0]}" if len(metrics) > 1 else ""
            canvas.text(
                place(column[key]) + 6, y + 15, _short(column[key]) + note, size=12, weight=600 if ours else 400
            )
    return canvas.write(path)


def curve(outcome: Outcome, name: str, metric: Metric, title: str, subtitle: str, path: Path) -> Path | None:
    """One line for each server over the scenarios of a curve. Both axes are logarithmic. None if nothing was
    measured."""
    steps = [scenario for scenario in FANOUT if scenario.curve == name]
    lines: dict[str, list[tuple[int, float]]] = {}
    for scenario in steps:
        for key, value in _values(outcome, scenario, metric).items():
            lines.setdefault(key, []).append((scenario.at, value))
    lines = {key: line for key, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    height = 430
    canvas = _Canvas(title, subtitle, height)
    points = [point for line in lines.values() for point in line]
    across, marks = _log_scale([at for at, _ in points], 70, WIDTH - 240)
    up, grid = _log_scale([value for _, value in points], height - 50, 75)
    for value in grid:
        canvas.line([(70, up(value)), (WIDTH - 240, up(value))], "#e2e8f0")
        canvas.text(62, up(value) + 4, _short(value), size=11, anchor="end", colour="#64748b")
    for at in marks:
        canvas.text(across(at), height - 28, f"{at:,.0f}", size=11, anchor="middle", colour="#64748b")
    used: list[float] = []
    for number, (key, line) in enumerate(sorted(lines.items(), key=lambda item: item[1][-1][1])):
        colour = COLOURS[number % len(COLOURS)]
        canvas.line([(across(at), up(value)) for at, value in line], colour, 3 if key.startswith("raqcoon") else 1.5)
        for at, value in line:
            canvas.dot(across(at), up(value), colour)
        y = up(line[-1][1]) + 4
        while any(abs(y - other) < 15 for other in used):
            y -= 15
        used.append(y)
        canvas.text(WIDTH - 230, y, SERVERS[key].label.partition(" (")[0], size=12, colour=colour, weight=600)
    return canvas.write(path)


def draw_fanout(outcome: Outcome, folder: Path) -> list[Path]:
    """Draws every plot for which there are results, and returns the files that it has written."""
    by_key = {scenario.key: scenario for scenario in FANOUT}
    host = f"{outcome.machine['cpu']}, server on one core; posts of RAQCOON are durable, the peers' in memory"
    drawn = (
        bars(
            outcome,
            by_key["thousand"],
            [DELIVERIES],
            "Messages delivered per second: 1,000 subscribers, 4 publishers",
            host,
            folder / "fanout-deliveries.svg",
        ),
        bars(
            outcome,
            by_key["paced-5"],
            [P50, P99],
            "Latency in ms from post to delivery: 1,000 subscribers, 5 posts per second",
            host,
            folder / "fanout-latency.svg",
        ),
        curve(
            outcome,
            "cost",
            CPU,
            "CPU µs per delivery, by number of subscribers",
            host,
            folder / "fanout-cost.svg",
        ),
        curve(
            outcome,
            "selections",
            CPU_PER_POST,
            "CPU ms per post to 1,000 subscribers, by number of different selections",
            host,
            folder / "fanout-selections.svg",
        ),
    )
    return [path for path in drawn if path]


def storm(runs: dict[str, list[float]], clients: int, path: Path) -> Path:
    """How many of the clients that came at the same time are live, over time in seconds. One line for each run."""
    left, top, width, height = 70, 80, WIDTH - 110, 260
    until = max((max(times) for times in runs.values() if times), default=1.0)
    canvas = _Canvas(
        f"{clients:,} clients come at once",
        "clients that are live again, by seconds since they came",
        top + height + 60,
    )
    for share in (0.0, 0.5, 1.0):
        y = top + height * (1 - share)
        canvas.line([(left, y), (left + width, y)], "#e2e8f0")
        canvas.text(left - 8, y + 4, _short(share * clients), size=11, anchor="end", colour="#64748b")
        canvas.text(left + width * share, top + height + 20, f"{until * share:.1f} s", size=11, anchor="middle")
    for place, ((label, times), colour) in enumerate(zip(runs.items(), COLOURS, strict=False)):
        points = [(0.0, 0), *((seconds, number + 1) for number, seconds in enumerate(sorted(times)))]
        step = max(1, len(points) // 300)
        shown = [*points[::step], points[-1]]
        canvas.line(
            [(left + width * seconds / until, top + height * (1 - live / clients)) for seconds, live in shown],
            colour,
            2,
        )
        canvas.text(left + 20 + 120 * place, top + height + 45, label, colour=colour, weight=600)
    return canvas.write(path)


def scale(lines: dict[str, list[tuple[int, float]]], path: Path) -> Path:
    """How much of one worker's rate is left with more workers on one core. One line for each kind of load."""
    left, top, width, height = 70, 80, WIDTH - 260, 260
    most = max(at for line in lines.values() for at, _ in line)
    canvas = _Canvas(
        "What is left of one core when it is split among workers",
        "rate with so many workers, divided by that of one; all processes of the server on one core",
        top + height + 50,
    )

    def across(at: int) -> float:
        return left + width * log10(at) / log10(max(2, most))

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + height * (1 - share / 1.1)
        canvas.line([(left, y), (left + width, y)], "#e2e8f0")
        canvas.text(left - 8, y + 4, f"{share:g}", size=11, anchor="end", colour="#64748b")
    for at in sorted({at for line in lines.values() for at, _ in line}):
        canvas.text(across(at), top + height + 22, f"{at} worker{'s' * (at > 1)}", size=11, anchor="middle")
    for (label, line), colour in zip(lines.items(), COLOURS, strict=False):
        points = [(across(at), top + height * (1 - share / 1.1)) for at, share in line]
        canvas.line(points, colour, 2)
        for x, y in points:
            canvas.dot(x, y, colour)
        x, y = points[-1]
        canvas.text(x + 12, y + 4, label, colour=colour, weight=600)
    return canvas.write(path)

"""Draws the soak: memory, tasks and open files over time, one row each."""

from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

from benchmarks.soak_sample import Sample

WIDTH, ROW, LEFT, RIGHT, TOP = 860, 120, 90, 20, 60
_ROWS: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
    ("memory, MiB", "#2563eb", lambda sample: sample.memory_bytes / 2**20),
    ("subscribers", "#64748b", lambda sample: sample.subscribers),
    ("tasks", "#059669", lambda sample: sample.tasks),
    ("open files", "#d97706", lambda sample: sample.files),
)


def draw(samples: Sequence[Sample], path: Path, title: str) -> None:
    """Writes the SVG. Dashed lines are restarts of the server."""
    end = max(sample.seconds for sample in samples)
    height = TOP + ROW * len(_ROWS) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="20" y="30" font-size="16" font-weight="600" fill="#0f172a">{escape(title)}</text>',
    ]

    def across(seconds: float) -> float:
        return LEFT + seconds / end * (WIDTH - LEFT - RIGHT)

    for number, (label, colour, read) in enumerate(_ROWS):
        bottom = TOP + ROW * (number + 1) - 20
        highest = max(map(read, samples)) or 1.0
        points = [(across(s.seconds), bottom - read(s) / highest * (ROW - 40)) for s in samples]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts += [
            f'<text x="20" y="{bottom - ROW + 38}" font-size="12" font-weight="600" fill="{colour}">{label}</text>',
            f'<text x="{LEFT - 6}" y="{bottom - ROW + 54}" font-size="11" text-anchor="end" fill="#64748b">'
            f"{highest:,.0f}</text>",
            f'<text x="{LEFT - 6}" y="{bottom}" font-size="11" text-anchor="end" fill="#64748b">0</text>',
            f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" stroke="#e2e8f0"/>',
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
        ]
    for before, after in pairwise(samples):
        if before.life != after.life:
            x = across((before.seconds + after.seconds) / 2)
            parts.append(
                f'<line x1="{x:.1f}" y1="{TOP - 10}" x2="{x:.1f}" y2="{height - 40}" stroke="#dc2626" '
                'stroke-dasharray="3 4"/>'
            )
    parts += [
        f'<text x="{LEFT}" y="{height - 14}" font-size="11" fill="#64748b">0 s</text>',
        f'<text x="{WIDTH - RIGHT}" y="{height - 14}" font-size="11" text-anchor="end" fill="#64748b">'
        f"{end:,.0f} s</text>",
        "</svg>",
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts))

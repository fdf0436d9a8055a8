"""Samples of the soak's server, and how much its figures have grown between samples."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One sample of the server. `life` counts its restarts."""

    seconds: float
    life: int
    memory_bytes: int
    tasks: int
    files: int
    subscribers: int


def growth(samples: Iterable[Sample], figure: str) -> int:
    """The largest growth within one life of the server: the median of its last third minus that of its middle third."""
    lives: dict[int, list[int]] = {}
    for sample in samples:
        if sample.subscribers:
            lives.setdefault(sample.life, []).append(getattr(sample, figure))
    grown = [0]
    for life in lives.values():
        third = len(life) // 3
        if third >= 5:
            middle, last = sorted(life[third : 2 * third]), sorted(life[-third:])
            grown.append(last[third // 2] - middle[third // 2])
    return max(grown)

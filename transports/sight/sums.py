"""Figures of several processes as those of one server: encoded, kept beyond a process's end, and added up."""

from collections.abc import Iterable
from typing import Any

import orjson
from prometheus_client.metrics_core import Metric

Figures = dict[str, dict[str, Any]]
"""By a family's name: its `type`, its `help`, and `samples`: [name, labels as pairs, value]."""

_LEAST = {"raqcoon_accepting", "raqcoon_process_start_time_seconds"}
"""Families whose value for the server is the least of its processes' values."""
_ONCE = {"raqcoon_messages_posted", "raqcoon_commits", "raqcoon_posts_per_commit"}
"""Families that all workers count alike if each is told of all commits: their values are not added up."""
_GROWING = {"counter", "histogram"}


def figures_of(families: Iterable[Metric]) -> Figures:
    return {
        family.name: {
            "type": family.type,
            "help": family.documentation,
            "samples": [[sample.name, sorted(sample.labels.items()), sample.value] for sample in family.samples],
        }
        for family in families
    }


def encode(figures: Figures) -> bytes:
    return orjson.dumps(figures)


def decode(encoded: bytes) -> Figures:
    """What `encode` was given; no figures from empty bytes."""
    return orjson.loads(encoded) if encoded else {}


def growing(figures: Figures) -> Figures:
    """Only the counters and histograms: they still count when a process has ended or does not answer."""
    return {name: family for name, family in figures.items() if family["type"] in _GROWING}


def added(parts: Iterable[Figures], *, commits_are_told_to_all: bool = False) -> Figures:
    """The sum of figures; see `_LEAST` and `_ONCE` for those that are not added up.

    A sample that only some parts have is the sum of these.
    """
    whole: Figures = {}
    values: dict[tuple[str, str, str], list[Any]] = {}
    for part in parts:
        for name, family in part.items():
            into = whole.setdefault(name, {**family, "samples": []})
            for sample_name, labels, value in family["samples"]:
                key = (name, sample_name, str(labels))
                known = values.get(key)
                if known is None:
                    values[key] = sample = [sample_name, labels, value]
                    into["samples"].append(sample)
                elif name in _LEAST:
                    known[2] = min(known[2], value)
                elif name in _ONCE and commits_are_told_to_all:
                    known[2] = max(known[2], value)
                else:
                    known[2] += value
    return whole


def families_of(figures: Figures) -> list[Metric]:
    """For Prometheus' own encoder."""
    families = []
    for name, family in figures.items():
        metric = Metric(name, family["help"], family["type"])
        for sample_name, labels, value in family["samples"]:
            metric.add_sample(sample_name, dict(labels), value)
        families.append(metric)
    return families

"""Harms a cluster for as long as you like, and checks the history.

    uv run python -m tests.chaos [--faults 200] [--seed 1]

The exit code is 0 if no rule was violated. Otherwise it is 1, and the shortest history that shows a violation is
printed.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.checker import check, report
from tests.chaos.history import Stored
from tests.chaos.run import Outcome, run
from tests.cluster.postgres import own_postgres


def figures(outcome: Outcome) -> str:
    """The figures of a run, one in each line."""
    lines = [f"{count:6} {kind}" for kind, count in sorted(outcome.counts.items())]
    lines += [
        f"{outcome.seconds:.0f} s, {sum(outcome.counts.values())} faults",
        f"{outcome.posted} posts, {outcome.acknowledged} acknowledged, {outcome.unknown} tries of unknown outcome",
        f"{outcome.changed} changes acknowledged, "
        f"{sum(isinstance(entry, Stored) for entry in outcome.history.log)} messages in the log",
        f"{outcome.delivered} deliveries, {outcome.reconnections} reconnections",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    with own_postgres() as postgres, tempfile.TemporaryDirectory() as directory:
        outcome = asyncio.run(run(postgres, Path(directory), faults=chosen.faults, seed=chosen.seed))
    violations = check(outcome.history)
    print(figures(outcome))
    for problem in outcome.problems[:20]:
        print(f"a client was told: {problem}")
    if set(outcome.exit_codes) - {0}:
        print(f"nodes that were asked to stop ended with {sorted(set(outcome.exit_codes))}")
    print(report(outcome.history, violations) if violations else "nothing was violated")
    return 1 if violations or outcome.problems or set(outcome.exit_codes) - {0} else 0


if __name__ == "__main__":
    sys.exit(main())

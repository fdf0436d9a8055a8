"""A cluster that is harmed in every way it must survive keeps its promises; one with a seeded bug is caught.

Longer: `uv run python -m tests.chaos --faults 200`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checker import check, report
from tests.chaos.history import Revoked, Stored, StoredChange
from tests.chaos.run import run
from tests.cluster.postgres import PostgresProcess, own_postgres

pytestmark = pytest.mark.alone

FAULTS = 15


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresProcess]:
    with own_postgres() as server:
        yield server


@pytest.mark.timeout(300)
async def test_cluster_under_faults_loses_and_repeats_nothing(postgres: PostgresProcess, tmp_path: Path) -> None:
    outcome = await run(postgres, tmp_path, faults=FAULTS, seed=15)
    violations = check(outcome.history)
    assert not violations, report(outcome.history, violations)
    assert outcome.problems == []
    assert set(outcome.exit_codes) <= {0}
    assert sum(outcome.counts.values()) == FAULTS
    assert outcome.acknowledged > 200
    assert outcome.changed > 50
    log = outcome.history.log
    assert outcome.delivered >= sum(isinstance(entry, Stored) for entry in log)
    kinds = {entry.kind for entry in log if isinstance(entry, StoredChange)}
    assert kinds == {"APPENDED", "COMPLETED", "EDITED", "ERASED"}


@pytest.mark.timeout(300)
async def test_revoked_subscriber_hears_nothing_after_a_second(postgres: PostgresProcess, tmp_path: Path) -> None:
    outcome = await run(postgres, tmp_path, faults=6, seed=4, kinds=("revoke",))
    violations = check(outcome.history)
    assert not violations, report(outcome.history, violations)
    assert outcome.problems == []
    assert any(isinstance(event, Revoked) for event in outcome.history.events)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("bugs", "kinds", "faults", "violations"),
    [
        (("hints_lost", "no_sweep"), (), 0, {"fell short"}),
        (("delivered_before_commit",), ("stall and cut",), 12, {"not in log", "disagree"}),
        (("resume_off_by_one",), ("move clients",), 2, {"repeated"}),
        (("early_hint_trusted",), ("hints shuffled",), 3, {"skipped"}),
        (("foreign_hint_trusted",), ("hints foreign",), 2, {"not in log", "disagree"}),
        (("revocations_unwatched",), ("revoke",), 4, {"heard on"}),
        (("piece_again",), (), 0, {"change repeat"}),
        (("changes_come_first",), (), 0, {"differs"}),
        (("pages_kept",), (), 0, {"differs"}),
    ],
    ids=[
        "hint lost and no sweep",
        "delivery before commit",
        "resume off by one",
        "early hint trusted",
        "foreign hint trusted",
        "revocations unwatched",
        "change applied twice",
        "change before its message",
        "stale page after an edit",
    ],
)
async def test_seeded_bug_is_caught(
    postgres: PostgresProcess,
    tmp_path: Path,
    bugs: tuple[str, ...],
    kinds: tuple[str, ...],
    faults: int,
    violations: set[str],
) -> None:
    # A fault has to meet a post at the wrong moment for the bug to show, so there may be three tries.
    for attempt in range(3):
        seed = sum(map(ord, "".join(bugs))) + attempt
        directory = tmp_path / str(attempt)
        directory.mkdir()
        outcome = await run(
            postgres, directory, faults=faults, seed=seed, kinds=kinds, bugs=bugs, arrival_seconds=20 if faults else 6
        )
        found = check(outcome.history)
        if violations & {violation.kind for violation in found}:
            break
    else:
        pytest.fail(f"not caught; seen were only {sorted({violation.kind for violation in found})}")
    shortest = next(violation for violation in found if violation.kind in violations)
    assert shortest.size <= 3
    assert shortest.kind in {violation.kind for violation in check(shortest.history)}
    print(report(outcome.history, found, most=1))

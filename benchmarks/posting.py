"""Measures how many posts a second are acknowledged, and compares other servers in the same run.

    uv run python -m benchmarks.posting [--quick] [--only mutation] [--servers raqcoon strawberry]

There is one subscriber, and 16 publishers that each wait for the answer before they post again. RAQCOON commits a post
to its log before it answers. The other servers keep it in memory. Prints a Markdown table and writes
`benchmarks/results/posting.json`.
"""

import sys

from benchmarks import report
from benchmarks.machine import RealtimePriority
from benchmarks.native import CompilerMissing
from benchmarks.runner import RESULTS, Outcome, arguments, chosen, leaves_out, measure
from benchmarks.scenarios import POSTING
from benchmarks.servers import ROOT


def main() -> int:
    parsed = arguments(__doc__)
    scenarios = chosen(POSTING, parsed)
    if parsed.list:
        for scenario in scenarios:
            print(f"{scenario.key:16} {scenario.title}: {', '.join(scenario.servers)}")
        return 0
    partial = leaves_out(parsed)
    name = f"posting-{parsed.label}" if parsed.label else "posting.tmp" if partial else "posting"
    results = RESULTS / f"{name}.json"
    try:
        outcome = Outcome.read(results) if parsed.render else measure(scenarios, parsed, results)
    except (CompilerMissing, RealtimePriority) as refusal:
        print(refusal, file=sys.stderr)
        return 2
    table = report.render(outcome, scenarios)
    print(table)
    results.with_suffix(".md").write_text(f"# Posting\n\n{table}\n")
    print(f"wrote {results.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

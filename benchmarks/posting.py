"""How many posts a second are taken and acknowledged, beside other servers, in one run.

    uv run python -m benchmarks.posting [--quick] [--only mutation] [--servers raqcoon strawberry]

One subscriber, 16 publishers that each wait for their answer. RAQCOON has committed a post to its log before it
answers; the peers keep it in memory. Prints a Markdown table and writes `benchmarks/results/posting.json`.
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

"""Measures how fast, how soon and at what cost messages reach subscribers, and compares other servers in the same run.

    uv run python -m benchmarks.fanout [--quick] [--only thousand paced] [--servers raqcoon floor]

Prints a Markdown table, writes it and every report to `benchmarks/results/fanout.md` and `.json`, and the plots to
`docs/images/`. A run that leaves something out writes `fanout.tmp.*` and draws into `benchmarks/build/`, so that
nobody takes it for a whole run.
"""

import sys

from benchmarks import plots, report
from benchmarks.machine import RealtimePriority
from benchmarks.native import BUILD, CompilerMissing
from benchmarks.runner import RESULTS, Outcome, arguments, chosen, leaves_out, measure
from benchmarks.scenarios import FANOUT
from benchmarks.servers import ROOT, SERVERS


def main() -> int:
    parsed = arguments(__doc__)
    scenarios = chosen(FANOUT, parsed)
    if parsed.list:
        for scenario in scenarios:
            print(f"{scenario.key:16} {scenario.title}: {', '.join(scenario.servers)}")
        print("servers:", ", ".join(SERVERS))
        return 0
    partial = leaves_out(parsed)
    name = f"fanout-{parsed.label}" if parsed.label else "fanout.tmp" if partial else "fanout"
    results = RESULTS / f"{name}.json"
    try:
        outcome = Outcome.read(results) if parsed.render else measure(scenarios, parsed, results)
    except (CompilerMissing, RealtimePriority) as refusal:
        print(refusal, file=sys.stderr)
        return 2
    table = report.render(outcome, scenarios)
    print(table)
    results.with_suffix(".md").write_text(f"# Fan-out\n\n{table}\n")
    for plot in plots.draw_fanout(outcome, BUILD if partial else ROOT / "docs" / "images"):
        print(f"wrote {plot.relative_to(ROOT)}", file=sys.stderr)
    print(f"wrote {results.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`server.py copy SOURCE_URL TARGET_URL`: `copy_log` with a progress bar."""

import argparse
from collections.abc import Sequence

from tqdm import tqdm

from message_log.copy import copy_log
from message_log.repairs import Repairs

CHANGED = 3
"""Exit code of a copy that is whole, but for what its report says was changed."""


def copy_command(arguments: Sequence[str]) -> int:
    """Runs the copy and returns the exit code.

    Raises:
        StartupError: it cannot be done; the text is one line for the operator.
    """
    parser = argparse.ArgumentParser(
        prog="server.py copy",
        description="Copies a whole message log, keeping sequences, ids, idempotency keys, timestamps and epoch. "
        "Run it again if it was interrupted: it goes on where it stopped. Exit code 0: copied as it is; 3: copied, and "
        "what could not be asked for was changed as the report says; 2: stopped, as the one line says.",
    )
    parser.add_argument("source", help="sqlite:///path (the earlier server's file, too) or postgresql://…")
    parser.add_argument("target", help="an empty database of either kind, or a copy that was interrupted")
    chosen = parser.parse_args(arguments)
    repairs = Repairs()
    with tqdm(unit=" messages", unit_scale=True) as bar:

        def progress(held: int, total: int) -> None:
            bar.total = total
            bar.update(held - bar.n)

        copied = copy_log(chosen.source, chosen.target, progress=progress, repairs=repairs)
    print(f"copied {copied} messages")
    for line in repairs.report():
        print(line)
    return CHANGED if repairs.changed else 0

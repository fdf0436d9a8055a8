"""Changes rows of a copied log that this server would not have accepted, so that they can be used; and reports it.

The earlier server checked almost nothing. A channel whose id breaks the rules could be listed here, but not opened;
PostgreSQL refuses a NUL; a label that is too long cannot be asked for. Each is changed in one fixed way, so that a copy
that is run again comes to the same names. Contents are never shortened.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from message_log.source import Row
from messages import (
    AUTHOR_CHARACTERS_MAX,
    CHANNEL_ID_CHARACTERS_MAX,
    LANE_CHARACTERS_MAX,
    NOT_IN_CHANNEL_ID,
    PROVIDER_CHARACTERS_MAX,
    TOKEN_COUNT_MAX,
)

EXAMPLES_MAX = 5
_EXAMPLE_CHARACTERS = 60
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


@dataclass(slots=True)
class Finding:
    """One kind of problem: how often it was found, and the first examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(example)


class Repairs:
    """Changes rows so that they keep the rules, and remembers what was done.

    `changed` and `kept` say what was done, in words, how often and where. `kept` has what breaks a rule for posts and
    is still served as it is stored.
    """

    def __init__(self) -> None:
        self.changed: dict[str, Finding] = {}
        self.kept: dict[str, Finding] = {}

    def channel_id(self, stored: str) -> str:
        """The id of a channel here: `stored` if the rules allow it, else one that is made of it.

        Two ids never become one: the new id ends in a digest of the old one.
        """
        if _is_channel_id(stored):
            return stored
        raw = stored.encode("utf-8", "surrogatepass")
        digest = "~" + blake2b(raw, digest_size=8).hexdigest()
        readable = _NOT_STORABLE.sub("_", NOT_IN_CHANNEL_ID.sub("_", stored)) or "unnamed"
        here = readable[: CHANNEL_ID_CHARACTERS_MAX - len(digest)] + digest
        self._note(self.changed, "channels renamed, since their ids could not be asked for", f"{stored!r} is {here!r}")
        return here

    def row(self, row: Row, channel_id: str) -> Row:
        """The row as it is stored here. `channel_id` is what the method of this name returned for its channel."""
        where = f"{channel_id}:{row['sequence']}"
        content = self._text("content", row["content"], where)
        if not content and not row.get("erased_at"):
            self._note(self.kept, "messages without content, kept", where)
        return {
            **row,
            "channel_id": channel_id,
            "author": self._author(row["author"], where),
            "lane": self._label("lane", row["lane"], LANE_CHARACTERS_MAX, where),
            "provider": self._label("provider", row["provider"], PROVIDER_CHARACTERS_MAX, where),
            "token_count": self._token_count(row["token_count"], where),
            "content": content,
        }

    def totals(self, counted: list[dict[str, Any]], channel_id: str) -> list[dict[str, Any]]:
        """The totals of a channel, by the labels that `row` gives to its messages."""
        quiet = Repairs()
        posted: Counter[tuple[str, str]] = Counter()
        tokens: Counter[tuple[str, str]] = Counter()
        for each in counted:
            provider = quiet._label("provider", each["provider"], PROVIDER_CHARACTERS_MAX, "") or ""
            lane = quiet._label("lane", each["lane"], LANE_CHARACTERS_MAX, "") or ""
            posted[provider, lane] += each["messages"]
            tokens[provider, lane] += each["tokens"]
        return [
            {
                "channel_id": channel_id,
                "provider": provider,
                "lane": lane,
                "messages": count,
                "tokens": tokens[provider, lane],
            }
            for (provider, lane), count in posted.items()
        ]

    def report(self) -> list[str]:
        """What was found, in words, with one line for each kind of problem."""
        lines = []
        for finding, found in (*self.changed.items(), *self.kept.items()):
            more = ", …" if found.count > len(found.examples) else ""
            lines.append(f"{found.count} {finding}: {', '.join(found.examples)}{more}")
        return lines

    def _note(self, findings: dict[str, Finding], what: str, example: str) -> None:
        findings.setdefault(what, Finding()).add(_shown(example))

    def _text(self, name: str, stored: str, where: str) -> str:
        text = _NOT_STORABLE.sub(_REPLACEMENT, stored)
        if text != stored:
            self._note(self.changed, f"texts of {name} with what is no Unicode, or NUL, written as U+FFFD", where)
        return text

    def _author(self, stored: str, where: str) -> str:
        author = self._text("author", stored, where)
        if not author:
            self._note(self.changed, 'authors without a name, called "unknown"', where)
            return "unknown"
        return self._cut("author", author, AUTHOR_CHARACTERS_MAX, where)

    def _label(self, name: str, stored: str | None, characters_max: int, where: str) -> str | None:
        return None if not stored else self._cut(name, self._text(name, stored, where), characters_max, where)

    def _cut(self, name: str, text: str, characters_max: int, where: str) -> str:
        if len(text) > characters_max:
            self._note(self.changed, f"texts of {name} cut to {characters_max} characters", where)
        return text[:characters_max]

    def _token_count(self, stored: Any, where: str) -> int | None:
        if stored is None or is_token_count(stored):
            return None if stored is None else int(stored)
        self._note(self.changed, f"token counts not within 0 to {TOKEN_COUNT_MAX}, left out", f"{where} ({stored!r})")
        return None


def is_token_count(stored: object) -> bool:
    """Whether a number of tokens is one that a post may have."""
    return isinstance(stored, int) and 0 <= stored <= TOKEN_COUNT_MAX


def _is_channel_id(stored: str) -> bool:
    return (
        0 < len(stored) <= CHANNEL_ID_CHARACTERS_MAX
        and not NOT_IN_CHANNEL_ID.search(stored)
        and not _NOT_STORABLE.search(stored)
    )


def _shown(example: str) -> str:
    printable = example.encode("ascii", "backslashreplace").decode() if _NOT_STORABLE.search(example) else example
    return printable if len(printable) <= _EXAMPLE_CHARACTERS * 4 else printable[: _EXAMPLE_CHARACTERS * 4] + "…"

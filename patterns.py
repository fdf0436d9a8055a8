"""Lists of channel patterns, as the claims of a token have them: does one of them match a channel?

Most patterns are plain names or `prefix*`: for all of these a set and one `startswith` are enough. The others are
compiled into one expression when it is first needed, which is kept as long as the list.
"""

import re
from collections.abc import Iterable
from fnmatch import translate

_WILDCARD = re.compile(r"[*?\[]")


class ChannelPatterns:
    """The channels that a list of `fnmatch` patterns matches; case matters. Equal lists are equal. It never changes.

    `everything` is True if one of the patterns is `*`. Only then a right holds for every channel, including those that
    do not exist yet.
    """

    __slots__ = ("_compiled", "_expressions", "_heads", "_names", "_prefixes", "_stretches", "everything", "patterns")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = tuple(patterns)
        names, prefixes, expressions = set(), set(), set()
        for pattern in self.patterns:
            found = _WILDCARD.search(pattern)
            if found is None:
                names.add(pattern)
            elif found.start() == len(pattern) - 1 and pattern[-1] == "*":
                prefixes.add(pattern[:-1])
            elif not pattern.strip("*"):
                prefixes.add("")
            else:
                expressions.add(pattern)
        self.everything = "" in prefixes
        self._names = frozenset(names)
        self._prefixes = tuple(prefixes)
        self._expressions = tuple(sorted(expressions))
        self._heads = tuple({_WILDCARD.split(pattern, maxsplit=1)[0] for pattern in expressions})
        self._compiled: re.Pattern[str] | None = None
        self._stretches: tuple[tuple[str, bool], ...] | None = None

    def match(self, channel_id: str) -> bool:
        """Whether one of the patterns names the channel."""
        if self.everything or channel_id in self._names or channel_id.startswith(self._prefixes):
            return True
        return channel_id.startswith(self._heads) and self._expression().match(channel_id) is not None

    def prepare(self) -> bool:
        """Compiles what has to be compiled: about 0.15 ms for each pattern that is more than a name or a prefix.

        A caller can do this in a thread, beside the event loop. Returns whether there was anything to do.
        """
        return self._compiled is None and bool(self._expressions) and self._expression() is not None

    @property
    def expressions(self) -> int:
        """How many of the patterns are neither a name nor a prefix."""
        return len(self._expressions)

    @property
    def stretches(self) -> tuple[tuple[str, bool], ...]:
        """The ranges of ids in which the channels are: names, ascending, none within the range of another.

        With True a name stands for all ids that begin with it, with False only for itself.
        """
        if self._stretches is None:
            starts = {*self._prefixes, *self._heads}
            found: list[tuple[str, bool]] = []
            for name in sorted(starts | self._names):
                if not (found and found[-1][1] and name.startswith(found[-1][0])):
                    found.append((name, name in starts))
            self._stretches = tuple(found)
        return self._stretches

    def _expression(self) -> re.Pattern[str]:
        if self._compiled is None:
            # One expression with alternatives: a hundred patterns are tried in one call.
            self._compiled = re.compile("|".join(translate(pattern) for pattern in self._expressions))
        return self._compiled

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChannelPatterns) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"ChannelPatterns({self.patterns!r})"


EVERY_CHANNEL = ChannelPatterns(("*",))
NO_CHANNEL = ChannelPatterns()

"""Lists of channel patterns: what `fnmatch` says, at a cost that does not grow with how many users have lists."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patterns import EVERY_CHANNEL, NO_CHANNEL, ChannelPatterns

PATTERNS = st.lists(st.text("ab-*?[]!\né", max_size=5), max_size=5)


@given(patterns=PATTERNS, channel=st.text("ab-\né", max_size=5))
def test_match_is_what_fnmatch_says_of_any_patterns(patterns: list[str], channel: str) -> None:
    assert ChannelPatterns(patterns).match(channel) is any(fnmatchcase(channel, pattern) for pattern in patterns)


@pytest.mark.parametrize(
    ("patterns", "everything"), [(["*"], True), (["a", "**"], True), (["?*"], False), (["a*"], False), ([], False)]
)
def test_everything_is_said_by_a_star_alone(patterns: list[str], everything: bool) -> None:
    assert ChannelPatterns(patterns).everything is everything


def test_names_and_prefixes_are_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(*_: object) -> None:
        raise AssertionError("a pattern was compiled")

    listed = ChannelPatterns(["general", "team-*", "*", "room-[12]"])
    monkeypatch.setattr(re, "compile", compile_)
    assert listed.match("anything")
    few = ChannelPatterns(["general", "team-*", "room-[12]"])
    assert few.match("general")
    assert few.match("team-x")
    assert not few.match("other")
    with pytest.raises(AssertionError):
        few.match("room-1")


def test_equal_lists_are_equal() -> None:
    assert ChannelPatterns(["a", "b*"]) == ChannelPatterns(("a", "b*")) != NO_CHANNEL
    assert hash(ChannelPatterns(["*"])) == hash(EVERY_CHANNEL)

"""The table of docs/errors.md is what errors.py says."""

import inspect
import re
from collections.abc import Iterator

import errors
from tests.docs.blocks import REPOSITORY

OVER_GRAPHQL_ONLY = (
    errors.TooManySubscriptions,
    errors.TooManyFilters,
    errors.PersistedQueryNotFound,
    errors.DocumentError,
)


def leaves(base: type[errors.RaqcoonError]) -> Iterator[type[errors.RaqcoonError]]:
    for each in base.__subclasses__():
        if each.__subclasses__():
            yield from leaves(each)
        else:
            yield each


def sample(kind: type[errors.RaqcoonError]) -> errors.RaqcoonError:
    """One of each, with arguments that do not matter."""
    numbers = {int: 1, float: 1.0}
    needed = [
        numbers.get(parameter.annotation, "x")
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is parameter.empty
    ]
    return kind(*needed)


def test_error_table_is_the_code() -> None:
    said = {}
    for row in re.findall(r"^\| `(\w+)` +\| (\w+) +\| (.+?) +\| (.+?) +\|$", errors.__doc__ or "", re.M):
        name, code, when, retry = row
        said[name] = (
            code,
            when,
            retry.replace("retry_after_ms", "retryAfterMs").replace("resume_cursor", "resumeCursor"),
        )
    kinds = list(leaves(errors.RaqcoonError))
    assert {kind.__name__ for kind in kinds} == set(said)
    expected = []
    for kind in kinds:
        code, when, retry = said[kind.__name__]
        assert code == kind.code
        extensions = ", ".join(f"`{name}`" for name in sample(kind).extensions if name != "code")
        status = "" if issubclass(kind, OVER_GRAPHQL_ONLY) else str(kind.http_status)
        expected.append(f"| `{code}` | {when} | {retry} | {extensions} | {status} |")
    page = (REPOSITORY / "docs" / "errors.md").read_text()
    shown = re.findall(r"^\| `[A-Z_]+` \|.*$", page, re.M)
    assert sorted(shown) == sorted(expected), "\n".join(["docs/errors.md should have:", *expected])

"""What is checked in each test of the engine, in addition to its own subject."""

from collections.abc import Iterator

import pytest

from tests.delivery import recorder


@pytest.fixture(autouse=True)
def sinks_are_treated_by_their_contract() -> Iterator[None]:
    recorder.VIOLATIONS.clear()
    yield
    assert recorder.VIOLATIONS == []

"""What each test of the engine holds besides its own subject."""

from collections.abc import Iterator

import pytest

from tests.delivery import recorder


@pytest.fixture(autouse=True)
def sinks_are_treated_by_their_contract() -> Iterator[None]:
    recorder.VIOLATIONS.clear()
    yield
    assert recorder.VIOLATIONS == []

from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

import pytest

from message_log.sql import SqlMessageLog
from tests.message_log.recorder import Recorder
from tests.message_log.served_log import ServedLog


class NewLog(Protocol):
    """Makes a log that is not open. The arguments are those of `SqlMessageLog`, without the URL."""

    def __call__(self, **arguments: object) -> SqlMessageLog: ...


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=["sqlite", "postgresql", "workers"])
def new_log(request: pytest.FixtureRequest) -> NewLog:
    """A function that makes logs, for each kind in turn. All logs of one test are in one database."""
    url = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_url")
    return partial(ServedLog if request.param == "workers" else SqlMessageLog, url)


@pytest.fixture
async def log(new_log: NewLog, recorder: Recorder) -> AsyncIterator[SqlMessageLog]:
    """An open log, for each kind in turn. Its listener is `recorder`."""
    log = new_log()
    await log.open(recorder)
    yield log
    await log.close()

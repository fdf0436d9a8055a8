from collections.abc import AsyncIterator

import pytest

from message_log.sql import SqlMessageLog
from tests.message_log.recorder import Recorder


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def log(log_url: str, recorder: Recorder) -> AsyncIterator[SqlMessageLog]:
    """An open log of each kind in turn, told to `recorder`."""
    log = SqlMessageLog(log_url)
    await log.open(recorder)
    yield log
    await log.close()

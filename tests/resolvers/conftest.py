from collections.abc import AsyncIterator

import pytest

from resolvers.chat import Chat
from tests.fakes import memory_chat


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    async with memory_chat() as chat:
        yield chat

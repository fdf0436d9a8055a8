from collections.abc import AsyncIterator

import pytest

from resolvers.chat import Chat
from schema.context import Context
from schema.operations import Operations
from tests.fakes import memory_chat


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    async with memory_chat() as chat:
        yield chat


@pytest.fixture
def context(chat: Chat) -> Context:
    return Context(chat)


@pytest.fixture
def operations() -> Operations:
    return Operations()

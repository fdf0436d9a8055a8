"""The clients that people use, against a real server: nothing missing, nothing twice, everything in order.

Each cell is a test of its own; all of them look at one run, in which every client lives through the same kill.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients.client_process import CLIENTS, NODE_CLIENTS, OTHER_CLIENTS
from tests.clients.matrix import GUARDED_BATCH, LIVE, PAST, SLOW, TOKENS, Matrix
from tests.clients.workspace import HERE

each_client = pytest.mark.parametrize(
    "client",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in CLIENTS, reason=f"no {name} on this machine"))
        for name in (*NODE_CLIENTS, *OTHER_CLIENTS)
    ],
)
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    directory = tmp_path_factory.mktemp("clients")
    run = Matrix(directory)
    await run.run()
    yield run


@each_client
async def test_query_answers_what_was_posted(matrix: Matrix, client: str) -> None:
    assert matrix.clients[client].cells["query"] == "past 1"


@each_client
async def test_mutation_repeated_with_its_key_posts_once(matrix: Matrix, client: str) -> None:
    assert matrix.clients[client].cells["mutation"] == [1, 1]
    assert matrix.posted[client] == 1


@each_client
async def test_history_page_by_page_has_every_message_once(matrix: Matrix, client: str) -> None:
    assert matrix.clients[client].cells["history"] == list(range(1, PAST + 1))


@each_client
async def test_subscription_live_gets_every_message_once_in_order(matrix: Matrix, client: str) -> None:
    assert matrix.clients[client].received["live"] == [(n, f"live {n}") for n in range(1, LIVE + 1)]


async def test_restart_log_has_every_post_once(matrix: Matrix) -> None:
    assert matrix.log["restart"] == [(n, f"restart {n}") for n in range(1, LIVE + 1)]


@each_client
async def test_subscription_server_killed_gets_every_message_once_in_order(matrix: Matrix, client: str) -> None:
    assert matrix.clients[client].received["restart"] == matrix.log["restart"]


@each_client
async def test_subscription_tab_hangs_gets_every_message_once_in_order(matrix: Matrix, client: str) -> None:
    assert [sequence for sequence, _ in matrix.log["slow"]] == list(range(1, SLOW + 1))
    assert matrix.clients[client].received["slow"] == matrix.log["slow"]


@each_client
async def test_subscription_tokens_expire_gets_every_message_once_in_order(matrix: Matrix, client: str) -> None:
    assert len(matrix.log["guarded"]) == TOKENS * GUARDED_BATCH
    assert matrix.clients[client].received["guarded"] == matrix.log["guarded"]


async def test_lockfile_names_no_registry() -> None:
    assert "resolved" not in (HERE / "package-lock.json").read_text()

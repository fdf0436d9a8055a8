"""Every code block of the README and of docs/ does what it says: programs are run, with posts arriving and kill -9."""

import asyncio
import json
import shutil
import tomllib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import graphql
import pytest
import pytest_asyncio

from tests.clients.workspace import make_workspace
from tests.docs.blocks import CHECKED, PROGRAMS, REPOSITORY, SHOWN, Block, all_blocks
from tests.docs.running_block import RunningBlock
from tests.engine.engine_server import EngineServer

BLOCKS = all_blocks()
SCHEMA = graphql.build_schema((REPOSITORY / "schema" / "schema.graphql").read_text())


def named(*languages: str) -> pytest.MarkDecorator:
    blocks = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", blocks, ids=lambda block: block.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return await asyncio.to_thread(make_workspace, tmp_path_factory.mktemp("docs") / "node")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EngineServer]:
    async with EngineServer(tmp_path_factory.mktemp("server")) as server:
        await server.post("so that there is something to read")
        yield server


def test_blocks_each_language_is_covered() -> None:
    assert {block.name: block.language for block in BLOCKS if block.language not in PROGRAMS | CHECKED | SHOWN} == {}


@pytest.mark.timeout(180)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.is_run], ids=lambda block: block.name)
async def test_program_runs_and_what_follows_a_channel_gets_each_post_once(
    block: Block, server: EngineServer, workspace: Path
) -> None:
    if block.language == "sh" and shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    await server.until_empty()
    address = server.url.removeprefix("http://")
    async with RunningBlock.start(block, address, workspace) as running:
        follows = asyncio.create_task(server.until(lambda seen: seen["raqcoon_subscribers"] > 0, seconds=120))
        await asyncio.wait({running.ended, follows}, return_when=asyncio.FIRST_COMPLETED)
        if running.ended.done():
            follows.cancel()
            await asyncio.gather(follows, return_exceptions=True)
            assert running.ended.result() == 0, running.output
            assert '"errors"' not in running.output
            return
        posts = [f"post {uuid.uuid4()}" for _ in range(2)]
        await server.post(posts[0])
        await running.until_printed(posts[0])
        if block.resumes:
            await server.kill()
            await server.start()
            await server.post(posts[1])
            await running.until_printed(posts[1])
            assert running.output.count(posts[0]) == 1
            assert running.output.index(posts[0]) < running.output.index(posts[1])


@named("graphql")
def test_graphql_fits_the_schema(block: Block) -> None:
    document = graphql.parse(block.text)
    if isinstance(document.definitions[0], graphql.TypeSystemDefinitionNode):
        assert sketched(document) - fields(SCHEMA) == set()
    else:
        assert graphql.validate(SCHEMA, document) == []


@named("json")
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@named("toml")
def test_toml_is_toml(block: Block) -> None:
    tomllib.loads(block.text)


def sketched(document: graphql.DocumentNode) -> set[tuple[str, str, str]]:
    """Type, name and type of each field and argument that a part of a schema shows; a value of an enum has no type."""
    found = set()
    for definition in document.definitions:
        if isinstance(definition, graphql.EnumTypeDefinitionNode):
            found.update((definition.name.value, value.name.value, "") for value in definition.values or ())
            continue
        assert isinstance(definition, graphql.ObjectTypeDefinitionNode | graphql.InputObjectTypeDefinitionNode)
        for field in definition.fields or ():
            found.add((definition.name.value, field.name.value, graphql.print_ast(field.type)))
            for argument in getattr(field, "arguments", None) or ():
                place = f"{definition.name.value}.{field.name.value}"
                found.add((place, argument.name.value, graphql.print_ast(argument.type)))
    return found


def fields(schema: graphql.GraphQLSchema) -> set[tuple[str, str, str]]:
    """The same of the whole schema."""
    found = set()
    for kind in schema.type_map.values():
        found.update((kind.name, value, "") for value in getattr(kind, "values", {}))
        for name, field in getattr(kind, "fields", {}).items():
            found.add((kind.name, name, str(field.type)))
            for argument, value in getattr(field, "args", {}).items():
                found.add((f"{kind.name}.{name}", argument, str(value.type)))
    return found

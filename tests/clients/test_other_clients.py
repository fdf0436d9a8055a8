"""What docs/clients/others.md says of clients that compile against the schema, as their compilers see it."""

import json
import shutil
from pathlib import Path

import pytest

from tests import node
from tests.clients.recipes import SCHEMA, blocks, run
from tests.clients.workspace import HERE, make_workspace

HOUDINI_SUBSCRIPTIONS = """
subscription Messages($channelId: ID!, $after: Cursor) {
  messages(channelId: $channelId, after: $after) { id cursor author content timestamp }
}
subscription Changes($channelId: ID!, $after: Cursor) {
  changes(channelId: $channelId, after: $after) { cursor messageId kind content }
}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_workspace(tmp_path_factory.mktemp("compilers") / "node")
    shutil.copy(SCHEMA, made)
    return made


@pytest.mark.timeout(180)
def test_relay_compiler_takes_the_pagination_fragment_and_the_scalars(workspace: Path) -> None:
    (config,) = blocks("json", "Relay")
    (fragment,) = blocks("text", "Relay")
    (workspace / "relay.config.json").write_text(json.dumps({**json.loads(config), "eagerEsModules": True}))
    (workspace / "src").mkdir()
    source = f"import {{ graphql }} from 'relay-runtime';\nexport const timeline = graphql`\n{fragment}`;\n"
    (workspace / "src" / "Timeline.ts").write_text(source)
    run(workspace / "node_modules" / ".bin" / "relay-compiler", "relay.config.json", cwd=workspace)
    made = (workspace / "src" / "__generated__" / "Timeline.graphql.ts").read_text()
    assert "readonly headCursor: string" in made
    assert "readonly timestamp: string" in made
    assert (workspace / "src" / "__generated__" / "TimelinePage.graphql.ts").exists()


@pytest.mark.timeout(180)
def test_gql_tada_infers_results_with_the_scalars(workspace: Path) -> None:
    (setup,) = blocks("text", "graphql-codegen and gql.tada")
    program = (HERE / "tada.ts").read_text()
    assert setup.strip().removeprefix("export ") in program
    introspect = (
        "import { buildSchema, introspectionFromSchema } from 'graphql'; import { readFileSync } from 'node:fs';"
        "console.log(JSON.stringify(introspectionFromSchema(buildSchema(readFileSync('schema.graphql', 'utf8')))))"
    )
    schema = run("node", "--input-type=module", "--eval", introspect, cwd=workspace)
    (workspace / "schema.json").write_text(schema)
    binaries = workspace / "node_modules" / ".bin"
    (workspace / "introspection.ts").write_text(f"export type introspection = {schema.strip()};\n")
    (workspace / "tada.ts").write_text(program)
    flags = ("--noEmit", "--strict", "--allowImportingTsExtensions", "--module", "nodenext", "--target", "es2024")
    run(binaries / "tsc", *flags, "--lib", "es2024,dom", "--skipLibCheck", "tada.ts", cwd=workspace)


@pytest.mark.timeout(180)
def test_houdini_generates_results_and_variables_with_the_scalars(tmp_path: Path) -> None:
    """Its packages take 108 MB, so they are installed apart from those of the other clients."""
    node.install(HERE / "houdini")
    (tmp_path / "node_modules").symlink_to(HERE / "houdini" / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (config,) = blocks("js", "Houdini")
    (tmp_path / "houdini.config.js").write_text(config)
    shutil.copy(SCHEMA, tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "channel.gql").write_text(HOUDINI_SUBSCRIPTIONS)
    run(tmp_path / "node_modules" / ".bin" / "houdini", "generate", cwd=tmp_path)
    made = (tmp_path / ".houdini" / "artifacts" / "Messages.ts").read_text()
    assert "after?: string | null" in made
    assert "readonly cursor: string" in made
    assert "readonly timestamp: string" in made

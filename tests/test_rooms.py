"""The import table of the design's section 4, held: each room imports only what its row names."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"messages", "message_rows", "changes", "errors", "patterns"}
MAY_IMPORT = {
    "settings": set(),
    "patterns": set(),
    "messages": {"patterns"},
    "message_rows": {"messages"},
    "changes": {"messages"},
    "errors": set(),
    "message_log": LEAVES,
    "delivery": LEAVES | {"message_log.protocol"},
    "resolvers": LEAVES | {"delivery", "message_log.protocol"},
    "schema": LEAVES | {"resolvers", "delivery"},
    "transports": LEAVES | {"schema", "resolvers", "delivery"},
    "workers": LEAVES | {"message_log"},
}
"""`schema` reaches `delivery` for the types that pass through it: `Sink`, `Subscriber`, `Batch`."""
INSIDE_TRANSPORTS = {
    "wire": set(),
    "sight": {"wire"},
    "gate": {"sight", "wire"},
    "serving": {"gate", "wire"},
    "pages": set(),
    "graphql": {"gate", "sight", "wire"},
    "shims": {"gate", "sight", "wire", "graphql.frames"},
}
"""What the rooms of `transports` may import of each other; `transports.app` composes them."""
OURS = {*MAY_IMPORT, "server", "processes", "tests", "benchmarks", "examples", "scripts"}


def files(room: str) -> list[Path]:
    single = ROOT / f"{room}.py"
    return [single] if single.exists() else sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def allowed(name: str, room: str) -> bool:
    top = name.partition(".")[0]
    if top not in OURS or top == room:
        return True
    # `from message_log.protocol import X` names both the module and X in it.
    whole = f"{name}."
    return any(whole.startswith(f"{may}.") or f"{may}.".startswith(whole) for may in MAY_IMPORT[room])


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first of them again at the end; empty when there are none."""
    try:
        TopologicalSorter({name: of - {name} for name, of in imports.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_what_its_row_names(room: str) -> None:
    assert files(room), f"no room {room}"
    foreign = {f"{path.name}: {name}" for path in files(room) for name in imported(path) if not allowed(name, room)}
    assert foreign == set()


@pytest.mark.parametrize("room", INSIDE_TRANSPORTS)
def test_room_of_transports_imports_only_what_its_row_names(room: str) -> None:
    may = {f"transports.{name}" for name in (room, *INSIDE_TRANSPORTS[room])}
    foreign = {
        f"{path.name}: {name}"
        for path in files(f"transports/{room}")
        for name in imported(path)
        if name.startswith("transports.")
        and not any(f"{name}.".startswith(f"{each}.") for each in may)
        # `from transports.graphql import protocol` names the package too.
        and not any(each.startswith(f"{name}.") for each in may)
    }
    assert foreign == set()


def test_every_room_of_transports_has_its_row() -> None:
    rooms = {path.name for path in (ROOT / "transports").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(INSIDE_TRANSPORTS)


@pytest.mark.parametrize("room", sorted(room for room in OURS if (ROOT / room).is_dir()))
def test_modules_of_a_room_import_each_other_in_one_direction(room: str) -> None:
    """Imports for type checking alone count too: what is owned must not know the type of its owner."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files(room)}
    assert circle({name: imported(path) & paths.keys() for name, path in paths.items()}) == []


@pytest.mark.parametrize("folder", ["benchmarks/load", "benchmarks/peers/floor"])
def test_parts_of_a_c_program_include_each_other_in_one_direction(folder: str) -> None:
    """A part is a `.c` file with its header of the same name."""
    includes: dict[str, set[str]] = {}
    for path in (ROOT / folder).glob("*.[ch]"):
        names = re.findall(r'^#include "(\w+)\.h"$', path.read_text(), re.MULTILINE)
        includes.setdefault(path.stem, set()).update(names)
    assert len(includes) > 1
    assert circle(includes) == []


def test_circle_of_imports_is_found() -> None:
    assert circle({"channel": {"cohort"}, "cohort": {"block"}, "block": set()}) == []
    assert set(circle({"channel": {"cohort"}, "cohort": {"block"}, "block": {"cohort"}})) == {"cohort", "block"}


def test_import_check_sees_a_forbidden_import() -> None:
    assert not allowed("schema.types", "delivery")
    assert not allowed("message_log.sql", "resolvers")
    assert allowed("message_log.protocol.MessageLog", "delivery")


def test_rooms_init_files_hold_no_code() -> None:
    for room in MAY_IMPORT:
        for path in (ROOT / room).rglob("__init__.py"):
            body = ast.parse(path.read_text()).body
            assert [type(node) for node in body] == [ast.Expr], f"{path} holds more than its docstring"

"""Settings: the table in the docs is the code's, and what is unusable is said in one line."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from message_log.retention import RetentionPolicy
from schema.proportions import DocumentLimits
from settings import Settings, parse_settings, unknown_variables
from transports.gate.limits import Limits
from transports.serving.draining import Pace

ROOT = Path(__file__).parent.parent


def shown(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_settings_table_is_the_settings() -> None:
    rows = re.findall(r"^\| `(RAQCOON_\w+)` \| (.+?) \| (.+) \|$", (ROOT / "docs" / "settings.md").read_text(), re.M)
    assert [
        (f"RAQCOON_{name.upper()}", f"`{shown(field.default)}`", field.description)
        for name, field in Settings.model_fields.items()
    ] == rows


def test_settings_flag_wins_over_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAQCOON_PORT", "9001")
    assert parse_settings([]).port == 9001
    assert parse_settings(["--port", "9002"]).port == 9002


def test_settings_origins_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAQCOON_ALLOWED_ORIGINS", "https://a.example, https://b.example")
    assert parse_settings([]).allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--drain-seconds", "-1"],
        ["--drain-seconds", "inf"],
        ["--keepalive-seconds", "nan"],
        ["--sweep-interval-seconds", "0"],
        ["--allowed-origins", "*"],
        ["--allowed-origins", "chat.example"],
        ["--allowed-origins", "https://chat.example/path"],
    ],
)
def test_settings_out_of_bounds_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ValidationError):
        parse_settings(arguments)


def test_flag_that_does_not_exist_is_told_in_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "server.py"), "--prot", "1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith("raqcoon: ")
    assert "--prot" in line


def test_unknown_variable_is_told_with_the_name_that_was_meant() -> None:
    assert unknown_variables({"RAQCOON_PROT": "1", "HOME": "/", "RAQCOON_PORT": "1"}) == [
        "unknown setting RAQCOON_PROT is ignored; did you mean RAQCOON_PORT?"
    ]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"RAQCOON_PORT": "eighty"}, "RAQCOON_PORT: "),
        ({"RAQCOON_WORKERS": "many"}, "RAQCOON_WORKERS: Input should be a number of processes, or 'auto' (got 'many')"),
        ({"RAQCOON_DATABASE_URL": "mysql://x"}, "mysql"),
        ({"RAQCOON_HOST": "203.0.113.7", "RAQCOON_PORT": "1"}, "cannot listen on 203.0.113.7:1"),
    ],
)
def test_server_unusable_setting_ends_it_with_one_line_and_exit_code_2(
    variables: dict[str, str], problem: str, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAQCOON_")} | variables
    environment.setdefault("RAQCOON_PORT", "0")
    ended = subprocess.run(
        [sys.executable, str(ROOT / "server.py")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("raqcoon: ")
    assert problem in line
    assert ended.stdout == ""


def test_port_that_is_taken_tells_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, str(ROOT / "server.py"), "--port", str(port)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: another program uses this port" in ended.stderr
    assert "--port" in ended.stderr


def test_help_is_free_of_python_types_and_of_links(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--help"])
    shown = capsys.readouterr().out
    assert "--port number" in shown
    assert "--workers number|auto" in shown
    for internal in ("null", "SecretStr", "tuple", "Path}", "]("):
        assert internal not in shown


@pytest.mark.parametrize("part", [DocumentLimits, Limits, RetentionPolicy, Pace])
def test_part_defaults_are_the_settings_defaults(part: type) -> None:
    assert Settings().part(part) == part()


def test_part_is_filled_from_the_settings_that_its_fields_name() -> None:
    settings = parse_settings(["--max-document-tokens", "7", "--drain-seconds", "3"])
    assert settings.part(DocumentLimits).tokens == 7
    assert settings.part(DocumentLimits, depth=4).depth == 4
    assert settings.part(Pace).drain_seconds == 3.0

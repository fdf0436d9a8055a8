"""Runs the whole suite in two processes side by side (pytest-xdist). No test runs beside one that is marked `alone`.

Tests that are named run in one process: it starts sooner, and a debugger works in it. The option `-n` overrides that.
"""

import fcntl
import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

PROCESSES = 2


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: no other test of the suite may run at the same time")
    if "PYTEST_XDIST_WORKER" in os.environ:
        config.pluginmanager.register(_Worker(config))
    else:
        config.pluginmanager.register(_Controller())


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes `-n auto` starts, which is the default. With 0 this process runs the tests itself."""
    return PROCESSES if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


class _Controller:
    """The part of the process that hands out the tests. It has nothing to do when there is only one process."""

    def __init__(self) -> None:
        self._has_lost_tests = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object) -> None:
        self._has_lost_tests = self._has_lost_tests or error is not None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The tests that were left to a process that died have not been run. The exit code must not be that of a failed
        test, which could pass when it is run again."""
        if self._has_lost_tests:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


class _Worker:
    """The part of each process that runs tests."""

    def __init__(self, config: pytest.Config) -> None:
        assert config.inipath is not None
        self._machine = os.open(config.inipath, os.O_RDONLY)
        """A test holds the lock of this file while it runs; one that is marked `alone` holds it exclusively."""
        self._turn = os.open(config.rootpath, os.O_RDONLY)
        """Its lock is held while waiting for the other one, so that no test overtakes one that waits to be alone."""
        self._is_alone = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Orders the files so that the processes rarely wait for each other. One process runs all tests of a file.

        Files with tests that have a long timeout come first, files with tests that run alone come last.
        """
        marks: dict[Path, set[str]] = defaultdict(set)
        for item in items:
            marks[item.path] |= {mark.name for mark in item.iter_markers()} | {"alone" if _is_alone(item) else "beside"}

        def order(item: pytest.Item) -> tuple[bool, ...]:
            of_file = marks[item.path]
            return "alone" in of_file, "beside" not in of_file, "timeout" not in of_file, _is_alone(item)

        items.sort(key=order)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Waits before anything begins to count the time of the test."""
        if not self._is_alone:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            fcntl.flock(self._machine, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            self._is_alone = _is_alone(item) and _is_alone(nextitem)
            if not self._is_alone:
                fcntl.flock(self._machine, fcntl.LOCK_UN)

"""The system's Chromium against a real server; where it is not installed the tests say that they were skipped."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real Chromium (Debian: apt-get install chromium)")

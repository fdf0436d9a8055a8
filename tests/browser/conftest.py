"""The system's Chromium and a real server. If Chromium is not installed, the tests are skipped and say so."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real Chromium (Debian: apt-get install chromium)")

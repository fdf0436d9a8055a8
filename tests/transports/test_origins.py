import pytest

from transports.gate.origins import Origins, is_loopback, origin_allowed

LISTED = frozenset({"https://chat.example"})


@pytest.mark.parametrize(
    ("origin", "host", "bound_host", "allowed"),
    [
        # No browser, or a browser's own navigation.
        (None, "127.0.0.1:8010", "127.0.0.1", True),
        (None, None, "0.0.0.0", True),
        # Bound to loopback: pages of this machine.
        ("http://127.0.0.1:8010", "127.0.0.1:8010", "127.0.0.1", True),
        ("http://localhost:3000", "127.0.0.1:8010", "127.0.0.1", True),
        ("http://app.localhost:3000", "127.0.0.1:8010", "localhost", True),
        ("http://[::1]:8010", "[::1]:8010", "::1", True),
        ("http://127.1.2.3", "x", "127.0.0.1", True),
        ("https://evil.example", "127.0.0.1:8010", "127.0.0.1", False),
        # DNS rebinding: the page's own name points to this machine.
        ("http://evil.example:8010", "evil.example:8010", "127.0.0.1", False),
        ("http://localhost.evil.example:8010", "localhost.evil.example:8010", "127.0.0.1", False),
        ("http://192.168.0.2:8010", "192.168.0.2:8010", "127.0.0.1", False),
        # Bound to the network: the same origin only, with or without a default port.
        ("https://raqcoon.example", "raqcoon.example", "0.0.0.0", True),
        ("http://raqcoon.example:8010", "RAQCOON.example:8010", "0.0.0.0", True),
        ("https://raqcoon.example", "raqcoon.example:443", "0.0.0.0", True),
        ("http://[fe80::1]:8010", "[fe80::1]:8010", "::", True),
        ("https://raqcoon.example:8443", "raqcoon.example", "0.0.0.0", False),
        ("http://localhost:3000", "raqcoon.example", "0.0.0.0", False),
        ("https://evil.example", "raqcoon.example", "0.0.0.0", False),
        ("https://evil.example", None, "0.0.0.0", False),
        # Those listed, wherever the server is bound.
        ("https://chat.example", "127.0.0.1:8010", "127.0.0.1", True),
        ("https://CHAT.example", "x", "0.0.0.0", True),
        ("http://chat.example", "x", "0.0.0.0", False),
        ("https://chat.example:444", "x", "0.0.0.0", False),
        ("https://sub.chat.example", "x", "0.0.0.0", False),
        # What is no origin of a page.
        ("null", "127.0.0.1", "127.0.0.1", False),
        ("", "", "0.0.0.0", False),
        ("http://", "", "127.0.0.1", False),
        ("file://localhost", "localhost", "127.0.0.1", False),
        ("http://localhost:99999", "localhost", "127.0.0.1", False),
        ("http://evil.example/http://localhost", "x", "127.0.0.1", False),
        ("http://localhost/path", "x", "127.0.0.1", False),
        ("http://[::1", "x", "::1", False),
        ("chrome-extension://abcdef", "x", "127.0.0.1", False),
    ],
)
def test_origin_is_allowed_by_the_designs_rule(
    origin: str | None, host: str | None, bound_host: str, allowed: bool
) -> None:
    assert origin_allowed(origin, host, bound_host, LISTED) is allowed
    origins = Origins(bound_host, ["https://Chat.example/"])
    headers = [(b"origin", origin.encode())] if origin is not None else []
    headers += [(b"host", host.encode())] if host is not None else []
    assert origins.allow({"headers": headers}) is allowed


def test_origin_of_any_length_is_refused_without_being_kept() -> None:
    assert not Origins("127.0.0.1").allows(b"http://localhost" + b"a" * 100_000, None)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("", False)],
)
def test_loopback_is_this_machine_only(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback

"""Which address a client counts as, and whom a proxy may speak for."""

from typing import Any

import pytest

from errors import StartupError
from transports.gate.addresses import HOPS_MAX, TrustedProxies
from transports.wire.addresses import limited_by
from transports.wire.sockets import client_address

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48"])


def revealed(peer: str | None, *forwarded: str) -> str | None:
    scope: dict[str, Any] = {
        "client": None if peer is None else (peer, 1234),
        "headers": [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded],
    }
    PROXIES.reveal(scope)
    return client_address(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # Nobody else is believed.
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("192.0.2.8", ["198.51.100.1"], "192.0.2.8"),
        (None, ["198.51.100.1"], None),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1::5", ["198.51.100.1"], "198.51.100.1"),
        # What the client said itself stands further left.
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1, 10.9.9.9, 192.0.2.7"], "198.51.100.1"),
        ("10.1.2.3", ["10.9.9.9"], "10.9.9.9"),
        # What is no address ends the chain at the proxy that passed it on.
        ("10.1.2.3", ["198.51.100.1, unknown"], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1, évil, 10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.2.3", ["[2001:db8::1]:4711"], "2001:db8::/64"),
        ("10.1.2.3", ["2001:db8::1"], "2001:db8::/64"),
    ],
)
def test_client_behind_proxies_is_the_last_that_none_of_them_is(
    peer: str | None, forwarded: list[str], address: str | None
) -> None:
    assert revealed(peer, *forwarded) == address


def test_forwarded_chain_is_looked_at_for_so_long_only() -> None:
    assert revealed("10.1.2.3", ",".join(["198.51.100.1", *["10.0.0.1"] * (HOPS_MAX - 1)])) == "198.51.100.1"
    assert revealed("10.1.2.3", ",".join(["198.51.100.1", *["10.0.0.1"] * HOPS_MAX])) == "10.0.0.1"


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("::1", "::/64"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::9", "2001:db8:0:1::/64"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_address_counts_as_what_one_subscriber_has(host: str, key: str) -> None:
    assert limited_by(host) == key


def test_proxy_that_is_no_address_stops_the_start() -> None:
    with pytest.raises(StartupError, match="RAQCOON_TRUSTED_PROXIES"):
        TrustedProxies(["nginx"])

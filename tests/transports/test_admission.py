"""How many connections are let in, at the edge and past it."""

from transports.gate.addresses import TrustedProxies
from transports.gate.admission import Admission


def test_admission_lets_in_as_many_as_it_may_and_says_what_is_full() -> None:
    admission = Admission(max_connections=3, max_per_address=2)
    assert [admission.enter("10.0.0.1") for _ in range(2)] == [None, None]
    assert admission.enter("10.0.0.1") == (429, "This address has its maximum of 2 connections.")
    assert admission.enter("10.0.0.2") is None
    assert admission.enter("10.0.0.3") == (503, "This server has its maximum of 3 connections.")
    assert (admission.inside, admission.refused) == (3, 2)
    admission.leave("10.0.0.1")
    assert admission.enter("10.0.0.1") is None


def test_admission_counts_an_ipv6_network_as_one() -> None:
    admission = Admission(max_per_address=1)
    assert admission.enter("2001:db8::1") is None
    assert admission.enter("2001:db8::ffff:2") is not None
    assert admission.enter("2001:db8:0:1::1") is None


def test_admission_holds_a_proxy_to_no_limit_of_its_address() -> None:
    admission = Admission(max_connections=3, max_per_address=1, proxies=TrustedProxies(["10.0.0.0/8"]))
    assert [admission.enter("10.0.0.1") for _ in range(3)] == [None] * 3
    assert admission.enter("10.0.0.1") is not None
    for _ in range(3):
        admission.leave("10.0.0.1")
    assert admission.inside == 0
    assert not admission._by_address


def test_admission_without_limits_counts_no_addresses() -> None:
    admission = Admission()
    assert [admission.enter(host) for host in ("10.0.0.1", None)] == [None, None]
    assert not admission._by_address

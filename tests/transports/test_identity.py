"""Tokens: where they are looked for, what they mean, and which are refused."""

import base64
import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from errors import StartupError, Unauthenticated
from messages import Viewer
from patterns import ChannelPatterns
from tests.transports.tokens import SECRET, SigningKey, key_set, token
from transports.gate.identity import (
    PATTERN_CHARACTERS_MAX,
    PATTERNS_MAX,
    TOKEN_BYTES_MAX,
    JwtIdentity,
    build_identity,
    find_token,
)
from transports.gate.jwt_keys import KeySet, SharedSecret
from transports.sight.logs import TextFormatter

COOKIE = b"raqcoon_token"
LONGEST = "x" * PATTERN_CHARACTERS_MAX


def scope(kind: str = "http", path: str = "/graphql", query: str = "", **headers: str) -> dict[str, Any]:
    return {
        "type": kind,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }


def bearing(value: str) -> dict[str, Any]:
    return scope(authorization=f"Bearer {value}")


@pytest.fixture
def identity() -> JwtIdentity:
    return build_identity(secret=SECRET)


async def refused(identity: JwtIdentity, value: str) -> None:
    with pytest.raises(Unauthenticated):
        await identity.authenticate(None, bearing(value))


# -- where ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connection_params", "where"),
    [
        ({"Authorization": "Bearer T"}, scope("websocket")),
        ({"authorization": "bearer T"}, scope("websocket")),
        ({"Authorization": "T"}, scope("websocket")),
        ({"token": "T", "other": 1}, scope("websocket", authorization="Bearer X")),
        ({"other": "X"}, scope("websocket", authorization="Bearer T")),
        (None, scope(authorization="bEaReR  T")),
        (None, scope(authorization="Basic X", cookie="raqcoon_token=T")),
        (None, scope(cookie='a=b; raqcoon_token="T"; c=d')),
        (None, scope(authorization="Bearer T", cookie="raqcoon_token=X")),
        (None, scope("websocket", "/api/ws/c", "after=x&token=T")),
        (None, scope("websocket", "/api/ws/c", "token=T", cookie="raqcoon_token=X")),
    ],
)
def test_token_is_found(connection_params: dict[str, Any] | None, where: dict[str, Any]) -> None:
    assert find_token(connection_params, where, COOKIE) == b"T"


@pytest.mark.parametrize(
    ("connection_params", "where"),
    [
        (None, scope()),
        ({}, scope("websocket")),
        (None, scope(authorization="Basic T")),
        (None, scope(cookie="xraqcoon_token=T; raqcoon_token2=T; raqcoon_token")),
        # A query ends up in logs and histories: only where there is no other way.
        (None, scope("http", "/graphql", "token=T")),
        (None, scope("http", "/api/ws/c", "token=T")),
        (None, scope("websocket", "/graphql", "token=T")),
    ],
)
def test_token_is_not_found(connection_params: dict[str, Any] | None, where: dict[str, Any]) -> None:
    assert not find_token(connection_params, where, COOKIE)


@pytest.mark.parametrize("value", [None, 1, {}, [], "\ud800", "é"])
def test_token_that_is_no_text_is_refused_and_not_made_up_for(value: Any) -> None:
    with pytest.raises(Unauthenticated):
        find_token({"Authorization": value}, scope("websocket", cookie="raqcoon_token=T"), COOKIE)


# -- what it means -------------------------------------------------------------------------------------------------


def bearer(read: Sequence[str] = ("*",), post: Sequence[str] = ("*",), manage: Sequence[str] = ()) -> Viewer:
    return Viewer("ann", ChannelPatterns(read), ChannelPatterns(post), ChannelPatterns(manage))


@pytest.mark.parametrize(
    ("claims", "viewer"),
    [
        ({}, bearer()),
        ({"channels": ["team-*", "general"]}, bearer(("team-*", "general"), ("team-*", "general"))),
        ({"channels": []}, bearer((), ())),
        ({"read": ["news"]}, bearer(("news",), ())),
        ({"post": ["news"]}, bearer((), ("news",))),
        ({"read": [], "post": []}, bearer((), ())),
        ({"channels": ["team-*"], "read": ["news"]}, bearer(("team-*", "news"), ("team-*",))),
        ({"channels": ["team-*"], "post": ["inbox"]}, bearer(("team-*",), ("team-*", "inbox"))),
        ({"manage": ["team-*"]}, bearer(manage=("team-*",))),
        ({"channels": [], "manage": ["*"]}, bearer((), (), ("*",))),
        ({"post_as": "*"}, replace(bearer(), posts_as_anyone=True)),
        ({"post_as": "bob"}, bearer()),
        ({"post_as": True}, bearer()),
        ({"sub": "x" * 128}, replace(bearer(), author="x" * 128)),
        ({"iat": time.time() + 9999, "jti": "1", "aud": "any", "iss": "any"}, bearer()),
        ({"channels": ["x"] * PATTERNS_MAX}, bearer(("x",) * PATTERNS_MAX, ("x",) * PATTERNS_MAX)),
        ({"channels": [LONGEST]}, bearer((LONGEST,), (LONGEST,))),
    ],
)
async def test_claims_become_a_viewer(identity: JwtIdentity, claims: dict[str, Any], viewer: Viewer) -> None:
    for _ in range(2):
        assert await identity.authenticate(None, bearing(token(exp=None, **claims))) == viewer


async def test_end_of_a_token_is_its_viewers(identity: JwtIdentity) -> None:
    end = int(time.time()) + 60
    assert (await identity.authenticate(None, bearing(token(exp=end)))).expires_at == end


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 129},
        {"sub": "a\0b"},
        {"channels": "team-*"},
        {"channels": {"team-*": 1}},
        {"channels": [1]},
        {"channels": ["x"] * (PATTERNS_MAX + 1)},
        {"channels": ["x" * (PATTERN_CHARACTERS_MAX + 1)]},
        {"read": "news"},
        {"post": [None]},
        {"manage": ["x"] * (PATTERNS_MAX + 1)},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": float("inf")},
        {"nbf": time.time() + 3600},
    ],
)
async def test_claims_out_of_form_are_refused(identity: JwtIdentity, claims: dict[str, Any]) -> None:
    claims = {"sub": "ann", **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    # Past PyJWT's own look at what it encodes.
    payload = json.dumps(claims).encode()
    await refused(identity, jwt.api_jws.encode(payload, SECRET, algorithm="HS256"))


@pytest.mark.parametrize("name", ["channels", "read", "post", "manage", "exp", "nbf", "post_as", "sub"])
async def test_claim_that_is_null_is_refused_and_not_taken_for_absent(identity: JwtIdentity, name: str) -> None:
    payload = json.dumps({"sub": "ann", name: None}).encode()
    await refused(identity, jwt.api_jws.encode(payload, SECRET, algorithm="HS256"))


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": None, "channels": ["a"]}, False),
        ({"channels": None}, False),
        ({"channels": ["a"]}, True),
        ({"read": []}, True),
        ({"post": ["a"]}, True),
        ({"manage": ["a"]}, False),
    ],
)
async def test_required_claims_are_asked_for(claims: dict[str, Any], good: bool) -> None:
    identity = build_identity(secret=SECRET, required_claims=("exp", "channels"))
    if good:
        await identity.authenticate(None, bearing(token(**claims)))
    else:
        await refused(identity, token(**claims))


async def test_many_expressions_are_compiled_beside_the_event_loop(
    identity: JwtIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    original = ChannelPatterns.prepare

    def prepare(self: ChannelPatterns) -> bool:
        threads.add(threading.get_ident())
        return original(self)

    monkeypatch.setattr(ChannelPatterns, "prepare", prepare)
    many = [f"team-?{number}-*" for number in range(50)]
    viewer = await identity.authenticate(None, bearing(token(channels=many)))
    assert viewer.may_read("team-x7-a")
    assert not viewer.may_read("team-x7")
    assert threads
    assert threading.get_ident() not in threads


async def test_tokens_that_are_kept_are_bounded_in_bytes(
    identity: JwtIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transports.gate.identity.VIEWERS_BYTES", 50_000)
    identity = build_identity(secret=SECRET)
    names = [f"channel-{number}" for number in range(100)]
    for number in range(20):
        await identity.authenticate(None, bearing(token(jti=str(number), channels=names)))
    assert 0 < len(identity._viewers) < 10


# -- which are refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "x", "a.b.c", "..", "e30.e30.", "\xff", "x" * 100_000, "Bearer", "[" * 3000])
async def test_what_is_no_token_is_refused(identity: JwtIdentity, value: str) -> None:
    await refused(identity, value)


async def test_no_token_is_refused(identity: JwtIdentity) -> None:
    with pytest.raises(Unauthenticated):
        await identity.authenticate(None, scope())
    with pytest.raises(Unauthenticated):
        await identity.authenticate({}, scope("websocket"))


async def test_token_of_the_greatest_length_is_read_and_one_longer_is_not(identity: JwtIdentity) -> None:
    spare = TOKEN_BYTES_MAX - len(token(pad=""))
    lengths = {len(made): made for made in (token(pad="x" * (spare * 3 // 4 + less)) for less in range(-4, 3))}
    longest = max(length for length in lengths if length <= TOKEN_BYTES_MAX)
    assert longest >= TOKEN_BYTES_MAX - 2
    await identity.authenticate(None, bearing(lengths[longest]))
    await refused(identity, lengths[min(length for length in lengths if length > TOKEN_BYTES_MAX)])


async def test_token_signed_by_another_secret_is_refused(identity: JwtIdentity) -> None:
    await refused(identity, token("another secret that is just as long as it has to be"))
    head, _, signature = token().split(".")
    claims = base64.urlsafe_b64encode(b'{"sub":"eve"}').decode().rstrip("=")
    await refused(identity, f"{head}.{claims}.{signature}")


async def test_unsigned_token_is_refused(identity: JwtIdentity) -> None:
    await refused(identity, token(None, "none"))


async def test_public_key_taken_for_a_secret_signs_nothing(tmp_path: Path) -> None:
    """The confusion of RS256 with HS256: whoever knows the public key would sign with it."""
    from cryptography.hazmat.primitives import serialization

    key = SigningKey("RS256", "k")
    path = tmp_path / "jwks.json"
    path.write_text(key_set(key))
    identity = build_identity(jwks=str(path))
    await identity.load()
    assert (await identity.authenticate(None, bearing(key.token()))).author == "ann"
    public = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for secret in (public, key.jwk["n"].encode(), json.dumps(key.jwk).encode()):
        head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"k"}').rstrip(b"=")
        body = base64.urlsafe_b64encode(b'{"sub":"eve"}').rstrip(b"=")
        import hashlib
        import hmac

        signature = base64.urlsafe_b64encode(hmac.digest(secret, head + b"." + body, hashlib.sha256)).rstrip(b"=")
        await refused(identity, b".".join((head, body, signature)).decode())
    # And a secret's server takes nothing signed by a private key.
    await refused(build_identity(secret=SECRET), key.token())


async def test_token_that_brings_its_own_key_is_refused(identity: JwtIdentity) -> None:
    mine = SigningKey("ES256", "mine")
    made = jwt.encode({"sub": "eve"}, mine.private, "ES256", headers={"jwk": mine.jwk, "jku": "http://127.0.0.1:1/"})
    await refused(identity, made)


async def test_token_ends_to_the_second_though_it_was_verified_before() -> None:
    now = 1_000_000.0
    identity = JwtIdentity(SharedSecret(SECRET), now=lambda: now)
    made = token(exp=1_000_010)
    await identity.authenticate(None, bearing(made))
    now = 1_000_009.9
    await identity.authenticate(None, bearing(made))
    now = 1_000_010.0
    with pytest.raises(Unauthenticated, match="expired"):
        await identity.authenticate(None, bearing(made))
    # One that was never seen before ends no later.
    with pytest.raises(Unauthenticated, match="expired"):
        await identity.authenticate(None, bearing(token(exp=1_000_010, jti="x")))


async def test_issuer_and_audience_have_to_be_those_set_up() -> None:
    identity = build_identity(secret=SECRET, issuer="https://id.example", audience="raqcoon")
    good = {"iss": "https://id.example", "aud": ["other", "raqcoon"]}
    await identity.authenticate(None, bearing(token(**good)))
    for wrong in ({"iss": "https://evil.example"}, {"aud": "other"}, {"iss": None}, {"aud": None}):
        await refused(identity, token(**{**good, **wrong}))


async def test_key_that_was_withdrawn_takes_what_it_signed_with_it(tmp_path: Path) -> None:
    old, new = SigningKey("ES256", "old"), SigningKey("ES256", "new")
    path = tmp_path / "jwks.json"
    path.write_text(key_set(old))
    now = 0.0
    keys = KeySet(str(path), clock=lambda: now)
    identity = JwtIdentity(keys)
    await identity.load()
    seen = old.token()
    await identity.authenticate(None, bearing(seen))
    path.write_text(key_set(new))
    now = 3600.0
    await identity.authenticate(None, bearing(new.token()))
    await refused(identity, seen)


async def test_verified_token_is_not_verified_again(identity: JwtIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    made = token()
    first = await identity.authenticate(None, bearing(made))
    monkeypatch.setattr("transports.gate.identity.jwt.decode", None)
    assert await identity.authenticate({"token": made}, scope("websocket")) is first


async def test_refusal_tells_the_log_why_without_the_token(
    identity: JwtIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = token("another secret that is just as long as it has to be")
    await refused(identity, made)
    assert "InvalidSignatureError" in caplog.text
    assert made not in caplog.text


@pytest.mark.parametrize("given", [{}, {"secret": SECRET, "jwks": "keys.json"}, {"secret": ""}])
def test_identity_needs_a_secret_or_keys(given: dict[str, str]) -> None:
    with pytest.raises(StartupError, match="RAQCOON_JWT_SECRET"):
        build_identity(**given)  # type: ignore[arg-type]


# -- what the log tells --------------------------------------------------------------------------------------------


async def test_refused_tokens_write_no_line_of_their_own_and_only_some_each_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [1_000_000.0]
    identity = JwtIdentity(SharedSecret(SECRET), now=lambda: now[0])
    forged = json.dumps({"alg": "HS256", "crit": ["x\n2026-01-01 ERROR the end"], "kid": "\n\u2028\x1b[31m"})
    header = base64.urlsafe_b64encode(forged.encode()).decode().rstrip("=")
    with caplog.at_level("INFO"):
        for _ in range(50):
            await refused(identity, f"{header}.e30.eHg")
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 10
        # What is wrong is told with what the client has sent, on one line.
        assert all("x\\n2026-01-01 ERROR the end" in line for line in lines)
        assert not any(character in line for line in lines for character in "\n\r\u2028\x1b")
        now[0] += 60
        await refused(identity, "x")
        assert "40 more were not told" in caplog.records[-1].getMessage()


def test_log_line_stays_one_line_whatever_a_client_sent() -> None:
    record = logging.LogRecord("raqcoon", logging.INFO, "", 0, "a\nb\r\u2028\x1b %s", ("c\td\n",), None)
    assert "\n" not in TextFormatter().format(record)
    assert TextFormatter().format(record).endswith("a\\nb\\r\\u2028\\x1b c\td\\n")


@pytest.mark.parametrize(
    "params",
    [
        {"headers": {"Authorization": "Bearer t"}},
        {"headers": {"authorization": "t"}},
        {"Headers": {"AUTHORIZATION": "bearer t"}, "x": 1},
    ],
)
def test_token_may_lie_in_headers_of_the_connection_params(params: dict[str, Any]) -> None:
    assert find_token(params, scope("websocket"), COOKIE) == b"t"


@pytest.mark.parametrize("params", [{"headers": {"authorization": 7}}, {"headers": {"authorization": None}}])
def test_what_is_no_text_in_headers_of_the_connection_params_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        find_token(params, scope("websocket"), COOKIE)


@pytest.mark.parametrize("params", [{"headers": ["authorization"]}, {"headers": None}, {"headers": {"x": "y"}}])
def test_headers_without_a_token_are_passed_over(params: dict[str, Any]) -> None:
    assert find_token(params, scope("websocket", authorization="Bearer t"), COOKIE) == b"t"

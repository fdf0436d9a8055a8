"""Who a client is: a JSON Web Token becomes a `Viewer` (design 2.5, `RAQCOON_AUTH=jwt`).

A token is looked for in several places, and the first that is found is taken: the payload of `connection_init`
(`Authorization` or `token`, or `Authorization` in `headers`), the `Authorization` header, the query of a plain
WebSocket (`?token=`, for browsers, which cannot set headers there), and a cookie. If that token is not valid, the
places after it are not looked at.

| claim      | means                                                                                           |
|------------|-------------------------------------------------------------------------------------------------|
| `sub`      | the author; required, 1 to 128 characters                                                       |
| `read`     | `fnmatch` patterns of the channels that may be read                                             |
| `post`     | patterns of the channels that may be posted to                                                  |
| `manage`   | patterns of the channels in which others may be stopped and their messages changed              |
| `channels` | patterns that are added to both `read` and `post`; if all three are absent: every channel       |
| `post_as`  | `"*"`: may post under any name                                                                  |
| `exp`      | when everything that was begun with the token ends; absent: never                               |
| `nbf`      | the token is not valid before this time                                                         |
| `iss`, `aud` | must be what the settings ask for, if they ask for something                                  |
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs

import jwt
from cachetools import LRUCache
from starlette.types import Scope

from errors import BadUserInput, RaqcoonError, StartupError, Unauthenticated
from messages import Viewer
from patterns import EVERY_CHANNEL, ChannelPatterns
from resolvers import input_rules
from transports.gate.jwt_keys import REFRESH_SECONDS, Keys, KeySet, SharedSecret
from transports.sight.per_minute import PerMinute
from transports.wire.sockets import PLAIN_PREFIX

logger = logging.getLogger(__name__)

TOKEN_BYTES_MAX = 8192
PATTERNS_MAX = 100
PATTERN_CHARACTERS_MAX = 256
_CLAIMS_NEVER_NULL = ("channels", "read", "post", "manage", "exp", "nbf", "post_as")
VIEWERS_BYTES = 32 * 1024 * 1024
"""Memory for tokens whose signature was verified already: a post with one of them costs 3 µs instead of 30 to 200. The
size of each is estimated from the token's length and from what its patterns compile to; a usual one takes 1 KB."""
VIEWER_BYTES, EXPRESSION_BYTES = 600, 1_000
"""The size of a viewer without its token, and what each pattern adds that is neither a name nor a prefix."""
EXPRESSIONS_ON_LOOP = 8
"""Patterns that are compiled on the event loop, 0.15 ms each. If a token has more, a thread compiles them."""
REFUSALS_PER_MINUTE = 10
"""Refused tokens that are logged; further ones are only counted."""
CLOCK_SKEW_SECONDS = 60
"""How far the clock of whoever hands out tokens may be ahead (`nbf`). `exp` is compared with our own clock."""


class JwtIdentity:
    """Reads tokens.

    Args:
        keys: what tokens are signed with.
        issuer: the `iss` that tokens have to carry, None for any.
        audience: the `aud` that tokens have to name, None for any.
        cookie: the name of the cookie that may carry a token.
        required_claims: claims that tokens have to carry; `channels` stands for any of `channels`, `read` and `post`.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        cookie: str = "raqcoon_token",
        required_claims: Iterable[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._cookie = cookie.encode("latin-1")
        self._required_claims = tuple(required_claims)
        self._now = now
        # By the token's digest, so that no usable token can be read from this memory.
        self._viewers: LRUCache[bytes, tuple[Viewer, int]] = LRUCache(VIEWERS_BYTES, lambda kept: kept[1])
        self._generation = keys.generation
        self._refusals = PerMinute(REFUSALS_PER_MINUTE)

    def check(self) -> None:
        """Reads the keys if they are in a file, before the server begins anything. Blocks, and needs no event loop.

        Raises:
            StartupError: with these settings they can never be used.
        """
        self._keys.check()

    async def load(self) -> None:
        """Reads the keys, before the first client comes.

        Raises:
            StartupError: as for `check`.
        """
        await self._keys.load()

    def watch(self, expel: Callable[[Callable[[Viewer], bool], RaqcoonError], None]) -> None:
        """Begins to read the keys again and again in the background. `expel` is called for the viewers whose key was
        withdrawn."""

        def withdrawn(trusted: Collection[str]) -> None:
            expel(
                lambda viewer: viewer.key is not None and viewer.key not in trusted,
                Unauthenticated("The key that signed this token was withdrawn."),
            )

        self._keys.watch(withdrawn)

    async def stop(self) -> None:
        """Stops reading the keys. Idempotent."""
        await self._keys.stop()

    async def authenticate(self, connection_params: Mapping[str, Any] | None, scope: Scope) -> Viewer:
        """The viewer that the token of a request, handshake or `connection_init` stands for.

        Raises:
            Unauthenticated: there is no token, it is not one of ours, or it has expired.
            Unavailable: the keys to verify it with cannot be read now.
        """
        token = find_token(connection_params, scope, self._cookie)
        if token is None or len(token) > TOKEN_BYTES_MAX:
            raise Unauthenticated
        digest = blake2b(token, digest_size=16).digest()
        if self._generation != self._keys.generation:
            # A key may have been withdrawn. Then the tokens that it signed are not valid any more.
            self._viewers.clear()
            self._generation = self._keys.generation
        kept = self._viewers.get(digest)
        if kept is not None:
            viewer = kept[0]
        else:
            viewer = await self._verify(token)
            expressions = sum(right.expressions for right in (viewer.read, viewer.post, viewer.manage))
            if expressions > EXPRESSIONS_ON_LOOP:
                for right in (viewer.read, viewer.post, viewer.manage):
                    await asyncio.to_thread(right.prepare)
            if self._generation == self._keys.generation:
                # Patterns are kept as they are and in a set or an expression, so a token's length counts four times.
                self._viewers[digest] = viewer, VIEWER_BYTES + 4 * len(token) + expressions * EXPRESSION_BYTES
        if viewer.expires_at is not None and viewer.expires_at <= self._now():
            raise Unauthenticated("The token has expired.")
        return viewer

    async def _verify(self, token: bytes) -> Viewer:
        try:
            key = await self._keys.find(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                # The algorithm of the key, so that a token cannot choose one.
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=CLOCK_SKEW_SECONDS,
                # `authenticate` checks the end at every use, without leeway. `iat` does not limit a token.
                options={"verify_exp": False, "verify_iat": False, "verify_aud": self._audience is not None},
            )
            for name in self._required_claims:
                _require(claims, name)
            return replace(viewer_of(claims), key=key.fingerprint)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # Only the operator is told the reason: a client that makes up tokens must not learn it.
            if (left_out := self._refusals.admit(self._now())) is not None:
                logger.info("a token was refused: %s: %s%s", type(error).__name__, _printable(error), left_out)
            raise Unauthenticated from None


def viewer_of(claims: Mapping[str, Any]) -> Viewer:
    """Who the verified claims of a token stand for.

    Raises:
        ValueError: a claim does not have the form that it must have.
    """
    try:
        author = input_rules.author(claims.get("sub"))
    except BadUserInput as problem:
        raise ValueError(f"sub {problem.problem}") from None
    for name in _CLAIMS_NEVER_NULL:
        if claims.get(name, "absent") is None:
            # Whoever made the token had no value there, and did not mean "every channel" or "for ever".
            raise ValueError(f"{name} must not be null")
    shared, read, post, manage = (_patterns(claims, name) for name in ("channels", "read", "post", "manage"))
    if shared is None and read is None and post is None:
        readable = postable = EVERY_CHANNEL
    else:
        readable, postable = _together(shared, read), _together(shared, post)
    expires_at = claims.get("exp")
    if expires_at is not None:
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float) or not math.isfinite(expires_at):
            raise ValueError("exp must be a number")
        expires_at = float(expires_at)
    return Viewer(
        author=author,
        read=readable,
        post=postable,
        manage=_together(manage, None),
        expires_at=expires_at,
        posts_as_anyone=claims.get("post_as") == "*",
    )


def _require(claims: Mapping[str, Any], name: str) -> None:
    if not any(each in claims for each in (("channels", "read", "post") if name == "channels" else (name,))):
        raise ValueError(f"the claim {name} is required (RAQCOON_JWT_REQUIRED_CLAIMS) and missing")


def _patterns(claims: Mapping[str, Any], name: str) -> list[str] | None:
    listed = claims.get(name)
    if listed is None:
        return None
    if not isinstance(listed, list) or len(listed) > PATTERNS_MAX:
        raise ValueError(f"{name} must be a list of at most {PATTERNS_MAX} patterns")
    if not all(isinstance(each, str) and len(each) <= PATTERN_CHARACTERS_MAX for each in listed):
        raise ValueError(f"a pattern must be a string of at most {PATTERN_CHARACTERS_MAX} characters")
    return listed


def _together(shared: list[str] | None, own: list[str] | None) -> ChannelPatterns:
    return ChannelPatterns([*(shared or ()), *(own or ())])


def find_token(connection_params: Mapping[str, Any] | None, scope: Scope, cookie: bytes) -> bytes | None:
    """The token that a client sent, unverified; None when it sent none.

    Raises:
        Unauthenticated: what was sent in the place of a token cannot be one.
    """
    for name, value in (connection_params or {}).items():
        if name.lower() in ("authorization", "token"):
            return _given(value)
    for name, value in (connection_params or {}).items():
        # Several guides write it like this: `connectionParams: {headers: {Authorization}}`.
        if name.lower() == "headers" and isinstance(value, Mapping):
            for header, worth in value.items():
                if isinstance(header, str) and header.lower() == "authorization":
                    return _given(worth)
    cookies = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            # Another scheme may be meant for a proxy.
            if scheme.lower() == b"bearer":
                return bytes(token.strip())
        elif name == b"cookie":
            cookies += value + b";"
    if scope["type"] == "websocket" and scope["path"].startswith(PLAIN_PREFIX):
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("token")
        if given:
            return _ascii(given[0])
    for each in cookies.split(b";"):
        key, _, worth = each.partition(b"=")
        if key.strip() == cookie:
            return worth.strip().strip(b'"')
    return None


def _given(value: object) -> bytes:
    if not isinstance(value, str):
        raise Unauthenticated
    return _ascii(value.removeprefix("Bearer ").removeprefix("bearer "))


def _printable(error: Exception) -> str:
    """An error's text on one line: it may quote a token, which may hold anything."""
    return ascii(str(error))[1:-1][:200]


def _ascii(token: str) -> bytes:
    try:
        return token.strip().encode("ascii")
    except UnicodeEncodeError:
        raise Unauthenticated from None


def build_identity(
    *,
    secret: str | None = None,
    jwks: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
    cookie: str = "raqcoon_token",
    required_claims: Iterable[str] = (),
    jwks_refresh_seconds: float = REFRESH_SECONDS,
    weak_secret_allowed: bool = False,
) -> JwtIdentity:
    """The identity of a server with `RAQCOON_AUTH=jwt`. Load it before the first client comes.

    Raises:
        StartupError: there is neither a secret nor a key set, or both.
    """
    if (secret is None) == (jwks is None):
        problem = "needs one of" if secret is None else "takes only one of"
        raise StartupError(f"RAQCOON_AUTH=jwt {problem} RAQCOON_JWT_SECRET (HS256) and RAQCOON_JWT_JWKS (RS256, ES256)")
    keys: Keys = (
        KeySet(jwks, refresh_seconds=jwks_refresh_seconds)
        if jwks is not None
        else SharedSecret(secret or "", weak_allowed=weak_secret_allowed)
    )
    return JwtIdentity(keys, issuer=issuer, audience=audience, cookie=cookie, required_claims=required_claims)

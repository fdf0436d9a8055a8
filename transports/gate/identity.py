"""Who a client is: a JSON Web Token becomes a `Viewer` (design 2.5, `RAQCOON_AUTH=jwt`).

A token is looked for, first found first taken, in the payload of `connection_init` (`Authorization` or `token`), in
the `Authorization` header, in the query of a plain WebSocket (`?token=`, for browsers, which cannot set headers there)
and in a cookie. One that is found and is no good is not made up for by another.

| claim      | means                                                                                           |
|------------|-------------------------------------------------------------------------------------------------|
| `sub`      | the author; required, 1 to 128 characters                                                       |
| `channels` | `fnmatch` patterns of the channels that may be read and posted to; absent: every channel        |
| `post_as`  | `"*"`: may post under any name                                                                  |
| `exp`      | the end of everything that was begun with the token; absent: none                               |
| `nbf`      | not good before                                                                                 |
| `iss`, `aud` | have to be what is set up, where something is                                                 |
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs

import jwt
from cachetools import LRUCache
from starlette.types import Scope

from errors import BadUserInput, StartupError, Unauthenticated
from messages import Viewer
from resolvers import input_rules
from transports.gate.jwt_keys import Keys, KeySet, SharedSecret
from transports.shims.plain_websocket import PATH_PREFIX as PLAIN_PREFIX

logger = logging.getLogger(__name__)

TOKEN_BYTES_MAX = 8192
PATTERNS_MAX = 100
PATTERN_CHARACTERS_MAX = 256
VIEWERS_KEPT = 10_000
"""Tokens whose signature was verified and need not be again: a post then pays 3 µs instead of 30 to 200."""
CLOCK_SKEW_SECONDS = 60
"""How far the clock of whoever hands out tokens may be ahead (`nbf`). An end (`exp`) is taken by our own clock."""


class JwtIdentity:
    """Reads tokens.

    Args:
        keys: what tokens are signed with.
        issuer: the `iss` that tokens have to carry, None for any.
        audience: the `aud` that tokens have to name, None for any.
        cookie: the name of the cookie that may carry a token.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        cookie: str = "raqcoon_token",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._cookie = cookie.encode("latin-1")
        self._now = now
        # By the token's digest: what lies in memory is of no use to whoever sees it.
        self._viewers: LRUCache[bytes, Viewer] = LRUCache(VIEWERS_KEPT)
        self._generation = keys.generation

    async def load(self) -> None:
        """Reads the keys, before the first client comes.

        Raises:
            StartupError: they will never be usable as they are set up.
        """
        await self._keys.load()

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
            # A key may have been withdrawn, and what it signed with it.
            self._viewers.clear()
            self._generation = self._keys.generation
        viewer = self._viewers.get(digest)
        if viewer is None:
            viewer = await self._verify(token)
            if self._generation == self._keys.generation:
                self._viewers[digest] = viewer
        if viewer.expires_at is not None and viewer.expires_at <= self._now():
            raise Unauthenticated("The token has expired.")
        return viewer

    async def _verify(self, token: bytes) -> Viewer:
        try:
            key = await self._keys.find(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                # The key's own, so a token cannot choose.
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=CLOCK_SKEW_SECONDS,
                # The end is looked at on every use, exactly. `iat` says nothing about what a token is good for.
                options={"verify_exp": False, "verify_iat": False, "verify_aud": self._audience is not None},
            )
            return viewer_of(claims)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # Why is for the operator: a client that makes up tokens need not learn what is wrong with them.
            logger.info("a token was refused: %s: %s", type(error).__name__, error)
            raise Unauthenticated from None


def viewer_of(claims: Mapping[str, Any]) -> Viewer:
    """Who the verified claims of a token stand for.

    Raises:
        ValueError: a claim is not of its form.
    """
    try:
        author = input_rules.author(claims.get("sub"))
    except BadUserInput as problem:
        raise ValueError(f"sub {problem.problem}") from None
    channels = claims.get("channels")
    if channels is not None:
        if not isinstance(channels, list) or len(channels) > PATTERNS_MAX:
            raise ValueError(f"channels must be a list of at most {PATTERNS_MAX} patterns")
        if not all(isinstance(each, str) and len(each) <= PATTERN_CHARACTERS_MAX for each in channels):
            raise ValueError(f"a pattern must be a string of at most {PATTERN_CHARACTERS_MAX} characters")
    expires_at = claims.get("exp")
    if expires_at is not None:
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float) or not math.isfinite(expires_at):
            raise ValueError("exp must be a number")
        expires_at = float(expires_at)
    return Viewer(
        author=author,
        channels=None if channels is None else tuple(channels),
        expires_at=expires_at,
        posts_as_anyone=claims.get("post_as") == "*",
    )


def find_token(connection_params: Mapping[str, Any] | None, scope: Scope, cookie: bytes) -> bytes | None:
    """The token that a client sent, unverified; None when it sent none.

    Raises:
        Unauthenticated: there is something where a token should be that cannot be one.
    """
    for name, value in (connection_params or {}).items():
        if name.lower() in ("authorization", "token"):
            if not isinstance(value, str):
                raise Unauthenticated
            return _ascii(value.removeprefix("Bearer ").removeprefix("bearer "))
    cookies = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            # Other schemes may be a proxy's own business.
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
) -> JwtIdentity:
    """The identity of a server with `RAQCOON_AUTH=jwt`. Load it before the first client comes.

    Raises:
        StartupError: there is neither a secret nor a key set, or both.
    """
    if (secret is None) == (jwks is None):
        problem = "needs one of" if secret is None else "takes only one of"
        raise StartupError(f"RAQCOON_AUTH=jwt {problem} RAQCOON_JWT_SECRET (HS256) and RAQCOON_JWT_JWKS (RS256, ES256)")
    keys: Keys = KeySet(jwks) if jwks is not None else SharedSecret(secret or "")
    return JwtIdentity(keys, issuer=issuer, audience=audience, cookie=cookie)

"""Which key may have signed a token: a shared secret (HS256), or a set of public keys (RS256, ES256).

The key decides the algorithm, never the token: a token whose `alg` is not its key's is refused, so neither `none` nor
a public key taken for a secret gets anybody in.
"""

import asyncio
import json
import logging
import time
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jwt

from errors import StartupError, Unauthenticated, Unavailable

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 600.0
"""Age at which a key set is read again, beside the requests: a key that was withdrawn is trusted no longer than this
while the set can be read."""
RETRY_SECONDS = 10.0
"""Least time between two readings, so that tokens with invented key ids cause no more of them."""
FETCH_SECONDS = 5.0
FETCH_BYTES_MAX = 1024 * 1024
SECRET_BYTES_MIN = 32
"""What HS256 asks of a secret (RFC 7518, section 3.2)."""
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth"}


class Keys(Protocol):
    """Where keys come from."""

    @property
    def generation(self) -> int:
        """Changes when a key that was trusted may have gone."""

    async def load(self) -> None:
        """Reads the keys for the first time.

        Raises:
            StartupError: they will never be usable as they are set up.
        """

    async def find(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        """The key that a token with this (unverified) header has to be signed by.

        Raises:
            Unauthenticated: there is no such key.
            Unavailable: no keys could be read yet.
        """


class SharedSecret:
    """One secret, known to whoever hands out tokens."""

    generation = 0

    def __init__(self, secret: str) -> None:
        raw = secret.encode()
        if not raw:
            raise StartupError("RAQCOON_JWT_SECRET is empty")
        if len(raw) < SECRET_BYTES_MIN:
            # Said once here rather than at every token.
            warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)
            logger.warning("RAQCOON_JWT_SECRET has %d bytes; below %d it can be guessed", len(raw), SECRET_BYTES_MIN)
        encoded = jwt.utils.base64url_encode(raw).decode("ascii")
        self._key = jwt.PyJWK({"kty": "oct", "k": encoded}, "HS256")

    async def load(self) -> None:
        pass

    async def find(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        if header.get("alg") != "HS256":
            raise Unauthenticated
        return self._key


class KeySet:
    """The public keys of a JWKS file or URL, read again when they are old or a token names one that is not there.

    While the set cannot be read the keys that were read last are trusted on.

    Args:
        location: a path, or an `http(s)://` URL.
        clock: seconds that never go back.
    """

    def __init__(self, location: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.generation = 0
        self._location = location
        self._is_url = location.startswith(("http://", "https://"))
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._text: str | None = None
        self._read_at: float | None = None
        self._failed = False
        self._reading: asyncio.Task[None] | None = None

    async def load(self) -> None:
        if self._is_url:
            # Whoever answers there may start later than this server.
            await self._begin()
            return
        try:
            self._take(await asyncio.to_thread(self._fetch))
        except (OSError, ValueError) as error:
            raise StartupError(f"the keys in {self._location} cannot be used: {error}") from None
        self._read_at = self._clock()

    async def find(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        key = self._match(header)
        if key is None:
            if self._reading is not None or self._is_older_than(RETRY_SECONDS):
                # Who waits may be cancelled; the reading goes on for the others.
                await asyncio.shield(self._begin())
                key = self._match(header)
            if key is None and self._text is None:
                raise Unavailable("The signing keys cannot be read.", int(RETRY_SECONDS * 1000))
            if key is None:
                raise Unauthenticated
        elif self._is_older_than(RETRY_SECONDS if self._failed else REFRESH_SECONDS):
            self._begin()
        return key

    def _is_older_than(self, seconds: float) -> bool:
        return self._read_at is None or self._clock() - self._read_at >= seconds

    def _match(self, header: Mapping[str, Any]) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == header.get("alg")]
        if (wanted := header.get("kid")) is not None:
            fitting = [key for key in fitting if key.key_id == wanted]
        # Without a key id a token can only mean the one key there is.
        return fitting[0] if len(fitting) == 1 else None

    def _begin(self) -> asyncio.Task[None]:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        try:
            self._take(await asyncio.to_thread(self._fetch))
            self._failed = False
        except (OSError, ValueError) as error:
            self._failed = True
            logger.warning("the signing keys at %s cannot be read: %s", self._location, error)
        finally:
            self._read_at = self._clock()
            self._reading = None

    def _fetch(self) -> str:
        if not self._is_url:
            return Path(self._location).read_text()
        # The scheme was looked at; redirections stay within http and https.
        with urllib.request.urlopen(self._location, timeout=FETCH_SECONDS) as answer:
            body: bytes = answer.read(FETCH_BYTES_MAX + 1)
        if len(body) > FETCH_BYTES_MAX:
            raise ValueError(f"more than {FETCH_BYTES_MAX} bytes")
        return body.decode()

    def _take(self, text: str) -> None:
        if text != self._text:
            self._keys = public_keys(text)
            self._text = text
            self.generation += 1


def public_keys(text: str) -> list[jwt.PyJWK]:
    """The keys of a JWKS document that may sign tokens: RSA for RS256, EC P-256 for ES256. Others are passed over.

    Raises:
        ValueError: it is no JWKS, or has no such key.
    """
    document = json.loads(text)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is not a JSON Web Key Set")
    found = []
    for data in listed:
        algorithm = _ALGORITHMS.get(str(data.get("kty"))) if isinstance(data, dict) else None
        if algorithm is None or data.get("use", "sig") != "sig" or data.get("alg", algorithm) != algorithm:
            continue
        if algorithm == "ES256" and data.get("crv") != "P-256":
            continue
        try:
            # Only what a public key is made of: a private one in the set is not kept.
            public = {name: value for name, value in data.items() if name not in _PRIVATE}
            found.append(jwt.PyJWK(public, algorithm))
        except jwt.PyJWTError as error:
            logger.warning("a signing key is passed over: %s", type(error).__name__)
    if not found:
        raise ValueError("it has no RSA or P-256 key for signatures")
    return found

"""Which key may have signed a token: a shared secret (HS256), or a set of public keys (RS256, ES256).

The key decides the algorithm, never the token: a token whose `alg` is not that of its key is refused. So nobody gets in
with the algorithm `none`, or with a public key that is used as if it were a shared secret.
"""

import asyncio
import json
import logging
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import jwt

from errors import StartupError, Unauthenticated, Unavailable
from transports.gate.key_fetch import FETCH_BYTES_MAX, fetch

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
"""Age at which a key set is read again in the background, with or without clients. As long as the set can be read, a
key that was withdrawn is trusted no longer than this."""
RETRY_SECONDS = 10.0
"""Least time between two reads of the set, so that tokens with invented key ids cause no further reads."""
SECRET_BYTES_MIN, SECRET_BYTES_ENOUGH = 16, 32
"""A secret shorter than the first is refused: 128 random bits cannot be guessed, a word can. The second is what HS256
asks for (RFC 7518, section 3.2). Between the two the server warns at its start and runs, since existing servers have
such secrets."""
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth"}


class SigningKey(jwt.PyJWK):
    """A key that may have signed tokens. `fingerprint` is the same for the same key, whenever it was read."""

    def __init__(self, data: dict[str, Any], algorithm: str) -> None:
        super().__init__(data, algorithm)
        text = json.dumps([algorithm, data], sort_keys=True)
        self.fingerprint = blake2b(text.encode(), digest_size=16).hexdigest()


class Keys(Protocol):
    """Where keys come from."""

    @property
    def generation(self) -> int:
        """Changes whenever a key that was trusted may have been withdrawn."""

    def check(self) -> None:
        """Reads the keys if they are in a file, before the server begins anything. Blocks, and needs no event loop.

        Raises:
            StartupError: with these settings they can never be used.
        """

    async def load(self) -> None:
        """Reads the keys, in the process that verifies tokens.

        Raises:
            StartupError: as for `check`.
        """

    def watch(self, withdrawn: Callable[[Collection[str]], None]) -> None:
        """Begins to read the keys again and again in the background. Whenever one was withdrawn, `withdrawn` is told
        the fingerprints of those that are trusted now."""

    async def stop(self) -> None:
        """Stops reading. Idempotent."""

    async def find(self, header: Mapping[str, Any]) -> SigningKey:
        """The key that a token with this (unverified) header has to be signed by.

        Raises:
            Unauthenticated: there is no such key.
            Unavailable: no keys could be read yet.
        """


class SharedSecret:
    """One secret, known to whoever hands out tokens."""

    generation = 0

    def __init__(self, secret: str, *, weak_allowed: bool = False) -> None:
        raw = secret.encode()
        if not raw:
            raise StartupError("RAQCOON_JWT_SECRET is empty")
        if len(raw) < SECRET_BYTES_MIN and not weak_allowed:
            raise StartupError(
                f"RAQCOON_JWT_SECRET has {len(raw)} bytes and can be guessed; it must have {SECRET_BYTES_ENOUGH}. "
                "RAQCOON_JWT_ALLOW_WEAK_SECRET=true starts all the same"
            )
        if len(raw) < SECRET_BYTES_ENOUGH:
            # The server warns once here, instead of at every token.
            warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)
            logger.warning(
                "RAQCOON_JWT_SECRET HAS %d BYTES: WHOEVER GUESSES IT CAN BE ANYBODY. Make it %d random bytes or more",
                len(raw),
                SECRET_BYTES_ENOUGH,
            )
        encoded = jwt.utils.base64url_encode(raw).decode("ascii")
        self._key = SigningKey({"kty": "oct", "k": encoded}, "HS256")

    def check(self) -> None:
        """Does nothing: a secret that cannot be used was refused when this was made."""

    async def load(self) -> None:
        pass

    def watch(self, withdrawn: Callable[[Collection[str]], None]) -> None:
        """Does nothing: a secret is the same for as long as the process lives."""

    async def stop(self) -> None:
        pass

    async def find(self, header: Mapping[str, Any]) -> SigningKey:
        if header.get("alg") != "HS256":
            raise Unauthenticated
        return self._key


class KeySet:
    """The public keys of a JWKS file or URL. They are read again when they are old, or when a token names one that is
    not there.

    While the set cannot be read, the keys that were read last stay trusted.

    Args:
        location: a path, or an `http(s)://` URL.
        refresh_seconds: how often it is read again.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        location: str,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generation = 0
        self._location = location
        self._is_url = location.startswith(("http://", "https://"))
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._keys: list[SigningKey] = []
        self._withdrawn: Callable[[Collection[str]], None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._text: str | None = None
        self._read_at: float | None = None
        self._failed = False
        self._reading: asyncio.Task[None] | None = None

    def check(self) -> None:
        if self._is_url:
            return  # The server behind the URL may start later than this one.
        try:
            self._take(self._fetch())
        except (OSError, ValueError) as error:
            raise StartupError(f"the keys in {self._location} cannot be used: {error}") from None
        self._read_at = self._clock()

    async def load(self) -> None:
        if self._is_url:
            await self._begin()
        else:
            await asyncio.to_thread(self.check)

    def watch(self, withdrawn: Callable[[Collection[str]], None]) -> None:
        self._withdrawn = withdrawn
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="raqcoon-keys")

    async def stop(self) -> None:
        tasks = [task for task in (self._refreshing, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(min(self._refresh_seconds, RETRY_SECONDS) if self._failed else self._refresh_seconds)
            await asyncio.shield(self._begin())

    async def find(self, header: Mapping[str, Any]) -> SigningKey:
        key = self._match(header)
        if key is None:
            if self._reading is not None or self._is_older_than(RETRY_SECONDS):
                # This waiter may be cancelled; the read goes on for the others.
                await asyncio.shield(self._begin())
                key = self._match(header)
            if key is None and self._text is None:
                raise Unavailable("The signing keys cannot be read.", int(RETRY_SECONDS * 1000))
            if key is None:
                raise Unauthenticated
        elif self._is_older_than(RETRY_SECONDS if self._failed else self._refresh_seconds):
            self._begin()
        return key

    def _is_older_than(self, seconds: float) -> bool:
        return self._read_at is None or self._clock() - self._read_at >= seconds

    def _match(self, header: Mapping[str, Any]) -> SigningKey | None:
        fitting = [key for key in self._keys if key.algorithm_name == header.get("alg")]
        if (wanted := header.get("kid")) is not None:
            fitting = [key for key in fitting if key.key_id == wanted]
        # A token without a key id is accepted only if there is exactly one key for its algorithm.
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
        if self._is_url:
            return fetch(self._location)
        with Path(self._location).open("rb") as file:
            body = file.read(FETCH_BYTES_MAX + 1)
        if len(body) > FETCH_BYTES_MAX:
            raise ValueError(f"more than {FETCH_BYTES_MAX} bytes")
        return body.decode()

    def _take(self, text: str) -> None:
        if text == self._text:
            return
        keys = public_keys(text)
        if not keys:
            if self._text is None:
                raise ValueError("it has no RSA or P-256 key for signatures")
            logger.warning("the signing keys at %s have all been withdrawn: no token is good any more", self._location)
        self._text = text
        before = {key.fingerprint for key in self._keys}
        self._keys = keys
        self.generation += 1
        trusted = {key.fingerprint for key in keys}
        if before - trusted and self._withdrawn is not None:
            self._withdrawn(trusted)


def public_keys(text: str) -> list[SigningKey]:
    """The keys of a JWKS document that may sign tokens: RSA for RS256, EC P-256 for ES256. Others are ignored.

    Raises:
        ValueError: it is no JWKS.
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
            # Only the members of a public key: what is private in the set is not kept.
            public = {name: value for name, value in data.items() if name not in _PRIVATE}
            found.append(SigningKey(public, algorithm))
        except jwt.PyJWTError as error:
            logger.warning("a signing key is passed over: %s", type(error).__name__)
    return found

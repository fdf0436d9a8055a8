"""Keys: which one may have signed a token, how they are read again, and that no token chooses its algorithm."""

import asyncio
import json
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.error import HTTPError

import jwt
import pytest

from errors import StartupError, Unauthenticated, Unavailable
from tests.transports.tokens import SigningKey, key_set
from transports.gate.jwt_keys import REFRESH_SECONDS, RETRY_SECONDS, KeySet, SharedSecret, public_keys
from transports.gate.key_fetch import fetch

RSA = SigningKey("RS256", "rsa")
EC = SigningKey("ES256", "ec")
NEW = SigningKey("ES256", "new")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountingKeySet(KeySet):
    """Counts how often the set is read."""

    readings = 0

    def _fetch(self) -> str:
        self.readings += 1
        return super()._fetch()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(key_set(RSA, EC))
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize("alg", ["none", "HS384", "RS256", None, 7])
async def test_secret_is_for_hs256_only(alg: Any) -> None:
    with pytest.raises(Unauthenticated):
        await SharedSecret("s" * 32).find({"alg": alg})


async def test_secret_that_can_be_guessed_is_refused_or_told(caplog: pytest.LogCaptureFixture) -> None:
    SharedSecret("s" * 32)
    assert not caplog.records
    SharedSecret("not so secret...")
    assert "16 BYTES" in caplog.text
    for secret in ("x", "secret", "s" * 15):
        with pytest.raises(StartupError, match="can be guessed"):
            SharedSecret(secret)
    caplog.clear()
    SharedSecret("hidden", weak_allowed=True)
    assert "6 BYTES" in caplog.text
    assert "hidden" not in caplog.text


async def test_key_is_found_by_its_id_and_only_for_its_algorithm(file: Path) -> None:
    keys = KeySet(str(file))
    await keys.load()
    assert (await keys.find({"alg": "RS256", "kid": "rsa"})).algorithm_name == "RS256"
    assert (await keys.find({"alg": "ES256", "kid": "ec"})).algorithm_name == "ES256"
    # Without a key id: the only one of its algorithm.
    assert (await keys.find({"alg": "ES256"})).key_id == "ec"
    for header in ({"alg": "HS256", "kid": "rsa"}, {"alg": "none"}, {"alg": "ES256", "kid": "rsa"}, {"kid": "rsa"}, {}):
        with pytest.raises(Unauthenticated):
            await keys.find(header)


async def test_keys_are_rotated_when_a_token_names_one_that_is_not_there(file: Path, clock: Clock) -> None:
    keys = CountingKeySet(str(file), clock=clock)
    await keys.load()
    generation = keys.generation
    write(file, key_set(EC, NEW))
    # Not within the first seconds: invented ids must not cause readings.
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            await keys.find({"alg": "ES256", "kid": "new"})
    assert keys.readings == 1
    clock.now += RETRY_SECONDS
    found = await asyncio.gather(*(keys.find({"alg": "ES256", "kid": "new"}) for _ in range(100)))
    assert {key.key_id for key in found} == {"new"}
    assert keys.readings == 2
    assert keys.generation != generation
    with pytest.raises(Unauthenticated):
        await keys.find({"alg": "RS256", "kid": "rsa"})


async def test_old_keys_are_read_again_beside_the_requests(file: Path, clock: Clock) -> None:
    keys = CountingKeySet(str(file), clock=clock)
    await keys.load()
    write(file, key_set(EC))
    clock.now += REFRESH_SECONDS
    assert (await keys.find({"alg": "RS256", "kid": "rsa"})).key_id == "rsa"
    while keys._reading is not None:
        await keys._reading
    with pytest.raises(Unauthenticated):
        await keys.find({"alg": "RS256", "kid": "rsa"})
    assert keys.readings == 2


async def test_keys_read_last_are_trusted_on_while_the_set_cannot_be_read(
    file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeySet(str(file), clock=clock)
    await keys.load()
    write(file, "no JSON")
    clock.now += RETRY_SECONDS
    with pytest.raises(Unauthenticated):
        await keys.find({"alg": "ES256", "kid": "new"})
    assert "cannot be read" in caplog.text
    assert (await keys.find({"alg": "ES256", "kid": "ec"})).key_id == "ec"


async def test_waiting_client_that_leaves_does_not_stop_the_reading(file: Path, clock: Clock) -> None:
    keys = KeySet(str(file), clock=clock)
    await keys.load()
    write(file, key_set(NEW))
    clock.now += RETRY_SECONDS
    waiting = [asyncio.create_task(keys.find({"alg": "ES256", "kid": "new"})) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert (await waiting[1]).key_id == "new"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": {}}', '{"keys": []}', '{"keys": [1, {"kty": "oct", "k": "AA"}]}']
)
async def test_file_without_a_usable_key_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(StartupError, match="cannot be used"):
        await KeySet(str(path)).load()
    with pytest.raises(StartupError, match="cannot be used"):
        await KeySet(str(tmp_path / "missing")).load()


def test_keys_that_are_not_for_signatures_are_passed_over() -> None:
    unfit = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {**EC.jwk, "use": "enc"},
        {**EC.jwk, "alg": "ES384"},
        {**EC.jwk, "crv": "P-384"},
        {**RSA.jwk, "alg": "RS512"},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256"},
    ]
    found = public_keys(json.dumps({"keys": [*unfit, RSA.jwk]}))
    assert [(key.key_id, key.algorithm_name) for key in found] == [("rsa", "RS256")]


def test_private_half_of_a_key_is_not_kept() -> None:
    private = jwt.algorithms.ECAlgorithm.to_jwk(EC.private, as_dict=True)
    (key,) = public_keys(json.dumps({"keys": [private]}))
    assert not hasattr(key.key, "private_numbers")


class Endpoint(HTTPServer):
    """Serves a key set, or an error, on the loopback."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.body = body
        self.status = status
        self.asked = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.asked += 1
                handler.send_response(self.status)
                handler.send_header("content-length", str(len(self.body)))
                handler.end_headers()
                handler.wfile.write(self.body)

            def log_message(handler, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


async def test_keys_come_from_a_url_that_may_answer_later(clock: Clock) -> None:
    endpoint = Endpoint(b"", status=500)
    try:
        keys = KeySet(endpoint.url, clock=clock)
        await keys.load()
        for _ in range(10):
            with pytest.raises(Unavailable):
                await keys.find({"alg": "ES256", "kid": "ec"})
        assert endpoint.asked == 1
        endpoint.status, endpoint.body = 200, key_set(EC).encode()
        clock.now += RETRY_SECONDS
        assert (await keys.find({"alg": "ES256", "kid": "ec"})).key_id == "ec"
        assert endpoint.asked == 2
    finally:
        endpoint.stop()


def test_answer_that_is_an_error_is_closed() -> None:
    endpoint = Endpoint(b"no keys here", status=500)
    try:
        with pytest.raises(OSError, match="500") as raised:
            fetch(endpoint.url)
        answer = raised.value.__cause__
        assert isinstance(answer, HTTPError)
        assert answer.fp.closed
    finally:
        endpoint.stop()


async def test_key_set_of_any_length_is_not_read(clock: Clock) -> None:
    endpoint = Endpoint(b"[" * 2_000_000)
    try:
        keys = KeySet(endpoint.url, clock=clock)
        await keys.load()
        with pytest.raises(Unavailable):
            await keys.find({"alg": "ES256"})
    finally:
        endpoint.stop()


class Dripping(Endpoint):
    """Sends its answer byte by byte, and never comes to an end."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(b"")
        gone = self.gone = Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                with suppress(OSError):
                    for byte in answer + b" " * 100_000:
                        handler.wfile.write(bytes([byte]))
                        if gone.wait(0.02):
                            return

            def log_message(handler, *_: Any) -> None:
                pass

        self.RequestHandlerClass = Handler

    def stop(self) -> None:
        self.gone.set()
        super().stop()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["status", "head", "body"]
)
async def test_key_set_that_drips_is_given_up_at_its_deadline(answer: bytes) -> None:
    endpoint = Dripping(answer)
    began_at = time.monotonic()
    try:
        with pytest.raises(OSError, match=r"longer than 1 s"):
            await asyncio.to_thread(fetch, endpoint.url, 1.0)
        assert time.monotonic() - began_at < 5
    finally:
        endpoint.stop()


async def test_what_is_no_http_is_an_error_like_any_other(clock: Clock) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"no HTTP\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        keys = KeySet(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", clock=clock)
        await keys.load()
        with pytest.raises(Unavailable):
            await keys.find({"alg": "ES256"})


async def test_key_that_is_withdrawn_is_told_in_the_background_without_any_client(file: Path) -> None:
    keys = KeySet(str(file), refresh_seconds=0.02)
    await keys.load()
    rsa = await keys.find({"alg": "RS256", "kid": "rsa"})
    ec = await keys.find({"alg": "ES256", "kid": "ec"})
    told: asyncio.Queue[set[str]] = asyncio.Queue()
    keys.watch(lambda trusted: told.put_nowait(set(trusted)))
    write(file, key_set(EC, NEW))
    trusted = await told.get()
    assert ec.fingerprint in trusted
    assert rsa.fingerprint not in trusted
    write(file, '{"keys": []}')
    assert await told.get() == set(), "a set that is empty withdraws them all"
    write(file, key_set(EC))
    while not keys._keys:
        await asyncio.sleep(0.01)
    assert told.empty(), "a key that came is no reason to end anything"
    await keys.stop()

"""Reads a key set from a URL, within a time and a size that the other side cannot exceed."""

import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

FETCH_SECONDS = 5.0
"""For the whole of it: connecting, redirections, headers, body. The time limit of a socket starts again with each byte,
so an answer of one byte a second would never end."""
FETCH_BYTES_MAX = 1024 * 1024


def fetch(url: str, seconds: float | None = None) -> str:
    """The body that a URL answers, through the system's proxies. Blocks, for `FETCH_SECONDS` at most.

    Raises:
        OSError: it could not be read, or not in time.
        ValueError: it is longer than `FETCH_BYTES_MAX`, or not UTF-8.
    """
    return _Fetch(FETCH_SECONDS if seconds is None else seconds).run(url)


class _Fetch:
    """One read of a URL. At its deadline the connections that it has opened are shut down, whatever they wait for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._connections: list[http.client.HTTPConnection] = []
        self._sockets: list[socket.socket] = []
        self._late = False

    def run(self, url: str) -> str:
        timer = threading.Timer(self._seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            # The scheme has been checked already; redirections stay within http and https.
            opener = urllib.request.build_opener(_http(self._opened), _https(self._opened))
            with opener.open(url, timeout=self._seconds) as answer:
                body: bytes = answer.read(FETCH_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # It is the answer too, and holds the connection.
            raise OSError(self._problem() or str(error)) from error
        finally:
            timer.cancel()
        if self._late:
            raise OSError(self._problem())
        if len(body) > FETCH_BYTES_MAX:
            raise ValueError(f"more than {FETCH_BYTES_MAX} bytes")
        return body.decode()

    def _problem(self) -> str:
        return f"it took longer than {self._seconds:g} s" if self._late else ""

    def _opened(self, connection: http.client.HTTPConnection) -> None:
        connect = connection.connect

        def connect_and_note() -> None:
            connect()
            self._sockets.append(connection.sock)

        connection.connect = connect_and_note  # type: ignore[method-assign]
        self._connections.append(connection)

    def _cut(self) -> None:
        self._late = True
        # A connection whose answer has begun has given its socket away, and one in its TLS handshake is not in
        # `_sockets` yet. So both lists are needed.
        for sock in [*self._sockets, *(each.sock for each in self._connections)]:
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def _http(opened: Callable[[http.client.HTTPConnection], None]) -> urllib.request.HTTPHandler:
    class Handler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            def connect(host: str, **options: Any) -> http.client.HTTPConnection:
                connection = http.client.HTTPConnection(host, **options)
                opened(connection)
                return connection

            return self.do_open(connect, request)

    return Handler()


def _https(opened: Callable[[http.client.HTTPConnection], None]) -> urllib.request.HTTPSHandler:
    class Handler(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            def connect(host: str, **options: Any) -> http.client.HTTPConnection:
                connection = http.client.HTTPSConnection(host, **options)
                opened(connection)
                return connection

            return self.do_open(connect, request)

    return Handler()

"""uvicorn (0.54, httptools) takes the body of a request with an `Upgrade` that it does not offer for the next request.

Java's HTTP client asks for h2c in its first request, also if that is a POST. The exit code is 1 as long as the body is
lost.
"""

import socket
import sys
import threading
import time
from typing import Any

import uvicorn

bodies: list[bytes] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    bodies.append((await receive()).get("body", b""))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def serve() -> int:
    """Starts uvicorn in a thread and returns its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", ws="none", log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return int(server.servers[0].sockets[0].getsockname()[1])


def main() -> int:
    with socket.create_connection(("127.0.0.1", serve())) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nContent-Length: 5\r\n\r\nhello"
        )
        sock.recv(4096)
    print(f"uvicorn {uvicorn.__version__}: the application sees {bodies}")
    return int(bodies != [b"hello"])


if __name__ == "__main__":
    sys.exit(main())

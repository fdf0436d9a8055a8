"""uvicorn (0.54, websockets-sansio) never answers a handshake that websockets refuses to parse.

Examples are `Upgrade: websocket` with a `Content-Length`, or with a header line of more than 8 KiB. The exit code is 1
as long as the fault is there.
"""

import socket
import sys
import threading
import time
from typing import Any

import uvicorn


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def serve() -> int:
    """Starts uvicorn in a thread and returns its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", ws="websockets-sansio", log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return int(server.servers[0].sockets[0].getsockname()[1])


def main() -> int:
    with socket.create_connection(("127.0.0.1", serve())) as sock:
        sock.settimeout(3)
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        try:
            answer = sock.recv(4096)
        except TimeoutError:
            print(f"uvicorn {uvicorn.__version__}: no answer, and the connection stands")
            return 1
    print(f"uvicorn {uvicorn.__version__}: answered {answer!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

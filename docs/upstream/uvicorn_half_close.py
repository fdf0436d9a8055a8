"""uvicorn (0.54, httptools) does not answer a client that half-closes after a whole request (RFC 9112, section 9.6).

`nc -N` is such a client. The application runs, but its answer is not sent. The exit code is 1 as long as the fault is
there.
"""

import asyncio
import socket
import sys
import threading
import time
from typing import Any

import uvicorn


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    await asyncio.sleep(0.2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def serve() -> int:
    """Starts uvicorn in a thread and returns its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", ws="none", log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return int(server.servers[0].sockets[0].getsockname()[1])


def main() -> int:
    with socket.create_connection(("127.0.0.1", serve())) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(4096)
    print(f"uvicorn {uvicorn.__version__}: answered {answer!r}")
    return int(not answer)


if __name__ == "__main__":
    sys.exit(main())

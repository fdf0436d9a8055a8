"""uvicorn (0.54, httptools) appends the trailers of a chunked body to `scope["headers"]` (RFC 9110, section 6.5.1).

So a client behind a proxy that sets `X-Forwarded-For` can add another one. The exit code is 1 as long as the fault is
there.
"""

import socket
import sys
import threading
import time
from typing import Any

import uvicorn

seen: list[tuple[bytes, bytes]] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    while (await receive()).get("more_body"):
        pass
    seen.extend(scope["headers"])
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
            b"POST / HTTP/1.1\r\nX-Forwarded-For: 203.0.113.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\na\r\n0\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
        )
        sock.recv(4096)
    told = [value for name, value in seen if name == b"x-forwarded-for"]
    print(f"uvicorn {uvicorn.__version__}: the application sees {told}")
    return int(len(told) > 1)


if __name__ == "__main__":
    sys.exit(main())

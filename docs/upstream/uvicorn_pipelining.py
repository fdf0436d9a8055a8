"""uvicorn (0.54, httptools) begins every request that a client has sent ahead. Its memory has no bound.

Prints how much the process has grown after 8 MB of pipelined requests whose answers nobody reads. The exit code is 1 as
long as the fault is there.
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
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", ws="none", log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return int(server.servers[0].sockets[0].getsockname()[1])


def resident_mib() -> float:
    with open("/proc/self/statm") as figures:
        return int(figures.read().split()[1]) * 4096 / 2**20


def main() -> int:
    port = serve()
    before = resident_mib()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(3)
        try:
            for _ in range(80):
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 5_500)
        except TimeoutError:
            pass  # When the fault is fixed, the server stops reading.
        time.sleep(1)
        grown = resident_mib() - before
    print(f"uvicorn {uvicorn.__version__}: grown by {grown:.0f} MiB")
    return int(grown > 100)


if __name__ == "__main__":
    sys.exit(main())

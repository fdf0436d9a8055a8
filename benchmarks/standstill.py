"""Measures the longest time for which a server stands still. A client asks `/healthz` again and again.

    python -m benchmarks.standstill --port 8010 --pid 1234

Prints a line when it has begun, and JSON with its longest wait when its standard input ends. Of each wait, only the
time in which the server's main thread worked is counted. What a busy machine takes from server and client is not the
server's fault. The kernel counts that time in steps of up to 4 ms.
"""

import argparse
import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER_END = b'{"status":"ok"}'
ADDRESS = "127.0.0.3"
"""It has its own address, because clients take turns by address."""
PRIORITY = -15
PAUSE_SECONDS = 0.001
GIVE_UP_SECONDS = 30.0


def worked_ms(pid: int) -> float:
    """CPU time of the main thread of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e6


def ask(sock: socket.socket) -> None:
    sock.sendall(REQUEST)
    seen = b""
    while not seen.endswith(ANSWER_END):
        data = sock.recv(4096)
        if not data:
            raise ConnectionError("the server has closed the connection")
        seen += data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    options = parser.parse_args()
    with contextlib.suppress(OSError):
        # Only root may do this. Without it, this process may itself have to wait for the processor, and measures that.
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    worst = longest_wait = 0.0
    rounds = 0
    with socket.create_connection(("127.0.0.1", options.port), GIVE_UP_SECONDS, (ADDRESS, 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask(sock)
        print("begun", flush=True)
        while not over.is_set():
            worked, began = worked_ms(options.pid), time.perf_counter()
            ask(sock)
            waited = (time.perf_counter() - began) * 1000
            longest_wait = max(longest_wait, waited)
            worst = max(worst, min(waited, worked_ms(options.pid) - worked))
            rounds += 1
            time.sleep(PAUSE_SECONDS)
    print(json.dumps({"worst_ms": worst, "longest_wait_ms": longest_wait, "rounds": rounds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the kernel does for a connection on the loopback."""

import ctypes
import socket
import struct
from pathlib import Path


def send_queue_bytes(server_port: int, client_port: int) -> int:
    """Bytes that the server has sent and the client's kernel has not acknowledged, by `/proc/net/tcp`."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        if (local, remote) == (server_port, client_port):
            return int(fields[4].partition(":")[0], 16)
    return 0


def go_deaf(sock: socket.socket) -> None:
    """From now on nothing reaches the socket and it answers nothing, as when its machine has lost its network.

    A filter of a single instruction, "keep 0 bytes of each packet", stands before TCP itself sees them.
    """
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    attach_filter = 26  # SO_ATTACH_FILTER
    sock.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("HL", 1, ctypes.addressof(drop_all)))

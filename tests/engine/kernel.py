"""What the kernel does for a connection on the loopback."""

import ctypes
import socket
import struct
from pathlib import Path


def send_queue_bytes(server_port: int, client_port: int) -> int:
    """Bytes that the server has sent and the client's kernel has not acknowledged."""
    entry = _tcp_entry(server_port, client_port)
    return int(entry[4].partition(":")[0], 16) if entry else 0


def holds_connection(server_port: int, client_port: int) -> bool:
    """Whether a process still has the server's end of the connection open. A closed one may still be listed, without an
    inode."""
    entry = _tcp_entry(server_port, client_port)
    return bool(entry) and entry[9] != "0"


def _tcp_entry(local_port: int, remote_port: int) -> list[str]:
    """The fields of the connection's line in `/proc/net/tcp`. Empty if the kernel does not know the connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [int(address.rpartition(":")[2], 16) for address in fields[1:3]] == [local_port, remote_port]:
            return fields
    return []


def go_deaf(sock: socket.socket) -> None:
    """From now on nothing reaches the socket, and it answers nothing, as if its machine had lost its network.

    A filter with one instruction, "keep 0 bytes of each packet", drops packets before TCP sees them.
    """
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    attach_filter = 26  # SO_ATTACH_FILTER
    sock.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("HL", 1, ctypes.addressof(drop_all)))

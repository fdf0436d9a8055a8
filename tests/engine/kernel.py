"""What the kernel holds for a connection on the loopback, by `/proc/net/tcp`."""

from pathlib import Path


def send_queue_bytes(server_port: int, client_port: int) -> int:
    """Bytes that the server's socket has been given and the client's kernel has not acknowledged."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        if (local, remote) == (server_port, client_port):
            return int(fields[4].partition(":")[0], 16)
    return 0

"""The log of a worker and its owner as one log. Both are in this process, with a real Unix socket between them."""

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from message_log.protocol import LogListener
from message_log.sql import SqlMessageLog
from message_log.writer import WriterLimits
from workers.log import WorkerLog
from workers.owner import LogOwner


class ServedLog(WorkerLog):
    """Has the arguments of `SqlMessageLog`. `owner` serves the log while it is open."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        readers: int = 4,
        limits: WriterLimits | None = None,
    ) -> None:
        # This is not in pytest's directory, because the path of a Unix socket has at most 108 characters.
        self._directory = f"{tempfile.gettempdir()}/raqcoon-{uuid.uuid4().hex}"
        super().__init__(url, f"{self._directory}/owner.sock", readers=readers, limits=limits)
        self.url = url
        self._log = SqlMessageLog(url, now=now, readers=readers, limits=limits)
        self.owner = LogOwner(self._log)

    async def open(self, listener: LogListener) -> None:
        await self.start_owner()
        try:
            await super().open(listener)
        except BaseException:
            await self.stop_owner()
            raise

    async def close(self) -> None:
        await super().close()
        await self.stop_owner()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def remove_before(self, channel_id: str, sequence: int, *, batch: int = 500) -> int:
        """Removes messages as retention does, which runs in the owner's process."""
        return await self._log.remove_before(channel_id, sequence, batch=batch)

    @property
    def socket_path(self) -> str:
        return self._socket_path

    async def call(self, method: str) -> object:
        """Calls a function of the owner by its name."""
        return await self._linked().call(method)

    async def start_owner(self) -> None:
        """Begins as a new process of the owner would."""
        shutil.rmtree(self._directory, ignore_errors=True)
        os.mkdir(self._directory, 0o700)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._socket_path)
        await self._log.open(self.owner)
        await self.owner.serve(listener)

    async def stop_owner(self) -> None:
        """Ends as the owner's process would when it is killed, without telling its workers."""
        await self.owner.stop()
        await self._log.close()

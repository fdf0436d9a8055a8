"""Work that is done in the background again and again, with a pause after each round."""

import asyncio
import logging
import math
import random
import time

from errors import Unavailable

logger = logging.getLogger(__name__)


class Rounds:
    """Runs rounds until it is stopped. A round that fails is logged, and the next one follows.

    Whoever derives from it says what a round does.

    Args:
        name: of the work, for the log output and for the name of the task.
        done: a log line about a round that has dealt with `%d` messages.
        interval_seconds: the shortest pause after a round. It varies by a fifth in both directions, since nodes that
            were started together need not do the same work at the same moment.
        share_max: the share of the time that rounds may take. After a long round, the pause is longer.
        unavailable_level: at which level the log output says that the database does not answer.
    """

    def __init__(
        self,
        name: str,
        done: str,
        *,
        interval_seconds: float,
        share_max: float = math.inf,
        unavailable_level: int = logging.WARNING,
    ) -> None:
        self._name = name
        self._done = done
        self._interval_seconds = interval_seconds
        self._share_max = share_max
        self._unavailable_level = unavailable_level
        self._task: asyncio.Task[None] | None = None

    async def run_once(self) -> int:
        """One round; returns how many messages it has dealt with.

        Raises:
            Unavailable: the log cannot answer. What was done stays done.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Begins rounds in the background, the first one at once. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"raqcoon-{self._name}")

    async def stop(self) -> None:
        """Ends the rounds. Work that the log has begun is finished by the log. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            began_at = time.monotonic()
            try:
                if messages := await self.run_once():
                    logger.info(self._done, messages)
            except Unavailable as error:
                logger.log(self._unavailable_level, "%s pauses: %s", self._name, error)
            except Exception:
                logger.exception("a round of %s has failed; the next one follows", self._name)
            pause_seconds = max(self._interval_seconds, (time.monotonic() - began_at) / self._share_max)
            await asyncio.sleep(pause_seconds * random.uniform(0.8, 1.2))

"""Logs damage of the database for the operator: at once, but not again for every client that meets it."""

import logging
import time

logger = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""After a line, how long no other one is logged."""


class DamageLog:
    """Whoever meets damage in the database notes it here. It may be used by many threads: a line too many does no
    harm."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def note(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            logger.error(
                "the database is damaged; restore it from a backup, or check it: %s", " ".join(str(error).split())
            )

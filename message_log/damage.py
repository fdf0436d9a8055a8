"""Tells the operator of damage: at once, and then not with every client that comes upon it."""

import logging
import time

logger = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""How long nothing more is said after a line."""


class DamageLog:
    """Whoever meets damage in the database notes it here. For one thread or many: a line too much harms nobody."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def note(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            logger.error(
                "the database is damaged; restore it from a backup, or check it: %s", " ".join(str(error).split())
            )

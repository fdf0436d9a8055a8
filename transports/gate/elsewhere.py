"""What the other processes of one server count: limits hold for all of them together."""

from typing import Protocol


class Elsewhere(Protocol):
    """Connections at the other workers, and the way to tell them of one's own. Quick; never waits and never raises."""

    def entered(self, address: str | None) -> None:
        """One more is here."""

    def left(self, address: str | None) -> None:
        """One less is here."""

    def inside(self) -> int:
        """How many the others have."""

    def at(self, address: str) -> int:
        """How many the others have of one address."""


class Nowhere:
    """There are no others."""

    def entered(self, address: str | None) -> None: ...

    def left(self, address: str | None) -> None: ...

    def inside(self) -> int:
        return 0

    def at(self, address: str) -> int:
        return 0


NOWHERE = Nowhere()

"""What the other processes of one server count: limits hold for all of them together."""

from typing import Protocol


class Elsewhere(Protocol):
    """The connections of the other workers, and the way to tell them of this one's.

    Its methods are quick: they never wait and never raise.
    """

    def entered(self, address: str | None) -> None:
        """This process has one connection more."""

    def left(self, address: str | None) -> None:
        """This process has one connection fewer."""

    def inside(self) -> int:
        """How many connections the other processes have."""

    def at(self, address: str) -> int:
        """How many connections from one address the other processes have."""


class Nowhere:
    """For a server of one process: there are no others."""

    def entered(self, address: str | None) -> None: ...

    def left(self, address: str | None) -> None: ...

    def inside(self) -> int:
        return 0

    def at(self, address: str) -> int:
        return 0


NOWHERE = Nowhere()

"""A cohort: subscribers of one channel whose results are the same bytes, for the same entries."""

from collections.abc import Hashable
from typing import Protocol

from delivery.block import Block
from delivery.results import Filter, Results
from delivery.subscriber import Subscriber


class Owner(Protocol):
    """What a cohort knows of the channel that it belongs to."""

    def leave(self, cohort: "Cohort", subscriber: Subscriber, /) -> None:
        """A member was closed. The cohort has forgotten it already."""


class Cohort:
    """The subscribers of one channel that share results and filter.

    A member is in one of the `blocks`, or it is `loose`: it is behind, or its sink has to be asked. `loose` is used as
    an ordered set. `client` is the one that the cohort counts for: whoever came first; None when nobody is counted.
    """

    __slots__ = ("_owner", "blocks", "client", "filter", "key", "loose", "results", "size")

    def __init__(
        self, key: Hashable, filter: Filter | None, results: Results, owner: Owner, client: Hashable = None
    ) -> None:
        self.key = key
        self.filter = filter
        self.results = results
        self.client = client
        self._owner = owner
        self.size = 0
        """How many members there are."""
        self.blocks: list[Block[Subscriber]] = []
        self.loose: dict[Subscriber, None] = {}

    @property
    def members(self) -> list[Subscriber]:
        return [*(member for block in self.blocks for member in block.members), *self.loose]

    def add(self, subscriber: Subscriber) -> None:
        """Takes a new member, which is loose."""
        self.loose[subscriber] = None
        self.size += 1

    def settle(self, subscriber: Subscriber) -> None:
        """Lets a loose subscriber that is at the head, and does not catch up, enter a block if its sink permits it."""
        claim = subscriber.sink.claim(subscriber)
        if claim is None:
            return
        position = subscriber.position
        # The newest block is tried first: it is the one with room, unless members have left older ones.
        block = next((block for block in reversed(self.blocks) if block.has_room(position, claim)), None)
        if block is None:
            block = Block(position, claim.layout)
            self.blocks.append(block)
        del self.loose[subscriber]
        subscriber.enter(block, claim)

    def loosen(self, subscriber: Subscriber) -> None:
        """Takes a subscriber, whose claim has ended, out of its block."""
        block = subscriber.get_loose()
        if block is not None:
            self.loose[subscriber] = None
            if not len(block):
                self.blocks.remove(block)

    def leave(self, subscriber: Subscriber) -> None:
        """Forgets a member that was closed, and tells the channel."""
        del self.loose[subscriber]
        self.size -= 1
        self._owner.leave(self, subscriber)

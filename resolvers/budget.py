"""What one operation may cost: messages that it asks for, messages that filters look at, bytes of its answer.

The price is taken before the work is done. It is not given back when less is found than was asked for: the search is
what costs.
"""

from dataclasses import dataclass

from errors import BadUserInput
from message_log.protocol import LOOK_AT_MAX

MESSAGES_MAX = 10_000
"""Messages that one operation may ask for in all its pages: 200 channels with 50 each."""
PAGE_MESSAGES_MIN = 10
"""A page counts as at least so many messages: to read an empty one costs as much as ten messages."""
LOOKS_MAX = 30 * LOOK_AT_MAX
"""Messages that the filters of one operation may look at before its pages become shorter: enough for thirty full
pages."""
LOOKS_OF_PAGE_MIN = 500
"""A filtered page looks at no fewer than this, so that a client that goes on from its cursor reaches everything."""
ANSWER_BYTES_MAX = 32 * 1024 * 1024
"""The longest answer in bytes of JSON: two pages of 200 messages, each of the greatest length."""


@dataclass(slots=True)
class Budget:
    """What is left for one operation."""

    messages: int = MESSAGES_MAX
    looks: int = LOOKS_MAX
    answer_bytes: int = ANSWER_BYTES_MAX

    def take_page(self, argument: str, size: int) -> None:
        """Takes the price of a page of `size` messages. `argument` is the argument that asks for it.

        Raises:
            BadUserInput: the operation asks for more than `MESSAGES_MAX` messages.
        """
        price = max(size, PAGE_MESSAGES_MIN)
        if price > self.messages:
            raise BadUserInput(
                argument,
                f"asks for too much: one operation may read {MESSAGES_MAX} messages, and each of its pages counts as "
                f"{PAGE_MESSAGES_MIN} at least",
            )
        self.messages -= price

    def take_looks(self) -> int:
        """Takes the looks of the next filtered page, and returns how many messages it may look at."""
        looks = min(LOOK_AT_MAX, max(LOOKS_OF_PAGE_MIN, self.looks // 4))
        self.looks -= looks
        return looks

    def looked(self, taken: int, looked_at: int) -> None:
        """Corrects the count for a filtered page: it had taken `taken` looks, and looked at `looked_at` messages."""
        self.looks += taken - looked_at

    def take_bytes(self, argument: str, size_bytes: int) -> None:
        """Takes a part of the answer.

        Raises:
            BadUserInput: the answer becomes longer than `ANSWER_BYTES_MAX`.
        """
        if size_bytes > self.answer_bytes:
            raise BadUserInput(
                argument, f"asks for too much: an answer may have {ANSWER_BYTES_MAX} bytes; ask for fewer messages"
            )
        self.answer_bytes -= size_bytes

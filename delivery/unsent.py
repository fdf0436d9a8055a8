"""Entries that sinks took and have not sent yet: they can be taken back when some of them are erased."""

from collections.abc import Sequence

from delivery.cohort import Cohort
from delivery.restating import Places, Restated
from delivery.subscriber import Subscriber
from message_log.protocol import Entry


class Unsent:
    """The subscribers of one channel whose sinks may hold entries that they have not sent yet.

    Only sinks that are asked hold such entries. What is written through a claim is sent, or on its way, at once.
    """

    __slots__ = ("_holders",)

    def __init__(self) -> None:
        self._holders: dict[Subscriber, Cohort] = {}

    def note(self, cohort: Cohort, subscriber: Subscriber) -> None:
        """The sink of this member of `cohort` was asked, and took entries."""
        self._holders[subscriber] = cohort

    def forget(self, subscriber: Subscriber) -> None:
        """The subscriber was closed: its sink is not touched again."""
        self._holders.pop(subscriber, None)

    def take_back(self, places: Places, restated: Restated) -> list[tuple[Cohort, Subscriber]]:
        """Takes back what sinks have not sent, where one of these entries was stated anew.

        Returns the subscribers that moved back, each with its cohort. They are behind now, and have to catch up.
        """
        moved_back = []
        for subscriber, cohort in list(self._holders.items()):
            unsent = subscriber.sink.unsent()
            if not unsent:
                del self._holders[subscriber]
            elif _changed(unsent, places, restated):
                subscriber.sink.take_back()
                subscriber.gave_back(unsent)
                del self._holders[subscriber]
                moved_back.append((cohort, subscriber))
        return moved_back


def _changed(entries: Sequence[Entry], places: Places, restated: Restated) -> bool:
    return any((places is None or entry.sequence in places) and restated(entry) is not entry for entry in entries)

"""How a client keeps up with what is done to messages: a pure rule, without a network. Copy this file.

Messages and changes are the JSON objects of the GraphQL contract, with `id`, `revision`, `content`, `complete`,
`editedAt`, `erasedAt` of a message and every field of a change. They may come in any order and any number of times,
from `messages`, `changes` and pages of history: whoever has heard all ends with the same messages.

Ask for `changesCursor` before the first message, and subscribe `changes` with it.
"""

from collections.abc import Mapping
from typing import Any

EARLY_MAX = 10_000
"""Messages that are not here of which changes are kept. A page that is on its way may show them as they were before."""


class HeldMessages:
    """The messages that a client holds, by id."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.unsure: set[str] = set()
        """Messages of which a change was missed: ask for them by `message(id:)`. Only CURSOR_EXPIRED leads here."""
        self._early: dict[str, list[Mapping[str, Any]]] = {}

    def take_message(self, message: Mapping[str, Any]) -> None:
        """A message as it was read or sent, at whatever moment."""
        id_ = message["id"]
        held = self.messages.get(id_)
        if held is None or message["revision"] > held["revision"]:
            self.messages[id_] = dict(message)
            self.unsure.discard(id_)
        for change in self._early.pop(id_, ()):
            self.take_change(change)

    def take_change(self, change: Mapping[str, Any]) -> None:
        """A change: applied when it is the message's next one, passed over when the message has it already."""
        id_ = change["messageId"]
        held = self.messages.get(id_)
        if held is None:
            self._keep(id_, change)
        elif change["revision"] == held["revision"] + 1:
            self._apply(held, change)
        elif change["revision"] > held["revision"]:
            self.unsure.add(id_)

    def _keep(self, id_: str, change: Mapping[str, Any]) -> None:
        early = self._early.setdefault(id_, [])
        early.append(change)
        while len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]

    @staticmethod
    def _apply(held: dict[str, Any], change: Mapping[str, Any]) -> None:
        held["revision"] = change["revision"]
        match change["kind"]:
            case "APPENDED":
                held["content"] += change["piece"] or ""
            case "COMPLETED":
                held["complete"] = True
            case "EDITED":
                held["content"], held["editedAt"] = change["content"] or "", change["timestamp"]
            case "ERASED":
                held.update(content="", lane=None, provider=None, tokenCount=None, complete=True)
                held["erasedAt"] = change["timestamp"]

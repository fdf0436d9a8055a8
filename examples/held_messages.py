"""How a client applies the changes of messages: only the rule, without a network. Copy this file.

Messages and changes are the JSON objects of the GraphQL contract. Select `id`, `revision`, `content`, `complete`,
`editedAt` and `erasedAt` of a message, and every field of a change. They may come from `messages`, from `changes` and
from pages of history, in any order and any number of times. Every client that has received all of them ends with the
same messages.

Ask for `changesCursor` before you ask for the first message, and subscribe to `changes` with it.
"""

from collections.abc import Mapping
from typing import Any

EARLY_MAX = 10_000
"""For how many messages that have not come yet changes are kept. A page that was asked for before may bring such a
message in its old form."""


class HeldMessages:
    """The messages that a client has, by id."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.unsure: set[str] = set()
        """Messages of which a change was missed. Ask for them by `message(id:)`. This happens only after
        CURSOR_EXPIRED."""
        self._early: dict[str, list[Mapping[str, Any]]] = {}

    def take_message(self, message: Mapping[str, Any]) -> None:
        """Takes a message from a page, a subscription or an answer, from whatever moment."""
        id_ = message["id"]
        held = self.messages.get(id_)
        if held is None or message["revision"] > held["revision"]:
            self.messages[id_] = dict(message)
            self.unsure.discard(id_)
        for change in self._early.pop(id_, ()):
            self.take_change(change)

    def take_change(self, change: Mapping[str, Any]) -> None:
        """Takes a change. It is applied if it is the message's next one, and ignored if the message has it already."""
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

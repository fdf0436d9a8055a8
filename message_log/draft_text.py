"""The texts of a draft: how long they are, and whether a database can hold them."""

from changes import ChangeDraft
from errors import BadUserInput
from messages import Draft

_ARGUMENTS = {
    "channel_id": "channelId",
    "author": "author",
    "lane": "lane",
    "provider": "provider",
    "idempotency_key": "idempotencyKey",
    "content": "content",  # last: its size is what counts
}
_CHANGE_ARGUMENTS = {"channel_id": "id", "by": "author", "text": "content"}


def content_bytes(draft: Draft | ChangeDraft) -> int:
    """The size of a draft's text in UTF-8. Refuses what no database can hold, before it can spoil a batch."""
    if isinstance(draft, Draft):
        content = draft.content
        others = f"{draft.channel_id}{draft.author}{draft.lane}{draft.provider}{draft.idempotency_key}"
        # Nearly every draft is in ASCII. Then two looks at its texts are enough.
        if content.isascii() and "\0" not in content and others.isascii() and "\0" not in others:
            return len(content)
    size = 0
    for name, argument in (_ARGUMENTS if isinstance(draft, Draft) else _CHANGE_ARGUMENTS).items():
        value = getattr(draft, name)
        if value is None:
            continue
        try:
            size = len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError:
            raise BadUserInput(argument, "must not contain a lone surrogate") from None
        if "\0" in value:
            raise BadUserInput(argument, "must not contain the character NUL")
    return size

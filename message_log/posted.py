"""Whether a repeat says what was posted, when the message itself says something else by now."""

from hashlib import blake2b

import orjson

from messages import Draft, Message


def posted_digest(content: str, lane: str | None, provider: str | None, token_count: int | None) -> str:
    """Equal for posts that say the same."""
    return blake2b(orjson.dumps((content, lane, provider, token_count)), digest_size=16).hexdigest()


def same_post(draft: Draft, message: Message, digest: str | None) -> bool:
    """Whether a repeat of a draft's idempotency key may be answered with `message`.

    `digest` is that of the message as it was posted, or None while it was not written anew since.
    """
    if digest is None:
        return draft.same_post(message)
    return digest == posted_digest(draft.content, draft.lane, draft.provider, draft.token_count)

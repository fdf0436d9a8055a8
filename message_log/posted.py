"""Whether a repeat has the same content as the first post, although the message may have changed since."""

from hashlib import blake2b

import orjson

from messages import Draft, Message


def posted_digest(content: str, lane: str | None, provider: str | None, token_count: int | None) -> str:
    """Equal for posts with the same content."""
    return blake2b(orjson.dumps((content, lane, provider, token_count)), digest_size=16).hexdigest()


def same_post(draft: Draft, message: Message, digest: str | None) -> bool:
    """Whether a repeat of a draft's idempotency key may be answered with `message`.

    `digest` is that of the message as it was posted, or None while it was not written anew since.
    """
    if digest is None:
        return draft.same_post(message)
    return digest == posted_digest(draft.content, draft.lane, draft.provider, draft.token_count)

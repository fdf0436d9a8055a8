"""Whether a repeat has the same content as the first post, although the message may have changed since."""

from hashlib import blake2b

import orjson

from messages import Draft, Message


def posted_digest(post: Draft | Message) -> str:
    """Equal for posts with the same content. Of a message: the digest of its post, if it has not changed since."""
    posted = post.content, post.lane, post.provider, post.token_count
    return blake2b(orjson.dumps(posted), digest_size=16).hexdigest()


def same_post(draft: Draft, message: Message, digest: str | None) -> bool:
    """Whether a repeat of a draft's idempotency key may be answered with `message`.

    `digest` is the digest of the message as it was posted. It is None if the stored message still is as it was posted.
    """
    if digest is None:
        return draft.same_post(message)
    return digest == posted_digest(draft)

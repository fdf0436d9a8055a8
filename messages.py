"""The types of the domain: what is posted, what is stored, the position of a reader, and who asks.

Nothing here knows of databases, GraphQL or sockets. Instances are never mutated: one `Message` object is shared by
every subscriber of its channel.
"""

import base64
import binascii
import re
import string
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b

from patterns import EVERY_CHANNEL, ChannelPatterns

_CURSOR = struct.Struct(">8s8sQ")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_ALPHABET = f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}-_"
_LAST_TWO = [(high + low).encode() for high in _ALPHABET for low in _ALPHABET]
"""Twelve bits as two characters of base 64."""
MESSAGE_OVERHEAD_BYTES = 400
"""How many bytes a `Message` takes besides its content: the object, author, lane, provider, and a place in a list."""
SEQUENCE_MAX = 2**53 - 1
"""Highest sequence a cursor may carry: what a JSON number holds exactly."""


CHANNEL_ID_CHARACTERS_MAX = 128
AUTHOR_CHARACTERS_MAX = 128
LANE_CHARACTERS_MAX = 64
PROVIDER_CHARACTERS_MAX = 64
TOKEN_COUNT_MAX = 2**31 - 1
NOT_IN_CHANNEL_ID = re.compile(r"[\s/\x00-\x1f\x7f-\x9f]")
"""Control characters (Cc, which includes NUL), white space as `str.isspace` has it, and the slash."""


@lru_cache(maxsize=4096)
def _cursor_prefix(epoch: str, channel_id: str) -> tuple[bytes, bytes]:
    return (
        blake2b(epoch.encode(), digest_size=8).digest(),
        blake2b(channel_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(),
    )


@lru_cache(maxsize=4096)
def _cursor_start(epoch: str, channel_id: str) -> tuple[str, bytes]:
    """What all cursors of a channel begin with: 20 characters, and the byte that shares the next ones with the
    sequence."""
    prefix = b"".join(_cursor_prefix(epoch, channel_id))
    return base64.urlsafe_b64encode(prefix[:15]).decode("ascii"), prefix[15:]


def encode_cursor(epoch: str, channel_id: str, sequence: int) -> str:
    """The opaque cursor of a position: 32 URL-safe characters, bound to the log's epoch and the channel."""
    start, shared = _cursor_start(epoch, channel_id)
    end = binascii.b2a_base64(shared + sequence.to_bytes(8, "big"), newline=False)
    return start + end.translate(_URL_SAFE).decode("ascii")


def encode_cursors(epoch: str, channel_id: str, sequences: Sequence[int]) -> list[bytes]:
    """`encode_cursor` for many positions of one channel, in ASCII. Neighbours differ in the last two characters."""
    if not sequences:
        return []
    starts: dict[int, bytes] = {}
    for high in {sequence >> 12 for sequence in sequences}:
        starts[high] = encode_cursor(epoch, channel_id, high << 12)[:-2].encode()
    return [starts[sequence >> 12] + _LAST_TWO[sequence & 4095] for sequence in sequences]


def decode_cursor(cursor: str, epoch: str, channel_id: str) -> int:
    """The sequence of a cursor made by `encode_cursor` for the same epoch and channel.

    Raises:
        ValueError: the cursor is malformed, of another epoch or of another channel; the text says which and
            completes a sentence that begins with the argument's name.
    """
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        epoch_digest, channel_digest, sequence = _CURSOR.unpack(raw)
    except (UnicodeEncodeError, binascii.Error, struct.error):
        raise ValueError("is not a cursor of this server") from None
    own_epoch, own_channel = _cursor_prefix(epoch, channel_id)
    if epoch_digest != own_epoch:
        raise ValueError("belongs to another epoch: the log was replaced since it was handed out")
    if channel_digest != own_channel:
        raise ValueError("belongs to another channel")
    if sequence > SEQUENCE_MAX:
        raise ValueError("is not a cursor of this server")
    return int(sequence)


def text_size_bytes(text: str) -> int:
    """The length of a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def iso_timestamp(moment: datetime) -> str:
    """A time in ISO 8601, always with six digits of fraction, because strict parsers accept only one form."""
    return moment.isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Message:
    """One stored post. `sequence` counts 1, 2, 3 … in its channel; `timestamp` is when the log accepted it, UTC.

    The instance is the message as it was at one moment. `revision` counts its changes up to then. `complete` is False
    while it may still grow. When it is erased, its content is empty, and lane, provider and token count are None.
    """

    channel_id: str
    sequence: int
    author: str
    content: str
    lane: str | None
    provider: str | None
    token_count: int | None
    timestamp: datetime
    epoch: str = field(repr=False)
    revision: int = 0
    complete: bool = True
    edited_at: datetime | None = None
    erased_at: datetime | None = None

    @property
    def id(self) -> str:
        """`<channelId>:<sequence>`, which clients use as a key in their caches."""
        return f"{self.channel_id}:{self.sequence}"

    @property
    def cursor(self) -> str:
        """The position of this message: everything after it follows."""
        return encode_cursor(self.epoch, self.channel_id, self.sequence)

    @property
    def edition(self) -> int:
        """How often the entry at this place of the log was stated anew. For a message this is the revision."""
        return self.revision

    @property
    def size_bytes(self) -> int:
        """About how much memory the message holds, in bytes."""
        return sys.getsizeof(self.content) + MESSAGE_OVERHEAD_BYTES

    @property
    def text_bytes(self) -> int:
        """Its content in bytes of UTF-8."""
        return text_size_bytes(self.content)


def parse_message_id(message_id: str) -> tuple[str, int] | None:
    """The (channel_id, sequence) of which `Message.id` was made. None if the id is malformed."""
    channel_id, _, digits = message_id.rpartition(":")
    if not channel_id or not (digits.isascii() and digits.isdigit()) or digits[0] == "0" or len(digits) > 16:
        return None
    sequence = int(digits)
    return (channel_id, sequence) if sequence <= SEQUENCE_MAX else None


@dataclass(frozen=True, slots=True)
class Draft:
    """A post that has passed the input rules and has no sequence yet. If it is not `complete`, it will grow."""

    channel_id: str
    author: str
    content: str
    lane: str | None = None
    provider: str | None = None
    token_count: int | None = None
    idempotency_key: str | None = None
    sender: str | None = None
    """The author of the token that it came with. None on a server without authentication. It is not stored."""
    complete: bool = True

    def same_post(self, message: Message) -> bool:
        """Whether `message`, as it is now, has the content of this draft."""
        return (self.content, self.lane, self.provider, self.token_count) == (
            message.content,
            message.lane,
            message.provider,
            message.token_count,
        )


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages of a channel are wanted: OR inside a set, AND between them.

    None is no constraint; an empty set matches nothing. Values are sets, so two filters that mean the same are equal.
    """

    authors: frozenset[str] | None = None
    lanes: frozenset[str] | None = None
    providers: frozenset[str] | None = None

    def matches(self, message: Message) -> bool:
        return (
            (self.authors is None or message.author in self.authors)
            and (self.lanes is None or message.lane in self.lanes)
            and (self.providers is None or message.provider in self.providers)
        )


@dataclass(frozen=True, slots=True)
class ChannelHead:
    """A channel and the sequence of its newest message (0 while nothing was posted)."""

    channel_id: str
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Messages and tokens counted beside the counters; null providers and lanes are left out of the two maps."""

    messages: int
    tokens: int
    messages_by_provider: Mapping[str, int]
    messages_by_lane: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Revocation:
    """It says that an author's access to a channel was taken away. None means every channel.

    It is in force until `until` (without end if that is None), or until it is taken back. All times are UTC.
    """

    author: str
    channel_id: str | None
    until: datetime | None
    revoked_at: datetime
    revoked_by: str


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks, and what they may do. By default it is anybody, who may do everything.

    `author`: the only name they may post under, None for any. `read`, `post`, `manage`: the channels in which they may
    do that; none of the three implies another. `expires_at`: Unix time in seconds at which their token ends, None for
    never. Revocations are not here; `resolvers.rights` looks at both.
    """

    author: str | None = None
    read: ChannelPatterns = EVERY_CHANNEL
    post: ChannelPatterns = EVERY_CHANNEL
    manage: ChannelPatterns = EVERY_CHANNEL
    expires_at: float | None = None
    posts_as_anyone: bool = False
    key: str | None = field(default=None, compare=False)
    """The fingerprint of the key that signed their token."""

    def may_read(self, channel_id: str) -> bool:
        return self.read.match(channel_id)

    def may_post(self, channel_id: str) -> bool:
        return self.post.match(channel_id)

    def may_manage(self, channel_id: str | None) -> bool:
        """Whether they may manage a channel. None means every channel, also future ones."""
        return self.manage.everything if channel_id is None else self.manage.match(channel_id)

    def may_post_as(self, author: str) -> bool:
        return self.author is None or self.posts_as_anyone or author == self.author


ANYONE = Viewer()

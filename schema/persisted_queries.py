"""Documents that are known by the SHA-256 of their text: those that clients register (automatic persisted queries), and
those that an operator trusts."""

import hashlib
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import orjson

from errors import BadUserInput, Forbidden, PersistedQueryNotFound, StartupError
from resolvers import input_rules
from schema.shared_cache import SharedCache

REGISTERED_CHARACTERS = 1024 * 1024
"""Length of the texts that clients may have registered at the same time, in characters (`SharedCache`)."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PersistedQueries:
    """Automatic persisted queries by Apollo's protocol, and trusted documents.

    Args:
        trusted: documents by id (usually their hash). They are always known.
        only_trusted: refuse every other document, and register none.
    """

    def __init__(
        self,
        trusted: Mapping[str, str] | None = None,
        *,
        only_trusted: bool = False,
        registered_characters: int = REGISTERED_CHARACTERS,
    ) -> None:
        self._trusted = dict(trusted or {})
        self._trusted_texts = frozenset(self._trusted.values())
        self._only_trusted = only_trusted
        self._registered: SharedCache[str] = SharedCache(registered_characters)

    def resolve(self, query: object, extensions: Mapping[str, Any] | None, who: Hashable = None) -> str:
        """The text of the document that a request of the client `who` means.

        Raises:
            BadUserInput: neither a query nor a hash is given, or the hash is malformed or not the query's.
            PersistedQueryNotFound: only a hash was sent, and it is not known here.
            Forbidden: only trusted documents are run, and this is not one.
        """
        digest = _digest(extensions)
        if query is not None and not isinstance(query, str):
            raise BadUserInput("query", "must be a string")
        if query and not query.isascii():
            input_rules.well_formed("query", query)
        if not query:
            if digest is None:
                raise BadUserInput("query", "must be given")
            text = self._trusted.get(digest) or self._registered.get(digest, who)
            if text is None:
                raise PersistedQueryNotFound
            return text
        if self._only_trusted and query not in self._trusted_texts:
            raise Forbidden("Only trusted documents are run here.")
        if digest is not None and digest not in self._trusted and digest != _sha256(query):
            raise BadUserInput("extensions", "has a sha256Hash that is not the query's")
        return query

    def remember(self, text: str, extensions: Mapping[str, Any] | None, who: Hashable = None) -> None:
        """Registers a valid document that the client `who` sent with its hash."""
        digest = _digest(extensions)
        if digest is None or self._only_trusted or digest in self._trusted or digest in self._registered:
            return
        self._registered.put(digest, text, len(text), who)


def read_trusted_documents(path: Path) -> dict[str, str]:
    """Documents by id, from a JSON file: `{id: text}` (GraphQL Code Generator's) or Apollo's operation manifest.

    Raises:
        StartupError: the file cannot be read or has neither form.
    """
    try:
        manifest = orjson.loads(path.read_bytes())
        if isinstance(manifest, dict) and isinstance(manifest.get("operations"), list):
            manifest = {operation["id"]: operation["body"] for operation in manifest["operations"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StartupError(
            f"RAQCOON_TRUSTED_DOCUMENTS: the trusted documents in {path} cannot be read: {_problem(error)}"
        ) from None
    if not isinstance(manifest, dict) or not all(isinstance(text, str) for text in manifest.values()):
        raise StartupError(
            f"RAQCOON_TRUSTED_DOCUMENTS: the trusted documents in {path} are not a JSON object of texts by id"
        )
    return manifest


def _problem(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"an operation has no {error}"
    return getattr(error, "strerror", None) or str(error)


def _digest(extensions: Mapping[str, Any] | None) -> str | None:
    persisted = None if extensions is None else extensions.get("persistedQuery")
    if persisted is None:
        return None
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    if not isinstance(digest, str) or persisted.get("version", 1) != 1:
        raise BadUserInput("extensions", "must have a persistedQuery of version 1 with a sha256Hash")
    return digest.lower() if _SHA256.fullmatch(digest.lower()) else digest


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

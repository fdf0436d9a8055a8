import hashlib
from pathlib import Path
from typing import Any

import pytest

from errors import BadUserInput, Forbidden, PersistedQueryNotFound, RaqcoonError, StartupError
from schema.operations import Operations
from schema.persisted_queries import PersistedQueries, read_trusted_documents

TEXT = "{ __typename }"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


def hashed(digest: str = DIGEST) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": digest}}


def test_hash_alone_is_enough_once_its_document_was_run(operations: Operations) -> None:
    with pytest.raises(PersistedQueryNotFound, match=r"^PersistedQueryNotFound$"):
        operations.prepare(None, None, hashed())
    operations.prepare(TEXT, None, hashed())
    assert operations.prepare(None, None, hashed()).text == TEXT
    assert operations.prepare("", None, hashed(DIGEST.upper())).text == TEXT


def test_hash_that_is_not_the_querys_is_refused_and_registers_nothing(operations: Operations) -> None:
    with pytest.raises(BadUserInput):
        operations.prepare(TEXT, None, hashed("0" * 64))
    with pytest.raises(PersistedQueryNotFound):
        operations.prepare(None, None, hashed("0" * 64))


def test_document_that_is_refused_is_not_registered(operations: Operations) -> None:
    digest = hashlib.sha256(b"{ nothing }").hexdigest()
    with pytest.raises(RaqcoonError):
        operations.prepare("{ nothing }", None, hashed(digest))
    with pytest.raises(PersistedQueryNotFound):
        operations.prepare(None, None, hashed(digest))


@pytest.mark.parametrize(
    "extension", [7, [], {}, {"sha256Hash": 7}, {"sha256Hash": DIGEST, "version": 2}, {"sha256Hash": None}]
)
def test_malformed_extension_is_bad_input(operations: Operations, extension: object) -> None:
    with pytest.raises(BadUserInput) as refusal:
        operations.prepare(TEXT, None, {"persistedQuery": extension})
    assert refusal.value.argument == "extensions"


def test_registered_documents_are_bounded() -> None:
    queries = PersistedQueries(registered_characters=1000)
    digests = []
    for number in range(100):
        text = f"query Q{number} {{ __typename }}"
        digests.append(hashlib.sha256(text.encode()).hexdigest())
        queries.remember(queries.resolve(text, hashed(digests[-1])), hashed(digests[-1]))
    assert queries.resolve(None, hashed(digests[-1]))
    with pytest.raises(PersistedQueryNotFound):
        queries.resolve(None, hashed(digests[0]))


def test_only_trusted_documents_run_when_told_so() -> None:
    queries = PersistedQueries({"list": TEXT}, only_trusted=True)
    assert queries.resolve(None, hashed("list")) == TEXT
    assert queries.resolve(TEXT, None) == TEXT
    other = "{ channels { edges { cursor } } }"
    digest = hashlib.sha256(other.encode()).hexdigest()
    with pytest.raises(Forbidden):
        queries.resolve(other, hashed(digest))
    queries.remember(other, hashed(digest))
    with pytest.raises(PersistedQueryNotFound):
        queries.resolve(None, hashed(digest))


@pytest.mark.parametrize(
    "manifest",
    [
        '{"abc": "{ __typename }"}',
        '{"format": "apollo-persisted-query-manifest", "version": 1, '
        '"operations": [{"id": "abc", "name": "A", "type": "query", "body": "{ __typename }"}]}',
    ],
)
def test_trusted_documents_are_read_in_both_forms(tmp_path: Path, manifest: str) -> None:
    path = tmp_path / "trusted.json"
    path.write_text(manifest)
    assert read_trusted_documents(path) == {"abc": TEXT}


@pytest.mark.parametrize("manifest", [None, "", "[]", '{"a": 1}', '{"operations": [{"id": "a"}]}'])
def test_trusted_documents_that_cannot_be_read_stop_the_start(tmp_path: Path, manifest: str | None) -> None:
    path = tmp_path / "trusted.json"
    if manifest is not None:
        path.write_text(manifest)
    with pytest.raises(StartupError, match="trusted documents in"):
        read_trusted_documents(path)

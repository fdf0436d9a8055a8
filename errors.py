"""Every error that a client can meet, as one tree.

| class                    | code                      | raised when                                                                                          | retry?                                                             |
|--------------------------|---------------------------|------------------------------------------------------------------------------------------------------|--------------------------------------------------------------------|
| `BadUserInput`           | BAD_USER_INPUT            | an argument breaks one of the input rules                                                            | no                                                                 |
| `Unauthenticated`        | UNAUTHENTICATED           | a token is missing, malformed or not trusted, or it has expired                                      | yes, with a new token                                              |
| `Forbidden`              | FORBIDDEN                 | the caller may not do this, or the caller's access was revoked                                       | no                                                                 |
| `RateLimited`            | RATE_LIMITED              | an author or an address posts faster than its rate allows                                            | yes, after `retry_after_ms`                                        |
| `TooManySubscriptions`   | TOO_MANY_SUBSCRIPTIONS    | the socket already has as many subscriptions as it may have                                          | yes, on another socket                                             |
| `CursorInvalid`          | CURSOR_INVALID            | a cursor is malformed, belongs to another channel or another log, or is past the newest message      | no; read `headCursor` again                                        |
| `CursorExpired`          | CURSOR_EXPIRED            | retention has removed messages that follow the cursor                                                | yes, from `resume_cursor`                                          |
| `IdempotencyConflict`    | IDEMPOTENCY_CONFLICT      | the idempotency key was already used for a different post                                            | no                                                                 |
| `RevisionConflict`       | REVISION_CONFLICT         | the message has changed: its revision is not the one that the caller gave                            | yes, with the `revision` of the error                              |
| `MessageComplete`        | MESSAGE_COMPLETE          | the message is complete, so nothing can be appended to it                                            | no                                                                 |
| `Unavailable`            | UNAVAILABLE               | the log cannot answer now; it is not known whether a post was stored                                 | yes, after `retry_after_ms`                                        |
| `LogDamaged`             | LOG_DAMAGED               | what the log holds at this place is damaged and cannot be read                                       | no; tell the operator                                              |
| `TooManyFilters`         | TOO_MANY_FILTERS          | the channel, or this client in it, already has as many different filters or documents as it may have | yes, with fewer different ones, or with one that is already in use |
| `PersistedQueryNotFound` | PERSISTED_QUERY_NOT_FOUND | only the hash of a document was sent, and the server does not know it                                | yes, with the full document                                        |
| `DocumentUnparsable`     | GRAPHQL_PARSE_FAILED      | the document cannot be parsed as GraphQL                                                             | no                                                                 |
| `DocumentInvalid`        | GRAPHQL_VALIDATION_FAILED | the document does not fit the schema, breaks a limit, or does not name the operation to run          | no                                                                 |
| `InternalError`          | INTERNAL_SERVER_ERROR     | any other error; its cause is told only in the server's log                                          | perhaps                                                            |

Details that a program needs are attributes here, and members of `extensions` on the wire.
"""

from typing import Any, ClassVar


class RaqcoonError(Exception):
    """Base of every error that may be shown to a client: its text is safe to send."""

    code: ClassVar[str] = "INTERNAL_SERVER_ERROR"
    http_status: ClassVar[int] = 500

    @property
    def extensions(self) -> dict[str, Any]:
        """The error's members on the wire, `code` first."""
        return {"code": self.code}


class BadUserInput(RaqcoonError):
    """Raised when an argument breaks an input rule. `argument` is its GraphQL name."""

    code = "BAD_USER_INPUT"
    http_status = 422

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument = argument
        self.problem = problem

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "argument": self.argument}


class Unauthenticated(RaqcoonError):
    """Raised when a token is missing, malformed, not trusted or has expired."""

    code = "UNAUTHENTICATED"
    http_status = 401

    def __init__(self, problem: str = "A valid token is required.") -> None:
        super().__init__(problem)


class Forbidden(RaqcoonError):
    """Raised when the caller may not do this."""

    code = "FORBIDDEN"
    http_status = 403

    def __init__(self, problem: str = "You may not do this.") -> None:
        super().__init__(problem)


class RetryLater(RaqcoonError):
    """Base of errors that do not last, so that a retry makes sense after about `retry_after_ms` milliseconds."""

    def __init__(self, problem: str, retry_after_ms: int) -> None:
        super().__init__(problem)
        self.retry_after_ms = retry_after_ms

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "retryAfterMs": self.retry_after_ms}


class RateLimited(RetryLater):
    """Raised when an author or an address posts faster than its rate allows."""

    code = "RATE_LIMITED"
    http_status = 429

    def __init__(self, subject: str, posts_per_second: float, retry_after_ms: int) -> None:
        super().__init__(
            f"This {subject} posts more than {posts_per_second:g} messages a second; try again in {retry_after_ms} ms.",
            retry_after_ms,
        )


class Unavailable(RetryLater):
    """Raised when the log cannot answer now. The outcome of a post is then unknown."""

    code = "UNAVAILABLE"
    http_status = 503

    def __init__(self, problem: str = "The message log is not available.", retry_after_ms: int = 1000) -> None:
        super().__init__(problem, retry_after_ms)


class TooManyFilters(RaqcoonError):
    """Raised when a channel, or one client in it, has as many different subscriptions as it may have.

    Subscriptions differ by their filter and by their document. `limit` is how many there may be.
    """

    code = "TOO_MANY_FILTERS"
    http_status = 429

    def __init__(self, who: str, limit: int) -> None:
        super().__init__(f"{who} {limit} different subscriptions (filters, or documents), as many as it may have.")
        self.limit = limit

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "limit": self.limit}


class LogDamaged(RaqcoonError):
    """Raised when the database says that its data at this place is damaged. Other places may still be readable."""

    code = "LOG_DAMAGED"
    http_status = 500

    def __init__(self) -> None:
        super().__init__("What the message log holds at this place cannot be read; the operator finds why in the log.")


class TooManySubscriptions(RaqcoonError):
    """Raised when a socket has as many subscriptions as it may have. Further ones need another socket.

    `limit` is how many one socket may have.
    """

    code = "TOO_MANY_SUBSCRIPTIONS"
    http_status = 429

    def __init__(self, limit: int) -> None:
        super().__init__(f"This socket has {limit} subscriptions, as many as one may have: open another socket.")
        self.limit = limit

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "limit": self.limit}


class CursorInvalid(RaqcoonError):
    """Raised when a cursor is malformed, of another channel or epoch, or past the head."""

    code = "CURSOR_INVALID"
    http_status = 422

    def __init__(self, problem: str, argument: str = "after") -> None:
        super().__init__(f"{argument} {problem}")
        self.argument = argument
        self.problem = problem


class CursorExpired(RaqcoonError):
    """Raised when retention has removed what follows a position.

    `resume_cursor` is the position just before the oldest message still held.
    """

    code = "CURSOR_EXPIRED"
    http_status = 410

    def __init__(self, resume_cursor: str) -> None:
        super().__init__("Messages after this cursor are no longer held; resumeCursor loses nothing more.")
        self.resume_cursor = resume_cursor

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "resumeCursor": self.resume_cursor}


class IdempotencyConflict(RaqcoonError):
    """Raised when (channel, author, key) already names a message with other content."""

    code = "IDEMPOTENCY_CONFLICT"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("idempotencyKey was used before by this author in this channel for a different message")


class RevisionConflict(RaqcoonError):
    """Raised when a message has changed since the caller has seen it. `revision` is the one that it has."""

    code = "REVISION_CONFLICT"
    http_status = 409

    def __init__(self, revision: int) -> None:
        super().__init__(f"The message has another revision than the one given: it has {revision} now.")
        self.revision = revision

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "revision": self.revision}


class MessageComplete(RaqcoonError):
    """Raised when something is to be appended to a message that is complete: its author, a reader or the server has
    completed it, or it was erased."""

    code = "MESSAGE_COMPLETE"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("The message is complete: nothing can be appended to it any more.")


class PersistedQueryNotFound(RaqcoonError):
    """Raised when only the hash of a document was sent, and it is not known here. Apollo looks for exactly this text."""

    code = "PERSISTED_QUERY_NOT_FOUND"
    http_status = 200

    def __init__(self) -> None:
        super().__init__("PersistedQueryNotFound")


class DocumentError(RaqcoonError):
    """Base of errors in a document. `errors` are the formatted GraphQL errors, one for each problem."""

    http_status = 400

    def __init__(self, problem: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(problem)
        self.errors = errors or [{"message": problem, "extensions": self.extensions}]


class DocumentUnparsable(DocumentError):
    """Raised when a document is not GraphQL."""

    code = "GRAPHQL_PARSE_FAILED"


class DocumentInvalid(DocumentError):
    """Raised when a document does not fit the schema, breaks a limit, or does not name the operation to run."""

    code = "GRAPHQL_VALIDATION_FAILED"


class InternalError(RaqcoonError):
    """What a client sees of any other exception."""

    def __init__(self) -> None:
        super().__init__("Internal server error.")


class StartupError(Exception):
    """Raised when the server cannot start with its settings. Its text is one clear line for the operator."""

"""GraphQL over HTTP: POST and GET by the GraphQL-over-HTTP specification, subscriptions as SSE or multipart.

Strawberry's view is not used. It ignores `Accept`, against the specification; it ends the lines of SSE with CRLF, which
urql cannot read; and it takes about five times as long for a post.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from delivery.subscriber import Subscriber
from errors import (
    BadUserInput,
    DocumentError,
    Forbidden,
    PersistedQueryNotFound,
    RaqcoonError,
    RetryLater,
    Unauthenticated,
)
from messages import Viewer
from resolvers.chat import Chat
from schema.context import Context
from schema.errors import count_errors, format_errors
from schema.operations import Operations, Prepared
from schema.turns import Turns
from transports.gate.connections import Connections
from transports.gate.heavy_json import HEAVY_QUERY_BYTES, is_heavy
from transports.gate.limits import Limits
from transports.gate.origins import Origins, cors_headers, preflight_headers
from transports.graphql.event_streams import (
    FORMATS,
    HEARTBEAT_SECONDS,
    STUCK_SECONDS,
    StreamFormat,
    end_stream,
    run_stream,
    start_stream,
)
from transports.graphql.mailbox import Mailbox
from transports.graphql.requests import GraphQLRequest, names_query, read_body_json, read_query_string
from transports.sight.logs import ConnectionFigures
from transports.wire.http_exchange import (
    Disconnected,
    Headers,
    Refused,
    encode_body,
    read_body,
    request_headers,
    respond,
    retry_after,
)
from transports.wire.media_types import GRAPHQL_JSON, JSON, Accepted, accepted, content_type
from transports.wire.sockets import Authenticate, Expiry, anyone, client_address

logger = logging.getLogger(__name__)

_CONTENT_TYPES = {
    JSON: b"application/json; charset=utf-8",
    GRAPHQL_JSON: b"application/graphql-response+json; charset=utf-8",
}


_TOLD_IN_STREAMS = (BadUserInput, DocumentError, PersistedQueryNotFound)
"""These errors of an operation are told in the stream that was asked for (graphql-sse, "Validation")."""


class GraphQLHTTP:
    """The endpoint.

    Args:
        chat: what operations run on.
        operations: what runs them.
        origins: which browser origins are served.
        limits: of bodies, variables and nesting.
        turns: in which JSON that takes long is read.
        connections: where open streams are registered, with the sockets; its limits hold for both.
        authenticate: who the client is, by the request's headers.
        playground: answers browsers that open the endpoint as a page.
        heartbeat_seconds: after so long without a message a stream sends a heartbeat.
        stuck_seconds: a stream whose client takes nothing for this long is ended.
    """

    def __init__(
        self,
        chat: Chat,
        operations: Operations,
        *,
        origins: Origins,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        turns: Turns | None = None,
        connections: Connections | None = None,
        authenticate: Authenticate = anyone,
        playground: ASGIApp | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        self._chat = chat
        self._operations = operations
        self._origins = origins
        self._limits = limits
        self._turns = Turns() if turns is None else turns
        self._connections = Connections() if connections is None else connections
        self._authenticate = authenticate
        self._playground = playground
        self._heartbeat_seconds = heartbeat_seconds
        self._stuck_seconds = stuck_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = request_headers(scope)
        accept = headers.get(b"accept")
        exchange = _Exchange(
            self, scope, receive, send, headers, accepted(None if accept is None else accept.decode("latin-1"))
        )
        origin = headers.get(b"origin")
        stream: Stream | None = None
        try:
            if not self._origins.admits(headers):
                raise Forbidden("This origin may not use this server.")
            if origin is not None:
                exchange.cors = cors_headers(origin)
            method = scope["method"]
            if method == "POST":
                # The body is read only after the client was authenticated.
                viewer = await self._authenticate(None, scope)
                context = exchange.context(viewer)
                stream = await exchange.run(await exchange.read_post(context), context, may_change=True)
            elif method == "GET" or method == "HEAD":
                query = scope["query_string"]
                if self._playground is not None and exchange.accepts.html and not names_query(query):
                    await self._playground(scope, receive, send)
                elif method == "GET":
                    viewer = await self._authenticate(None, scope)
                    context = exchange.context(viewer)
                    stream = await exchange.run(await exchange.read_get(query, context), context, may_change=False)
                else:
                    raise Refused(405, "Operations are sent by POST or GET.", [(b"allow", b"GET, POST, OPTIONS")])
            elif method == "OPTIONS":
                allowed = [(b"allow", b"GET, POST, OPTIONS")]
                if origin is not None:
                    allowed += preflight_headers(origin, headers.get(b"access-control-request-headers"))
                await send({"type": "http.response.start", "status": 204, "headers": allowed})
                await send({"type": "http.response.body", "body": b""})
            else:
                raise Refused(405, "Operations are sent by POST or GET.", [(b"allow", b"GET, POST, OPTIONS")])
            if stream is not None:
                await stream()
        except Disconnected:
            pass
        except Refused as refused:
            await exchange.refuse(refused)
        except RaqcoonError as error:
            await exchange.fail(error)
        except Exception as error:
            logger.exception("A GraphQL request failed")
            if exchange.begun:
                raise
            await exchange.answer(500, {"errors": format_errors(error)})


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_endpoint", "_headers", "_receive", "_scope", "_send", "accepts", "begun", "cors")

    def __init__(
        self,
        endpoint: GraphQLHTTP,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        accepts: Accepted,
    ) -> None:
        self._endpoint = endpoint
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers = headers
        self.accepts = accepts
        self.cors: Headers = []
        self.begun = False

    def context(self, viewer: Viewer) -> Context:
        return Context(self._endpoint._chat, viewer, client_address(self._scope), self._scope.get("client"))

    async def read_get(self, query_string: bytes, context: Context) -> GraphQLRequest:
        if len(query_string) <= HEAVY_QUERY_BYTES:
            return read_query_string(query_string, self._endpoint._limits)
        async with self._endpoint._turns.turn(context.client):
            return read_query_string(query_string, self._endpoint._limits)

    async def read_post(self, context: Context) -> GraphQLRequest:
        media_type, charset = content_type(self._headers.get(b"content-type", b""))
        if media_type != JSON or charset not in ("utf-8", "utf8"):
            raise Refused(415, "The body must be application/json in UTF-8.", [(b"accept-post", b"application/json")])
        body = await read_body(self._receive, self._headers, self._endpoint._limits.body_bytes)
        if not is_heavy(body):
            return read_body_json(body, self._endpoint._limits)
        async with self._endpoint._turns.turn(context.client):
            return read_body_json(body, self._endpoint._limits)

    async def run(self, request: GraphQLRequest, context: Context, *, may_change: bool) -> "Stream | None":
        """Answers the request. If the answer is a stream, returns a function that runs it.

        The caller runs it when nothing refers to the request any more. Otherwise its document and variables, which may
        be a megabyte, would be kept for as long as the stream lives.
        """
        endpoint = self._endpoint
        prepared = await endpoint._operations.prepare_in_turn(
            request.query, request.operation_name, request.extensions, client=context.client
        )
        if prepared.kind == "subscription":
            return await self._subscribe(prepared, request.variables, context)
        if prepared.kind == "mutation" and not may_change:
            raise Refused(405, "Mutations are sent by POST.", [(b"allow", b"POST")])
        if self.accepts.json is None and self.accepts.stream is None:
            raise Refused(406, "Results are application/json or application/graphql-response+json.")
        try:
            result = await endpoint._operations.run(prepared, request.variables, context)
            if self.accepts.json is None:
                await self._stream(lambda form: form.result(result))
            else:
                await self.answer(200 if "data" in result or self.accepts.json == JSON else 400, result)
        finally:
            context.release()
        return None

    async def answer(self, status: int, result: dict[str, Any], headers: Headers | None = None) -> None:
        """Answers with JSON, even if the client does not accept it: an error has to be told in some way."""
        self.begun = True
        media_type = _CONTENT_TYPES[self.accepts.json or JSON]
        await respond(self._send, status, media_type, encode_body(result), [*self.cors, *(headers or ())])

    async def refuse(self, refused: Refused) -> None:
        """Answers something that is not a valid request."""
        error = {"message": str(refused), "extensions": {"code": BadUserInput.code}}
        await self.answer(refused.status, {"errors": [error]}, refused.headers)

    async def fail(self, error: RaqcoonError) -> None:
        """Answers a request that was not executed."""
        if self.accepts.json is None and self.accepts.stream is not None and isinstance(error, _TOLD_IN_STREAMS):
            errors = count_errors(self._endpoint._chat, format_errors(error))
            await self._stream(lambda form: form.failure(errors))
            return
        status, headers = 400, []
        if isinstance(error, DocumentError):
            # For this media type the specification wants errors in a document to be sent like any other result.
            status = 200 if self.accepts.json == JSON else 400
        elif isinstance(error, PersistedQueryNotFound | Unauthenticated | Forbidden | RetryLater):
            status = error.http_status
        if isinstance(error, Unauthenticated):
            headers.append((b"www-authenticate", b"Bearer"))
        elif isinstance(error, RetryLater):
            headers.append(retry_after(error))
        await self.answer(status, {"errors": count_errors(self._endpoint._chat, format_errors(error))}, headers)

    async def _stream(self, only: Callable[[StreamFormat], bytes]) -> None:
        """Answers with a stream of one event."""
        assert self.accepts.stream is not None
        form = FORMATS[self.accepts.stream]
        self.begun = True
        await start_stream(self._send, form, self.cors)
        await end_stream(self._send, only(form) + form.completed)

    async def _subscribe(
        self, prepared: Prepared, variables: dict[str, Any] | None, context: Context
    ) -> "Stream | None":
        if self.accepts.stream is None:
            raise Refused(406, "Subscriptions are text/event-stream or multipart/mixed;subscriptionSpec=1.0.")
        endpoint = self._endpoint
        connections = endpoint._connections
        if not context.chat.accepting:
            raise Refused(503, "This server is shutting down.", [(b"retry-after", b"1")])
        refusal = connections.refusal(context.address)
        if refusal is not None:
            status, text = refusal
            raise Refused(status, text, [(b"retry-after", b"1")])
        form = FORMATS[self.accepts.stream]
        stream = OpenStream(context.viewer)
        connections.add(stream, context.address)
        last_seen = self._headers.get(b"last-event-id")
        try:
            subscriber = await endpoint._operations.subscribe(
                prepared,
                variables,
                context,
                stream.mailbox,
                after=last_seen.decode("latin-1") if last_seen else None,
            )
        except BaseException as error:
            connections.remove(stream)
            if not isinstance(error, RaqcoonError):
                raise
            # The client asked for a stream: EventSource and similar clients cannot read the body of any other answer.
            self.begun = True
            await start_stream(self._send, form, self.cors)
            errors = count_errors(endpoint._chat, format_errors(error))
            await end_stream(self._send, form.failure(errors) + form.completed)
            return None
        stream.subscriber = subscriber
        if stream.mailbox.ended:
            subscriber.close()  # The stream was ended while it subscribed.
        return partial(self._run_stream, form, stream, subscriber, context.viewer)

    async def _run_stream(
        self, form: StreamFormat, stream: "OpenStream", subscriber: Subscriber, viewer: Viewer
    ) -> None:
        endpoint = self._endpoint
        stream.figures.subscriptions = 1
        expiry = Expiry()
        try:
            expiry.start(viewer, stream.expel)
            self.begun = True
            await start_stream(self._send, form, self.cors)
            await run_stream(
                self._receive,
                self._send,
                form,
                stream.mailbox,
                format_errors=format_errors,
                heartbeat_seconds=endpoint._heartbeat_seconds,
                stuck_seconds=endpoint._stuck_seconds,
            )
        finally:
            expiry.cancel()
            subscriber.close()
            stream.figures.delivered = subscriber.delivered
            endpoint._connections.remove(stream)


Stream = Callable[[], Awaitable[None]]


class OpenStream:
    """A stream in the registry of connections."""

    __slots__ = ("figures", "mailbox", "subscriber", "viewer")

    def __init__(self, viewer: Viewer) -> None:
        self.viewer: Viewer | None = viewer
        self.subscriber: Subscriber | None = None
        self.mailbox = Mailbox()
        self.figures = ConnectionFigures("stream")

    def expel(self, error: RaqcoonError) -> None:
        """Ends the subscription with `error`; then the response ends too."""
        if self.subscriber is not None:
            self.subscriber.close()
        self.mailbox.end(error)

    def close(self, code: int, reason: str) -> None:
        """Ends the response without an event, so that the client comes back and resumes. Streams have no close
        codes."""
        self.mailbox.leave()

"""Every endpoint on one ASGI application.

The outermost dispatch is plain ASGI: the middleware of a framework would cost each GraphQL post at least 50 µs, and
each open socket some KiB for as long as it lives.
"""

import logging
from collections.abc import Iterable

from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resolvers.chat import Chat
from schema.operations import Operations
from schema.turns import Turns
from transports.gate.addresses import TrustedProxies
from transports.gate.connections import Connections
from transports.gate.limits import Limits
from transports.gate.origins import Origins, cors_headers, preflight_headers
from transports.graphql.endpoint import GraphQLWebSocket
from transports.graphql.http import GraphQLHTTP, OpenStream
from transports.pages.pages import Pages, installed_playground
from transports.shims.calls import MESSAGES_PATH
from transports.shims.plain_websocket import PlainWebSocket
from transports.shims.rest import build_rest
from transports.sight.logs import REQUEST_ID, REQUEST_ID_HEADER, request_id
from transports.sight.metrics import Metrics, Others
from transports.wire.http_exchange import encode_body, respond
from transports.wire.sockets import PLAIN_PREFIX, Authenticate, admitting, anyone, refuse

logger = logging.getLogger(__name__)

GRAPHQL_PATH = "/graphql"
_JSON = b"application/json"


class App:
    """The dispatch. `connections` holds every open socket and stream of it."""

    def __init__(
        self,
        chat: Chat,
        *,
        connections: Connections,
        origins: Origins,
        proxies: TrustedProxies | None,
        graphql_http: ASGIApp,
        graphql_socket: ASGIApp,
        plain_socket: ASGIApp,
        rest: ASGIApp,
        rest_post: ASGIApp,
        pages: ASGIApp,
        metrics: Metrics | None,
    ) -> None:
        self.connections = connections
        self.metrics = metrics
        self._chat = chat
        self._origins = origins
        self._proxies = proxies
        self._graphql_http = graphql_http
        self._graphql_socket = graphql_socket
        self._plain_socket = plain_socket
        self._rest = FromAllowedOrigins(rest, origins)
        self._rest_post = FromAllowedOrigins(rest_post, origins)
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await _lifespan(receive, send)
            return
        if self._proxies is not None:
            self._proxies.reveal(scope)
        if not self._origins.knows_host(scope):
            await _refuse_host(scope, send)
        elif kind == "http":
            id_ = request_id(scope["headers"])
            REQUEST_ID.set(id_)
            await self._route(scope)(scope, receive, _with_id(send, id_.encode(), self._chat))
        elif kind == "websocket":
            REQUEST_ID.set(request_id(scope["headers"]))
            await self._socket(scope)(scope, receive, send)

    def end_streams(self) -> None:
        """Ends all event streams, whose clients then resume elsewhere. A drain closes sockets by itself."""
        for connection in self.connections:
            if isinstance(connection, OpenStream):
                connection.close(1012, "Service restart")

    def _route(self, scope: Scope) -> ASGIApp:
        path = scope["path"]
        if path == GRAPHQL_PATH:
            return self._graphql_http
        if path == MESSAGES_PATH and scope["method"] == "POST":
            return self._rest_post
        if path.startswith("/api/") or path == "/openapi.json":
            return self._rest
        if path == "/healthz":
            return _alive
        if path == "/readyz":
            return self._ready
        if path == "/metrics" and self.metrics is not None:
            return self.metrics
        return self._pages

    def _socket(self, scope: Scope) -> ASGIApp:
        path = scope["path"]
        if path == GRAPHQL_PATH:
            return self._graphql_socket
        if path.startswith(PLAIN_PREFIX):
            return self._plain_socket
        return _no_socket

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whether clients should be sent to this server: it does not drain, and its log answers."""
        if not self._chat.accepting:
            status, state = 503, "draining"
        elif await self._chat.log.ready():
            status, state = 200, "ready"
        else:
            status, state = 503, "log unavailable"
        await respond(send, status, _JSON, encode_body({"status": state}), [])


def build_app(
    chat: Chat,
    operations: Operations,
    *,
    allowed_origins: Iterable[str] = (),
    bound_host: str = "127.0.0.1",
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
    connections: Connections | None = None,
    authenticate: Authenticate = anyone,
    pages: Pages | None = None,
    metrics: bool = True,
    others: Others | None = None,
    proxies: TrustedProxies | None = None,
) -> App:
    """The application of one server.

    Args:
        chat: what everything works on.
        operations: what runs GraphQL.
        allowed_origins: browser origins served besides the server's own.
        bound_host: the address the server listens on; on loopback only loopback origins are its own.
        limits: what one client may ask at once.
        connections: where open sockets and streams are registered, with their limits.
        authenticate: who a client is.
        pages: the console and the playground.
        metrics: whether `/metrics` is served.
        others: the server's other processes, whose figures it shows too.
        proxies: those whose `X-Forwarded-For` is believed; None for none.
    """
    origins = Origins(bound_host, allowed_origins)
    connections = Connections() if connections is None else connections
    open_to_all = authenticate is anyone
    authenticate = admitting(chat, authenticate)
    chat.hubs.on_revoked = connections.revoked
    pages = Pages(installed_playground()) if pages is None else pages
    turns = Turns()
    rest, rest_post = build_rest(
        chat, body_bytes_max=limits.body_bytes, turns=turns, authenticate=authenticate, open_to_all=open_to_all
    )
    return App(
        chat,
        connections=connections,
        origins=origins,
        proxies=proxies,
        graphql_http=GraphQLHTTP(
            chat,
            operations,
            origins=origins,
            limits=limits,
            turns=turns,
            connections=connections,
            authenticate=authenticate,
            playground=pages.playground,
        ),
        graphql_socket=GraphQLWebSocket(
            operations,
            chat,
            connections=connections,
            authenticate=authenticate,
            allow=origins.allow,
            limits=limits,
            turns=turns,
        ),
        plain_socket=PlainWebSocket(
            chat, connections=connections, authenticate=authenticate, allow=origins.allow, limits=limits, turns=turns
        ),
        rest=rest,
        rest_post=rest_post,
        # A missing file raises an exception, which this turns into an answer.
        pages=ExceptionMiddleware(Router(routes=pages.routes(), redirect_slashes=False)),
        metrics=Metrics(chat, connections, others) if metrics else None,
    )


class FromAllowedOrigins:
    """Serves allowed origins only, answers their preflights, and lets their pages read the answers."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if not self._origins.admits(headers):
            refusal = {"detail": "This origin may not use this server.", "code": "FORBIDDEN"}
            await respond(send, 403, _JSON, encode_body(refusal), [])
            return
        if origin is None:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            preflight = preflight_headers(origin, headers.get(b"access-control-request-headers"))
            await send({"type": "http.response.start", "status": 204, "headers": preflight})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_with_cors(event: Message) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event.get("headers", ()), *cors_headers(origin)]}
            await send(event)

        await self._app(scope, receive, send_with_cors)


def _with_id(send: Send, id_: bytes, chat: Chat) -> Send:
    """Adds the request's id to its answer. While the server drains, also says that the connection closes after it."""

    async def send_with_id(event: Message) -> None:
        if event["type"] == "http.response.start":
            headers = [*event.get("headers", ()), (REQUEST_ID_HEADER, id_)]
            if not chat.accepting:
                headers.append((b"connection", b"close"))
            event = {**event, "headers": headers}
        await send(event)

    return send_with_id


async def _alive(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, _JSON, b'{"status":"ok"}', [])


async def _refuse_host(scope: Scope, send: Send) -> None:
    text = "This server is on loopback and not known by this name: list its origin in RAQCOON_ALLOWED_ORIGINS."
    if scope["type"] == "websocket":
        await refuse(scope, send, 403, text)
    else:
        await respond(send, 403, _JSON, encode_body({"detail": text, "code": "FORBIDDEN"}), [])


async def _no_socket(scope: Scope, receive: Receive, send: Send) -> None:
    # A close before the handshake was accepted becomes a 403.
    await send({"type": "websocket.close", "code": 1008})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Does nothing but confirm: whoever runs the server opens and closes the log."""
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return

"""Calls that post or change a message, as bare ASGI applications, and routes that FastAPI describes.

They are handled past FastAPI's dependency machinery, which costs more than the post itself.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from errors import BadUserInput, InternalError, RaqcoonError
from messages import Message, Viewer
from resolvers.chat import Chat
from resolvers.fair_queue import Client
from resolvers.post_message import post_message
from schema.turns import Turns
from transports.gate.heavy_json import is_heavy
from transports.shims.answers import error_answer, validation_detail
from transports.shims.bodies import Post
from transports.shims.items import message_item
from transports.wire.http_exchange import (
    Disconnected,
    Headers,
    Refused,
    encode_body,
    read_body,
    request_headers,
    respond,
)
from transports.wire.json_codec import TooManyContainers, check_containers, decode_json
from transports.wire.media_types import JSON, content_type
from transports.wire.sockets import Authenticate, client_address

logger = logging.getLogger(__name__)

MESSAGES_PATH = "/api/messages"
_JSON = b"application/json"

_POST = TypeAdapter(Post)
T = TypeVar("T")
Change = Callable[[Chat, Viewer, str, Any, str | None], Awaitable[Message]]
"""Changes a message: chat, viewer, the message's id, the body, the client's address."""


class RestPost:
    """`POST /api/messages` as a bare ASGI application."""

    def __init__(self, chat: Chat, *, body_bytes_max: int, turns: Turns, authenticate: Authenticate) -> None:
        self._chat = chat
        self._body_bytes_max = body_bytes_max
        self._turns = turns
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body, headers = await self._post(scope, receive)
        except Disconnected:
            return
        except Refused as refused:
            status, body, headers = refused.status, encode_body({"detail": str(refused)}), refused.headers
        except ValidationError as error:
            status, body, headers = 422, validation_detail(_problems(error), "body"), []
        except RaqcoonError as error:
            self._chat.refusals[error.code] += 1
            status, body, headers = error_answer(error, "body")
        except Exception:
            logger.exception("A post failed")
            status, body, headers = error_answer(InternalError(), "body")
        await respond(send, status, _JSON, body, headers)

    async def _read(self, adapter: TypeAdapter[T], scope: Scope, receive: Receive, viewer: Viewer) -> T:
        """What is in the body. Raises as `_validated`."""
        body = await self._body(scope, receive)
        if not is_heavy(body):
            return _validated(adapter, body)
        async with self._turns.turn(Client((client_address(scope), viewer.author), scope.get("client"))):
            return _validated(adapter, body)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        headers = request_headers(scope)
        declared = headers.get(b"content-type")
        if declared is not None and not _is_json(content_type(declared)[0]):
            raise BadUserInput("body", "must be application/json")
        return await read_body(receive, headers, self._body_bytes_max)

    async def _post(self, scope: Scope, receive: Receive) -> tuple[int, bytes, Headers]:
        viewer = await self._authenticate(None, scope)
        post = await self._read(_POST, scope, receive, viewer)
        message = await post_message(
            self._chat,
            viewer,
            channel_id=post.channel_id,
            author=post.author,
            content=post.content,
            lane=post.lane,
            provider=post.provider,
            token_count=post.token_count,
            idempotency_key=_idempotency_key(scope["headers"], post.idempotency_key),
            complete=post.complete,
            address=client_address(scope),
        )
        return 200, encode_body({"success": True, "message": message_item(message)}), []


class RestChange(RestPost):
    """A call that changes the message whose id is in the path, answered like a post."""

    def __init__(self, post: RestPost, body: TypeAdapter[Any] | None, change: Change) -> None:
        super().__init__(
            post._chat, body_bytes_max=post._body_bytes_max, turns=post._turns, authenticate=post._authenticate
        )
        self._adapter = body
        self._change = change

    async def _post(self, scope: Scope, receive: Receive) -> tuple[int, bytes, Headers]:
        viewer = await self._authenticate(None, scope)
        body = None if self._adapter is None else await self._read(self._adapter, scope, receive, viewer)
        message = await self._change(
            self._chat, viewer, scope["path_params"]["message_id"], body, client_address(scope)
        )
        return 200, encode_body({"success": True, "message": message_item(message)}), []


def _validated(adapter: TypeAdapter[T], body: bytes) -> T:
    """What is in a body. A lone surrogate escape is valid JSON that pydantic's parser refuses: its field is at fault.

    Raises:
        pydantic.ValidationError: it is none.
        BadUserInput: it has more lists and objects than any JSON may have.
    """
    try:
        check_containers(body)
    except TooManyContainers as error:
        raise BadUserInput("body", str(error)) from None
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        if _problems(error)[0]["type"] != "json_invalid":
            raise
        try:
            value = decode_json(body)
        except ValueError:
            raise error from None
        return adapter.validate_python(value)


def _problems(error: ValidationError) -> Any:
    """What is wrong, without what was sent: making Python of that takes longer than all the rest."""
    return error.errors(include_url=False, include_context=False, include_input=False)


def _is_json(media_type: str) -> bool:
    return media_type == JSON or media_type.endswith("+json")


def _idempotency_key(headers: Headers, member: str | None) -> str | None:
    keys = set() if member is None else {member}
    for name, value in headers:
        if name == b"idempotency-key":
            try:
                keys.add(value.decode())
            except UnicodeDecodeError:
                keys.add(value.decode("latin-1"))
    if len(keys) > 1:
        raise BadUserInput("idempotencyKey", "differs from the Idempotency-Key header")
    return keys.pop() if keys else None


def route_to(call: RestPost) -> type[APIRoute]:
    """A route that is described by its endpoint's signature and handled by `call`."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            async def handle(request: Request) -> Response:
                return _Through(call)

            return handle

    return Route


class _Through(Response):
    """A response that lets an ASGI application answer."""

    def __init__(self, app: RestPost) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

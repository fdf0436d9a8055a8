"""The REST shim of the earlier server (design 2.3): the same resolvers under other names.

FastAPI describes every call for `/openapi.json`. The one that is called all the time, posting, is handled by
`RestPost`, past FastAPI's dependency machinery, which costs more than the post itself.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from starlette.types import Receive, Scope, Send

from errors import (
    BadUserInput,
    CursorExpired,
    CursorInvalid,
    InternalError,
    RaqcoonError,
    RetryLater,
    RevisionConflict,
    Unauthenticated,
)
from messages import (
    LANE_CHARACTERS_MAX,
    PROVIDER_CHARACTERS_MAX,
    SEQUENCE_MAX,
    TOKEN_COUNT_MAX,
    Message,
    Viewer,
)
from resolvers import history, input_rules
from resolvers.change_message import append_to_message, complete_message, edit_message, erase_message
from resolvers.chat import Chat
from resolvers.fair_queue import Client
from resolvers.post_message import post_message
from schema.turns import Turns
from transports.gate.heavy_json import is_heavy
from transports.shims.items import message_item
from transports.shims.listing import Listed, Listing
from transports.shims.openapi import CHANNEL_ID, NAME, described, or_null, refusals
from transports.wire.http_exchange import (
    OURS_ALONE,
    Disconnected,
    Headers,
    Refused,
    encode_body,
    read_body,
    request_headers,
    respond,
    retry_after,
)
from transports.wire.json_codec import TooManyContainers, check_containers, decode_json
from transports.wire.media_types import JSON, content_type
from transports.wire.sockets import Authenticate, anyone, client_address

logger = logging.getLogger(__name__)

POST_PATH = "/api/messages"
LIMIT_DEFAULT = 200
LIMIT_MAX = 1000
CHANNELS_MAX = 10_000
"""Channels that a call may name as its limit; without one it lists all of them."""
_JSON = b"application/json"
_FIELDS = {
    "channelId": "channel_id",
    "tokenCount": "token_count",
    "idempotencyKey": "idempotency_key",
}


def _number(value: object) -> object:
    """Lets pass what JSON calls a number, 5.0 too; pydantic would also make one of true and "5"."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


class Post(BaseModel):
    """A message to post."""

    channel_id: str = Field(
        description="1 to 128 characters; no white space, no `/`, no control characters.", json_schema_extra=CHANNEL_ID
    )
    author: str = Field(description="1 to 128 characters.", json_schema_extra=NAME)
    content: str = Field(
        description="1 to 65,536 bytes of UTF-8, unless set otherwise.", json_schema_extra={"minLength": 1}
    )
    lane: str | None = Field(
        None,
        description="Up to 64 characters; the empty string is null.",
        json_schema_extra=or_null(type="string", maxLength=LANE_CHARACTERS_MAX),
    )
    provider: str | None = Field(
        None,
        description="Up to 64 characters; the empty string is null.",
        json_schema_extra=or_null(type="string", maxLength=PROVIDER_CHARACTERS_MAX),
    )
    token_count: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="0 to 2,147,483,647.",
        json_schema_extra=or_null(type="integer", minimum=0, maximum=TOKEN_COUNT_MAX),
    )
    idempotency_key: str | None = Field(
        None,
        description="1 to 128 characters; the header `Idempotency-Key` works too. A repeat posts nothing.",
        json_schema_extra=or_null(type="string", **NAME),
    )
    complete: bool | None = Field(None, description="false: the message will grow, by `…/append`.", strict=True)


class Edit(BaseModel):
    """What a message says from now on."""

    content: str = Field(
        description="The whole new content: 1 to 65,536 bytes of UTF-8, unless set otherwise.",
        json_schema_extra={"minLength": 1},
    )
    revision: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="The message's revision as the caller has seen it; left out, it is not compared.",
        json_schema_extra=or_null(type="integer", minimum=0),
    )


class Append(BaseModel):
    """A piece that comes behind a message's content."""

    revision: Annotated[int, BeforeValidator(_number)] = Field(
        description="The message's revision as the caller has seen it; 409 if it has another.",
        json_schema_extra={"minimum": 0},
    )
    piece: str = Field(description="What comes behind; at least one byte.", json_schema_extra={"minLength": 1})
    token_count: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="How many tokens the whole content takes now; left out, it stays.",
        json_schema_extra=or_null(type="integer", minimum=0, maximum=TOKEN_COUNT_MAX),
    )
    complete: bool | None = Field(None, description="true: nothing comes behind this piece.", strict=True)


class Item(BaseModel):
    """A message as stored."""

    channel_id: str
    author: str
    content: str
    timestamp: str = Field(
        description="When the log accepted it, ISO 8601, UTC, with six digits of fraction.",
        json_schema_extra={"format": "date-time"},
    )
    lane: str | None
    provider: str | None
    token_count: int | None
    id: str
    sequence: int = Field(
        description="Its number in its channel: 1, 2, 3 … without gaps.",
        json_schema_extra={"format": "int64", "minimum": 1, "maximum": SEQUENCE_MAX},
    )
    cursor: str = Field(description="Pass it as `after`.")
    revision: int = Field(description="How many changes it has had; 0 as posted.")
    complete: bool = Field(description="false while it may still grow.")
    edited_at: str | None = Field(description="When it was edited last; null when it was not.")
    erased_at: str | None = Field(description="When it was erased; null when it was not.")


class Posted(BaseModel):
    success: bool
    message: Item


class Messages(BaseModel):
    messages: list[Item]


class Channels(BaseModel):
    channels: list[str]


class Totals(BaseModel):
    total_messages: int = Field(json_schema_extra={"format": "int64", "minimum": 0})
    total_tokens: int = Field(json_schema_extra={"format": "int64", "minimum": 0})
    by_provider: dict[str, int] = Field(description="Messages by provider; null is left out.")
    by_lane: dict[str, int] = Field(description="Messages by lane; null is left out.")


class Summary(BaseModel):
    summary: Totals


class Health(BaseModel):
    status: str


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
            status, body, headers = 422, _validation_detail(_problems(error), "body"), []
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


async def _edit(chat: Chat, viewer: Viewer, message_id: str, edit: Edit, address: str | None) -> Message:
    return await edit_message(
        chat, viewer, message_id=message_id, content=edit.content, revision=edit.revision, address=address
    )


async def _append(chat: Chat, viewer: Viewer, message_id: str, append: Append, address: str | None) -> Message:
    return await append_to_message(
        chat,
        viewer,
        message_id=message_id,
        revision=append.revision,
        piece=append.piece,
        token_count=append.token_count,
        complete=bool(append.complete),
        address=address,
    )


async def _complete(chat: Chat, viewer: Viewer, message_id: str, _: None, address: str | None) -> Message:
    return await complete_message(chat, viewer, message_id=message_id, address=address)


async def _erase(chat: Chat, viewer: Viewer, message_id: str, _: None, address: str | None) -> Message:
    return await erase_message(chat, viewer, message_id=message_id, address=address)


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


def _validation_detail(problems: Any, place: str | None = None) -> bytes:
    """FastAPI's body of a 422. What was sent is not sent back: it may be long, or no Unicode."""
    return encode_body(
        {
            "detail": [
                {
                    "type": problem["type"],
                    "loc": [*((place,) if place else ()), *problem["loc"]],
                    "msg": problem["msg"],
                }
                for problem in problems
            ]
        }
    )


def error_answer(error: RaqcoonError, place: str) -> tuple[int, bytes, Headers]:
    """Status, body and headers that stand for an error; `place` is where its argument came from."""
    if isinstance(error, BadUserInput | CursorInvalid):
        name = _FIELDS.get(error.argument, error.argument)
        place = "path" if name == "id" else place  # Only the calls that change a message name one, in their path.
        location = [place] if name == place else [place, name]
        detail: Any = [{"type": "value_error", "loc": location, "msg": f"{name} {error.problem}"}]
        return error.http_status, encode_body({"detail": detail}), []
    headers: Headers = []
    if isinstance(error, RetryLater):
        headers.append(retry_after(error))
    elif isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    answer: dict[str, Any] = {"detail": str(error), "code": error.code}
    if isinstance(error, CursorExpired):
        answer["resume_cursor"] = error.resume_cursor
    elif isinstance(error, RevisionConflict):
        answer["revision"] = error.revision
    return error.http_status, encode_body(answer), headers


def build_rest(
    chat: Chat,
    *,
    body_bytes_max: int = 1024 * 1024,
    turns: Turns | None = None,
    authenticate: Authenticate = anyone,
    open_to_all: bool = True,
) -> tuple[FastAPI, RestPost]:
    """The shim's application, and its way to post, which may be called past the application's routing.

    `open_to_all` says in the description that no token is needed.
    """
    turns = Turns() if turns is None else turns
    post = RestPost(chat, body_bytes_max=body_bytes_max, turns=turns, authenticate=authenticate)

    async def viewer(request: Request) -> Viewer:
        return await authenticate(None, request.scope)

    # FastAPI's documentation pages load their scripts from a CDN; the description itself is here.
    app = FastAPI(
        title="RAQCOON",
        description="The REST shim. The contract is GraphQL, at `/graphql`.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.openapi = partial(described, app, chat, open_to_all=open_to_all)  # type: ignore[method-assign]

    @app.exception_handler(RaqcoonError)
    async def refused(request: Request, error: Exception) -> Response:
        refusal = error if isinstance(error, RaqcoonError) else InternalError()
        chat.refusals[refusal.code] += 1
        status, body, headers = error_answer(refusal, "query")
        return _json(body, status, headers)

    @app.exception_handler(405)
    async def no_such_method(request: Request, error: Exception) -> Response:
        # Starlette names the methods of the first route of a path only.
        routes = (
            route for route in app.routes if isinstance(route, APIRoute) and route.path_regex.match(request.url.path)
        )
        allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
        return _json(encode_body({"detail": "Method Not Allowed"}), 405, [(b"allow", allowed.encode())])

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        return _json(_validation_detail(problems), 422)

    Asking = Annotated[Viewer, Depends(viewer)]

    async def describe_post(post: Post) -> None:
        """Appends a message to a channel and answers it as stored."""

    app.router.add_api_route(
        POST_PATH,
        describe_post,
        methods=["POST"],
        response_model=Posted,
        name="post_message",
        route_class_override=_route_to(post),
        openapi_extra={
            "parameters": [
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": False,
                    "description": "As the member `idempotency_key`; where both are given they must be equal.",
                    "schema": {"type": "string", **NAME},
                }
            ]
        },
        responses=refusals(
            status_403="This may not be posted here, or not under this name.",
            status_409="The idempotency key was used for another message.",
            status_413="The body is too long.",
            status_429="Too many posts, or too many connections from this address.",
        ),
    )

    changes: tuple[tuple[str, str, str, TypeAdapter[Any] | None, Change], ...] = (
        ("PATCH", "", "Gives a message another content.", TypeAdapter(Edit), _edit),
        ("DELETE", "", "Erases a message: what stays is its number.", None, _erase),
        ("POST", "/append", "Appends a piece to a message that grows.", TypeAdapter(Append), _append),
        ("POST", "/complete", "Lets a message grow no more.", None, _complete),
    )
    for method, suffix, description, body, change in changes:
        app.router.add_api_route(
            f"{POST_PATH}/{{message_id}}{suffix}",
            _described(body, description),
            methods=[method],
            response_model=Posted,
            name=f"{change.__name__.strip('_')}_message",
            description=description,
            route_class_override=_route_to(RestChange(post, body, change)),
            responses=refusals(
                status_409="The message has another revision (`revision`), or is complete.",
                status_413="The body is too long.",
                status_429="Too many posts, or too many connections from this address.",
            ),
        )

    @app.get(
        "/api/messages",
        response_model=Messages,
        responses=refusals(status_410="Retention has removed what follows the cursor."),
    )
    async def list_messages(
        request: Request,
        asking: Asking,
        channel_id: Annotated[
            str | None,
            Query(
                description="Of one channel; left out, of all channels.",
                json_schema_extra=or_null(type="string", **CHANNEL_ID),
            ),
        ] = None,
        after: Annotated[str | None, Query(description="What follows this cursor; with channel_id only.")] = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    ) -> Response:
        """The oldest messages, ascending: of a channel by sequence, of all by (timestamp, channel_id, sequence)."""
        listing = Listing(chat, asking, request.scope)
        if channel_id is not None:
            return await Listed.of("messages", listing.of_channel(channel_id, after, limit))
        if after is not None:
            raise BadUserInput("after", "must not be given without channel_id")
        return await Listed.of("messages", listing.of_all(limit))

    @app.get("/api/channels", response_model=Channels, responses=refusals())
    async def list_channels(
        request: Request,
        asking: Asking,
        after: Annotated[str | None, Query(description="Only channels whose ids follow this, by code point.")] = None,
        limit: Annotated[int | None, Query(ge=1, le=CHANNELS_MAX, description="Left out, all of them.")] = None,
    ) -> Response:
        """The ids of the channels that were posted to, sorted."""
        start = None if after is None else input_rules.well_formed("after", after)
        return await Listed.of("channels", Listing(chat, asking, request.scope).of_channels(start, limit))

    @app.get("/api/summary", response_model=Summary, responses=refusals())
    async def get_summary(asking: Asking) -> Response:
        """How many messages and tokens there are. Of providers, and of lanes, the 1,000 with the most messages."""
        totals = await history.summary(chat, asking)
        summary = {
            "total_messages": totals.messages,
            "total_tokens": totals.tokens,
            "by_provider": dict(totals.messages_by_provider),
            "by_lane": dict(totals.messages_by_lane),
        }
        return _json(encode_body({"summary": summary}))

    @app.get("/api/health", response_model=Health)
    async def get_health() -> Response:
        """Whether the server runs at all."""
        return _json(b'{"status":"ok"}')

    return app, post


def _route_to(call: RestPost) -> type[APIRoute]:
    """A route that is described by its endpoint's signature and handled by `call`."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            async def handle(request: Request) -> Response:
                return _Through(call)

            return handle

    return Route


def _described(body: TypeAdapter[Any] | None, description: str) -> Callable[..., Any]:
    """An endpoint whose signature describes a call on a message."""

    async def without_body(message_id: str) -> None: ...

    async def with_body(message_id: str, change: Any) -> None: ...

    endpoint = without_body if body is None else with_body
    endpoint.__doc__ = description
    if body is not None:
        endpoint.__annotations__["change"] = body._type
    return endpoint


def _json(body: bytes, status: int = 200, headers: Headers | None = None) -> Response:
    response = Response(body, status, media_type="application/json")
    response.raw_headers += [*OURS_ALONE, *(headers or [])]
    return response


class _Through(Response):
    """A response that lets an ASGI application answer."""

    def __init__(self, app: RestPost) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

"""The REST shim of the earlier server (design 2.3): the same resolvers under other names.

FastAPI describes every call for `/openapi.json`.
"""

from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from errors import InternalError, RaqcoonError
from messages import Viewer
from resolvers.chat import Chat
from schema.turns import Turns
from transports.shims.answers import error_answer, json_response, validation_detail
from transports.shims.bodies import Post, Posted
from transports.shims.calls import MESSAGES_PATH, RestPost, route_to
from transports.shims.changing import add_changes
from transports.shims.openapi import NAME, described, refusals
from transports.shims.reading import add_reads
from transports.wire.http_exchange import encode_body
from transports.wire.sockets import Authenticate, anyone


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
        return json_response(body, status, headers)

    @app.exception_handler(405)
    async def no_such_method(request: Request, error: Exception) -> Response:
        # Starlette names the methods of the first route of a path only.
        routes = (
            route for route in app.routes if isinstance(route, APIRoute) and route.path_regex.match(request.url.path)
        )
        allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
        return json_response(encode_body({"detail": "Method Not Allowed"}), 405, [(b"allow", allowed.encode())])

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        return json_response(validation_detail(problems), 422)

    async def describe_post(post: Post) -> None:
        """Appends a message to a channel and answers it as stored."""

    app.router.add_api_route(
        MESSAGES_PATH,
        describe_post,
        methods=["POST"],
        response_model=Posted,
        name="post_message",
        route_class_override=route_to(post),
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

    add_changes(app.router, post)
    add_reads(app.router, chat, viewer)
    return app, post

"""The REST calls that change a message after it was posted."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import TypeAdapter

from messages import Message, Viewer
from resolvers.change_message import append_to_message, complete_message, edit_message, erase_message
from resolvers.chat import Chat
from transports.shims.bodies import Append, Edit, Posted
from transports.shims.calls import MESSAGES_PATH, Change, RestChange, RestPost, route_to
from transports.shims.openapi import Conflict, refusals


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


def add_changes(router: APIRouter, post: RestPost) -> None:
    """Adds the calls that edit, erase, append to and complete a message; the same limits apply to them as to `post`."""
    changes: tuple[tuple[str, str, str, TypeAdapter[Any] | None, Change], ...] = (
        ("PATCH", "", "Replaces the content of a message.", TypeAdapter(Edit), _edit),
        ("DELETE", "", "Erases a message. Only its id and its sequence stay.", None, _erase),
        ("POST", "/append", "Appends a piece to a message that grows.", TypeAdapter(Append), _append),
        ("POST", "/complete", "Completes a message: after this it cannot grow.", None, _complete),
    )
    for method, suffix, description, body, change in changes:
        router.add_api_route(
            f"{MESSAGES_PATH}/{{message_id}}{suffix}",
            _described(body, description),
            methods=[method],
            response_model=Posted,
            name=f"{change.__name__.strip('_')}_message",
            description=description,
            route_class_override=route_to(RestChange(post, body, change)),
            responses=refusals(
                Conflict,
                status_409="The message has another revision than the one given, or it is complete.",
                status_413="The body is too long.",
                status_429="Too many posts, or too many connections from this address.",
            ),
        )


def _described(body: TypeAdapter[Any] | None, description: str) -> Callable[..., Any]:
    """An endpoint whose signature describes a call on a message."""

    async def without_body(message_id: str) -> None: ...

    async def with_body(message_id: str, change: Any) -> None: ...

    endpoint = without_body if body is None else with_body
    endpoint.__doc__ = description
    if body is not None:
        endpoint.__annotations__["change"] = body._type
    return endpoint

"""What all connections of one server share."""

from typing import TypeVar, cast

from uvicorn.server import ServerState

T = TypeVar("T")

_NAME = "raqcoon_shared"


def shared(server_state: ServerState, kind: type[T]) -> T:
    """The one object of this kind that the connections of a server share. It is made when it is first asked for."""
    made = server_state.__dict__.setdefault(_NAME, {})
    if kind not in made:
        made[kind] = kind()
    return cast(T, made[kind])

"""Runs the plan of a query: reads its pages one after the other, and makes JSON of them in small steps of the loop.

The answer is the one that graphql-core would give, also its errors and nulls. There is one difference. If several
fields fail, graphql-core answers with the error that came first in time. Here it is the first one in the document.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from graphql import GraphQLError, located_error
from orjson import Fragment

from errors import RaqcoonError
from messages import ChannelHead, encode_cursor
from resolvers import history, input_rules
from resolvers.history import MessagePage
from schema.context import Context
from schema.pace import Pace
from schema.query_plan import Kind, QueryPlan, Step, Values

T = TypeVar("T")
Path = list[str | int]


class FieldFailed(Exception):
    """Raised when a field that must not be null has failed. Then everything above it is null, up to the root."""

    def __init__(self, error: GraphQLError) -> None:
        super().__init__(str(error))
        self.error = error


class QueryRun:
    """One run of a plan."""

    __slots__ = ("_context", "_values", "errors", "pace")

    def __init__(self, context: Context, values: Values) -> None:
        self._context = context
        self._values = values
        self.errors: list[GraphQLError] = []
        self.pace = Pace()

    async def data(self, plan: QueryPlan, others: dict[str, Any]) -> dict[str, Any] | None:
        """The data of the result, in which parts are JSON already, as fragments for `orjson`. Afterwards `errors` is
        complete.

        `others` are the fields that are not read here, by their names in the result.

        Raises:
            NotPlain: a message has a value that its type does not allow. graphql-core has to report it.
        """
        found: dict[str, Any] = {}
        try:
            for step in plan.steps:
                match step.kind:
                    case Kind.TYPENAME:
                        found[step.name] = step.typename
                    case Kind.CHANNEL:
                        found[step.name] = await self._channel(step)
                    case Kind.CHANNELS:
                        found[step.name] = await self._channels(step)
                    case Kind.MESSAGE:
                        found[step.name] = await self._message(step)
                    case _:
                        found[step.name] = others[step.name]
        except FieldFailed as failed:
            self.errors.append(failed.error)
            return None
        finally:
            self.pace.stop()
        return found

    # -- fields of the root ------------------------------------------------------------------------------------

    async def _channel(self, step: Step) -> dict[str, Any]:
        path: Path = [step.name]
        arguments = self._arguments(step, path)
        context = self._context
        last_sequence: int | None = None
        last_change = 0
        if any(below.kind is Kind.CHANGES_CURSOR for below in step.steps):
            # This is read before all pages. So a client that follows the changes from here on gets every change that
            # no page shows.
            last_change = await self._read(
                partial(history.last_change, context.chat, context.viewer, arguments["id"]), step, path
            )
        if any(below.kind is Kind.PAGE for below in step.steps):
            # The head is read together with the first page, and before it.
            try:
                channel_id = input_rules.channel_id(arguments["id"], "id")
            except RaqcoonError as error:
                raise _failed(error, step, path) from None
        else:
            channel_id = arguments["id"]
            last_sequence = await self._read(
                partial(history.last_sequence, context.chat, context.viewer, channel_id), step, path
            )
        return await self._channel_object(step.steps, channel_id, last_sequence, last_change, path)

    async def _channels(self, step: Step) -> dict[str, Any]:
        path: Path = [step.name]
        arguments = self._arguments(step, path)
        context = self._context
        page = await self._read(
            partial(
                history.channels_page,
                context.chat,
                context.viewer,
                first=arguments.get("first"),
                after=arguments.get("after"),
            ),
            step,
            path,
        )
        heads = page.channels
        changed = await self._changed(step, [head.channel_id for head in heads], path)
        start = heads[0].channel_id if heads else None
        found: dict[str, Any] = {}
        for below in step.steps:
            if below.kind is Kind.PAGE_INFO:
                found[below.name] = _page_info(below.steps, page.has_next, page.has_previous, start, page.end_cursor)
            elif below.kind is Kind.EDGES:
                found[below.name] = [
                    await self._channel_edge(below, head, changed.get(head.channel_id, 0), [*path, below.name, index])
                    for index, head in enumerate(heads)
                ]
            else:
                found[below.name] = below.typename
        return found

    async def _changed(self, channels: Step, channel_ids: list[str], path: Path) -> dict[str, int]:
        """The newest changes of channels, if the query asks for them. They are read before all pages."""
        nodes = [node for edges in channels.steps for node in edges.steps if node.kind is Kind.NODE]
        if not any(below.kind is Kind.CHANGES_CURSOR for node in nodes for below in node.steps):
            return {}
        return await self._read(partial(self._context.chat.log.changes.last_sequences, channel_ids), channels, path)

    async def _channel_edge(self, edges: Step, head: ChannelHead, last_change: int, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for below in edges.steps:
            if below.kind is Kind.CURSOR:
                found[below.name] = head.channel_id
            elif below.kind is Kind.NODE:
                found[below.name] = await self._channel_object(
                    below.steps, head.channel_id, head.last_sequence, last_change, [*path, below.name]
                )
            else:
                found[below.name] = below.typename
        return found

    async def _message(self, step: Step) -> Fragment | None:
        path: Path = [step.name]
        context = self._context
        assert step.message is not None
        try:
            arguments = self._arguments(step, path)
            message = await self._read(
                partial(history.message_by_id, context.chat, context.viewer, arguments["id"]), step, path
            )
            if message is None:
                return None
            context.hold("id", step.message.contents * message.text_bytes + step.message.overhead_bytes)
            return Fragment(step.message.encode([message]))
        except FieldFailed as failed:
            self.errors.append(failed.error)
        except RaqcoonError as error:
            self.errors.append(located_error(error, list(step.nodes), path))
        return None

    # -- a channel and its pages -------------------------------------------------------------------------------

    async def _channel_object(
        self, steps: Sequence[Step], channel_id: str, last_sequence: int | None, last_change: int, path: Path
    ) -> dict[str, Any]:
        """A channel of the result. If `last_sequence` is None, the first page says what it is."""
        found: dict[str, Any] = {}
        later: list[Step] = []
        for step in steps:
            match step.kind:
                case Kind.ID:
                    found[step.name] = channel_id
                case Kind.PAGE:
                    page = await self._page(step, channel_id, [*path, step.name])
                    if last_sequence is None:
                        last_sequence = page.last_sequence
                    found[step.name] = await self._connection(step, page, [*path, step.name])
                case Kind.CHANGES_CURSOR:
                    epoch = self._context.chat.log.changes.epoch
                    found[step.name] = encode_cursor(epoch, channel_id, last_change)
                case Kind.LAST_SEQUENCE | Kind.HEAD_CURSOR:
                    found[step.name] = None  # This keeps its place. The first page may still have to give the value.
                    later.append(step)
                case _:
                    found[step.name] = step.typename
        for step in later:
            assert last_sequence is not None
            found[step.name] = self._head(step, channel_id, last_sequence)
        await self.pace.breathe()
        return found

    def _head(self, step: Step, channel_id: str, last_sequence: int) -> int | str:
        if step.kind is Kind.LAST_SEQUENCE:
            return last_sequence
        return encode_cursor(self._context.chat.log.epoch, channel_id, last_sequence)

    async def _page(self, step: Step, channel_id: str, path: Path) -> MessagePage:
        arguments = self._arguments(step, path)
        context = self._context
        first, last = arguments.get("first"), arguments.get("last")
        after, before = arguments.get("after"), arguments.get("before")
        wanted = arguments.get("filter")
        try:
            filter = None
            if wanted:
                filter = input_rules.message_filter(wanted.get("authors"), wanted.get("lanes"), wanted.get("providers"))
            size = history.page_size(first=first, last=last)
            context.budget.take_page("first" if last is None else "last", size)
            if filter is None:
                recent = history.recent_page(
                    context.chat, context.viewer, channel_id, first=first, after=after, last=last, before=before
                )
                if recent is not None and context.has_room:
                    return recent
        except Exception as error:
            raise _failed(error, step, path) from None
        return await self._read(
            partial(
                history.messages_page,
                context.chat,
                context.viewer,
                channel_id,
                first=first,
                after=after,
                last=last,
                before=before,
                filter=filter,
                budget=context.budget,
            ),
            step,
            path,
        )

    async def _connection(self, step: Step, page: MessagePage, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for below in step.steps:
            if below.kind is Kind.EDGES:
                found[below.name] = await self._edges(step, below, page, path)
            elif below.kind is Kind.PAGE_INFO:
                found[below.name] = _page_info(
                    below.steps, page.has_next, page.has_previous, page.start_cursor, page.end_cursor
                )
            else:
                found[below.name] = below.typename
        return found

    async def _edges(self, connection: Step, edges: Step, page: MessagePage, path: Path) -> Fragment:
        json = edges.message
        assert json is not None
        recent = page.recent
        if recent is not None and (made := recent.made.get(json)) is not None:
            try:
                self._context.hold("messages", len(made))
            except RaqcoonError as error:
                raise _failed(error, connection, path) from None
            return Fragment(made)
        expected = len(page.messages) * json.overhead_bytes
        if json.contents:
            expected += json.contents * page.messages.characters
        try:
            self._context.hold("messages", expected)
            parts = []
            size = 0
            for part in json.encode_rows(page.messages):
                parts.append(part)
                size += len(part)
                if size > expected:  # There were characters that are not ASCII, or that had to be escaped.
                    self._context.hold("messages", size - expected)
                    expected = size
                await self.pace.breathe()
        except RaqcoonError as error:
            raise _failed(error, connection, path) from None
        made = b"[" + b",".join(parts) + b"]"
        if recent is not None:
            recent.keep(json, made)
        return Fragment(made)

    # -- what all of them need ---------------------------------------------------------------------------------

    def _arguments(self, step: Step, path: Path) -> dict[str, Any]:
        assert step.arguments is not None
        try:
            return step.arguments.read(self._values)
        except GraphQLError as error:
            raise FieldFailed(located_error(error, list(step.nodes), path)) from None

    async def _read(self, read: Callable[[], Awaitable[T]], step: Step, path: Path) -> T:
        """Reads from the log, after waiting for a turn."""
        self.pace.stop()
        try:
            async with self._context.reading():
                return await read()
        except Exception as error:
            raise _failed(error, step, path) from None
        finally:
            self.pace.go()


def _page_info(
    steps: Sequence[Step], has_next: bool, has_previous: bool, start: str | None, end: str | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for step in steps:
        match step.kind:
            case Kind.HAS_NEXT_PAGE:
                found[step.name] = has_next
            case Kind.HAS_PREVIOUS_PAGE:
                found[step.name] = has_previous
            case Kind.START_CURSOR:
                found[step.name] = start
            case Kind.END_CURSOR:
                found[step.name] = end
            case _:
                found[step.name] = step.typename
    return found


def _failed(error: Exception, step: Step, path: Path) -> FieldFailed:
    return FieldFailed(located_error(error, list(step.nodes), path))

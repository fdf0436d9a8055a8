"""Convergence: clients that come, go, resume, are slow and mix messages, changes and pages of history all end with the
messages that the log has, over the engine and the rule that the example gives to clients."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from changes import ChangeDraft, MessageChange, MessageChangeKind
from delivery import hubs as hubs_module
from delivery import pages as pages_module
from delivery.hubs import Hubs
from delivery.subscriber import Subscriber
from errors import RaqcoonError
from examples.held_messages import HeldMessages
from message_log.protocol import Commit
from messages import Draft, Message
from tests.delivery import recorder
from tests.delivery.recorder import Recorder
from tests.delivery.test_exactly_once import LaggardLog

CHANNEL = "general"
SCHEDULES = 1_000
LEFT_TASKS: list[asyncio.Task[Any]] = []
"""Tasks that were still there when a schedule's event loop was closed."""


def as_json(entry: Message | MessageChange) -> dict[str, Any]:
    if isinstance(entry, Message):
        return {
            "id": entry.id,
            "content": entry.content,
            "revision": entry.revision,
            "complete": entry.complete,
            "lane": entry.lane,
            "provider": entry.provider,
            "tokenCount": entry.token_count,
            "erasedAt": entry.erased_at,
            "editedAt": entry.edited_at,
        }
    return {
        "messageId": entry.message_id,
        "sequence": entry.sequence,
        "kind": entry.kind.value,
        "revision": entry.revision,
        "piece": entry.piece,
        "content": entry.content,
        "timestamp": entry.timestamp,
    }


class Screen(Recorder):
    """A subscriber's side that shows what it takes: what was rendered, not what the engine says it was."""

    def __init__(self, held: HeldMessages, *, claims: bool, room: int | None) -> None:
        super().__init__(claims=claims, room=room)
        self.held = held
        self.position = -1

    def _take(self, batch: Any) -> None:
        super()._take(batch)
        for shown in map(orjson.loads, batch.payloads):
            if "messageId" in shown:
                self.held.take_change(shown)
            else:
                self.held.take_message(shown)
        self.position = batch.position


@dataclass
class Client:
    held: HeldMessages
    messages: Screen
    changes: Screen
    subscribers: list[Subscriber] = field(default_factory=list)


class Convergence(RuleBasedStateMachine):
    @initialize(shared=st.booleans(), seed=st.integers(0, 2**32))
    def begin(self, shared: bool, seed: int) -> None:
        recorder.VIOLATIONS.clear()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self.runner.get_loop()
        self.log = LaggardLog(exclusive=not shared)
        self.log.dice.seed(seed)
        self.shared = shared
        self.hubs = Hubs(self.log, max_cohorts=3, sweep_interval_seconds=0.001)
        self.clients: list[Client] = []
        self.reads: set[asyncio.Task[None]] = set()
        self.run(self.log.open(self.hubs))
        self.run(self.hubs.start())

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 20))

    async def _render(self, entry: Message | MessageChange) -> Any:
        for _ in range(self.log.dice.randrange(3)):
            await asyncio.sleep(0)
        return orjson.dumps(as_json(entry))

    # -- what is done to the log, by this node or by another one ----------------------------------------------------

    async def _do(self, work: Any, told: bool) -> None:
        """Another node's commit is told with its hint, late and out of order, as a bare hint, or not at all."""
        if told or not self.shared:
            await work
            return
        listener, before = self.log._listener, self.log.changes.heads.get(CHANNEL, 0)
        self.log._listener = None
        posted = self.log._heads.get(CHANNEL, 0)
        try:
            await work
        finally:
            self.log._listener = listener
        changes = [c for c in self.log.changes.held.get(CHANNEL, []) if c.sequence > before]
        messages = self.log._between(CHANNEL, posted, None)
        dice = self.log.dice
        for commit in [Commit((m,), ()) for m in messages] + [Commit((), (c,)) for c in changes]:
            if dice.random() < 0.6:
                self.hubs.heard(commit)
            elif dice.random() < 0.5 and commit.changes:
                self.hubs.hinted_changes(CHANNEL, commit.changes[0].sequence)

    @rule(count=st.integers(1, 5), complete=st.booleans(), told=st.booleans())
    def post(self, count: int, complete: bool, told: bool) -> None:
        async def posts() -> None:
            for _ in range(count):
                await self.log.append(Draft(CHANNEL, "ada", "x" * self.log.dice.randrange(1, 40), complete=complete))

        self.run(self._do(posts(), told))

    @rule(
        kind=st.sampled_from([MessageChangeKind.APPENDED] * 4 + list(MessageChangeKind)),
        back=st.integers(0, 8),
        count=st.integers(1, 8),
        told=st.booleans(),
    )
    def change(self, kind: MessageChangeKind, back: int, count: int, told: bool) -> None:
        head = self.log._heads.get(CHANNEL, 0)
        if head == 0:
            return

        async def changes() -> None:
            for number in range(count):
                place = max(1, head - back)
                held = self.log._held[CHANNEL][place - 1]
                text = f"<{number}>" if kind in (MessageChangeKind.APPENDED, MessageChangeKind.EDITED) else None
                try:
                    await self.log.change(ChangeDraft(CHANNEL, place, kind, revision=held.revision, text=text))
                except RaqcoonError:
                    return

        self.run(self._do(changes(), told))

    # -- clients ----------------------------------------------------------------------------------------------------

    async def _join(self, client: Client, messages: int, changes: int) -> None:
        for hub, position, screen in (
            (self.hubs.changes, changes, client.changes),
            (self.hubs.messages, messages, client.messages),
        ):
            client.subscribers.append(
                await hub.subscribe(CHANNEL, position, cohort="same", filter=None, render=self._render, sink=screen)
            )
            screen.position = max(screen.position, position)

    async def _page(self, client: Client, after: int) -> None:
        page = await self.log.history(CHANNEL, after=after, limit=50)
        for _ in range(self.log.dice.randrange(8)):
            await asyncio.sleep(0)  # It is on its way to the client.
        for message in page.messages:
            client.held.take_message(orjson.loads(orjson.dumps(as_json(message))))

    @rule(claims=st.booleans(), room=st.none() | st.integers(1, 4), paged=st.booleans())
    def come(self, claims: bool, room: int | None, paged: bool) -> None:
        held = HeldMessages()
        client = Client(held, Screen(held, claims=claims, room=room), Screen(held, claims=claims, room=room))
        self.clients.append(client)

        async def joins() -> None:
            changes = await self.log.changes.last_sequence(CHANNEL)  # `changesCursor`, before anything is read
            messages = await self.log.last_sequence(CHANNEL) if paged else 0
            if paged:
                self._read(client, 0)
            await self._join(client, messages, changes)

        self.run(joins())

    def _read(self, client: Client, after: int) -> None:
        task = self.loop.create_task(self._page(client, after))
        self.reads.add(task)
        task.add_done_callback(self.reads.discard)

    @rule(index=st.integers(0, 100), after=st.integers(0, 20))
    def read_a_page(self, index: int, after: int) -> None:
        if self.clients:
            self._read(self.clients[index % len(self.clients)], after)

    @rule(index=st.integers(0, 100), slow=st.booleans(), which=st.booleans())
    def change_pace(self, index: int, slow: bool, which: bool) -> None:
        if self.clients:
            client = self.clients[index % len(self.clients)]
            screen = client.messages if which else client.changes
            screen.slow() if slow else screen.fast()

    @rule(index=st.integers(0, 100), steps=st.integers(0, 20), repeat=st.integers(0, 3))
    def disconnect_and_resume(self, index: int, steps: int, repeat: int) -> None:
        if not self.clients:
            return
        client = self.clients[index % len(self.clients)]

        async def resume() -> None:
            for subscriber in client.subscribers:
                subscriber.close()
            client.subscribers.clear()
            for _ in range(steps):
                await asyncio.sleep(0)
            messages, changes = client.messages.position, client.changes.position
            await self._join(client, max(0, messages - repeat), max(0, changes - repeat))  # some come again

        self.run(resume())

    @rule(steps=st.integers(1, 30))
    def let_time_pass(self, steps: int) -> None:
        async def steps_of_the_loop() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.run(steps_of_the_loop())

    @invariant()
    def sinks_are_used_as_they_must_be(self) -> None:
        assert recorder.VIOLATIONS == []

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        held = self.log._held.get(CHANNEL, [])
        expected = {message.id: orjson.loads(orjson.dumps(as_json(message))) for message in held}

        async def finish() -> None:
            await asyncio.gather(*self.reads)
            for client in self.clients:
                client.messages.fast()
                client.changes.fast()
            for client in self.clients:
                while client.messages.position < self.log._heads.get(
                    CHANNEL, 0
                ) or client.changes.position < self.log.changes.heads.get(CHANNEL, 0):
                    assert not client.messages.ended
                    assert not client.changes.ended
                    await asyncio.sleep(0.0005)
                await asyncio.gather(*self.reads)
                for subscriber in client.subscribers:
                    subscriber.close()
            for client in self.clients:
                assert not client.held.unsure
                assert client.held.messages == expected
            await self.hubs.stop()

        try:
            self.run(finish())
            assert asyncio.all_tasks(self.loop) == set()
        finally:
            self.runner.close()  # After a failed assertion it also ends the tasks that are left.
            LEFT_TASKS.extend(asyncio.all_tasks(self.loop))


@pytest.fixture(autouse=True)
def no_task_is_left() -> Iterator[None]:
    """Holds also for the schedules that are meant to fail: their tasks are ended, not destroyed while they wait."""
    LEFT_TASKS.clear()
    yield
    assert LEFT_TASKS == []


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs_module, "TAIL_BYTES", 8 * 450)
    monkeypatch.setattr(pages_module, "PAGE_BYTES", 6 * 450)
    monkeypatch.setattr(pages_module, "PAGE_ENTRIES", 8)


def run_machine(schedules: int, *, shrink: bool = True) -> None:
    """`shrink`: look for the shortest schedule that fails, which takes much longer than to find the first one."""
    Convergence.TestCase.settings = settings(
        max_examples=schedules,
        phases=list(Phase) if shrink else [Phase.generate],
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    Convergence.TestCase("runTest").runTest()


@pytest.mark.timeout(400)
def test_every_client_ends_with_the_messages_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    run_machine(SCHEDULES)


def _changes_come_first(hubs: Hubs) -> None:
    """A defect: a change is delivered, and what is kept and on its way is left as it was."""
    hubs._restate = lambda changes: None  # type: ignore[method-assign]
    hubs._reached = lambda channel_id, sequence: None  # type: ignore[method-assign]
    hubs.changes.on_head = None


@pytest.mark.timeout(200)
def test_messages_that_are_not_stated_anew_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    start = Hubs.start

    async def broken(self: Hubs) -> None:
        _changes_come_first(self)
        await start(self)

    monkeypatch.setattr(Hubs, "start", broken)
    monkeypatch.setattr(HeldMessages, "_keep", lambda self, id_, change: None)  # nor does the client keep what is early
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_machine(300, shrink=False)


@pytest.mark.timeout(200)
def test_client_that_applies_a_change_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)

    def careless(self: HeldMessages, change: Any) -> None:
        held = self.messages.get(change["messageId"])
        if held is not None:
            self._apply(held, change)

    monkeypatch.setattr(HeldMessages, "take_change", careless)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_machine(300, shrink=False)

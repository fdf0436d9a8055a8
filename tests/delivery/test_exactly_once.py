"""Random histories against the engine's one promise: each subscriber's record is exactly the log's, in order."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from delivery import block as block_module
from delivery import catch_up as catch_up_module
from delivery import channel as channel_module
from delivery import hubs as hubs_module
from delivery import inflow as inflow_module
from delivery import pages as pages_module
from delivery.hubs import Hubs
from delivery.subscriber import Subscriber
from messages import Draft, Message, MessageFilter
from tests.delivery import recorder
from tests.delivery.recorder import Recorder, render
from tests.fakes import MemoryLog

CHANNELS = ("general", "random")


class LaggardLog(MemoryLog):
    """Answers after a random number of loop steps, and forgets to tell of some commits when it is shared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dice = random.Random(0)

    async def _answer(self) -> None:
        for _ in range(self.dice.randrange(6)):
            await asyncio.sleep(0)
        await super()._answer()


class Client:
    def __init__(self, channel_id: str, position: int, wanted: MessageFilter | None, sink: Recorder) -> None:
        self.channel_id = channel_id
        self.start = position
        self.wanted = wanted
        self.sink = sink
        self.seen: list[int] = []
        self.subscriber: Subscriber | None = None


class ExactlyOnce(RuleBasedStateMachine):
    """Posts, subscribers that come, go, resume and slow down, lost hints and failing reads, in any interleaving."""

    @initialize(shared=st.booleans(), seed=st.integers(0, 2**32))
    def begin(self, shared: bool, seed: int) -> None:
        recorder.VIOLATIONS.clear()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self.runner.get_loop()
        self.log = LaggardLog(exclusive=not shared)
        self.log.dice.seed(seed)
        self.hubs = Hubs(self.log, max_cohorts=3, sweep_interval_seconds=0.001)
        self.hub = self.hubs.messages
        self.shared = shared
        self.clients: list[Client] = []
        self.run(self.log.open(self.hubs))
        self.run(self.hubs.start())

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 20))

    async def _post(self, channel_id: str, count: int, told: bool) -> None:
        listener = self.log._listener
        if not told:
            self.log._listener = None  # Another node's commit, whose hint is lost.
        try:
            for number in range(count):
                draft = Draft(channel_id, f"author-{number % 2}", "x" * self.log.dice.randrange(1, 40))
                await self.log.append(draft)
        finally:
            self.log._listener = listener

    async def _hear(self, channel_id: str, count: int) -> None:
        """Another node's commits: each message is told twice, once, as a bare hint or not at all, in any order."""
        before = self.log._heads.get(channel_id, 0)
        await self._post(channel_id, count, False)
        dice = self.log.dice
        told = [message for message in self.log._between(channel_id, before, None) for _ in range(dice.randrange(3))]
        if dice.random() < 0.5:
            dice.shuffle(told)
        for message in told:
            if dice.random() < 0.8:
                self.hub.heard([message])
            else:
                self.hub.hinted(channel_id, message.sequence)
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)

    async def _render(self, message: Message) -> bytes:
        for _ in range(self.log.dice.randrange(3)):
            await asyncio.sleep(0)
        return render(message)

    async def _subscribe(self, client: Client, position: int | None) -> None:
        client.subscriber = await self.hub.subscribe(
            client.channel_id, position, cohort="same", filter=client.wanted, render=self._render, sink=client.sink
        )
        if position is None:
            client.start = client.subscriber.position

    @rule(channel_id=st.sampled_from(CHANNELS), count=st.integers(1, 30), told=st.booleans())
    def post(self, channel_id: str, count: int, told: bool) -> None:
        self.run(self._post(channel_id, count, told or not self.shared))

    @rule(channel_id=st.sampled_from(CHANNELS), count=st.integers(1, 30))
    def hear_of_posts(self, channel_id: str, count: int) -> None:
        if self.shared:
            self.run(self._hear(channel_id, count))

    @rule(
        channel_id=st.sampled_from(CHANNELS),
        back=st.none() | st.integers(0, 60),
        authors=st.sampled_from([None, None, "1", "0", "01"]),
        posts=st.integers(0, 5),
        claims=st.booleans(),
        room=st.none() | st.integers(1, 4),
    )
    def subscribe(
        self, channel_id: str, back: int | None, authors: str | None, posts: int, claims: bool, room: int | None
    ) -> None:
        head = self.log._heads.get(channel_id, 0)
        position = None if back is None else max(0, head - back)
        wanted = None if authors is None else MessageFilter(authors=frozenset(f"author-{each}" for each in authors))
        client = Client(channel_id, position or 0, wanted, Recorder(claims=claims, room=room))
        self.clients.append(client)

        async def while_posts_arrive() -> None:
            posting = asyncio.ensure_future(self._post(channel_id, posts, True))
            await self._subscribe(client, position)
            await posting

        self.run(while_posts_arrive())

    @rule(index=st.integers(0, 100), slow=st.booleans())
    def change_pace(self, index: int, slow: bool) -> None:
        if self.clients:
            sink = self.clients[index % len(self.clients)].sink
            sink.slow() if slow else sink.fast()

    @rule(index=st.integers(0, 100), steps=st.integers(0, 20))
    def disconnect_and_resume(self, index: int, steps: int) -> None:
        if not self.clients:
            return
        client = self.clients[index % len(self.clients)]

        async def resume() -> None:
            assert client.subscriber is not None
            position = client.subscriber.position
            client.subscriber.close()
            client.subscriber.close()
            before = len(client.sink.messages)
            for _ in range(steps):
                await asyncio.sleep(0)
            assert len(client.sink.messages) == before, "a closed subscriber was written to"
            await self._subscribe(client, position)

        self.run(resume())

    @rule(index=st.integers(0, 100))
    def leave(self, index: int) -> None:
        if self.clients:
            client = self.clients.pop(index % len(self.clients))
            assert client.subscriber is not None
            client.subscriber.close()
            self.check(client)

    @rule(steps=st.integers(1, 40))
    def let_time_pass(self, steps: int) -> None:
        async def steps_of_the_loop() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.run(steps_of_the_loop())

    @rule()
    def log_fails_for_a_moment(self) -> None:
        async def moment() -> None:
            self.log.failing = True
            await asyncio.sleep(0.002)
            self.log.failing = False

        self.run(moment())

    @invariant()
    def records_are_prefixes(self) -> None:
        assert recorder.VIOLATIONS == []
        for client in getattr(self, "clients", []):
            self.check(client)

    @invariant()
    def members_are_in_one_place(self) -> None:
        if not hasattr(self, "hub"):
            return
        for channel in self.hub.channels.values():
            members = [member for cohort in channel.cohorts.values() for member in cohort.members]
            assert len(members) == len(set(members)) == channel.subscribers
            for cohort in channel.cohorts.values():
                for block in cohort.blocks:
                    assert 0 < len(block) <= block_module.MEMBERS_MAX
                    for member in block.members:
                        assert member.catch_up is None
                        assert member.position == block.position
                        assert member.sink.holder is member

    def check(self, client: Client) -> None:
        held = self.log._held.get(client.channel_id, [])
        expected = [
            m.sequence
            for m in held
            if m.sequence > client.start and (client.wanted is None or client.wanted.matches(m))
        ]
        assert client.sink.sequences == expected[: len(client.sink.sequences)]
        assert client.sink.ended == []

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return

        async def finish() -> None:
            for client in self.clients:
                client.sink.fast()
            if self.shared:
                await asyncio.sleep(0.005)  # One sweep of the heads, which repairs the hints that were lost.
            for client in self.clients:
                wanted = [
                    m.sequence
                    for m in self.log._held.get(client.channel_id, [])
                    if m.sequence > client.start and (client.wanted is None or client.wanted.matches(m))
                ]
                while client.sink.sequences != wanted:
                    await asyncio.sleep(0.0005)
            for client in self.clients:
                assert client.subscriber is not None
                client.subscriber.close()
            assert self.hub.channels == {}
            assert self.hub.cohorts == 0
            await self.hubs.stop()

        try:
            self.run(finish())
            assert asyncio.all_tasks(self.loop) == set()
        finally:
            self.runner.close()  # After a failed assertion it also ends the tasks that are left.


@pytest.mark.timeout(240)
def test_every_record_is_the_log_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # Small enough that every path is walked: the tail is short, the queue overflows, pages and batches are cut.
    monkeypatch.setattr(hubs_module, "TAIL_BYTES", 8 * 450)
    monkeypatch.setattr(inflow_module, "QUEUE_ENTRIES", 16)
    monkeypatch.setattr(inflow_module, "BATCH_BYTES", 5 * 450)
    monkeypatch.setattr(channel_module, "YIELD_EVERY_SUBSCRIBERS", 2)
    monkeypatch.setattr(block_module, "MEMBERS_MAX", 2)
    monkeypatch.setattr(catch_up_module, "PAGE_BYTES", 6 * 450)
    monkeypatch.setattr(catch_up_module, "PAGE_ENTRIES", 8)
    monkeypatch.setattr(pages_module, "RETRY_SECONDS", (0.0005, 0.001))
    monkeypatch.setattr(pages_module, "PAGE_BYTES", 6 * 450)
    monkeypatch.setattr(pages_module, "PAGE_ENTRIES", 8)
    ExactlyOnce.TestCase.settings = settings(
        max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
    ExactlyOnce.TestCase("runTest").runTest()

"""The protocol core under arbitrary sequences of frames and reports, against a model of what is live."""

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.fuzzing import FUZZ_SECONDS
from tests.transports.graphql_ws_frames import subscribe_text
from transports.graphql.frames import CloseCode
from transports.graphql.protocol import Authenticate, Close, Operation, Send, ServerProtocol, Start, Stop

ERRORS = [{"message": "It failed.", "extensions": {"code": "BAD_USER_INPUT"}}]


def sent(action: object) -> dict[str, Any]:
    assert isinstance(action, Send)
    frame = json.loads(action.text)
    assert isinstance(frame, dict)
    return frame


IDS = st.sampled_from(["1", "2", "__proto__", "é" * 100, "x" * 300])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(["connection_init", "ping", "pong", "subscribe", "complete", "next", "error", "connection_ack"])
WILD_FRAMES = (
    st.text(max_size=40)
    | JSON_VALUES.map(json.dumps)
    | st.fixed_dictionaries(
        {}, optional={"type": TYPES | JSON_VALUES, "id": IDS | JSON_VALUES, "payload": JSON_VALUES}
    ).map(json.dumps)
)


class AnySequence(RuleBasedStateMachine):
    """A client that says anything and a shell that reports ends at any time, against a model of what is live."""

    def __init__(self) -> None:
        super().__init__()
        self.core = ServerProtocol(subscriptions_max=2)
        self.initialised = False
        self.acknowledged = False
        self.closed = False
        self.live: dict[str, Operation] = {}
        self.streams: set[Operation] = set()
        self.past: list[Operation] = []

    def take(self, action: object) -> None:
        """Holds what is true of every action against the model, and moves the model on."""
        assert not (self.closed and action is not None), "an action after the close frame"
        match action:
            case Send(text):
                frame = json.loads(text)
                text.encode()
                assert frame["type"] in ("pong", "connection_ack")
            case Close(code, reason):
                assert code in set(CloseCode)
                assert len(reason.encode()) <= 123
                self.closed = True
            case Authenticate():
                assert not self.initialised
                self.initialised = True
            case Start(operation, payload):
                assert self.acknowledged
                assert operation.id not in self.live
                assert isinstance(payload.query, str)
                self.live[operation.id] = operation
            case Stop(operation):
                self.ended(operation)

    def ended(self, operation: Operation) -> None:
        assert self.live.pop(operation.id) is operation
        self.streams.discard(operation)
        self.past.append(operation)

    @initialize(acknowledged=st.sampled_from([True, True, True, False]))
    def begin(self, acknowledged: bool) -> None:
        if acknowledged:
            self.init()
            self.acknowledge()

    @rule(text=WILD_FRAMES)
    def anything(self, text: str) -> None:
        self.take(self.core.receive_text(text))

    @precondition(lambda self: not self.initialised)
    @rule()
    def init(self) -> None:
        self.take(self.core.receive_text('{"type":"connection_init"}'))

    @precondition(lambda self: self.initialised and not self.acknowledged)
    @rule()
    def acknowledge(self) -> None:
        action = self.core.acknowledge()
        self.take(action)
        self.acknowledged = action is not None

    @precondition(lambda self: self.acknowledged)
    @rule(id_=IDS)
    def subscribe(self, id_: str) -> None:
        if id_ not in self.live:
            self.take(self.core.receive_text(subscribe_text(id_)))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), again=st.booleans())
    def subscribe_twice(self, data: st.DataObject, again: bool) -> None:
        if again and not self.closed:
            action = self.core.receive_text(subscribe_text(data.draw(st.sampled_from(sorted(self.live)))))
            assert isinstance(action, Close)
            assert action.code == CloseCode.SUBSCRIBER_EXISTS
            self.take(action)

    @rule(id_=IDS)
    def client_completes(self, id_: str) -> None:
        action = self.core.receive_text(json.dumps({"id": id_, "type": "complete"}))
        assert isinstance(action, Stop) == (id_ in self.live and not self.closed)
        self.take(action)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def begin_stream(self, data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(list(self.live.values())))
        if self.closed:
            assert not self.core.begin_stream(operation)
        elif operation not in self.streams:
            begun = self.core.begin_stream(operation)
            assert begun == (len(self.streams) < 2)
            if begun:
                self.streams.add(operation)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), how=st.sampled_from(["next", "complete", "fail"]))
    def work_reports(self, data: st.DataObject, how: str) -> None:
        operation = data.draw(st.sampled_from(list(self.live.values())))
        if self.closed:
            assert self.core.next_result(operation, "{}") is None
            assert self.core.complete(operation) is None
            assert self.core.fail(operation, ERRORS) is None
        elif how == "next":
            assert sent(self.core.next_result(operation, "{}"))["id"] == operation.id
        else:
            frame = sent(self.core.complete(operation) if how == "complete" else self.core.fail(operation, ERRORS))
            assert (frame["id"], frame["type"]) == (operation.id, "complete" if how == "complete" else "error")
            self.ended(operation)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def late_work_reports(self, data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(self.past))
        assert self.core.next_result(operation, "{}") is None
        assert self.core.complete(operation) is None
        assert self.core.fail(operation, ERRORS) is None

    @rule()
    def init_times_out(self) -> None:
        if not self.acknowledged:
            self.take(self.core.init_timed_out())

    @rule()
    def binary(self) -> None:
        self.take(self.core.receive_binary())

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert self.core.closed == self.closed
        assert self.core.acknowledged == self.acknowledged
        assert all(self.core.is_live(operation) != self.closed for operation in self.live.values())
        assert not any(self.core.is_live(operation) for operation in self.past)

    def teardown(self) -> None:
        assert self.core.abandon() == list(self.live.values())
        assert self.core.abandon() == []


@pytest.mark.timeout(FUZZ_SECONDS + 60)
def test_any_sequence_of_frames_and_reports_keeps_the_rules() -> None:
    until = time.monotonic() + FUZZ_SECONDS
    while True:
        run_state_machine_as_test(
            AnySequence,
            settings=settings(
                max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
        if time.monotonic() >= until:
            break

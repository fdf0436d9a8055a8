"""The protocol core without a network: malformed input first, then every rule."""

import json
from typing import Any

import pytest

from tests.transports.graphql_ws_frames import MALFORMED, subscribe_text
from transports.graphql.frames import ID_BYTES_MAX, CloseCode, close_reason
from transports.graphql.protocol import Authenticate, Close, Operation, Send, ServerProtocol, Start, Stop

ERRORS = [{"message": "It failed.", "extensions": {"code": "BAD_USER_INPUT"}}]


def new_core(subscriptions_max: int = 100) -> ServerProtocol:
    return ServerProtocol(subscriptions_max=subscriptions_max)


def acknowledged_core(subscriptions_max: int = 100) -> ServerProtocol:
    core = new_core(subscriptions_max)
    assert core.receive_text('{"type":"connection_init"}') == Authenticate(None)
    assert core.acknowledge() == Send('{"type":"connection_ack"}')
    return core


def start(core: ServerProtocol, id_: str = "1") -> Operation:
    action = core.receive_text(subscribe_text(id_))
    assert isinstance(action, Start)
    return action.operation


def sent(action: object) -> dict[str, Any]:
    assert isinstance(action, Send)
    frame = json.loads(action.text)
    assert isinstance(frame, dict)
    return frame


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("core", [new_core, acknowledged_core], ids=["before-ack", "after-ack"])
def test_text_frame_malformed_closes_4400(core: Any, text: str) -> None:
    protocol = core()
    action = protocol.receive_text(text)
    assert isinstance(action, Close)
    assert action.code == CloseCode.BAD_REQUEST
    assert 0 < len(action.reason.encode()) <= 123
    assert protocol.closed


def test_binary_frame_closes_4400() -> None:
    action = acknowledged_core().receive_binary()
    assert isinstance(action, Close)
    assert action.code == CloseCode.BAD_REQUEST


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 100, "é" * 61),
        ("€" * 100, "€" * 41),
        ("😀" * 100, "😀" * 30),
        ("x" + "😀" * 100, "x" + "😀" * 30),
        ("\ud800", "?"),
    ],
)
def test_close_reason_is_cut_between_characters_at_123_bytes(text: str, expected: str) -> None:
    assert close_reason(text) == expected


# -- initialisation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["", ',"payload":null', ',"payload":{}', ',"payload":{"token":"t"}', ',"more":1'])
def test_init_with_any_allowed_payload_asks_who_it_is(member: str) -> None:
    text = f'{{"type":"connection_init"{member}}}'
    assert new_core().receive_text(text) == Authenticate(json.loads(text).get("payload"))


def test_init_twice_closes_4429() -> None:
    assert acknowledged_core().receive_text('{"type":"connection_init"}') == Close(
        CloseCode.TOO_MANY_INITIALISATION_REQUESTS, "Too many initialisation requests"
    )


def test_init_twice_before_the_ack_closes_4429_and_is_not_acknowledged() -> None:
    core = new_core()
    core.receive_text('{"type":"connection_init"}')
    action = core.receive_text('{"type":"connection_init"}')
    assert isinstance(action, Close)
    assert action.code == CloseCode.TOO_MANY_INITIALISATION_REQUESTS
    assert core.acknowledge() is None


def test_init_timeout_before_the_ack_closes_4408() -> None:
    expected = Close(CloseCode.INITIALISATION_TIMEOUT, "Connection initialisation timeout")
    assert new_core().init_timed_out() == expected
    waiting = new_core()
    waiting.receive_text('{"type":"connection_init"}')
    assert waiting.init_timed_out() == expected


def test_init_timeout_after_the_ack_does_nothing() -> None:
    core = acknowledged_core()
    assert core.init_timed_out() is None
    assert not core.closed


def test_subscribe_before_the_ack_closes_4401() -> None:
    core = new_core()
    assert core.receive_text(subscribe_text()) == Close(CloseCode.UNAUTHORIZED, "Unauthorized")


def test_subscribe_between_init_and_ack_closes_4401() -> None:
    core = new_core()
    core.receive_text('{"type":"connection_init"}')
    assert core.receive_text(subscribe_text()) == Close(CloseCode.UNAUTHORIZED, "Unauthorized")


# -- ping and pong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", [new_core, acknowledged_core], ids=["before-ack", "after-ack"])
@pytest.mark.parametrize("payload", [{}, {"a": [1, None, "é😀"]}, {"__proto__": {"b": 0.5}}])
def test_ping_with_payload_is_answered_with_the_same_payload(core: Any, payload: dict[str, Any]) -> None:
    action = core().receive_text(json.dumps({"type": "ping", "payload": payload}))
    assert sent(action) == {"type": "pong", "payload": payload}


@pytest.mark.parametrize("text", ['{"type":"ping"}', '{"type":"ping","payload":null}', '{"type":"ping","id":7}'])
def test_ping_without_payload_is_answered_without_payload(text: str) -> None:
    assert sent(new_core().receive_text(text)) == {"type": "pong"}


@pytest.mark.parametrize("levels", [200, 254, 300, 800])
def test_ping_with_deep_payload_is_echoed(levels: int) -> None:
    payload: dict[str, Any] = {}
    for _ in range(levels):
        payload = {"a": payload}
    assert sent(new_core().receive_text(json.dumps({"type": "ping", "payload": payload})))["payload"] == payload


def test_ping_with_lone_surrogate_is_echoed_as_escape() -> None:
    action = new_core().receive_text('{"type":"ping","payload":{"a":"\\ud800é"}}')
    assert isinstance(action, Send)
    action.text.encode()
    assert json.loads(action.text) == {"type": "pong", "payload": {"a": "\ud800é"}}


@pytest.mark.parametrize("text", ['{"type":"pong"}', '{"type":"pong","payload":null}', '{"type":"pong","payload":{}}'])
def test_pong_is_accepted_at_any_time(text: str) -> None:
    for core in (new_core(), acknowledged_core()):
        assert core.receive_text(text) is None
        assert not core.closed


# -- operations ----------------------------------------------------------------------------------------------------


def test_subscribe_hands_on_everything_asked_for() -> None:
    action = acknowledged_core().receive_text(
        subscribe_text("é\n\"'", operationName="A", variables={"v": [1]}, extensions={"e": 1}, more=1)
    )
    assert isinstance(action, Start)
    assert action.operation.id == "é\n\"'"
    assert (action.payload.query, action.payload.operation_name) == ("{ a }", "A")
    assert (action.payload.variables, action.payload.extensions) == ({"v": [1]}, {"e": 1})


def test_subscribe_with_nulls_is_subscribe_without_them() -> None:
    action = acknowledged_core().receive_text(subscribe_text(operationName=None, variables=None, extensions=None))
    assert isinstance(action, Start)
    assert (action.payload.operation_name, action.payload.variables, action.payload.extensions) == (None, None, None)


def test_subscribe_with_lone_surrogate_in_a_variable_is_well_formed() -> None:
    text = '{"id":"1","type":"subscribe","payload":{"query":"{a}","variables":{"content":"\\udc00"}}}'
    action = acknowledged_core().receive_text(text)
    assert isinstance(action, Start)
    assert action.payload.variables == {"content": "\udc00"}


@pytest.mark.parametrize("id_", ["1", "__proto__", "constructor", "x" * ID_BYTES_MAX, "é", " ", "\u0000", '"}'])
def test_id_of_any_text_comes_back_as_it_was(id_: str) -> None:
    core = acknowledged_core()
    operation = start(core, id_)
    assert sent(core.next_result(operation, '{"data":{}}')) == {"id": id_, "type": "next", "payload": {"data": {}}}
    assert sent(core.fail(operation, ERRORS)) == {"id": id_, "type": "error", "payload": ERRORS}


def test_id_in_use_closes_4409() -> None:
    core = acknowledged_core()
    start(core)
    assert core.receive_text(subscribe_text()) == Close(CloseCode.SUBSCRIBER_EXISTS, "Subscriber for 1 already exists")


@pytest.mark.parametrize("id_", ["x" * 1000, "é" * 500, "😀" * 250])
def test_long_id_in_use_closes_4409_with_a_reason_that_fits(id_: str) -> None:
    core = acknowledged_core()
    start(core, id_)
    action = core.receive_text(subscribe_text(id_))
    assert isinstance(action, Close)
    assert action.code == CloseCode.SUBSCRIBER_EXISTS
    assert action.reason.startswith("Subscriber for " + id_[:20])
    assert 119 < len(action.reason.encode()) <= 123


def test_complete_from_the_client_stops_the_operation_and_nothing_more_is_sent() -> None:
    core = acknowledged_core()
    operation = start(core)
    assert core.receive_text('{"id":"1","type":"complete"}') == Stop(operation)
    assert not core.is_live(operation)
    assert core.next_result(operation, "{}") is None
    assert core.complete(operation) is None
    assert core.fail(operation, ERRORS) is None


@pytest.mark.parametrize("core", [new_core, acknowledged_core], ids=["before-ack", "after-ack"])
def test_complete_for_an_id_not_in_use_does_nothing(core: Any) -> None:
    protocol = core()
    assert protocol.receive_text('{"id":"nobody","type":"complete"}') is None
    assert not protocol.closed


def test_id_reused_after_complete_is_another_operation() -> None:
    core = acknowledged_core()
    first = start(core)
    core.receive_text('{"id":"1","type":"complete"}')
    second = start(core)
    assert core.complete(first) is None
    assert core.fail(first, ERRORS) is None
    assert core.is_live(second)
    assert sent(core.complete(second)) == {"id": "1", "type": "complete"}


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_id_is_free_once_the_server_ended_it(end: str) -> None:
    core = acknowledged_core()
    operation = start(core)
    assert core.complete(operation) if end == "complete" else core.fail(operation, ERRORS)
    start(core)


def test_subscriptions_past_the_limit_are_not_begun_and_free_places_are() -> None:
    core = acknowledged_core(subscriptions_max=2)
    operations = [start(core, str(number)) for number in range(3)]
    assert [core.begin_stream(operation) for operation in operations] == [True, True, False]
    core.fail(operations[2], ERRORS)
    core.receive_text('{"id":"0","type":"complete"}')
    assert core.begin_stream(start(core, "3"))
    assert not core.begin_stream(start(core, "4"))


def test_stream_of_a_completed_operation_is_not_begun() -> None:
    core = acknowledged_core(subscriptions_max=1)
    operation = start(core)
    core.receive_text('{"id":"1","type":"complete"}')
    assert not core.begin_stream(operation)
    assert core.begin_stream(start(core))


def test_fail_all_ends_every_operation_once() -> None:
    core = acknowledged_core()
    operations = [start(core, id_) for id_ in "abc"]
    ended = core.fail_all(ERRORS)
    assert [operation for operation, _ in ended] == operations
    assert [sent(send)["id"] for _, send in ended] == ["a", "b", "c"]
    assert core.fail_all(ERRORS) == []


def test_close_is_given_once_and_frames_after_it_are_passed_over() -> None:
    core = acknowledged_core()
    assert core.close(1012, "Service restart") == Close(1012, "Service restart")
    assert core.close(1012, "Service restart") is None
    assert core.receive_text("not json") is None
    assert core.receive_text(subscribe_text()) is None
    assert core.receive_binary() is None
    assert core.init_timed_out() is None

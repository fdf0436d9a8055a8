"""What workers count in memory that they share, and how their figures are added up."""

import os

from resolvers.post_rate import PostRate, burst_of
from transports.gate.admission import Admission
from transports.sight import sums
from workers.board import FIGURES_BYTES, Board, Buckets


def test_connections_of_other_processes_count_and_are_forgotten_with_them() -> None:
    board = Board(2)
    here, there = (Admission(max_connections=3, elsewhere=board.connections.of(index)) for index in range(2))
    assert [here.enter("192.0.2.1"), there.enter("192.0.2.1"), there.enter(None)] == [None] * 3
    assert here.enter("192.0.2.2") is not None
    there.leave("192.0.2.1")
    assert here.enter("192.0.2.2") is None
    board.clear(1)  # killed with one that had not left
    assert here.enter("192.0.2.3") is None
    assert here.enter("192.0.2.3") is not None


def test_connections_of_an_address_count_in_all_processes() -> None:
    board = Board(3)
    workers = [Admission(max_per_address=5, elsewhere=board.connections.of(index)) for index in range(3)]
    answers = [workers[n % 3].enter("192.0.2.1") for n in range(7)]
    assert [answer is None for answer in answers] == [True] * 5 + [False] * 2
    assert workers[0].enter("192.0.2.2") is None


def test_forked_process_sees_and_is_seen() -> None:
    board = Board(2)
    pid = os.fork()
    if not pid:
        board.connections.of(1).entered("192.0.2.1")
        os._exit(0)
    os.waitpid(pid, 0)
    assert (board.connections.of(0).inside(), board.connections.of(0).at("192.0.2.1")) == (1, 1)


def test_buckets_that_are_shared_allow_what_one_processes_own_would() -> None:
    for per_second in (0.5, 1, 3.3, 100):
        shared = Buckets(per_second, burst_of(per_second)), Buckets(per_second, burst_of(per_second))
        both = [PostRate(per_second, authors=shared[0], addresses=shared[1]) for _ in range(2)]
        alone = PostRate(per_second)
        now = 1000.0
        for step in range(400):
            rate = both[step % 2]
            assert allowed(rate, now) == allowed(alone, now)
            if step % 7 == 0 and allowed(alone, now):
                rate.give_back("ada", "192.0.2.1")
                alone.give_back("ada", "192.0.2.1")
                allowed(rate, now)
            now += 0.37 / per_second
        assert allowed(both[0], now, author="bob", address="192.0.2.2")


def allowed(rate: PostRate, now: float, author: str = "ada", address: str = "192.0.2.1") -> bool:
    try:
        rate.charge(author, address, now)
    except Exception:
        return False
    return True


def test_figures_that_are_too_long_leave_the_last_ones() -> None:
    board = Board(2)
    assert board.figures(1) == b""
    for text in (b"one", b"two", b"three"):
        assert board.write_figures(1, text)
        assert board.figures(1) == text
    assert not board.write_figures(1, b"x" * FIGURES_BYTES)
    assert (board.figures(1), board.figures(0)) == (b"three", b"")


def family(kind: str, value: float, name: str = "s", **labels: str) -> dict[str, object]:
    return {"type": kind, "help": "", "samples": [[name, sorted(labels.items()), value]]}


def test_sums_of_figures() -> None:
    parts: list[sums.Figures] = [
        {
            "raqcoon_accepting": family("gauge", 1),
            "raqcoon_commits": family("counter", 5),
            "x": family("gauge", 2, a="1"),
        },
        {
            "raqcoon_accepting": family("gauge", 0),
            "raqcoon_commits": family("counter", 7),
            "x": family("gauge", 3, a="1"),
        },
        {"x": family("gauge", 4, a="2")},
    ]
    for told_to_all, commits in ((True, 7), (False, 12)):
        whole = sums.added(parts, commits_are_told_to_all=told_to_all)
        assert whole["raqcoon_accepting"]["samples"] == [["s", [], 0]]
        assert whole["raqcoon_commits"]["samples"] == [["s", [], commits]]
        assert whole["x"]["samples"] == [["s", [("a", "1")], 5], ["s", [("a", "2")], 4]]
    assert set(sums.growing(parts[0])) == {"raqcoon_commits"}
    assert sums.decode(sums.encode(parts[0]))["x"]["samples"] == [["s", [["a", "1"]], 2]]
    assert parts[0]["raqcoon_commits"]["samples"][0][2] == 5

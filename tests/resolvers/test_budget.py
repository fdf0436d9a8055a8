"""What one operation may cost: taken before it is paid for, and not given back where nothing was found."""

import pytest

from errors import BadUserInput
from message_log.protocol import LOOK_AT_MAX
from resolvers.budget import ANSWER_BYTES_MAX, LOOKS_MAX, LOOKS_OF_PAGE_MIN, MESSAGES_MAX, PAGE_MESSAGES_MIN, Budget


def test_pages_cost_what_they_ask_for_and_never_less_than_reading_one_costs() -> None:
    budget = Budget()
    for _ in range(MESSAGES_MAX // PAGE_MESSAGES_MIN - 10):
        budget.take_page("first", 1)
    budget.take_page("first", 100)
    assert budget.messages == 0
    with pytest.raises(BadUserInput, match="first asks for too much"):
        budget.take_page("first", 0)


def test_filtered_pages_look_at_less_once_an_operation_has_looked_at_much() -> None:
    budget, looked = Budget(), []
    for _ in range(200):
        looks = budget.take_looks()
        budget.looked(looks, looks)
        looked.append(looks)
    assert looked[:20] == [LOOK_AT_MAX] * 20
    assert looked == sorted(looked, reverse=True)
    assert looked[-1] == LOOKS_OF_PAGE_MIN
    assert sum(looked) < LOOKS_MAX + 200 * LOOKS_OF_PAGE_MIN


def test_page_that_has_found_enough_soon_pays_for_what_it_has_looked_at() -> None:
    budget = Budget()
    for _ in range(1_000):
        assert budget.take_looks() == LOOK_AT_MAX
        budget.looked(LOOK_AT_MAX, 1)
    assert budget.looks == LOOKS_MAX - 1_000


def test_answer_has_its_bytes_and_no_more() -> None:
    budget = Budget()
    budget.take_bytes("messages", ANSWER_BYTES_MAX)
    with pytest.raises(BadUserInput, match="an answer may have"):
        budget.take_bytes("messages", 1)

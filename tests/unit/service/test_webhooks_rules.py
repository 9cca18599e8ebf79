"""When a delivery is tried again, and whose turn it is."""

import pytest

from service.store.base import Delivery
from service.webhooks.turns import Turns
from service.webhooks.verdict import back_off, retry_after


def delivery(number):
    return Delivery(
        id=number,
        uid="u",
        job_id="j",
        target="webhook",
        type="job.queued",
        webhook_id="m",
        created=0,
        tries=0,
        event="",
    )


def test_pauses_double_up_to_an_hour():
    for tries, seconds in ((0, 1), (1, 2), (2, 4), (11, 2048), (12, 3600), (500, 3600)):
        assert 0.9 * seconds <= back_off(tries, 1.0) <= 1.1 * seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("99999", 3600),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("soon", 0),
        ("", 0),
        ("-5", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date_and_an_hour_at_most(text, seconds):
    assert retry_after(text, 10.0) == seconds


def test_hosts_take_turns_and_keep_to_their_slots():
    turns = Turns(slots=4, slots_per_host=2)
    for number in range(5):
        turns.offer("a", delivery(number))
    turns.offer("b", delivery(10))
    taken = []
    while (found := turns.take()) is not None:
        taken.append((found[0], found[1].id))
    assert taken == [("a", 0), ("b", 10), ("a", 1)]


def test_a_host_that_does_not_answer_gets_fewer_slots_until_it_does():
    turns = Turns(slots=64, slots_per_host=16)
    turns.answered("a", reachable=False)
    assert [turns.offer("a", delivery(n)) for n in range(4)] == [True, True, False, False]
    turns.answered("a", reachable=True)
    assert turns.offer("a", delivery(5))


def test_what_was_done_during_a_scan_is_not_taken_from_its_answer():
    turns = Turns(slots=4, slots_per_host=2)
    turns.offer("a", delivery(1))
    host, first = turns.take()
    turns.begin_scan()
    turns.done(host, first)
    assert not turns.offer("a", first)
    turns.begin_scan()
    assert turns.offer("a", first)

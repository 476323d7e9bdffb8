"""Messages of ours: which they are, what became of them, what is kept."""

import json
import time

import pytest

from postfix_mtasts.core import own_mail
from postfix_mtasts.core.own_mail import (
    MAX_OWN,
    Fate,
    OwnQueue,
    build_own_queue,
    parse_own_queue,
)
from postfix_mtasts.core.postfix_log import Delivery, Sender, parse_message

KEY = ("mta", "ABC123")
NOW = 1795280448.0
ACTIVE = Sender("ABC123", "tlsrpt@me.example", expired=False)
EXPIRED = ACTIVE._replace(expired=True)


def delivery(status: str, to: str = "to=<u@a.example>") -> Delivery:
    text = f"ABC123: {to}, relay=none, delay=1, delays=1/0/0/0, dsn=4.0.0, status={status}"
    message = parse_message("smtp", text.encode())
    assert isinstance(message, Delivery)
    return message


def test_a_message_is_ours_from_its_sender_on_until_it_is_forgotten() -> None:
    own = OwnQueue()
    assert not own.has(KEY, NOW)
    own.hear_sender(KEY, ACTIVE, NOW)
    assert own.has(KEY, NOW)
    assert own.has(KEY, NOW + 86400)
    assert not own.has(KEY, NOW + 86400 + 3600)
    assert not own.has(("other", "ABC123"), NOW)
    own.hear_delivery(KEY, delivery("deferred (x)"), NOW)
    own.forget(KEY)
    own.forget(KEY)
    assert own == OwnQueue()


@pytest.mark.parametrize(
    ("status", "delivered"),
    [("sent (250 ok)", True), ("bounced (no)", False), ("deferred (x)", None), ("expired", None)],
)
def test_what_is_final_is_told(status: str, *, delivered: bool | None) -> None:
    wanted = None if delivered is None else Fate("u@a.example", NOW, delivered=delivered)
    assert OwnQueue().hear_delivery(KEY, delivery(status), NOW) == wanted


def test_a_recipient_is_the_one_to_whom_the_report_was_submitted() -> None:
    told = delivery("sent (250 ok)", "to=<u@b.example>, orig_to=<u@a.example>")
    assert OwnQueue().hear_delivery(KEY, told, NOW) == Fate("u@a.example", NOW, delivered=True)


def test_a_report_that_expires_was_for_whom_it_was_put_off() -> None:
    own = OwnQueue()
    own.hear_sender(KEY, ACTIVE, NOW)
    assert own.hear_sender(KEY, EXPIRED, NOW) is None
    own.hear_delivery(KEY, delivery("deferred (x)"), NOW)
    wanted = Fate("u@a.example", NOW + 9, delivered=False)
    assert own.hear_sender(KEY, EXPIRED, NOW + 9) == wanted


def test_both_tables_are_bounded_and_keep_what_is_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_mail, "MAX_OWN", 2)
    monkeypatch.setattr(own_mail, "MAX_WAITING", 1)
    own = OwnQueue()
    keys = [("mta", queue_id) for queue_id in "ABAC"]
    for key in keys:
        own.hear_sender(key, ACTIVE, NOW)
        own.hear_delivery(key, delivery("deferred (x)"), NOW)
    assert list(own.active) == [keys[0], keys[3]]
    assert list(own.waiting) == [keys[3]]


def test_what_is_kept_comes_back_from_json_in_its_order() -> None:
    own = OwnQueue()
    for number, (host, when) in enumerate([("b", 0), ("b", 1), ("a", 1), ("b", 1), ("b", 9000)]):
        own.hear_sender((host, f"ABC{number}"), ACTIVE, NOW + when)
    own.hear_delivery(("b", "ABC0"), delivery("deferred (x)"), NOW)
    again = parse_own_queue(json.loads(json.dumps(build_own_queue(own))))
    assert again == own
    assert list(again.active) == list(own.active)
    assert parse_own_queue(build_own_queue(OwnQueue())) == OwnQueue()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [[], {}],
        [[["mta", 1.0, "A"]], []],
        [[["mta", 1, 7]], []],
        [[[7, 1, "A"]], []],
        [[["mta", 1]], []],
        [[], [["mta", "A"]]],
        [[], [["mta", "A", None]]],
    ],
)
def test_what_was_never_built_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        parse_own_queue(value)


def test_a_night_of_reports_can_be_written_every_second() -> None:
    own = OwnQueue()
    for number in range(MAX_OWN):
        own.hear_sender(("mta", f"{number:05X}8274566"), ACTIVE, NOW + number / 50)
    before = time.process_time()
    text = json.dumps(build_own_queue(own))
    assert time.process_time() - before < 0.2  # 0.02 on a machine at rest
    assert len(text) < 14 * MAX_OWN

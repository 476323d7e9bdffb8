"""Whether Postfix's datagrams come."""

import pytest

from postfix_mtasts.core.diagnosis import Diagnosis, Grade
from postfix_mtasts.core.tlsrpt_diagnosis import Datagrams, diagnose_tlsrpt
from tests.core.doctor_samples import ETC, setup

SOCKET = "postfix-mtasts/tlsrpt.sock"
WELL = Datagrams(refused="", queue=512)


def found(
    datagrams: Datagrams = WELL, *, enable: str = "yes", socket: str = SOCKET, built: bool = True
) -> tuple[Diagnosis, ...]:
    host = setup(
        "3.10.1", has_tlsrpt=built, smtp_tlsrpt_enable=enable, smtp_tlsrpt_socket_name=socket
    )
    return diagnose_tlsrpt(host, datagrams)


def test_before_3_10_there_is_nothing_to_say() -> None:
    assert diagnose_tlsrpt(setup("3.9.9"), WELL) == ()


def test_datagrams_that_come_are_well() -> None:
    (said,) = found()
    assert (said.grade, said.instance) == (Grade.OK, ETC)
    assert found(Datagrams(refused="", queue=None)) == (said,)


def test_a_postfix_that_was_built_without_is_left_in_peace() -> None:
    assert [said.grade for said in found(built=False, enable="no")] == [Grade.NOTE]


@pytest.mark.parametrize(
    ("enable", "socket", "changes"),
    [
        ("no", SOCKET, {"smtp_tlsrpt_enable": "yes"}),
        ("yes", "", {"smtp_tlsrpt_socket_name": SOCKET}),
        ("no", "", {"smtp_tlsrpt_enable": "yes", "smtp_tlsrpt_socket_name": SOCKET}),
    ],
)
def test_both_settings_are_needed(enable: str, socket: str, changes: dict[str, str]) -> None:
    (said,) = found(enable=enable, socket=socket)
    assert said.grade is Grade.WARNING
    assert {change.name: change.value for change in said.changes} == changes


@pytest.mark.parametrize(
    ("socket", "why", "mend"),
    [
        (f"/run/{SOCKET}", "No such file or directory", "postconf -c /etc/postfix -e"),
        (SOCKET, "Permission denied", "systemctl restart postfix-mtasts-collector.socket"),
        (SOCKET, "Connection refused", "systemctl start postfix-mtasts-collector.socket"),
    ],
)
def test_a_socket_that_cannot_be_written_to_is_mended_by_its_cause(
    socket: str, why: str, mend: str
) -> None:
    (said,) = found(Datagrams(refused=why, queue=512), socket=socket)
    assert (said.grade, why in said.text) == (Grade.WARNING, True)
    assert said.mend.startswith(mend)


def test_what_was_not_tried_is_a_note() -> None:
    assert [said.grade for said in found(Datagrams(queue=512))] == [Grade.NOTE]


def test_a_short_queue_loses_datagrams() -> None:
    (said,) = found(Datagrams(refused="", queue=10))
    assert said.mend == "sysctl -w net.unix.max_dgram_qlen=512"

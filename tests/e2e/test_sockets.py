"""Where Postfix reaches the daemon: a socket in its chroot, or one on loopback."""

import re

from tests.e2e.lab import Lab


def published(lab: Lab, domain: str) -> None:
    mx = lab.receiver(f"mx.{domain}")
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))


def test_one_relative_path_serves_a_client_that_is_chrooted_to_the_queue(lab: Lab) -> None:
    published(lab, "chroot.plain.test")

    attempt = lab.postfix.send("user@chroot.plain.test")

    assert [label for label, _host in attempt.handshakes] == ["Verified"]
    (pid,) = set(re.findall(r"postfix/smtp\[(\d+)\]", "\n".join(attempt.lines)))
    root = lab.namespace.run("readlink", f"/proc/{pid}/root").rstrip("\n")
    assert root == "/var/spool/postfix"


def test_both_sockets_answer_alike(lab: Lab) -> None:
    published(lab, "sockets.plain.test")

    over_unix = lab.postfix.ask("sockets.plain.test")
    over_tcp = lab.postfix.ask("sockets.plain.test", "socketmap:inet:127.0.0.1:8461:policy")

    assert over_unix == over_tcp
    assert over_unix == "secure match=mx.sockets.plain.test servername=hostname"

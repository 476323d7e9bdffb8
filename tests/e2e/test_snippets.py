"""What contrib/postfix has for main.cf and master.cf, each proven by a delivery.

The snippets for one Postfix are all in force at once, as on a host that wants
everything.
"""

import contextlib
import json
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.e2e import mail_client
from tests.e2e.auth_server import PASSWORD, USER
from tests.e2e.debian_tree import NoTreeError
from tests.e2e.mail_client import SMTP, SUBMISSION, SUBMISSIONS
from tests.e2e.postfix import Attempt
from tests.e2e.smtp_receiver import Receiver
from tests.e2e.snippets import (
    CONTRIB,
    GATEWAY,
    NAMES,
    OWN_DOMAIN,
    RELEASES,
    Site,
    text_of,
    uncommented,
)

REPORTS = "tls-reports@example.com"  # as in tls-report.main.cf
WISH = "Require-TLS-ESMTP: yes\r\n"

FROM_3_10 = pytest.mark.parametrize("site", ["3.10", "3.11"], indirect=True)
BEFORE_3_10 = pytest.mark.parametrize("site", ["3.7"], indirect=True)
BEFORE_3_11 = pytest.mark.parametrize("site", ["3.7", "3.10"], indirect=True)
WITHOUT_GATEWAY = pytest.mark.parametrize("site", ["3.10"], indirect=True)
WITH_GATEWAY = pytest.mark.parametrize("site", ["3.7"], indirect=True)
FROM_3_11 = pytest.mark.parametrize("site", ["3.11"], indirect=True)


@pytest.fixture(scope="module", params=RELEASES)
def site(
    request: pytest.FixtureRequest, labs: Path, skip: Callable[[str], NoReturn]
) -> Iterator[Site]:
    """Return the lab of one Postfix."""
    try:
        site = Site(labs / f"snippets-{request.param}", RELEASES[request.param])
    except NoTreeError as error:
        skip(f"there is no Postfix {request.param}: {error}")
    yield site
    site.close()


def host_of(site: Site, domain: str, *, trusted: bool = True, **publishing: Any) -> Receiver:
    """Return the one MX host of *domain*."""
    host = f"mx.{domain}"
    authority = site.lab.authority if trusted else site.lab.stranger
    mx = site.lab.receiver(host, certificate=authority.issue(host), **publishing)
    site.lab.mail_domain(domain, mx)
    return mx


def enforcing(site: Site, domain: str, *, trusted: bool = True) -> Receiver:
    mx = host_of(site, domain, trusted=trusted)
    site.lab.policy(domain, mode="enforce", mx=(mx,))
    return mx


def hand_in(site: Site, recipient: str, *, port: int = SUBMISSION, **message: Any) -> Attempt:
    """Hand in a message as a mail client does and wait for the first attempt at its delivery."""
    authority = site.lab.authority.pem
    call = site.lab.namespace.call
    queue_id = call(mail_client.hand_in, port, authority, recipient, **message)
    return site.postfix.attempt(queue_id)


# All snippets


@pytest.mark.parametrize("name", NAMES)
def test_each_line_of_a_snippet_follows_a_comment_on_it(name: str) -> None:
    assert uncommented(text_of(name)) == []


def test_each_snippet_is_for_some_postfix() -> None:
    tried = {name for release in RELEASES.values() for name in release.snippets}
    assert tried == set(NAMES)


def test_postfix_knows_each_setting(site: Site) -> None:
    for option in ("-n", "-M", "-P"):
        _, complaints = site.postfix.postconf(option)
        assert complaints == ""


@BEFORE_3_10
def test_the_command_of_the_readme_puts_all_of_a_snippet_in(site: Site, tmp_path: Path) -> None:
    (command,) = re.findall(r"^grep .*mta-sts\.main\.cf.*$", text_of("README.md"), re.MULTILINE)
    main_cf = tmp_path / "main.cf"
    for name in NAMES:
        if name.endswith(".main.cf"):
            main_cf.write_text("smtp_tls_security_level = none\n")
            put_in = command.replace("mta-sts.main.cf", name)
            site.lab.namespace.run(
                "sh", "-c", f"cd {CONTRIB}; export MAIL_CONFIG={tmp_path}; {put_in}"
            )
            assert settings(main_cf.read_text()) >= settings(text_of(name))


def settings(text: str) -> set[str]:
    return {line.rstrip() for line in text.splitlines() if line and not line.startswith("#")}


# main.cf


def test_main_cf_lets_mail_through_where_mta_sts_is_met(site: Site) -> None:
    mx = enforcing(site, "met.plain.test")

    attempt = site.postfix.send("user@met.plain.test")

    assert (attempt.status, attempt.handshakes) == ("sent", (("Verified", mx.host),))


def test_main_cf_holds_mail_where_mta_sts_is_not_met(site: Site) -> None:
    mx = enforcing(site, "unmet.plain.test", trusted=False)

    attempt = site.postfix.send("user@unmet.plain.test")

    assert (attempt.status, attempt.dsn, mx.messages) == ("deferred", "4.7.5", [])


def test_main_cf_lets_dane_decide_where_there_are_tlsa_records(site: Site) -> None:
    mx = host_of(site, "dane.signed.test", trusted=False, tlsa="own")

    attempt = site.postfix.send("user@dane.signed.test")

    assert (attempt.status, attempt.handshakes) == ("sent", (("Verified", mx.host),))


@FROM_3_10
def test_main_cf_tells_the_sidecar_of_the_session_and_its_policy(site: Site) -> None:
    enforcing(site, "told.plain.test")
    site.lab.asks_for_reports("told.plain.test", "mailto:tls@told.plain.test")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sidecar:
        sidecar.settimeout(10)
        sidecar.bind(str(site.tlsrpt_socket))
        site.tlsrpt_socket.chmod(0o666)
        site.postfix.send("user@told.plain.test")
        told = json.loads(sidecar.recv(65536))
    site.tlsrpt_socket.unlink()

    (policy,) = told["policies"]
    assert told["d"] == policy["policy-domain"] == "told.plain.test"
    assert policy["mx-host"] == ["mx.told.plain.test"]


# Report mail


@BEFORE_3_10
def test_reports_alone_get_through_to_a_domain_whose_certificate_is_broken(site: Site) -> None:
    mx = enforcing(site, "broken.plain.test", trusted=False)

    ordinary = site.postfix.send("user@broken.plain.test")
    report = site.postfix.send("tls@broken.plain.test", sender=REPORTS)

    assert (ordinary.status, ordinary.dsn) == ("deferred", "4.7.5")
    assert report.status == "sent"
    assert [(m.sender, m.tls) for m in mx.messages] == [(REPORTS, "TLSv1.3")]


# REQUIRETLS


@BEFORE_3_11
def test_the_wish_for_tls_is_met_by_an_enforced_policy(site: Site) -> None:
    mx = enforcing(site, "wish-met.plain.test")

    attempt = hand_in(site, "user@wish-met.plain.test", header=WISH)

    assert (attempt.status, attempt.handshakes) == ("sent", (("Verified", mx.host),))
    assert all(" postfix/requiretls/smtp[" in line for line in attempt.lines)


@BEFORE_3_11
def test_the_wish_for_tls_is_met_by_dane(site: Site) -> None:
    mx = host_of(site, "wish-dane.signed.test", trusted=False, tlsa="own")

    attempt = hand_in(site, "user@wish-dane.signed.test", header=WISH)

    assert (attempt.status, attempt.handshakes) == ("sent", (("Verified", mx.host),))


@WITHOUT_GATEWAY
@pytest.mark.parametrize("starttls", [True, False], ids=["unnamed", "in-the-clear"])
def test_who_wishes_for_tls_waits_where_no_policy_names_the_host(
    site: Site, *, starttls: bool
) -> None:
    domain = f"unsafe-{int(starttls)}.plain.test"
    mx = host_of(site, domain)
    mx.starttls = starttls

    ordinary = hand_in(site, f"user@{domain}")
    wishing = hand_in(site, f"wish@{domain}", header=WISH)

    assert (ordinary.status, wishing.status) == ("sent", "deferred")
    assert [message.recipient for message in mx.messages] == [f"user@{domain}"]


@WITHOUT_GATEWAY
def test_who_wishes_for_tls_waits_where_the_host_is_but_an_address(site: Site) -> None:
    mx = host_of(site, "address.plain.test")

    attempt = hand_in(site, f"user@[{mx.address}]", header=WISH)

    assert (attempt.status, mx.messages) == ("deferred", [])


@WITH_GATEWAY
def test_what_cannot_be_delivered_safely_goes_to_the_gateway_over_tls(site: Site) -> None:
    mx = host_of(site, "unsafe.plain.test")
    gateway = site.lab.receiver(GATEWAY)

    safe = hand_in(site, "user@unsafe.plain.test", header=WISH)
    gateway.certificate = site.lab.stranger.issue(GATEWAY)
    forged = hand_in(site, "user@unsafe.plain.test", header=WISH)
    gateway.starttls = False
    stripped = hand_in(site, "user@unsafe.plain.test", header=WISH)

    assert (safe.status, safe.relay) == ("sent", GATEWAY)
    assert safe.handshakes[-1] == ("Verified", GATEWAY)
    assert (forged.status, stripped.status) == ("deferred", "deferred")
    assert len(gateway.messages) == 1
    assert mx.messages == []


@BEFORE_3_11
def test_mail_to_an_own_domain_stays_here_with_the_wish_too(site: Site) -> None:
    site.lab.dns.publish("host.plain.test", "A", "127.0.0.1")
    site.lab.dns.publish(OWN_DOMAIN, "MX", "10 host.plain.test.")

    attempt = hand_in(site, f"user@{OWN_DOMAIN}", header=WISH)

    assert (attempt.status, attempt.reason) == ("sent", "own")


@FROM_3_11
@pytest.mark.parametrize("port", [SUBMISSIONS, SUBMISSION])
def test_requiretls_goes_on_to_a_host_that_is_named_and_knows_it(site: Site, port: int) -> None:
    mx = enforcing(site, f"knows-{port}.plain.test")
    mx.requiretls = True

    attempt = hand_in(site, f"user@knows-{port}.plain.test", port=port, options=["REQUIRETLS"])

    assert (attempt.status, attempt.handshakes) == ("sent", (("Verified", mx.host),))
    assert [message.requiretls for message in mx.messages] == [True]


@FROM_3_11
def test_postfix_itself_takes_the_wish_in_the_header_for_requiretls(site: Site) -> None:
    mx = enforcing(site, "by-header.plain.test")
    mx.requiretls = True

    attempt = hand_in(site, "user@by-header.plain.test", header=WISH)

    assert attempt.status == "sent"
    assert [message.requiretls for message in mx.messages] == [True]


@FROM_3_11
def test_requiretls_goes_on_under_dane(site: Site) -> None:
    mx = host_of(site, "knows.signed.test", trusted=False, tlsa="own")
    mx.requiretls = True

    attempt = hand_in(site, "user@knows.signed.test", options=["REQUIRETLS"])

    assert attempt.status == "sent"
    assert [message.requiretls for message in mx.messages] == [True]


@FROM_3_11
def test_requiretls_comes_back_where_the_host_does_not_know_it(site: Site) -> None:
    mx = enforcing(site, "ignorant.plain.test")

    attempt = hand_in(site, "user@ignorant.plain.test", options=["REQUIRETLS"])

    assert (attempt.status, attempt.dsn, mx.messages) == ("bounced", "5.7.30", [])


@FROM_3_11
def test_requiretls_comes_back_where_no_policy_names_the_host(site: Site) -> None:
    mx = host_of(site, "nameless.plain.test")
    mx.requiretls = True

    attempt = hand_in(site, "user@nameless.plain.test", options=["REQUIRETLS"])

    assert (attempt.status, attempt.dsn, mx.messages) == ("bounced", "5.7.10", [])


# Submission


def test_port_587_hears_nothing_but_starttls_before_tls(site: Site) -> None:
    with site.lab.namespace.call(smtplib.SMTP, "127.0.0.1", SUBMISSION, timeout=10) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        assert client.mail(USER)[0] == 530
        assert client.docmd("AUTH", "PLAIN AHVzZXIAcGFzc3dvcmQ=")[0] == 530


def test_port_465_says_nothing_in_the_clear(site: Site) -> None:
    call = site.lab.namespace.call
    with call(socket.create_connection, ("127.0.0.1", SUBMISSIONS), timeout=10) as client:
        client.sendall(b"EHLO client.test\r\n")
        said = b""
        with contextlib.suppress(ConnectionResetError):
            said = client.recv(1000)
    assert not said.startswith(b"220")


@pytest.mark.parametrize("port", [SUBMISSIONS, SUBMISSION])
def test_who_knows_the_password_may_send_and_nobody_else(site: Site, port: int) -> None:
    domain = f"port-{port}.plain.test"
    mx = enforcing(site, domain)

    with pytest.raises(smtplib.SMTPAuthenticationError):
        hand_in(site, f"user@{domain}", port=port, password=PASSWORD.upper())
    with pytest.raises(smtplib.SMTPResponseException) as refusal:
        hand_in(site, f"user@{domain}", port=port, password="")
    assert refusal.value.smtp_code == 554
    assert hand_in(site, f"user@{domain}", port=port).status == "sent"
    assert [message.sender for message in mx.messages] == [USER]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_clients_speak_no_tls_before_1_2_and_other_servers_still_may(site: Site) -> None:
    assert greets(site, SMTP, ssl.TLSVersion.TLSv1_1)
    for port in (SUBMISSIONS, SUBMISSION):
        assert greets(site, port, ssl.TLSVersion.TLSv1_2)
        assert not greets(site, port, ssl.TLSVersion.TLSv1_1)


def greets(site: Site, port: int, newest: ssl.TLSVersion) -> bool:
    return site.lab.namespace.call(_greets, port, site.lab.authority.pem, newest)


def _greets(port: int, authority: Path, newest: ssl.TLSVersion) -> bool:
    try:
        with mail_client.connection(port, authority, newest=newest) as client:
            return client.noop()[0] == 250
    except (ssl.SSLError, ConnectionResetError):
        return False


def test_port_25_takes_mail_as_before_and_no_passwords(site: Site) -> None:
    def features() -> dict[str, str]:
        with mail_client.connection(SMTP, site.lab.authority.pem) as client:
            return client.esmtp_features

    assert "auth" not in site.lab.namespace.call(features)
    host_of(site, "port-25.plain.test")
    assert site.postfix.send("user@port-25.plain.test").status == "sent"  # in the clear


@BEFORE_3_11
def test_port_25_is_deaf_to_wishes_in_the_header(site: Site) -> None:
    host_of(site, "strangers-wish.plain.test")

    attempt = hand_in(site, "user@strangers-wish.plain.test", port=SMTP, password="", header=WISH)

    assert attempt.status == "sent"

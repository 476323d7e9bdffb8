"""Signatures that dkimpy itself finds good, with a key published in a test's DNS."""

import base64
import importlib
import importlib.util
import sys
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from postfix_mtasts.adapters.dkim_signer import DkimSigner
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.report_mail import SIGNED_FIELDS, build_report_mail
from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.core.tlsrpt_report import Document, build_heading, parse_reporter

REPORTER = parse_reporter(
    organization="Sender Inc", contact="tls@sender.example", sender="tls@sender.example"
)
MAIL = build_report_mail(
    build_heading(REPORTER, "example.com", 20_000),
    Document(name="x.json.gz", media_type="application/tlsrpt+gzip", data=b"x" * 500),
    Address(local="tlsrpt", domain="example.com"),
    now=0.0,
)
needs_dkimpy = pytest.mark.skipif(
    importlib.util.find_spec("dkim") is None, reason="dkimpy is not installed"
)


@pytest.fixture(scope="module", name="key")
def make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(name="key_file")
def make_key_file(key: rsa.RSAPrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "dkim.pem"
    path.write_bytes(pem(key))
    return path


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def signer(key_file: Path) -> DkimSigner:
    return DkimSigner(domain="sender.example", selector="s1", key_file=str(key_file))


@needs_dkimpy
def test_a_receiver_finds_the_signature_good_and_all_fields_under_it(
    key: rsa.RSAPrivateKey, key_file: Path
) -> None:
    dkim: Any = importlib.import_module("dkim")
    public = base64.b64encode(
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    asked = []

    def look_up(name: bytes, **_: object) -> bytes:
        asked.append(name)
        return b"v=DKIM1; k=rsa; s=tlsrpt; p=" + public

    signed = signer(key_file)(MAIL)
    assert signed.endswith(MAIL)
    assert asked == []
    field = "".join(message_from_bytes(signed)["DKIM-Signature"].split())
    tags = dict(tag.split("=", 1) for tag in field.split(";"))
    assert {name.lower() for name in SIGNED_FIELDS} <= set(tags["h"].lower().split(":"))
    assert "l" not in tags
    assert (tags["d"], tags["s"]) == ("sender.example", "s1")
    # dkimpy would refuse a key for TLS reports alone, being asked about mail in general.
    assert dkim.DKIM(signed, tlsrpt=True).verify(dnsfunc=look_up)
    forged = signed.replace(b"TLS-Report-Domain: e", b"TLS-Report-Domain: f")
    assert not dkim.DKIM(forged, tlsrpt=True).verify(dnsfunc=look_up)


@needs_dkimpy
def test_a_file_that_is_no_rsa_key_is_named(key_file: Path) -> None:
    for text in (b"", b"hello", pem(ec.generate_private_key(ec.SECP256R1()))):
        key_file.write_bytes(text)
        with pytest.raises(ConfigError, match=r"key_file .*dkim\.pem: no RSA key in PEM"):
            signer(key_file)


@needs_dkimpy
def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key_file .*none\.pem: No such file"):
        signer(tmp_path / "none.pem")


def test_without_dkimpy_it_says_what_to_install(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dkim", None)
    with pytest.raises(ConfigError, match=r"tlsrpt\.dkim needs dkimpy: install python3-dkim"):
        signer(key_file)

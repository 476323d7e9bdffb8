"""A published key beside the key that signs, as a receiver holds one against the other."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from postfix_mtasts.adapters.dkim_signer import DkimSigner
from postfix_mtasts.adapters.dkim_verifier import record_problem
from tests.adapters.test_dkim_signer import needs_dkimpy, pem

pytestmark = needs_dkimpy


def published(key: rsa.RSAPrivateKey) -> bytes:
    encoded = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return b"p=" + base64.b64encode(encoded)


@pytest.fixture(scope="module", name="key")
def make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(name="signer")
def make_signer(key: rsa.RSAPrivateKey, tmp_path: Path) -> DkimSigner:
    path = tmp_path / "dkim.pem"
    path.write_bytes(pem(key))
    return DkimSigner(domain="sender.example", selector="s1", key_file=str(path))


@pytest.mark.parametrize(
    "prefix", [b"v=DKIM1; ", b"v=DKIM1; s=tlsrpt; ", b"v=DKIM1; s = tlsrpt ; ", b"v=DKIM1; s=*; "]
)
def test_the_keys_own_record_is_good(
    key: rsa.RSAPrivateKey, signer: DkimSigner, prefix: bytes
) -> None:
    assert record_problem(signer, (prefix + published(key),)) == ""


def test_what_a_receiver_would_refuse_is_told(key: rsa.RSAPrivateKey, signer: DkimSigner) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = b"v=DKIM1; " + published(key)
    assert record_problem(signer, ()) == "it is not published"
    assert "2 TXT records" in record_problem(signer, (good, good))
    assert "not that of the key file" in record_problem(signer, (b"v=DKIM1; " + published(other),))
    assert "not that of the key file" in record_problem(signer, (b"v=DKIM1; p=",))
    assert "not that of the key file" in record_problem(signer, (b"\xff\x00 hello",))
    mail_only = b"v=DKIM1; s=email; " + published(key)
    assert record_problem(signer, (mail_only,)) == "it is not for reports (s=tlsrpt)"

"""A private certificate authority and the certificates that the lab's servers show."""

import datetime as dt
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate with its key, in one PEM file as servers load it."""

    pem: Path
    spki: bytes  # DER

    def server_context(self) -> ssl.SSLContext:
        """Return a server's TLS settings with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        return context

    def tlsa(self) -> str:
        """Return the record ``3 1 1`` that this certificate matches (RFC 7671 section 5.1)."""
        return f"3 1 1 {hashlib.sha256(self.spki).hexdigest()}"


class Authority:
    """A certificate authority; *folder* takes its files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(name)
        self._issued = 0
        self.pem = self._folder / "ca.pem"
        self.pem.write_bytes(self._root().public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts: str, expired: bool = False) -> Certificate:
        """Issue a certificate for *hosts*, DNS names in A-labels; *expired* a day ago."""
        now = dt.datetime.now(dt.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        certificate = (
            self._builder(_common_name("mail host"), key.public_key())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now - DAY if expired else now + 30 * DAY)
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._issued += 1
        pem = self._folder / f"{self._issued}.pem"
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + _pem(key))
        return Certificate(pem=pem, spki=_spki(key))

    def _root(self) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            self._builder(self._name, self._key.public_key())
            .not_valid_before(now - 365 * DAY)
            .not_valid_after(now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=key)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(issuer, critical=False)
        )


_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

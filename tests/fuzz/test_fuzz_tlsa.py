"""Whatever is published as TLSA: a record is usable only where OpenSSL takes it."""

import ctypes
import ctypes.util
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.tlsa import Record, is_usable, parse_record, parse_text

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)
# All fixed, so that the examples are the same in every run.
SIGNER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS: tuple[PublicKey, ...] = (
    rsa.RSAPublicNumbers(e=65537, n=2**2047 + 8461).public_key(),
    ec.derive_private_key(8461, ec.SECP256R1()).public_key(),
    ec.derive_private_key(7672, ec.SECP384R1()).public_key(),
    ec.derive_private_key(8460, ec.SECP521R1()).public_key(),
    SIGNER.public_key(),
    ed448.Ed448PrivateKey.from_private_bytes(bytes(57)).public_key(),
)
FUZZ = settings(derandomize=True, deadline=None, max_examples=600)


def certificate(key: PublicKey) -> bytes:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Bücher mx.example.com"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(8461)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2060, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("mx.example.com")]), critical=False
        )
    )
    return builder.sign(SIGNER, None).public_bytes(Encoding.DER)


def public_key(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


SAMPLES = tuple(
    Record(usage=usage, selector=selector, matching_type=0, data=build(key))
    for usage in (2, 3)
    for selector, build in enumerate((certificate, public_key))
    for key in KEYS
)


@pytest.fixture(scope="module")
def openssl_takes() -> Callable[[Record], bool]:
    """Give what Postfix asks, from the OpenSSL of this host."""
    name = ctypes.util.find_library("ssl")
    if name is None:
        pytest.skip("there is no libssl to ask")
    library = ctypes.CDLL(name)
    pointer = ctypes.c_void_p
    for function in (library.TLS_client_method, library.SSL_CTX_new, library.SSL_new):
        function.restype = pointer
    for function in (library.SSL_CTX_new, library.SSL_CTX_dane_enable, library.SSL_new):
        function.argtypes = [pointer]
    library.SSL_free.argtypes = [pointer]
    library.SSL_dane_enable.argtypes = [pointer, ctypes.c_char_p]
    octet = ctypes.c_uint8
    add = library.SSL_dane_tlsa_add
    add.argtypes = [pointer, octet, octet, octet, ctypes.c_char_p, ctypes.c_size_t]
    context = library.SSL_CTX_new(library.TLS_client_method())
    assert library.SSL_CTX_dane_enable(context) == 1

    def takes(record: Record) -> bool:
        connection = library.SSL_new(context)
        assert library.SSL_dane_enable(connection, b"mx.example.com") > 0
        fields = (record.usage, record.selector, record.matching_type)
        taken = add(connection, *fields, record.data, len(record.data))
        library.SSL_free(connection)
        return bool(taken == 1)

    return takes


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: str(sample)[:5])
def test_whole_certificates_and_keys_are_usable_as_in_openssl(
    openssl_takes: Callable[[Record], bool], sample: Record
) -> None:
    assert is_usable(sample)
    assert openssl_takes(sample)


def test_a_compressed_key_is_left_to_openssl_alone(openssl_takes: Callable[[Record], bool]) -> None:
    key = ec.derive_private_key(8461, ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    data = bytes.fromhex("3039") + algorithm + bytes.fromhex("032200") + point
    record = Record(usage=3, selector=1, matching_type=0, data=data)
    assert openssl_takes(record)
    assert not is_usable(record)


def changed(record: Record, at: int, new: bytes, removed: int) -> Record:
    at %= len(record.data) + 1
    data = record.data[:at] + new + record.data[at + removed :]
    return Record(
        usage=record.usage, selector=record.selector, matching_type=record.matching_type, data=data
    )


@FUZZ
@given(
    record=st.sampled_from(SAMPLES),
    at=st.integers(0, 2000),
    new=st.binary(max_size=3),
    removed=st.integers(0, 3),
)
def test_no_damaged_record_is_usable_that_openssl_refuses(
    openssl_takes: Callable[[Record], bool], record: Record, at: int, new: bytes, removed: int
) -> None:
    damaged = changed(record, at, new, removed)
    assert openssl_takes(damaged) or not is_usable(damaged)


@FUZZ
@given(
    usage=st.integers(2, 5),
    selector=st.integers(0, 3),
    matching_type=st.integers(1, 4),
    data=st.sampled_from([0, 1, 20, 31, 32, 33, 48, 63, 64, 65]).map(bytes),
)
def test_digests_are_judged_as_openssl_judges_them(
    openssl_takes: Callable[[Record], bool],
    usage: int,
    selector: int,
    matching_type: int,
    data: bytes,
) -> None:
    record = Record(usage=usage, selector=selector, matching_type=matching_type, data=data)
    assert is_usable(record) == openssl_takes(record)


@FUZZ
@given(data=st.binary(max_size=80))
def test_any_bytes_are_a_record_or_a_parse_error(data: bytes) -> None:
    try:
        record = parse_record(data)
    except ParseError:
        return
    assert is_usable(record) in (True, False)
    assert parse_text(str(record)) == record


@FUZZ
@given(text=st.text("0123456789abcdefABCDEFx- \u0665\n", max_size=30) | st.text(max_size=30))
def test_any_text_is_a_record_or_a_parse_error(text: str) -> None:
    try:
        record = parse_text(text)
    except ParseError:
        return
    assert parse_text(str(record)) == record

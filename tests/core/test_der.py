"""What counts as exactly one certificate or exactly one public key."""

import timeit
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from postfix_mtasts.core.der import MAX_ELEMENTS, is_certificate, is_public_key

P256 = ec.derive_private_key(8461, ec.SECP256R1()).public_key()
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))


def der(tag: int, *parts: bytes) -> bytes:
    """Return a DER element, written apart from the code under test."""
    value = b"".join(parts)
    if len(value) < 0x80:
        return bytes([tag, len(value)]) + value
    octets = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + value


def sequence(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def name(*strings: bytes) -> bytes:
    """Return a Name with one commonName for each of *strings*, which are DER."""
    return sequence(*(der(0x31, sequence(COMMON_NAME, string)) for string in strings))


COMMON_NAME = bytes.fromhex("0603550403")
INTEGER = der(0x02, b"\x01")
ED25519_ALGORITHM = sequence(bytes.fromhex("06032b6570"))
ED25519_KEY = sequence(ED25519_ALGORITHM, der(0x03, b"\0", bytes(32)))
TIMES = sequence(der(0x17, b"200101000000Z"), der(0x18, b"20600101000000Z"))
NAME = name(der(0x0C, b"mx.example.com"))
SIGNATURE = der(0x03, b"\0", bytes(64))
EXTENSION = sequence(bytes.fromhex("0603551d13"), der(0x01, b"\xff"), der(0x04, sequence()))
FIELDS = {
    "version": der(0xA0, der(0x02, b"\x02")),
    "serial": INTEGER,
    "algorithm": ED25519_ALGORITHM,
    "issuer": NAME,
    "validity": TIMES,
    "subject": NAME,
    "key": ED25519_KEY,
    "ids": b"",
    "extensions": der(0xA3, sequence(EXTENSION)),
}


def certificate(**changes: bytes) -> bytes:
    """Return a certificate whose fields are as usual except for *changes*."""
    return sequence(sequence(*(FIELDS | changes).values()), ED25519_ALGORITHM, SIGNATURE)


def rsa_key(key: bytes, parameters: bytes = b"\x05\x00") -> bytes:
    oid = bytes.fromhex("06092a864886f70d010101")
    return sequence(sequence(oid, parameters), der(0x03, b"\0", key))


def ec_key(point: bytes, curve: str = "06082a8648ce3d030107") -> bytes:
    oid = bytes.fromhex("06072a8648ce3d0201")
    return sequence(sequence(oid, bytes.fromhex(curve)), der(0x03, b"\0", point))


def spki(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | x25519.X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


UNCOMPRESSED = P256.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
COMPRESSED = P256.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
P256_PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
SMALL_X = 5
SMALL_Y = pow(  # the square root of what is one, modulo this prime
    SMALL_X**3 - 3 * SMALL_X + P256_B, (P256_PRIME + 1) // 4, P256_PRIME
)
RSA_KEY = sequence(der(0x02, b"\0", b"\xc5" * 256), der(0x02, b"\x01\0\x01"))


def test_a_certificate_that_another_library_made_is_one() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(P256)
        .serial_number(2**150)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2060, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .sign(ED25519, None)
        .public_bytes(Encoding.DER)
    )
    assert is_certificate(made)
    assert not is_public_key(made)


CERTIFICATES = {
    "the usual fields": {},
    "version 1, which is not written": {"version": b"", "extensions": b""},
    "negative serial number": {"serial": der(0x02, b"\xff")},
    "serial number with a zero before its top bit": {"serial": der(0x02, b"\0\x80")},
    "algorithm with empty parameters": {
        "algorithm": sequence(bytes.fromhex("06032b6570"), b"\x05\0")
    },
    "algorithm with a sequence of parameters": {
        "algorithm": sequence(bytes.fromhex("06032b6570"), sequence(INTEGER))
    },
    "algorithm whose name is as long as is read": {"algorithm": sequence(der(0x06, b"\x01" * 64))},
    "empty subject": {"subject": sequence()},
    "subject in Latin-1": {"subject": name(der(0x14, b"B\xfccher"))},
    "subject of two strings": {"subject": name(der(0x13, b"mx"), der(0x16, b"mx"))},
    "RSA key": {"key": rsa_key(RSA_KEY)},
    "unique identifiers": {"ids": der(0x81, b"\0\x01") + der(0x82, b"\0\x02")},
    "no extension in the extensions": {"extensions": der(0xA3, sequence())},
    "extension without its critical flag": {
        "extensions": der(0xA3, sequence(sequence(bytes.fromhex("0603551d13"), b"\x04\0")))
    },
}


@pytest.mark.parametrize("changes", CERTIFICATES.values(), ids=CERTIFICATES)
def test_a_certificate_may_have(changes: dict[str, bytes]) -> None:
    assert is_certificate(certificate(**changes))


NO_CERTIFICATES = {
    "empty version": {"version": der(0xA0)},
    "something after the version": {"version": der(0xA0, INTEGER, INTEGER)},
    "empty serial number": {"serial": der(0x02)},
    "serial number with a needless zero": {"serial": der(0x02, b"\0\x01")},
    "serial number with a needless ff": {"serial": der(0x02, b"\xff\x80")},
    "no serial number": {"serial": b""},
    "algorithm without a name": {"algorithm": sequence()},
    "algorithm with an empty name": {"algorithm": sequence(b"\x06\0")},
    "algorithm whose name has no end": {"algorithm": sequence(b"\x06\x02\x2b\x81")},
    "algorithm whose name has a leading zero": {"algorithm": sequence(b"\x06\x03\x2b\x80\x01")},
    "algorithm whose name is longer than is read": {"algorithm": sequence(der(0x06, b"\x01" * 65))},
    "algorithm with two parameters": {
        "algorithm": sequence(bytes.fromhex("06032b6570"), b"\x05\0\x05\0")
    },
    "algorithm with a NULL that says something": {
        "algorithm": sequence(bytes.fromhex("06032b6570"), b"\x05\x01\0")
    },
    "algorithm with a number for parameters": {
        "algorithm": sequence(bytes.fromhex("06032b6570"), INTEGER)
    },
    "subject that is no UTF-8": {"subject": name(der(0x0C, b"B\xfccher"))},
    "subject that is a number": {"subject": name(INTEGER)},
    "subject with something after the string": {"subject": name(der(0x0C, b"mx") + INTEGER)},
    "one date only": {"validity": sequence(der(0x17, b"200101000000Z"))},
    "three dates": {"validity": sequence(*[der(0x17, b"200101000000Z")] * 3)},
    "a date that is a number": {"validity": sequence(der(0x17, b"200101000000Z"), INTEGER)},
    "a key that is none": {"key": ec_key(b"\x04" + bytes(64))},
    "unique identifier of half a byte": {"ids": der(0x81, b"\x04\x10")},
    "unique identifiers in the wrong order": {"ids": der(0x82, b"\0") + der(0x81, b"\0")},
    "something after the extensions": {"extensions": FIELDS["extensions"] + INTEGER},
    "something behind the extensions": {"extensions": der(0xA3, sequence(), INTEGER)},
    "extension without a value": {
        "extensions": der(0xA3, sequence(sequence(bytes.fromhex("0603551d13"))))
    },
    "extension with two values": {
        "extensions": der(0xA3, sequence(sequence(bytes.fromhex("0603551d13"), b"\x04\0\x04\0")))
    },
    "extension with a flag of two bytes": {
        "extensions": der(
            0xA3, sequence(sequence(bytes.fromhex("0603551d13"), b"\x01\x02\xff\xff", b"\x04\0"))
        )
    },
}


@pytest.mark.parametrize("changes", NO_CERTIFICATES.values(), ids=NO_CERTIFICATES)
def test_a_certificate_must_not_have(changes: dict[str, bytes]) -> None:
    assert not is_certificate(certificate(**changes))


def test_a_certificate_ends_with_its_signature() -> None:
    body = sequence(*FIELDS.values())
    assert not is_certificate(sequence(body, ED25519_ALGORITHM))
    assert not is_certificate(sequence(body, ED25519_ALGORITHM, SIGNATURE, INTEGER))


def test_no_byte_may_be_missing_or_left_over() -> None:
    whole = certificate()
    assert not any(is_certificate(whole[:end]) for end in range(len(whole)))
    assert not is_certificate(whole + b"\0")
    assert not is_certificate(whole + whole)


KEYS = {
    "RSA": rsa_key(RSA_KEY),
    "RSA of another library": spki(rsa.RSAPublicNumbers(n=2**2047 + 1, e=65537).public_key()),
    "P-256": spki(P256),
    "P-256 with a small coordinate": ec_key(b"\x04" + SMALL_X.to_bytes(32) + SMALL_Y.to_bytes(32)),
    "P-384": spki(ec.derive_private_key(1, ec.SECP384R1()).public_key()),
    "P-521": spki(ec.derive_private_key(1, ec.SECP521R1()).public_key()),
    "Ed25519": ED25519_KEY,
    "Ed448": ed448.Ed448PrivateKey.from_private_bytes(bytes(57))
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_that_mail_servers_use_is_one(key: bytes) -> None:
    assert is_public_key(key)
    assert not is_certificate(key)


NO_KEYS = {
    "nothing": b"",
    "RSA without parameters": rsa_key(RSA_KEY, b""),
    "RSA with bytes after the key": rsa_key(RSA_KEY + b"\0"),
    "RSA with three numbers": rsa_key(sequence(INTEGER, INTEGER, INTEGER)),
    "RSA with modulus 0": rsa_key(sequence(der(0x02, b"\0"), INTEGER)),
    "RSA with a negative exponent": rsa_key(sequence(INTEGER, der(0x02, b"\x80"))),
    "point off its curve": ec_key(UNCOMPRESSED[:-1] + bytes([UNCOMPRESSED[-1] ^ 1])),
    "point with a coordinate above the prime": ec_key(
        b"\x04" + (P256_PRIME + SMALL_X).to_bytes(32) + SMALL_Y.to_bytes(32)
    ),
    "point cut short": ec_key(UNCOMPRESSED[:-1]),
    "compressed point, which takes too long to tell": ec_key(COMPRESSED),
    "point in hybrid form": ec_key(b"\x06" + UNCOMPRESSED[1:]),
    "point at infinity": ec_key(b"\0"),
    "no point": ec_key(b""),
    "curve of another size": ec_key(UNCOMPRESSED, "06052b81040022"),
    "curve that is unknown": ec_key(UNCOMPRESSED, "06052b8104000a"),
    "curve that has no name": ec_key(UNCOMPRESSED, "0500"),
    "Ed25519 cut short": sequence(ED25519_ALGORITHM, der(0x03, b"\0", bytes(31))),
    "Ed25519 with parameters": sequence(
        sequence(bytes.fromhex("06032b6570"), b"\x05\0"), der(0x03, b"\0", bytes(32))
    ),
    "bits that are no bytes": sequence(ED25519_ALGORITHM, der(0x03, b"\x01", bytes(32))),
    "no bits": sequence(ED25519_ALGORITHM, der(0x03)),
    "something after the bits": sequence(ED25519_ALGORITHM, der(0x03, b"\0", bytes(32)), INTEGER),
    "DSA": sequence(
        sequence(bytes.fromhex("06072a8648ce380401"), sequence()), der(0x03, b"\0", INTEGER)
    ),
    "X25519, which signs nothing": spki(
        x25519.X25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    ),
}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_no_key_is(key: bytes) -> None:
    assert not is_public_key(key)


NOT_DER = {
    "an indefinite length": b"\x30\x80" + ED25519_KEY[2:] + b"\0\0",
    "a length in more bytes than it needs": b"\x30\x81" + ED25519_KEY[1:],
    "a length with a leading zero": b"\x30\x82\0" + ED25519_KEY[1:],
    "a length that goes beyond the end": b"\x30\x84\xff\xff\xff\xff" + ED25519_KEY[2:],
    "a length that is missing": b"\x30",
    "a tag of more than one byte": b"\x3f\x10" + ED25519_KEY[1:],
}


@pytest.mark.parametrize("data", NOT_DER.values(), ids=NOT_DER)
def test_der_has_not(data: bytes) -> None:
    assert not is_public_key(data)


def test_a_certificate_may_have_long_names_and_no_endless_ones() -> None:
    part = der(0x31, sequence(COMMON_NAME, der(0x0C, b"mx.example.com")))  # four elements
    assert is_certificate(certificate(subject=sequence(part * (MAX_ELEMENTS // 4 - 10))))
    assert not is_certificate(certificate(subject=sequence(part * (MAX_ELEMENTS // 4))))


PLENTY = 64_000  # as many bytes as fit into an answer of DNS
ATTRIBUTE = sequence(der(0x06, b"\x01"), der(0x0C))
SMALL_EXTENSION = sequence(der(0x06, b"\x01"), der(0x04))
COSTLY = {
    "a long modulus": rsa_key(sequence(der(0x02, b"\x7f" * PLENTY), INTEGER)),
    "a long negative modulus": rsa_key(sequence(der(0x02, b"\xff" + bytes(PLENTY)), INTEGER)),
    "a long point": ec_key(b"\x04" + b"\xff" * PLENTY),
    "a point on the largest curve": spki(ec.derive_private_key(2, ec.SECP521R1()).public_key()),
    "a long name of an algorithm": sequence(sequence(der(0x06, b"\x81" * PLENTY))),
    "a name that all but ends": sequence(sequence(der(0x06, b"\x81\x01" * PLENTY + b"\x80"))),
    "a long serial number": certificate(serial=der(0x02, b"\x7f" * PLENTY)),
    "a long subject": certificate(subject=name(der(0x0C, "\u00fc".encode() * (PLENTY // 2)))),
    "many names": certificate(subject=sequence(der(0x31, ATTRIBUTE) * (PLENTY // 9))),
    "many parts of a name": certificate(subject=sequence(der(0x31, ATTRIBUTE * (PLENTY // 7)))),
    "many extensions": certificate(extensions=der(0xA3, sequence(SMALL_EXTENSION * 9000))),
}


@pytest.mark.parametrize("data", COSTLY.values(), ids=COSTLY)
def test_nothing_takes_long_to_judge(data: bytes) -> None:
    def judge() -> None:
        is_certificate(data)
        is_public_key(data)

    # Half a millisecond at most as measured; the bound allows for a slow machine.
    assert min(timeit.repeat(judge, number=1, repeat=10)) < 0.005

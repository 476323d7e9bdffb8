"""Whether bytes are exactly one X.509 certificate or public key (RFC 5280, X.690).

A TLSA record of matching type 0 carries a whole certificate or a whole public
key, and is usable only where that parses (RFC 6698 section 4.1).  OpenSSL
decides, inside Postfix; this module foretells its decision: it reads the
structure of RFC 5280 section 4.1 down to the public key, and the key down to
whether it is a key.  It verifies no signature, no date and no extension.

DER only: definite and minimal lengths, nothing left over.  The depth is that of
the grammar, so no input makes it recurse; the elements are counted, and no
check takes more than time in proportion to the bytes.

BUGS: stricter than OpenSSL, never laxer.  It refuses BER, names with exotic
string types, more than `MAX_ELEMENTS` elements, and all keys but RSA, Ed25519,
Ed448 and EC keys on the curves P-256, P-384 and P-521.  It refuses compressed
EC points, which RFC 5480 section 2.2 allows, because whether there is such a
point takes a square root of hundreds of digits to tell, a millisecond for each
of the thousands of records that a stranger can publish.  What is refused here
weakens nothing: the answer is then ``dane`` in place of ``dane-only``, and the
OpenSSL inside Postfix judges the record for itself.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from postfix_mtasts.core.errors import ParseError

MAX_ELEMENTS = 256
"""Elements of one value that are read (a security limit); certificates have 60 to 120."""

_MAX_OID = 64  # bytes (a security limit); those in use have up to 20

_BOOLEAN, _INTEGER, _BIT_STRING, _OCTET_STRING, _NULL, _OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
_UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _SET = 0x17, 0x18, 0x30, 0x31
_VERSION, _ISSUER_ID, _SUBJECT_ID, _EXTENSIONS = 0xA0, 0x81, 0x82, 0xA3
_SHORT_HEADER, _LONG_LENGTH = 2, 0x80
_SIGN = 0x80
# Numbers in base 128, each without leading zeros; the top bit says that more follows.
_WELL_FORMED_OID = re.compile(rb"((?!\x80)[\x80-\xff]*[\x00-\x7f])+")
_NEEDLESS_OCTET = re.compile(rb"\x00[\x00-\x7f]|\xff[\x80-\xff]")
_STRING_CODECS = {  # OpenSSL rewrites names as UTF-8, and fails where it cannot
    0x0C: "utf-8",  # UTF8String
    0x12: "latin-1",  # NumericString
    0x13: "latin-1",  # PrintableString
    0x14: "latin-1",  # TeletexString, which OpenSSL takes for Latin-1
    0x16: "latin-1",  # IA5String
}

_RSA = bytes.fromhex("2a864886f70d010101")  # RFC 3279 section 2.3.1
_EC = bytes.fromhex("2a8648ce3d0201")  # RFC 5480 section 2.1.1
_EDWARDS_KEY_SIZES = {  # RFC 8410 section 3
    bytes.fromhex("2b6570"): 32,  # Ed25519
    bytes.fromhex("2b6571"): 57,  # Ed448
}
_UNCOMPRESSED = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """The points where y² = x³ - 3x + b, modulo the prime (RFC 5480 section 2.1.1.1)."""

    prime: int
    b: int

    @property
    def size(self) -> int:
        """How many bytes a coordinate takes."""
        return (self.prime.bit_length() + 7) // 8


_CURVES = {  # the values are from FIPS 186-4 appendix D.1.2
    bytes.fromhex("2a8648ce3d030107"): _Curve(
        prime=2**256 - 2**224 + 2**192 + 2**96 - 1,
        b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    bytes.fromhex("2b81040022"): _Curve(
        prime=2**384 - 2**128 - 2**96 + 2**32 - 1,
        b=int(
            "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe814112"
            "0314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
            16,
        ),
    ),
    bytes.fromhex("2b81040023"): _Curve(
        prime=2**521 - 1,
        b=int(
            "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e1"
            "56193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
            16,
        ),
    ),
}


class _Element(NamedTuple):  # made in half the time that a dataclass takes
    """One tag, length and value."""

    tag: int
    value: bytes


_NO_PARAMETERS = _Element(tag=_NULL, value=b"")


class _Reader:
    """Takes elements from the front of some bytes.

    Every method raises `ParseError` where the bytes are not as it says.
    """

    def __init__(self, data: bytes, countdown: Iterator[int] | None = None) -> None:
        """Read *data*, of which *countdown*, shared by all readers of a value, is left."""
        self._data = data
        self._at = 0
        self._countdown = countdown or iter(range(MAX_ELEMENTS, 0, -1))

    def peek(self) -> int | None:
        """Return the next element's tag, or `None` at the end."""
        return self._data[self._at] if self._at < len(self._data) else None

    def take(self, *tags: int) -> _Element:
        """Take the next element, which must have one of *tags*."""
        if not next(self._countdown, 0):
            raise ParseError(f"more than {MAX_ELEMENTS} DER elements")
        tag_and_length = self._data[self._at : self._at + 2]
        if len(tag_and_length) != _SHORT_HEADER or tag_and_length[0] not in tags:
            raise ParseError("DER element missing or of another kind", "RFC 5280 section 4.1")
        self._at += _SHORT_HEADER
        tag, length = tag_and_length
        if length >= _LONG_LENGTH:
            length = self._long_length(length - _LONG_LENGTH)
        return _Element(tag, self._octets(length))

    def inside(self, tag: int) -> "_Reader":
        """Take the next element, which must have *tag*, to read what it holds."""
        return _Reader(self.take(tag).value, self._countdown)

    def each(self, tag: int) -> Iterator["_Reader"]:
        """Take all that is left, elements that must have *tag*, to read what they hold."""
        while self.peek() is not None:
            yield self.inside(tag)

    def end(self) -> None:
        """Ensure that nothing is left."""
        if self.peek() is not None:
            raise ParseError("bytes after the end of a DER value", "X.690 section 8.1")

    def _long_length(self, size: int) -> int:
        octets = self._octets(size)
        length = int.from_bytes(octets, "big")
        if length < _LONG_LENGTH or octets[0] == 0:
            raise ParseError("DER length indefinite or not minimal", "X.690 section 10.1")
        return length

    def _octets(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ParseError("DER value cut short", "X.690 section 8.1")
        octets = self._data[self._at : end]
        self._at = end
        return octets


def is_certificate(data: bytes) -> bool:
    """Return whether *data* is exactly one certificate whose public key can be read."""
    return _is_exactly(_certificate, data)


def is_public_key(data: bytes) -> bool:
    """Return whether *data* is exactly one SubjectPublicKeyInfo that can be read."""
    return _is_exactly(_public_key, data)


def _is_exactly(grammar: Callable[[_Reader], None], data: bytes) -> bool:
    reader = _Reader(data)
    try:
        grammar(reader)
        reader.end()
    except ParseError:
        return False
    return True


def _certificate(reader: _Reader) -> None:
    """Take a Certificate (RFC 5280 section 4.1.1)."""
    certificate = reader.inside(_SEQUENCE)
    _to_be_signed(certificate.inside(_SEQUENCE))
    _algorithm(certificate)
    _bits(certificate)
    certificate.end()


def _to_be_signed(reader: _Reader) -> None:
    """Take all of a TBSCertificate (RFC 5280 section 4.1.2)."""
    if reader.peek() == _VERSION:
        version = reader.inside(_VERSION)
        _integer(version)
        version.end()
    _integer(reader)  # serial number
    _algorithm(reader)
    _name(reader)  # issuer
    _validity(reader)
    _name(reader)  # subject
    _public_key(reader)
    for tag in (_ISSUER_ID, _SUBJECT_ID):
        if reader.peek() == tag:
            _bits(reader, tag)
    if reader.peek() == _EXTENSIONS:
        _extensions(reader)
    reader.end()


def _algorithm(reader: _Reader) -> tuple[bytes, _Element | None]:
    """Take an AlgorithmIdentifier; return its OID and parameters (section 4.1.1.2)."""
    algorithm = reader.inside(_SEQUENCE)
    oid = _oid(algorithm)
    parameters = None if algorithm.peek() is None else _parameters(algorithm)
    algorithm.end()
    return oid, parameters


def _parameters(reader: _Reader) -> _Element:
    """Take what parameters there are: all algorithms in use have one of these."""
    if reader.peek() == _OID:
        return _Element(tag=_OID, value=_oid(reader))
    parameters = reader.take(_NULL, _SEQUENCE)
    if parameters.tag == _NULL and parameters.value:
        raise ParseError("NULL that is not empty", "X.690 section 8.8.2")
    return parameters


def _name(reader: _Reader) -> None:
    """Take a Name (RFC 5280 section 4.1.2.4)."""
    for relative in reader.inside(_SEQUENCE).each(_SET):
        for attribute in relative.each(_SEQUENCE):
            _oid(attribute)
            _string(attribute)
            attribute.end()


def _string(reader: _Reader) -> None:
    string = reader.take(*_STRING_CODECS)
    try:
        string.value.decode(_STRING_CODECS[string.tag])
    except UnicodeDecodeError:
        raise ParseError("malformed string in a name", "RFC 5280 section 4.1.2.4") from None


def _validity(reader: _Reader) -> None:
    """Take a Validity; its dates are not read (section 4.1.2.5)."""
    validity = reader.inside(_SEQUENCE)
    validity.take(_UTC_TIME, _GENERALIZED_TIME)
    validity.take(_UTC_TIME, _GENERALIZED_TIME)
    validity.end()


def _extensions(reader: _Reader) -> None:
    """Take the Extensions; what each holds is not read (section 4.1.2.9)."""
    tagged = reader.inside(_EXTENSIONS)
    for extension in tagged.inside(_SEQUENCE).each(_SEQUENCE):
        _oid(extension)
        if extension.peek() == _BOOLEAN and len(extension.take(_BOOLEAN).value) != 1:
            raise ParseError("malformed BOOLEAN", "X.690 section 8.2")
        extension.take(_OCTET_STRING)
        extension.end()
    tagged.end()


def _integer(reader: _Reader) -> bytes:
    """Take an INTEGER and return its octets, which are not made a number: there may be many."""
    value = reader.take(_INTEGER).value
    if not value or _NEEDLESS_OCTET.match(value):
        raise ParseError("INTEGER empty or not minimal", "X.690 section 8.3.2")
    return value


def _oid(reader: _Reader) -> bytes:
    value = reader.take(_OID).value
    if len(value) > _MAX_OID or not _WELL_FORMED_OID.fullmatch(value):
        raise ParseError("malformed OBJECT IDENTIFIER", "X.690 section 8.19")
    return value


def _bits(reader: _Reader, tag: int = _BIT_STRING) -> bytes:
    """Take a BIT STRING of whole bytes and return them."""
    value = reader.take(tag).value
    if value[:1] != b"\0":
        raise ParseError("BIT STRING empty or not of whole bytes", "X.690 section 8.6.2")
    return value[1:]


def _public_key(reader: _Reader) -> None:
    """Take a SubjectPublicKeyInfo and look into its key (section 4.1.2.7)."""
    info = reader.inside(_SEQUENCE)
    oid, parameters = _algorithm(info)
    key = _bits(info)
    info.end()
    if not _is_key(oid, parameters, key):
        raise ParseError("malformed or unknown public key", "RFC 3279 section 2.3")


def _is_key(oid: bytes, parameters: _Element | None, key: bytes) -> bool:
    if oid == _RSA:
        return parameters == _NO_PARAMETERS and _is_exactly(_rsa_key, key)
    if oid == _EC and parameters is not None and parameters.tag == _OID:
        curve = _CURVES.get(parameters.value)
        return curve is not None and _is_point(curve, key)
    return parameters is None and len(key) == _EDWARDS_KEY_SIZES.get(oid)


def _rsa_key(reader: _Reader) -> None:
    """Take an RSAPublicKey (RFC 8017 appendix A.1.1)."""
    key = reader.inside(_SEQUENCE)
    _positive(key)  # modulus
    _positive(key)  # exponent
    key.end()


def _positive(reader: _Reader) -> None:
    value = _integer(reader)
    if value == b"\0" or value[0] & _SIGN:
        raise ParseError("RSA key that is not positive", "RFC 8017 section 3.1")


def _is_point(curve: _Curve, key: bytes) -> bool:
    """Return whether *key* is an uncompressed point of *curve* (SEC 1 section 2.3.4)."""
    if len(key) != 1 + 2 * curve.size or key[0] != _UNCOMPRESSED:
        return False
    x = int.from_bytes(key[1 : 1 + curve.size], "big")
    y = int.from_bytes(key[1 + curve.size :], "big")
    is_on_curve = (y * y - x**3 + 3 * x - curve.b) % curve.prime == 0
    return max(x, y) < curve.prime and is_on_curve

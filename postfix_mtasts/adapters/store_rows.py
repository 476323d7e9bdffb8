"""What is known of a domain as columns of a database row, and back.

The policy itself is its text: it is parsed anew by each reader, so that only
`mta_sts.parse_policy` makes policies.  Its mode and expiry stand beside it, for
the database to sort by.  The last failed fetch is read apart from it, so that
damage to the one does not lose the other.
"""

import math
from functools import lru_cache
from typing import TypeAlias

from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import CachedPolicy, DnsFacts, FailedFetch, StsFacts
from postfix_mtasts.core.facts_record import parse_dns_facts
from postfix_mtasts.core.freshness import policy_expires
from postfix_mtasts.core.tls_event import ResultType

Row: TypeAlias = tuple[str | bytes | float | None, ...]

POLICY_COLUMNS = ("record_id", "text", "fetched", "checked", "mode", "expires")
FAILURE_COLUMNS = ("failed_id", "failed_at", "failed_retry", "failed_kind", "failed_why")
STS_COLUMNS = POLICY_COLUMNS + FAILURE_COLUMNS

_NO_POLICY: Row = (None,) * len(POLICY_COLUMNS)
_NO_FAILURE: Row = (None,) * len(FAILURE_COLUMNS)


def parse_dns(facts: object) -> DnsFacts | None:
    """Return what DNS said, from the value of the column ``facts``.

    Raises `ParseError` where it cannot have come from `build_dns_facts`.
    """
    if facts is None:
        return None
    if not isinstance(facts, bytes):
        raise ParseError(f"stored facts: {facts!r:.40} instead of bytes")
    return parse_dns_facts(facts)


def build_sts(sts: StsFacts) -> Row:
    """Return *sts* as the values of `STS_COLUMNS`."""
    return build_policy(sts.cached) + _build_failure(sts.failure)


def build_policy(cached: CachedPolicy | None) -> Row:
    """Return *cached* as the values of `POLICY_COLUMNS`."""
    if cached is None:
        return _NO_POLICY
    return (
        cached.record_id,
        cached.text,
        cached.fetched,
        cached.checked,
        cached.policy.mode,
        policy_expires(cached),
    )


def parse_policy(row: Row) -> CachedPolicy | None:
    """Return what the values of `STS_COLUMNS` say of a policy.

    Raises `ParseError` where they cannot have come from `build_sts`.
    """
    columns = row[: len(POLICY_COLUMNS)]
    if columns == _NO_POLICY:
        return None
    record_id, text, fetched, checked, _, _ = columns
    if not isinstance(text, bytes):
        raise ParseError("stored policy: its text is no text")
    return CachedPolicy(
        record_id=_text(record_id),
        policy=_policy(text),
        text=text,
        fetched=_time(fetched),
        checked=_time(checked),
    )


@lru_cache(maxsize=128)  # who hosts many domains publishes one text for all of them
def _policy(text: bytes) -> mta_sts.Policy:
    return mta_sts.parse_policy(text)


def _build_failure(failure: FailedFetch | None) -> Row:
    if failure is None:
        return _NO_FAILURE
    why = failure.why.encode("utf-8", "replace").decode()  # a lone surrogate is not storable
    return (failure.record_id, failure.at, failure.retry_at, failure.kind.value, why)


def parse_failure(row: Row) -> FailedFetch | None:
    """Return what the values of `STS_COLUMNS` say of a failed fetch.

    Raises `ParseError` where they cannot have come from `build_sts`.
    """
    columns = row[len(POLICY_COLUMNS) :]
    if columns == _NO_FAILURE:
        return None
    record_id, at, retry_at, kind, why = columns
    try:
        result_type = ResultType(kind)
    except ValueError:
        raise ParseError(f"stored failure: {kind!r:.40} is no result type") from None
    return FailedFetch(
        record_id=_text(record_id),
        at=_time(at),
        retry_at=_time(retry_at),
        kind=result_type,
        why=_text(why),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ParseError(f"stored policy: {value!r:.40} instead of text")
    return value


def _time(value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value):
        raise ParseError(f"stored policy: {value!r:.40} instead of a time")
    return value

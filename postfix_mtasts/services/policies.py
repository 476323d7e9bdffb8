"""MTA-STS policies kept up to date (RFC 8461 sections 3.3, 5.1 and 10.2).

A policy is fetched when its domain's record has an id that is not that of the
policy in force, and once a day unasked.  One fetch for a domain at a time,
however many wait for it.  A fetch that fails changes nothing but the memory of
that failure: the policy that is in force stays so.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeAlias

from postfix_mtasts.core import freshness, mta_sts
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    FailedFetch,
    Lookup,
    Present,
    StsFacts,
    Unavailable,
)
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import Clock, FetchFailed, PolicyFetcher, Resolver
from postfix_mtasts.services.activity import FETCHED, NOT_TRIED, Activity
from postfix_mtasts.services.gathering import gather_addresses

log = logging.getLogger(__name__)


class Busy(Exception):  # noqa: N818 - a state of ours, not an error of this program
    """We were too busy to fetch, which says nothing of the policy; the text is for the mail log."""


@dataclass(frozen=True, slots=True)
class _NotTried:
    why: str


_Result: TypeAlias = CachedPolicy | FailedFetch | _NotTried
Fetching: TypeAlias = asyncio.Task[_Result]


class Policies:
    """Fetches what is wanted, once per domain at a time.

    *group* holds the fetches, which go on when those who wait give up.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        fetcher: PolicyFetcher,
        clock: Clock,
        group: asyncio.TaskGroup,
        activity: Activity | None = None,
    ) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._clock = clock
        self._group = group
        self._activity = activity or Activity()
        self._fetches: dict[tuple[str, str], Fetching] = {}

    def begin(
        self, domain: str, record: Lookup[mta_sts.Record], known: StsFacts
    ) -> Fetching | None:
        """Start the fetch that *record* calls for, if it does, and do not wait for it."""
        if not isinstance(record, Present):
            return None
        if not freshness.fetch_wanted(record.records[0], known, self._clock()):
            return None
        return self._fetch(domain, record.records[0].id)

    async def update(
        self,
        domain: str,
        record: Lookup[mta_sts.Record],
        known: StsFacts,
        *,
        asked: float,
        begun: Fetching | None = None,
    ) -> StsFacts:
        """Return *known* brought up to date with what *record*, looked up at *asked*, says.

        *begun*: what `begin` returned, whose outcome counts, however long ago.

        Without a record, or while it cannot be looked up, what is known stays.  An
        unchanged id proves the policy current at *asked*, not now: another may
        have been fetched since for the same domain, and is newer.

        Raises `Busy` where we could not fetch.
        """
        if begun is not None:
            return _learnt(known, await asyncio.shield(begun))
        if not isinstance(record, Present):
            return known
        current = record.records[0]
        if known.cached is not None and freshness.is_current(known.cached, current, asked):
            return replace(known, cached=freshness.renewed(known.cached, asked))
        if freshness.fetch_wanted(current, known, self._clock()):
            return await self.fetch(domain, current.id, known)
        return known

    async def refresh(
        self, domain: str, record: Lookup[mta_sts.Record], known: StsFacts
    ) -> StsFacts:
        """Fetch the policy of *domain* whatever its record says (section 10.2)."""
        if isinstance(record, Present):
            return await self.fetch(domain, record.records[0].id, known)
        return await self.fetch(domain, known.cached.record_id if known.cached else "", known)

    async def fetch(self, domain: str, record_id: str, known: StsFacts) -> StsFacts:
        """Fetch the policy of *domain*; a failure leaves what is cached.

        Raises `Busy` where we could not fetch.
        """
        return _learnt(known, await asyncio.shield(self._fetch(domain, record_id)))

    def _fetch(self, domain: str, record_id: str) -> Fetching:
        key = (domain, record_id)
        task = self._fetches.get(key)
        if task is None:
            task = self._group.create_task(self._run(domain, record_id))
            self._fetches[key] = task
            task.add_done_callback(lambda _: self._fetches.pop(key))
        return task

    async def _run(self, domain: str, record_id: str) -> _Result:
        try:
            result = await self._attempt(domain, record_id)
        except Exception:  # the outermost frame of a task: a bug must not end the daemon
            log.exception("policy domain=%s id=%s: internal error", domain, record_id)
            result = _NotTried(f"internal error fetching the policy of {domain}, see the log")
            self._activity.fetched(NOT_TRIED)
            return result
        self._activity.fetched(_in_a_word(result))
        if isinstance(result, CachedPolicy):
            policy = result.policy
            log.info(
                "policy domain=%s id=%s mode=%s max_age=%d",
                domain,
                record_id,
                policy.mode,
                policy.max_age,
            )
        else:
            log.warning("policy domain=%s id=%s failed: %s", domain, record_id, result.why)
        return result

    async def _attempt(self, domain: str, record_id: str) -> _Result:
        host = f"mta-sts.{domain}"
        addresses = await gather_addresses(self._resolver, host)
        if isinstance(addresses, Unavailable):
            return self._unresolved(record_id, addresses)
        kind = ResultType.STS_POLICY_FETCH_ERROR
        if isinstance(addresses, Absent):
            return self._failure(record_id, kind, f"the policy host {host} has no address")
        answer = await self._fetcher.fetch(host, addresses.records)
        if isinstance(answer, FetchFailed):
            if answer.ours:
                return _NotTried(answer.why)
            return self._failure(record_id, answer.kind, answer.why)
        try:
            policy = mta_sts.parse_response(answer)
        except ParseError as error:
            kind = _kind_of(answer)
            return self._failure(record_id, kind, f"policy of {domain}: {error}")
        now = self._clock()
        return CachedPolicy(
            record_id=record_id, policy=policy, text=answer.body, fetched=now, checked=now
        )

    def _failure(
        self,
        record_id: str,
        kind: ResultType,
        why: str,
        retry: float = freshness.FETCH_RETRY_SECONDS,
    ) -> FailedFetch:
        now = self._clock()
        return FailedFetch(record_id=record_id, at=now, retry_at=now + retry, kind=kind, why=why)

    def _unresolved(self, record_id: str, addresses: Unavailable) -> _Result:
        """Return what DNS trouble comes to: it must not outlive itself by minutes."""
        if addresses.ours:
            return _NotTried(addresses.why)
        kind, retry = ResultType.STS_POLICY_FETCH_ERROR, freshness.UNAVAILABLE_SECONDS
        return self._failure(record_id, kind, addresses.why, retry)


def _learnt(known: StsFacts, result: _Result) -> StsFacts:
    if isinstance(result, _NotTried):
        raise Busy(result.why)
    if isinstance(result, FailedFetch):
        return StsFacts(cached=known.cached, failure=result)
    return StsFacts(cached=result)


def _in_a_word(result: _Result) -> str:
    if isinstance(result, FailedFetch):
        return result.kind.value
    return FETCHED if isinstance(result, CachedPolicy) else NOT_TRIED


def _kind_of(answer: mta_sts.Response) -> ResultType:
    """Return which failure it is: no document was had, or one that is not valid."""
    if answer.status == HTTPStatus.OK:
        return ResultType.STS_POLICY_INVALID
    return ResultType.STS_POLICY_FETCH_ERROR

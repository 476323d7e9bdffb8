"""Whatever a policy owner writes: Postfix reads back what was meant, or nothing is sent."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.postfix_policy import (
    MATCH_KEYWORDS,
    Level,
    TlsPolicy,
    build_policy,
    host_names,
    parse_policy,
    safe_policy_strings,
)

FUZZ = settings(derandomize=True, deadline=None, max_examples=400)
# Dense in what means something to Postfix, so that chance finds combinations.
NASTY = st.text("ab1.*-_:=|,{} \t\n\v\0\"\\'ü\u2028", max_size=12) | st.text(max_size=6)
NAMES = st.sampled_from(["mx.example.com", "*.example.net", ".example.org", *MATCH_KEYWORDS])
HOSTILE = NASTY | NAMES | st.tuples(NAMES, NASTY).map("".join)
POLICIES = st.builds(
    TlsPolicy,
    level=st.sampled_from(Level),
    match=st.lists(HOSTILE, max_size=3).map(tuple),
    servername=st.none() | HOSTILE,
    protocols=st.none() | st.just(">=TLSv1.2") | NASTY,
    ciphers=st.none() | st.just("high") | NASTY,
    policy_type=st.sampled_from([None, "sts", "no-policy-found"]),
    policy_domain=st.none() | st.just("example.com") | HOSTILE,
    policy_strings=st.lists(st.just("mode: enforce") | HOSTILE, max_size=3).map(tuple),
    mx_host_patterns=st.lists(HOSTILE, max_size=3).map(tuple),
)
STS = TlsPolicy(
    level=Level.SECURE,
    match=("mx.example.com",),
    servername="hostname",
    policy_type="sts",
    policy_domain="example.com",
)


@FUZZ
@given(policy=POLICIES)
def test_an_answer_is_read_back_as_it_was_meant_or_refused(policy: TlsPolicy) -> None:
    try:
        text = build_policy(policy)
    except ParseError:
        return
    assert text.isascii()
    assert text.isprintable()
    assert parse_policy(text) == policy


@FUZZ
@given(names=st.lists(HOSTILE, min_size=1, max_size=4).map(tuple))
def test_names_of_a_stranger_change_nothing_but_the_match(names: tuple[str, ...]) -> None:
    policy = replace(STS, match=names)
    try:
        text = build_policy(policy)
    except ParseError:
        return
    assert parse_policy(text) == policy


@FUZZ
@given(lines=st.lists(HOSTILE | st.text(max_size=40), max_size=5))
def test_lines_of_a_stranger_are_carried_whole_or_left_out(lines: list[str]) -> None:
    policy = replace(STS, policy_strings=safe_policy_strings(lines))
    assert parse_policy(build_policy(policy)) == policy


@FUZZ
@given(values=st.lists(HOSTILE, min_size=1, max_size=6))
def test_every_valid_policy_document_has_an_answer(values: list[str]) -> None:
    fields = ["version: STSv1", "mode: enforce", "max_age: 1", "mx: mx.example.com"]
    body = "\n".join([*fields, *(f"mx: {value}" for value in values)]).encode()
    try:
        document = mta_sts.parse_policy(body)
    except ParseError:
        return
    policy = replace(
        STS,
        match=host_names(document.mx),
        policy_strings=safe_policy_strings(mta_sts.policy_lines(body)),
        mx_host_patterns=document.mx,
    )
    assert parse_policy(build_policy(policy)) == policy
    assert not set(policy.match) & set(MATCH_KEYWORDS)


@FUZZ
@given(
    words=st.lists(
        st.sampled_from(
            [
                *("secure", "may", "none", "match=a:b", "MATCH", "=", "{", "}", " ", ",", "\0"),
                *("policy_type=sts", "{ policy_string = x }", "mx_host_pattern=*.a", "ciphers=low"),
            ]
        )
        | NASTY,
        max_size=10,
    )
)
def test_any_text_is_a_policy_or_a_parse_error(words: list[str]) -> None:
    try:
        policy = parse_policy(" ".join(words))
    except ParseError:
        return
    assert policy.level in Level

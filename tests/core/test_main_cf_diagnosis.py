"""The settings beside the map line: each right, each wrong, and what mends it."""

from typing import Any

import pytest

from postfix_mtasts.core.diagnosis import Change, Diagnosis, Grade
from postfix_mtasts.core.main_cf_diagnosis import Advice, Authorities, diagnose_main_cf
from postfix_mtasts.core.postfix_policy import Level
from tests.core.doctor_samples import ETC, client, setup

CA = "/etc/ssl/certs/ca-certificates.crt"


def found(
    version: str = "3.7.11",
    *,
    authorities: Authorities | None = None,
    told: Level = Level.MAY,
    **settings: Any,
) -> dict[str, Diagnosis]:
    """Return what is said, by subject; of two the later."""
    advice = Advice(
        default_level=told,
        mend_level="tell it {level}",
        authorities=authorities or Authorities(in_file=140),
    )
    diagnoses = diagnose_main_cf(setup(version, **settings), advice)
    assert all(each.instance == ETC for each in diagnoses)
    return {each.subject: each for each in diagnoses}


def test_a_good_main_cf_has_nothing_to_mend() -> None:
    assert {each.grade for each in found().values()} == {Grade.OK}


def test_a_postfix_before_3_4_is_too_old() -> None:
    assert found("3.3.2")["Postfix"].grade is Grade.WRONG


@pytest.mark.parametrize(
    ("settings", "told", "grade", "value"),
    [
        ({"smtp_tls_security_level": "dane"}, Level.DANE, Grade.OK, None),
        ({"smtp_tls_security_level": ""}, Level.MAY, Grade.WRONG, "may"),
        ({"smtp_tls_security_level": "none"}, Level.DANE, Grade.WRONG, "dane"),
        ({"smtp_tls_security_level": ""}, Level.NONE, Grade.WRONG, "may"),
        ({"smtp_tls_security_level": "strong"}, Level.MAY, Grade.WRONG, "may"),
        ({"smtp_tls_security_level": "strong"}, Level.DANE, Grade.WRONG, "dane"),
        ({"smtp_tls_security_level": "", "smtp_use_tls": "yes"}, Level.MAY, Grade.OK, None),
        ({"smtp_tls_security_level": "", "smtp_enforce_tls": "yes"}, Level.ENCRYPT, Grade.OK, None),
    ],
)
def test_the_level_is_at_least_opportunistic(
    settings: dict[str, Any], told: Level, grade: Grade, value: str | None
) -> None:
    level = found(told=told, **settings)["TLS level"]
    assert level.grade is grade
    wanted = () if value is None else (Change(name="smtp_tls_security_level", value=value),)
    assert level.changes == wanted


def test_the_daemon_must_be_told_main_cfs_level() -> None:
    level = found(smtp_tls_security_level="dane")["TLS level"]
    assert (level.grade, level.mend, level.changes) == (Grade.WARNING, "tell it dane", ())


@pytest.mark.parametrize(
    ("settings", "authorities", "grade"),
    [
        ({}, Authorities(in_file=140), Grade.OK),
        ({"smtp_tls_CAfile": "/x"}, Authorities(in_file=0), Grade.WRONG),
        (
            {"smtp_tls_CAfile": "/x"},
            Authorities(in_file=None, why="Permission denied"),
            Grade.WRONG,
        ),
        ({"smtp_tls_CAfile": ""}, Authorities(), Grade.WRONG),
        ({"smtp_tls_CAfile": "", "smtp_tls_CApath": "/c"}, Authorities(in_folder=9), Grade.OK),
        ({"smtp_tls_CAfile": "", "smtp_tls_CApath": "/c"}, Authorities(), Grade.WRONG),
        ({"smtp_tls_CAfile": "", "tls_append_default_CA": "yes"}, Authorities(), Grade.OK),
    ],
)
def test_postfix_needs_authorities(
    settings: dict[str, Any], authorities: Authorities, grade: Grade
) -> None:
    said = found(authorities=authorities, **settings)["authorities"]
    assert said.grade is grade
    if grade is Grade.WRONG:
        assert said.changes == (Change(name="smtp_tls_CAfile", value=CA),)
        assert authorities.why in said.text


def test_where_the_systems_own_file_is_bad_its_package_is_mended() -> None:
    said = found(authorities=Authorities(in_file=0))["authorities"]
    assert (said.changes, said.mend) == ((), "apt-get install --reinstall ca-certificates")
    assert "no certificate in it" in said.text


@pytest.mark.parametrize(
    ("support", "lookup", "changed"),
    [
        ("dnssec", "dns, native", []),
        ("", "dns", ["smtp_dns_support_level"]),
        ("enabled", "native", ["smtp_dns_support_level", "smtp_host_lookup"]),
        ("dnssec", "native", ["smtp_host_lookup"]),
    ],
)
def test_dane_needs_dnssec_and_dns(support: str, lookup: str, changed: list[str]) -> None:
    said = found(smtp_dns_support_level=support, smtp_host_lookup=lookup)["DANE"]
    assert [change.name for change in said.changes] == changed
    assert said.grade is (Grade.WRONG if changed else Grade.OK)


@pytest.mark.parametrize(
    ("level", "grade"),
    [
        ("0", Grade.WARNING),
        ("", Grade.WARNING),
        ("none", Grade.WARNING),
        ("1", Grade.OK),
        ("summary, untrusted", Grade.OK),
    ],
)
def test_the_log_must_tell_of_tls(level: str, grade: Grade) -> None:
    assert found(smtp_tls_loglevel=level)["TLS log"].grade is grade


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"smtp_use_tls": "yes"}, [("smtp_use_tls", None)]),
        (
            {"smtp_tls_security_level": "", "smtp_enforce_tls": "yes"},
            [("smtp_tls_security_level", "encrypt"), ("smtp_enforce_tls", None)],
        ),
        (
            {"smtp_tls_security_level": "", "smtp_tls_per_site": "hash:/x"},
            [("smtp_tls_per_site", None)],
        ),
    ],
)
def test_old_settings_go_and_what_they_meant_stays(
    settings: dict[str, Any], changes: list[tuple[str, str | None]]
) -> None:
    said = found(**settings)["old settings"]
    assert ("passed over" in said.text) is ("smtp_tls_security_level" not in settings)
    assert said.grade is Grade.WARNING
    assert [(change.name, change.value) for change in said.changes] == changes


def test_levels_of_master_cf_and_routes_are_notes() -> None:
    relay = client("relay", smtp_tls_security_level="")
    said = found(clients=(client(), relay), relayhost="[relay.example]", transport_maps="hash:/t")
    assert (said["TLS level"].grade, said["TLS level"].text) == (
        Grade.NOTE,
        "master.cf: relay has none",
    )
    assert said["routes"].grade is Grade.NOTE
    assert "relayhost = [relay.example]; transport_maps = hash:/t" in said["routes"].text


_DEFAULT = "inline:{{com=opportunistic}, {.com=opportunistic}, {localhost=opportunistic}}, enforce"


@pytest.mark.parametrize(
    ("domain", "enabled", "policy", "warned"),
    [
        ("com", "yes", _DEFAULT, True),
        ("com", "yes", "inline:{ { .com = opportunistic } }, enforce", True),
        ("com", "no", _DEFAULT, False),
        ("com", "yes", "enforce", False),
        ("example.com", "yes", _DEFAULT.replace("com", "example.com"), False),
        ("local", "yes", _DEFAULT.replace("com", "local"), False),
        ("com", "", "", False),
    ],
)
def test_requiretls_must_hold_for_all_of_a_top_level_domain(
    domain: str, enabled: str, policy: str, *, warned: bool
) -> None:
    said = found(mydomain=domain, requiretls_enable=enabled, smtp_requiretls_policy=policy)
    assert ("REQUIRETLS" in said) is warned
    if warned:
        assert said["REQUIRETLS"].grade is Grade.WARNING
        (change,) = said["REQUIRETLS"].changes
        assert change.name == "smtp_requiretls_policy"
        assert str(change.value).endswith("enforce")
        assert domain not in str(change.value)

import pytest

from postfix_mtasts.core import config_nodes
from postfix_mtasts.core.config_nodes import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_FAULTS,
    FaultsError,
    parse_yaml,
    quote,
)


def fault(text: str) -> str:
    with pytest.raises(FaultsError) as raised:
        parse_yaml(text, name="c.yaml", base="/")
    return str(raised.value)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null", "~", "\ufeff"])
def test_a_document_that_says_nothing_is_none(text: str) -> None:
    assert parse_yaml(text, name="c.yaml", base="/") is None


def test_the_root_knows_its_folder_and_its_children_know_their_paths() -> None:
    root = parse_yaml("a: 1", name="c.yaml", base="/etc")
    assert root is not None
    assert (root.path, root.base) == ("", "/etc")
    policies = root.child(root.node, "policies")
    assert policies.child(root.node, "[2]").child(root.node, "match").path == "policies[2].match"
    assert policies.child(root.node, "[2]").base == "/etc"


def test_a_fault_names_the_place_and_the_key() -> None:
    root = parse_yaml("\n  a", name="c.yaml", base="/")
    assert root is not None
    assert str(root.fault("is odd")) == "c.yaml:2:3: the file: is odd"
    assert str(root.child(root.node, "dns").fault("is odd")) == "c.yaml:2:3: dns: is odd"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x 1", "c.yaml:1:4: anchors and aliases are not supported"),
        ("a:\n  - *x", "c.yaml:2:5: anchors and aliases are not supported"),
        ("a: !!python/none 1", "c.yaml:1:4: tags are not supported"),
        ("!!set {a}", "c.yaml:1:1: tags are not supported"),
        ("a: 1\n---\nb: 2", "c.yaml:2:1: expected a single document in the stream, but found"),
        ("a: [1, 2", "c.yaml:1:9: while parsing a flow sequence, expected ',' or ']'"),
        ("a: 1\nb: %", "c.yaml:2:4: while scanning for the next token, found character '%'"),
        ("a: 1\r\nb: \x07", "c.yaml:2:4: an unprintable character"),
        ("\x00", "c.yaml:1:1: an unprintable character"),
        (r'"\UFFFFFFFF"', "c.yaml: a number in an escape or directive is out of range"),
        (r'"\U00FFFFFF"', "c.yaml: a number in an escape or directive is out of range"),
        (f"%YAML {5000 * '1'}.1\n--- a", "c.yaml: a number in an escape or directive"),
    ],
)
def test_what_is_no_yaml_of_ours_is_refused_at_its_place(text: str, why: str) -> None:
    assert fault(text).startswith(why)


def test_nesting_is_bounded() -> None:
    assert parse_yaml(MAX_DEPTH * "[" + MAX_DEPTH * "]", name="c.yaml", base="/")
    deeper = fault((MAX_DEPTH + 1) * "[" + (MAX_DEPTH + 1) * "]")
    assert deeper == f"c.yaml:1:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"
    assert fault(100_000 * "[").endswith(f"nested deeper than {MAX_DEPTH} levels")


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault("#" * (MAX_CHARACTERS + 1)) == f"c.yaml: longer than {MAX_CHARACTERS} characters"
    monkeypatch.setattr(config_nodes, "MAX_CHARACTERS", 9)
    assert parse_yaml("#" * 9, name="c.yaml", base="/") is None
    assert fault("#" * 10) == "c.yaml: longer than 9 characters"


def test_a_file_full_of_faults_is_told_in_part() -> None:
    error = FaultsError(*(str(n) for n in range(MAX_FAULTS + 5)))
    assert str(error).splitlines()[-2:] == [str(MAX_FAULTS - 1), "and 5 more"]
    assert len(error.faults) == MAX_FAULTS + 5


def test_exactly_as_many_faults_as_are_told_are_told_in_full() -> None:
    faults = [str(n) for n in range(MAX_FAULTS)]
    assert str(FaultsError(*faults)).splitlines() == faults


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("may", '"may"'),
        ("a\nb\x1b", '"a?b?"'),
        ("\ud800", '"?"'),
        (60 * "x", '"' + 60 * "x" + '"'),
        (61 * "x", '"' + 60 * "x" + '…"'),
    ],
)
def test_a_quoted_word_is_short_and_printable(text: str, quoted: str) -> None:
    assert quote(text) == quoted

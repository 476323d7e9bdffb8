"""A configuration file as YAML nodes that know their place.

YAML is read as its nodes, never as objects, and with less than YAML offers: no
anchors, aliases or tags, one document, bounded in size and depth.

All that is wrong is told at once, each fault in a line of its own that names
the file, the line, the column and the key::

    config.yaml:3:3: unknown key "mta_sts.refesh"; did you mean "mta_sts.refresh"?

LIMITS: `MAX_CHARACTERS`, `MAX_DEPTH`, `MAX_FAULTS`, `MAX_SHOWN`.

BUGS: YAML 1.1 it is, so ``yes`` and ``off`` are true and false as well.
"""

from dataclasses import dataclass
from typing import cast

import yaml

from postfix_mtasts.core.errors import ConfigError

MAX_CHARACTERS = 1 << 20  # of a whole file: some ten thousand overrides
MAX_DEPTH = 16  # of nesting; the deepest key of ours is on the fourth level
MAX_FAULTS = 20  # told at once; who has more has given us the wrong file
MAX_SHOWN = 60  # characters of a wrong word that a fault repeats


class FaultsError(ConfigError):
    """What is wrong with a configuration, in the order of the file."""

    def __init__(self, *faults: str) -> None:
        shown = faults[:MAX_FAULTS]
        if len(faults) > MAX_FAULTS:
            shown += (f"and {len(faults) - MAX_FAULTS} more",)
        super().__init__("\n".join(shown))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A value that has yet to be read: its node and where it stands."""

    node: yaml.Node
    path: str  # such as "policies[2].match[0]", "" for the whole
    base: str  # the folder that relative paths start from

    def fault(self, why: str) -> FaultsError:
        """Return the fault that this value is not what it should be."""
        return FaultsError(f"{place(self.node.start_mark)}: {self.path or 'the file'}: {why}")

    def child(self, node: yaml.Node, step: str) -> "Item":
        """Return *node*, which stands inside this value at *step*."""
        separator = "." if self.path and not step.startswith("[") else ""
        return Item(node=node, path=f"{self.path}{separator}{step}", base=self.base)


class _Loader(yaml.SafeLoader):
    """PyYAML's loader down to its nodes, without aliases and of bounded depth.

    Python's own, as libyaml's words for what is wrong differ by its version.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:
            raise _refusal(event, "anchors and aliases are not supported")
        if getattr(event, "tag", None) is not None:
            raise _refusal(event, "tags are not supported")
        if self.depth == MAX_DEPTH:
            raise _refusal(event, f"nested deeper than {MAX_DEPTH} levels")
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refusal(event: yaml.NodeEvent, why: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=why, problem_mark=cast("yaml.error.Mark", event.start_mark))


def parse_yaml(text: str, *, name: str, base: str) -> Item | None:
    """Return the root of the document *text*, `None` where it says nothing.

    *name* is what faults call the file; relative paths in it start from the
    folder *base*.  Raises `FaultsError`.
    """
    if len(text) > MAX_CHARACTERS:
        raise FaultsError(f"{name}: longer than {MAX_CHARACTERS} characters")
    node = _compose(text, name)
    if node is None or is_null(node):
        return None
    return Item(node=node, path="", base=base)


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        loader.name = name
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        # PyYAML marks every one of these errors, though its types do not say so.
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise FaultsError(f"{place(cast('yaml.Mark', error.problem_mark))}: {what}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise FaultsError(f"{name}:{line}:{column}: an unprintable character") from error
    except (ValueError, OverflowError) as error:
        # PyYAML lets these through from "\UFFFFFFFF" and from endless %YAML version numbers.
        raise FaultsError(f"{name}: a number in an escape or directive is out of range") from error


def place(mark: yaml.Mark) -> str:
    """Return *mark* as editors and compilers write a place: "config.yaml:3:1"."""
    return f"{mark.name}:{mark.line + 1}:{mark.column + 1}"


def is_null(node: yaml.Node) -> bool:
    """Return whether *node* is YAML's null, such as nothing at all behind a colon."""
    return bool(node.tag == "tag:yaml.org,2002:null")


def quote(text: str) -> str:
    """Return *text* in quotation marks, cut and made printable, for a fault."""
    cut = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    return '"' + "".join(c if c.isprintable() else "?" for c in cut) + '"'

"""The law of floors: who may import whom, read from the package's own map."""

import ast
import re
from pathlib import Path

import pytest

import postfix_mtasts

PACKAGE = Path(postfix_mtasts.__file__).parent
FORBIDDEN_IN_CORE = {
    *("asyncio", "socket", "ssl", "threading", "subprocess", "sqlite3", "logging", "random"),
    *("time", "os", "pathlib", "requests", "dns", "datetime", "secrets", "uvloop", "urllib3"),
}


def floors() -> dict[str, int]:
    """Return the floor of each pattern of the map, such as "adapters.*"."""
    lines = re.findall(r"^ +floor +(-?\d+) +(.+)$", postfix_mtasts.__doc__ or "", re.MULTILINE)
    return {name: int(floor) for floor, names in lines for name in names.split()}


def modules() -> list[str]:
    """Return every module of the package, relative to it, packages left out."""
    return [
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__init__.py"
    ]


def floor_of(module: str) -> int:
    table = floors()
    pattern = module if module in table else module.rpartition(".")[0] + ".*"
    assert pattern in table, f"{module} has no place in the map of postfix_mtasts/__init__.py"
    return table[pattern]


def imports(module: str) -> list[str]:
    """Return the full names that *module* imports, each as deep as can be told."""
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def house_imports(module: str) -> list[str]:
    """Return the modules of this package that *module* imports."""
    known = set(modules())
    found = []
    for name in imports(module):
        if not name.startswith("postfix_mtasts."):
            continue
        short = name.removeprefix("postfix_mtasts.")
        found += [part for part in (short, short.rpartition(".")[0]) if part in known]
    return found


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_lower_floors(module: str) -> None:
    own = floor_of(module)
    for other in house_imports(module):
        same_folder = "." in module and other.partition(".")[0] == module.partition(".")[0]
        if same_folder and own == floor_of(other) and floors().get(module) is None:
            continue  # siblings under one "*" may lean on each other
        assert floor_of(other) < own, f"{module} imports {other}, which is no lower"


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("core.")])
def test_the_core_does_no_io_and_reads_no_clock(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports(module)}
    assert not roots & FORBIDDEN_IN_CORE


def test_adapters_and_services_never_meet_below_the_commands() -> None:
    for module in modules():
        wings = {name.partition(".")[0] for name in house_imports(module)}
        if module.startswith("adapters."):
            assert "services" not in wings, module
        if module.startswith("services."):
            assert "adapters" not in wings, module

"""The house: arrows point one way, nothing goes round in circles, rooms and functions keep their size.

Imports are read from the source, lazy ones and those for types too, since no picture shows them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from convform.reference.misreadings.catalogue import MISREADINGS
from convform.spec.clauses import clauses, pages
from convform.spec.operators import FAMILIES, OPERATORS

PACKAGES = ("spec", "reference", "adapters", "conformance")

ARROWS = {
    "spec": set(),
    "reference": {"spec"},
    "adapters": {"spec"},
    "conformance": {"spec", "reference", "adapters"},
}
"""What each package may import beside itself."""

ROOMS = ("cases", "subjects", "laws", "diagnosis", "reports", "running")
"""Rooms of the judge, each of which may import those before it."""

LAST_ROOMS = ("inference", "matrix", "teeth", "courses")
"""Rooms that may import all of these, but none of one another."""

WITH_REFERENCE = "adapters.backends.reference"
"""The one module of the adapters that imports the reference."""

FACADES = ("conformance", "")
"""Packages whose ``__init__`` is a door itself: it offers what a door holds."""

MANY_MODULES = ("adapters.backends", "examples", "tests")
MOST_MODULES = 16
MOST_LINES = 80
MOST_PARAMETERS = 8

BOUND = ("self", "cls", "xp")
"""Parameters that nobody passes: what a method, or an operator of an array namespace, is bound to."""

MANY_PARAMETERS = ("adapters.adapter", "conformance.doors.python")
"""Modules in which people type the parameters: `Adapter` and `check`; with them the public functions of the
reference and the commands of the command line."""


@dataclass(frozen=True)
class Module:
    """A module of the house: its name without ``convform.``, and its source."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def room(self) -> str | None:
        """The room of the judge that it lies in."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == "conformance" and len(parts) > 2 else None


def _modules_in(package: str) -> Iterator[Module]:
    root = Path(str(files(f"convform.{package}")))
    for path in sorted(root.rglob("*.py")):
        parts = [package, *path.relative_to(root).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Module(name, path, ast.parse(path.read_text(encoding="utf-8")))


@cache
def house() -> dict[str, Module]:
    """All modules but tests and examples, by name."""
    return {module.name: module for package in PACKAGES for module in _modules_in(package)}


def imported(module: Module) -> set[str]:
    """Names of the modules that a module imports anywhere: at its top, in a function, or for types."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below.removeprefix("convform.") in house() else node.module)
    return {name.removeprefix("convform.") for name in found if name.startswith("convform.")} - {module.name}


def may_import(module: Module, other: str) -> bool:
    """Whether an arrow from a module to another points the right way."""
    package = other.partition(".")[0]
    if package != module.package:
        return package in ARROWS[module.package] or (module.name == WITH_REFERENCE and package == "reference")
    target = house()[other].room if other in house() else None
    if module.room is None or target is None or module.room == target:
        return True
    if module.room == "doors":
        return True
    if target in ROOMS:
        return module.room in LAST_ROOMS or ROOMS.index(target) < ROOMS.index(module.room)
    return False


def wrong_arrows(modules: dict[str, Module]) -> list[str]:
    return [
        f"{module.name} → {other}"
        for module in modules.values()
        for other in sorted(imported(module))
        if not may_import(module, other)
    ]


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Every module that can be reached from itself."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            for other in arrows.get(left.pop(), set()) - seen:
                seen.add(other)
                left.append(other)
        return seen

    return [name for name in arrows if name in reached(name)]


def functions_of(module: Module) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef))


def parameters(function: ast.FunctionDef) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in named if argument.arg not in BOUND])


def may_take_many(module: Module, function: ast.FunctionDef) -> bool:
    """Whether people type the parameters of a function one by one."""
    if module.name in MANY_PARAMETERS or module.name.startswith("conformance.doors.cli"):
        return True
    return module.package == "reference" and "misreadings" not in module.name and function.name[0] != "_"


def spelled(module: Module) -> list[str]:
    """Names of families and operators that the code of a module spells, texts for people left out."""
    names = {*FAMILIES, *OPERATORS, *(name.partition("_")[0] for name in FAMILIES), ".backward"}
    names |= {name.partition(".")[0] for name in FAMILIES} | {"max_", "avg_"}
    texts = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
    return [
        f"{module.name}:{node.lineno} {node.value!r}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and id(node) not in texts
        if isinstance(node.value, str) and node.value in names
    ]


def test_arrows_point_one_way():
    assert wrong_arrows(house()) == []


def test_there_is_no_circle():
    assert circles({name: imported(module) for name, module in house().items()}) == []


def test_the_canonical_operators_know_no_misreading():
    canonical = [m for m in house().values() if m.package == "reference" and "misreadings" not in m.name]
    assert [m.name for m in canonical if any("misreadings" in other for other in imported(m))] == []


def test_nothing_but_a_door_imports_a_door():
    others = [module for module in house().values() if module.room != "doors" and module.name not in FACADES]
    assert [m.name for m in others if any(".doors" in other for other in imported(m))] == []


def test_nobody_imports_a_backend():
    others = [module for module in house().values() if not module.name.startswith("adapters.backends.")]
    assert [m.name for m in others if any("backends." in other for other in imported(m))] == []


def test_a_page_its_misreadings_and_its_clauses_are_found_from_one_another():
    listed = {misreading.clause: misreading for misreading in MISREADINGS.values()}
    for name, clause in clauses().items():
        if name in listed:
            assert f"reference.misreadings.{clause.page}" in house(), name
    prefixes: dict[str, set[str]] = {}
    for name, clause in clauses().items():
        prefixes.setdefault(clause.page, set()).add(name.rpartition("-")[0])
    assert all(len(found) == 1 for found in prefixes.values()), prefixes
    assert set(prefixes) <= set(pages())


def test_a_misreading_lies_in_the_file_of_its_page():
    for module in house().values():
        page = module.name.rpartition(".")[2]
        if not module.name.startswith("reference.misreadings.") or page not in pages():
            continue
        cited = {
            node.value
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and node.value in clauses()
        }
        assert {clauses()[name].page for name in cited} <= {page}, module.name


def test_rooms_are_no_larger_than_a_person_can_look_over():
    rooms: dict[Path, int] = {}
    for module in house().values():
        rooms[module.path.parent] = rooms.get(module.path.parent, 0) + 1
    many = {Path(str(files(f"convform.{name}"))) for name in MANY_MODULES}
    assert {str(room): size for room, size in rooms.items() if size > MOST_MODULES and room not in many} == {}


def test_functions_are_no_longer_than_two_screens():
    long = [
        f"{module.name}:{function.name}"
        for module in house().values()
        for function in functions_of(module)
        if function.end_lineno - function.lineno + 1 > MOST_LINES
    ]
    assert long == []


def test_functions_take_few_parameters():
    many = [
        f"{module.name}:{function.name} takes {parameters(function)}"
        for module in house().values()
        for function in functions_of(module)
        if parameters(function) > MOST_PARAMETERS and not may_take_many(module, function)
    ]
    assert many == []


def test_no_family_is_spelled_where_its_row_should_be_asked():
    judge = [m for m in house().values() if m.package in ("adapters", "conformance")]
    asked = [m for m in judge if not m.name.startswith("adapters.backends.")]
    assert [line for module in asked for line in spelled(module)] == []


# --- the rules themselves, on houses with one fault each ---------------------------------------------


def planted(name: str, source: str) -> Module:
    return Module(name, Path(name.replace(".", "/") + ".py"), ast.parse(source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("spec.page", "from convform.reference import conv"),
        ("reference.fast", "def f():\n    import convform.conformance.laws.law"),
        ("adapters.more", "from convform.reference.window import Window"),
        ("conformance.cases.more", "from convform.conformance.laws.law import Law"),
        ("conformance.running.more", "def f():\n    from convform.conformance.inference import infer"),
        ("conformance.matrix.more", "from convform.conformance.teeth import kills"),
        ("conformance.running.more", "from convform.conformance.doors import python"),
    ],
)
def test_a_wrong_arrow_is_seen(name, source):
    assert wrong_arrows({name: planted(name, source)}) != []


def test_a_circle_is_seen_however_long():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_a_spelled_family_is_seen_and_a_docstring_is_none():
    assert spelled(planted("conformance.x", 'if family == "max_pool.backward":\n    pass')) != []
    assert spelled(planted("conformance.x", 'if name.startswith("max_pool"):\n    pass')) != []
    assert spelled(planted("conformance.x", 'def f():\n    """conv"""\n    return "a conv"')) == []


def test_a_long_function_is_seen():
    (function,) = functions_of(planted("spec.x", "def f():\n" + "    pass\n" * 90))
    assert function.end_lineno - function.lineno + 1 > MOST_LINES

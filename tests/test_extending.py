"""The recipes of docs/EXTENDING.md: what each says is there, for all that is there."""

from __future__ import annotations

import ast
import re
from importlib.metadata import entry_points
from importlib.resources import files

import numpy as np
import pytest

from convform import reference
from convform.adapters import find, installed, load
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import Axis, Channels, Geometry
from convform.conformance.inference.names import operator_named
from convform.conformance.laws.index import LAWS
from convform.reference import definition, selection
from convform.reference.misreadings.steps import STANDARD, evaluate_steps
from convform.spec.clauses import PAGES, clauses, page
from convform.spec.operators import OPERATORS, ROWS
from convform.tests.checkout import ROOT, in_checkout, text_of

RECIPES = files("convform.docs").joinpath("EXTENDING.md").read_text(encoding="utf-8")
FAMILY_PAGES = {row.name: row.name.replace(".", "_") for row in ROWS.values()}
BACKENDS = sorted(
    entry.name.removesuffix(".py")
    for entry in files("convform.adapters.backends").iterdir()
    if entry.name.endswith(".py") and entry.name != "__init__.py"
)
LED_TO = {point.module.rpartition(".")[2] for point in entry_points(group="convform.adapters")} & {*BACKENDS}
NAMES = {
    "An operator": FAMILY_PAGES.values(),
    "A law": FAMILY_PAGES.values(),
    "A misreading": FAMILY_PAGES.values(),
    "A backend": sorted(LED_TO),
    "A report format": ["terminal", "reproducer"],
    "A door": ["python", "plugin"],
}
"""What ``NAME`` stands for in each recipe, as things are."""


def recipe(title):
    """The text of one recipe, and the files in its table."""
    text = RECIPES.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return text, re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)


@in_checkout
@pytest.mark.parametrize("title", NAMES)
def test_every_file_that_a_recipe_names_is_there(title):
    text, table = recipe(title)
    assert len(table) >= 3
    named = {*table, *re.findall(r"`((?:spec|reference|adapters|conformance|tests|docs)/[^`]*)`", text)}
    for name in {one.replace("NAME", stands_for) for one in named for stands_for in NAMES[title]}:
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").is_file(), name


def test_an_operator_touches_as_many_files_as_the_recipe_says():
    text, table = recipe("An operator")
    assert len(table) == int(re.search(r"would touch these (\d+) files", text)[1]) <= 17


# ----------------------------------------------------------------------------------------- an operator


@pytest.mark.parametrize("family", ROWS)
def test_every_row_has_a_page(family):
    assert FAMILY_PAGES[family] in PAGES
    written = page(FAMILY_PAGES[family])
    assert all(f"`{row.name}`" in written.text for row in OPERATORS.values() if row.family == family)
    assert written.clauses


@pytest.mark.parametrize("name", OPERATORS)
def test_every_row_has_a_function_in_all_four_formulations(name):
    operator = OPERATORS[name]
    case = build(operator, Geometry((Axis(4, 2, 1, 0, 0, 1),) * operator.rank, Channels(2, 2, 2)))
    call = name, case.inputs, case.parameters
    expected = reference.evaluate(*call)
    assert list(expected) == list(operator.outputs)
    for evaluate in (definition.evaluate, selection.evaluate, lambda *call: evaluate_steps(STANDARD, *call)):
        answer = evaluate(*call)
        for output, array in expected.items():
            np.testing.assert_array_equal(np.asarray(answer[output], float), array.astype(float))


def test_the_reference_offers_every_row():
    assert set(load("reference").implementations) == set(OPERATORS)


def test_every_topic_of_a_row_is_asked_for_by_a_law():
    for row in ROWS.values():
        cited = [law.clauses for law in LAWS if row.name in law.families]
        for topic, about in row.clauses.items():
            assert any(set(about) <= set(clauses) for clauses in cited), (
                f"{row.name}: no law asks for {topic}"
            )


@pytest.mark.parametrize("family", [row.name for row in ROWS.values() if row.names])
def test_every_usual_name_is_recognised(family):
    gradient = OPERATORS[ROWS[family].named(2)].gradient
    for name in ROWS[family].names:
        assert operator_named(name) == ROWS[family].named(2)
        assert gradient is None or operator_named(f"{name}_backward") == gradient


def test_every_row_that_homework_has_names_for_is_in_an_example():
    examples = (entry for entry in files("convform.examples").iterdir() if entry.name.endswith(".py"))
    shown = set()
    for entry in examples:
        if entry.name not in ("__init__.py", "test_examples.py"):
            shown |= {name for adapter in find(str(entry)) for name in adapter.implementations}
    assert {OPERATORS[name].family for name in shown} >= {row.name for row in ROWS.values() if row.names}


@in_checkout
def test_every_row_is_in_the_readme():
    (line,) = re.findall(r"^\| operators \| (.*) \|$", text_of("README.md"), flags=re.MULTILINE)
    for row in ROWS.values():
        said = row.named(2) if row.gradient_of is None else "….backward"
        assert f"`{said}`" in line


# ----------------------------------------------------------------------------------------------- a law


def test_every_law_is_in_the_index_and_cites_clauses():
    assert len({(law.name, law.families) for law in LAWS}) == len(LAWS)
    for law in LAWS:
        assert law.clauses
        assert set(law.clauses) <= set(clauses())


# ------------------------------------------------------------------------------------------- a backend


def test_every_backend_has_an_entry_point():
    """Or it is a helper of one that has."""
    helpers = set()
    for name in BACKENDS:
        text = files("convform.adapters.backends").joinpath(f"{name}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and ".backends" in node.module:
                helpers |= {node.module.rpartition(".")[2], *(alias.name for alias in node.names)}
    assert set(BACKENDS) - LED_TO <= helpers


def test_every_known_limit_has_a_link():
    for entry in installed():
        for limit in entry.adapter.known_limits if entry.adapter else ():
            assert re.match(r"https?://", limit.link), f"{entry.name}: {limit}"

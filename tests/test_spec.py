"""The standard is complete, can be read, and agrees with the operator table and with the reference."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convform.spec.clauses import (
    LEVELS,
    PAGES,
    clause,
    clauses,
    examples,
    page,
    pages,
    parse_page,
)
from convform.spec.errors import SpecError, UnknownClauseError
from convform.spec.examples import Example, parse_example, parse_smallest
from convform.spec.operators import FAMILIES, OPERATORS, PARAMETERS

# One letter for each clause, in the order of their numbers: c for core, s for strict.
PUBLISHED = {
    "WINDOW": "cccccscc",
    "LAYOUT": "c",
    "IM2COL": "ccs",
    "COL2IM": "ccs",
    "CONV": "cccccss",
    "CONVGRAD": "ccccs",
    "POOL": "cc",
    "MAXPOOL": "ccsscc",
    "MAXGRAD": "ccs",
    "AVGPOOL": "cccc",
    "AVGGRAD": "cs",
    "CONTRACT": "sssssssssc",
}
LEVEL = {
    f"{prefix}-{number}": {"c": "core", "s": "strict"}[letter]
    for prefix, letters in PUBLISHED.items()
    for number, letter in enumerate(letters, start=1)
}
CORE = [id for id, level in LEVEL.items() if level == "core"]
FAMILY_PAGES = [family.replace(".", "_") for family in FAMILIES]

every_clause = pytest.mark.parametrize("id", LEVEL)
every_example = pytest.mark.parametrize("example", examples(), ids=lambda example: example.says)


# The clauses -----------------------------------------------------------------------------------------


def test_the_ids_are_those_that_were_published_and_no_others() -> None:
    assert set(clauses()) == set(LEVEL)


@every_clause
def test_levels_never_change(id: str) -> None:
    assert clause(id).level == LEVEL[id]


@every_clause
def test_a_clause_says_all_three_classes_and_an_equation(id: str) -> None:
    entry = clause(id)
    for text in (entry.title, entry.rule, entry.required, entry.refused, entry.unspecified):
        assert text.endswith(".") or text == entry.title
    assert entry.equation
    assert entry.text.startswith(f"### {id} · {entry.title}\n")


@every_clause
def test_a_rule_is_short_enough_for_a_failure_report(id: str) -> None:
    rule = clause(id).rule
    assert len(re.findall(r"\.(?= |$)", rule)) <= 3
    assert len(rule) <= 300
    assert not set(rule) & set("*`[]")


@every_clause
def test_a_clause_has_a_misreading_that_names_an_input(id: str) -> None:
    for misreading in clause(id).misreadings:
        assert len(misreading.name) <= 60
        assert misreading.says[0].islower()
        assert ". " not in misreading.says
        assert misreading.look.endswith((".", "?"))


def test_names_of_misreadings_are_unique() -> None:
    names = Counter(misreading.name for entry in clauses().values() for misreading in entry.misreadings)
    assert names.most_common(1)[0][1] == 1


@pytest.mark.parametrize("id", CORE)
def test_a_core_clause_has_an_example(id: str) -> None:
    assert clause(id).examples
    assert all(id in example.clauses for example in clause(id).examples if example.worked is None)


def test_clauses_come_in_page_order() -> None:
    order = [entry.page for entry in clauses().values()]
    assert sorted(order, key=PAGES.index) == order
    assert tuple(pages()) == PAGES


@pytest.mark.parametrize("id", ["CONV-99", "conv-1", "Conv 1"])
def test_an_unknown_clause_is_a_key_error_with_a_hint(id: str) -> None:
    with pytest.raises(KeyError) as failure:
        clause(id)
    assert isinstance(failure.value, UnknownClauseError)
    assert f"there is no clause {id!r}; did you mean CONV-" in str(failure.value)


def test_every_clause_that_a_page_mentions_exists() -> None:
    for name, text in pages().items():
        for id in re.findall(r"\b[A-Z][A-Z0-9]+-[0-9]+\b", text):
            assert id in clauses(), f"{name}.md mentions {id}"


def test_every_link_between_pages_leads_somewhere() -> None:
    for text in pages().values():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert target.removesuffix(".md") in PAGES


# The operator table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tables_of_a_page_are_those_of_the_operator_table(family: str) -> None:
    operator = next(entry for entry in OPERATORS.values() if entry.family == family and entry.rank == 2)
    entry = page(family.replace(".", "_"))
    assert entry.arrays == operator.inputs
    assert entry.outputs == operator.outputs
    assert tuple(entry.parameters) == operator.parameters
    for name, written in entry.parameters.items():
        default = PARAMETERS[name].default
        if name == "stride" and operator.is_pooling:
            assert written == "kernel"
        else:
            assert written == ("required" if default is None else str(default))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_page_names_its_operators(family: str) -> None:
    text = page(family.replace(".", "_")).text
    for operator in OPERATORS.values():
        if operator.family == family:
            assert f"`{operator.name}`" in text


# The worked examples ---------------------------------------------------------------------------------


def test_all_fourteen_worked_examples_are_there() -> None:
    found = {example.worked for example in examples()} - {None}
    assert found == set(range(1, 15))
    assert all(example.says.startswith(f"{example.worked} · ") for example in examples() if example.worked)


def test_titles_of_examples_are_unique() -> None:
    titles = Counter(example.says for example in examples())
    assert titles.most_common(1)[0][1] == 1


def test_every_family_has_an_example_for_each_rank_that_its_page_names() -> None:
    shown = {OPERATORS[example.operator].family for example in examples() if example.operator}
    assert shown == set(FAMILIES)
    assert {OPERATORS[example.operator].rank for example in examples() if example.operator} == {1, 2, 3}


def test_every_parameter_is_shown_by_an_example() -> None:
    shown = {
        name for example in examples() for name, value in example.parameters.items() if value is not None
    }
    assert shown == set(PARAMETERS)


@every_example
def test_an_example_holds_for_the_reference_and_for_the_definition(example: Example) -> None:
    from convform import reference
    from convform.reference import definition

    if example.operator is None:
        assert example.window is not None
        arguments = dict(example.window)
        size = arguments.pop("input_size")
        assert reference.Window.of(**arguments).output_size(size) == example.output_size
        return
    inputs = {name: values.astype(np.float64) for name, values in example.inputs.items()}
    _holds(example, reference.evaluate(example.operator, inputs, example.parameters))
    if example.worked == 14 and inputs["x"].size > 10_000:
        # Ten million products take the definition half a minute. One sample and one output channel
        # stand for the others, which the definition computes in the same loop.
        first = {"x": inputs["x"][:1], "w": inputs["w"][:1]}
        y = definition.evaluate(example.operator, first, example.parameters)["y"]
        full = reference.evaluate(example.operator, inputs, example.parameters)["y"]
        assert np.array_equal(y.astype(np.float64), full[:1, :1])
        return
    _holds(example, definition.evaluate(example.operator, inputs, example.parameters))


def _holds(example: Example, answer: Mapping[str, NDArray[Any]]) -> None:
    for name, expected in example.outputs.items():
        assert expected.holds(answer[name]), f"{name}: {answer[name]} instead of {expected.values}"


@every_example
def test_an_example_would_notice_a_changed_element(example: Example) -> None:
    for expected in example.outputs.values():
        if expected.values is None:
            continue
        unmerged = expected.axes.replace("(", " ").replace(")", " ").split()
        if len(unmerged) != expected.values.ndim:
            continue  # a merged axis cannot be read back without its sizes
        wrong = np.array(expected.values, dtype=np.float64)
        wrong.flat[0] = 12345.0
        order = [unmerged.index(axis) for axis in expected.canonical.split() if axis in unmerged]
        shape = [
            expected.shape[unmerged.index(axis)] if axis in unmerged else 1
            for axis in expected.canonical.split()
        ]
        assert not expected.holds(wrong.transpose(order).reshape(shape))
        assert not expected.holds(np.zeros((*shape, 2)))


# Reading examples ------------------------------------------------------------------------------------

EXAMPLE = """
says = "a title"
operator = "conv2d"
[inputs.x]
axes = "h w"
values = [[1, 2], [3, 4]]
[inputs.w]
axes = "kw kh"
values = [[1, 2]]
[outputs.y]
axes = "oh ow"
values = [[5, 11]]
"""


def test_inputs_are_read_into_canonical_axes() -> None:
    example = parse_example(EXAMPLE, "test", ("CONV-1",))
    assert example.clauses == ("CONV-1",)
    assert example.inputs["x"].shape == (1, 1, 2, 2)
    assert example.inputs["w"].tolist() == [[[[1], [2]]]]
    assert example.inputs["x"].dtype == np.int64
    assert not example.inputs["x"].flags.writeable


def test_an_input_with_a_shape_alone_counts_from_zero() -> None:
    source = EXAMPLE.replace("values = [[1, 2], [3, 4]]", "shape = [2, 3]")
    assert parse_example(source, "test", ("CONV-1",)).inputs["x"].ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_merged_axes_take_their_sizes_from_the_example() -> None:
    source = """
        says = "merged"
        operator = "col2im1d"
        parameters = {input_size = [2, 1, 3], kernel = [2]}
        sizes = {kw = 2, n = 2}
        inputs.cols = {axes = "(n ow) (c kw)", values = [[1, 2], [3, 4], [5, 6], [7, 8]]}
        outputs.x = {axes = "n w", values = [[1, 5, 4], [5, 13, 8]]}
    """
    cols = parse_example(source, "test", ("COL2IM-1",)).inputs["cols"]
    assert cols.tolist() == [[[[1, 3], [2, 4]]], [[[5, 7], [6, 8]]]]


def test_pooling_without_a_written_stride_asks_for_the_default() -> None:
    pooled = [example for example in examples() if example.operator == "max_pool2d"]
    assert any(example.parameters["stride"] is None for example in pooled)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('says = "a title"', "", 'an example has no title; write says = "…"'),
        ('says = "a title"', "says = ", "an example is not valid TOML"),
        ('"conv2d"', '"conv2"', "there is no operator 'conv2'; did you mean 'conv2d'?"),
        ('operator = "conv2d"', "", 'it names no operator; write operator = "conv2d"'),
        ("[inputs.x]", "[input.x]", "there is no key 'input'; did you mean 'inputs'?"),
        ("[inputs.x]", "[inputs.cols]", "there is no input of conv2d 'cols'; known are x, w, b"),
        ("[outputs.y]", "[outputs.dx]", "there is no output of conv2d 'dx'; known are y"),
        ("[inputs.x]", "[parameters]\nstrides = 2\n[inputs.x]", "'strides'; did you mean 'stride'?"),
        ('"h w"', '"h v"', "input x: there is no axis 'v'; known are n, c, h, w"),
        ('"h w"', '"h w c"', "values of shape (2, 2) cannot be read with the axes 'h w c'"),
        ("[[1, 2], [3, 4]]", "[[1, 2], [3]]", "its values are ragged; give every row the same length"),
        ("[[1, 2], [3, 4]]", "[]", "expected numbers, got []"),
        ("values = [[1, 2], [3, 4]]", "", "expected either values or shape"),
        ('[outputs.y]\naxes = "oh ow"\nvalues = [[5, 11]]', "", "it expects nothing; add [outputs.y]"),
        ('[inputs.w]\naxes = "kw kh"\nvalues = [[1, 2]]', "", "conv2d needs the input w; add [inputs.w]"),
        ('"conv2d"', '"im2col"', "im2col needs the parameter kernel; add it below [parameters]"),
    ],
)
def test_a_malformed_example_is_explained(old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError) as failure:
        parse_example(EXAMPLE.replace(old, new), "conv.md, CONV-1", ("CONV-1",))
    assert str(failure.value).startswith("conv.md, CONV-1")
    assert message in str(failure.value)


def test_a_window_example_needs_its_sizes() -> None:
    with pytest.raises(SpecError, match=r"its window has no output_size"):
        parse_example('says = "w"\nwindow = {input_size = [3], kernel = [2]}', "test", ("WINDOW-1",))


def test_an_example_outside_of_a_clause_names_its_clauses() -> None:
    with pytest.raises(SpecError, match=r"it belongs to no clause; write clauses = "):
        parse_example(EXAMPLE, "test")


# Reading smallest inputs ------------------------------------------------------------------------------

SMALLEST = """
{operator = "max_pool2d", kernel = 1, dtype = "float32", x = [[1], [2]],
before = {x = {shape = [2, 1, 1, 1], fill = 7}},
standard = {y = [[1], [2]], indices = [[0], [1]]}, misread.y = {shape = [2], values = [1, 2]}}
"""


def test_a_smallest_input_has_the_last_axes_or_a_whole_shape() -> None:
    smallest = parse_smallest(SMALLEST.replace("\n", " "), "test")
    assert smallest.call.inputs["x"].shape == (1, 1, 2, 1)
    assert smallest.call.inputs["x"].dtype == np.float32
    assert smallest.before is not None
    assert smallest.before.parameters == smallest.call.parameters == {"kernel": 1}
    assert smallest.before.inputs["x"].tolist() == [[[[7]]], [[[7]]]]
    assert smallest.standard.arrays["indices"].shape == (1, 1, 2, 1)
    assert smallest.misread.arrays["y"].shape == (2,)


def test_an_array_is_as_written_in_shape_dtype_and_values() -> None:
    y = parse_smallest(SMALLEST.replace("\n", " "), "test").standard.arrays["y"]
    right = np.array([[[[1], [2]]]], np.float32)
    assert y.holds(right)
    assert not any(map(y.holds, (right[0], right.astype(np.float64), right + 1)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kernel", "kernal", "there is no key of max_pool2d 'kernal'; did you mean 'kernel'?"),
        ('"max_pool2d"', '"max_pool"', "there is no operator 'max_pool'; did you mean 'max_pool"),
        ("kernel = 1", "kernel = ", "a smallest input is not valid TOML"),
        (" x = [[1], [2]],", "", "max_pool2d needs the input x; write x = [1]"),
        ("misread.y", "misread.dx", "there is no array of max_pool2d 'dx'; did you mean 'x'?"),
        ("misread.y = {shape = [2], values = [1, 2]}", 'misread = "rises"', "there is no outcome 'rises'"),
        (", misread.y = {shape = [2], values = [1, 2]}", "", "it does not say what misread gives"),
        ("shape = [2], ", "", "y: there is no shape; write shape = [1, 1, 2, 2]"),
        ("fill", "full", "there is no array key 'full'; did you mean 'fill'?"),
    ],
)
def test_a_malformed_smallest_input_is_explained(old: str, new: str, message: str) -> None:
    source = SMALLEST.replace("\n", " ")
    assert old in source
    with pytest.raises(SpecError) as failure:
        parse_smallest(source.replace(old, new, 1), "the misreading 'm'")
    assert str(failure.value).startswith("the misreading 'm'")
    assert message in str(failure.value)


# Reading pages ---------------------------------------------------------------------------------------

PAGE = """
# A page

## Clauses

### WINDOW-1 · A title

Level: core

**Rule.** A rule with *emphasis* and
`code`.

```text
a = b
```

**Required.** This.

**Refused.** Nothing.

**Unspecified.** Nothing.

**Misreadings.**

- *wrong way round* — with the elements
  backwards (dialect of nobody). Read from left to right.\\
  `{operator = "im2col1d", kernel = 1, x = [1, 2],
  standard.cols = [1, 2], misread.cols = [2, 1]}`
"""


def test_a_page_is_read_into_clauses() -> None:
    (entry,) = parse_page("window", PAGE).clauses
    assert (entry.id, entry.title, entry.level) == ("WINDOW-1", "A title", "core")
    assert entry.rule == "A rule with emphasis and code."
    assert entry.equation == "a = b"
    assert entry.required == "This."
    assert entry.misreadings[0].name == "wrong way round"
    assert entry.misreadings[0].clause == "WINDOW-1"
    assert entry.misreadings[0].says == "with the elements backwards"
    assert entry.misreadings[0].look == "Read from left to right."
    assert entry.misreadings[0].smallest.call.operator == "im2col1d"
    assert entry.text.startswith("### WINDOW-1")
    assert entry.text.endswith("misread.cols = [2, 1]}`")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# A page", "A page", "the page has no title; write '# …' in its first line"),
        ("## Clauses", "## Rules", "expected the parts Clauses; got Rules"),
        ("### WINDOW-1 · A", "### WINDOW-1: A", "is no clause's heading; write '### CONV-1 · Title'"),
        ("Level: core", "Level: easy", "its level is 'easy'; write 'Level: core' or 'Level: strict'"),
        ("Level: core", "", "its level is ''"),
        ("**Rule.** A", "**Role.** A", "there is no field 'Role' in a clause"),
        ("**Required.** This.", "", "there is no required; write '**Required.** …' or '… nothing.'"),
        ("**Refused.** Nothing.", "**Refused.**", "there is no refused"),
        ("**Refused.**", "**Required.**", "it has two paragraphs **Required.**; keep one"),
        ("```text\na = b\n```", "", "there is no equation; write it in a ```text block"),
        ("a = b\n```", "a = b\n```\n\n```text\nc\n```", "it has two equations"),
        (PAGE[PAGE.index("- *wrong") :], "", "it lists no misreading"),
        (
            "*wrong way round* —",
            "wrong way round:",
            "is no misreading; write '*name* — with what. Where to look.'",
        ),
        ("*wrong way", "*Wrong way", "has capitals; names are lower case"),
        (
            "to right.\\\n",
            "to right.\n",
            "'wrong way round' has no smallest input; write `{operator = …}` below",
        ),
        ("Level: core\n", "Level: core\n\n> quoted\n", "a blockquote_open in line 10 belongs to no field"),
        ("```text\n", "```toml example\nsays = 'x'\n```\n\n```text\n", "it names no operator"),
    ],
)
def test_a_malformed_page_is_explained(old: str, new: str, message: str) -> None:
    assert old in PAGE
    with pytest.raises(SpecError) as failure:
        parse_page("window", PAGE.replace(old, new, 1))
    assert str(failure.value).startswith("window.md")
    assert message in str(failure.value)


def test_an_operator_page_needs_its_five_parts() -> None:
    with pytest.raises(
        SpecError, match=r"expected the parts Semantics, Inputs, Outputs, Constraints, Examples"
    ):
        parse_page("conv", PAGE)


@pytest.mark.parametrize("name", FAMILY_PAGES)
def test_an_operator_page_needs_its_tables(name: str) -> None:
    text = page(name).text.replace("| name | default |", "| name | usual |")
    with pytest.raises(
        SpecError, match=rf"{name}.md, Inputs: there is no table 'name \| default \| meaning'"
    ):
        parse_page(name, text)


def test_there_are_two_levels() -> None:
    assert LEVELS == ("core", "strict")
    assert {entry.level for entry in clauses().values()} == set(LEVELS)


def test_an_unknown_page_names_the_pages() -> None:
    with pytest.raises(SpecError, match=r"there is no page 'pooling'; the pages are index, window"):
        page("pooling")

"""The suite has teeth: every misreading of the catalogue is caught by a law that cites its clause."""

from __future__ import annotations

import pytest

from convform.conformance.teeth.kills import SURVIVED, kill, operators_of, summary_markdown
from convform.conformance.teeth.readme import BEGIN, END
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.tests.checkout import in_checkout, text_of


def figures_of(table):
    """Read (misreadings, operators) of every row, by its first cell."""
    figures = {}
    for line in table.strip().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 2 and cells[1].isdigit():
            figures[cells[0]] = (int(cells[1]), int(cells[2]))
    return figures


def test_the_catalogue_is_large_enough_to_mean_something():
    assert len(MISREADINGS) >= 120


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", MISREADINGS)
def test_misreading_is_caught_wherever_it_can_occur(name, seed):
    misreading = MISREADINGS[name]
    operators = operators_of(misreading)
    assert operators
    survivors = [
        operator.name for operator in operators if kill(misreading, operator, seed).outcome == SURVIVED
    ]
    assert not survivors


def test_readings_within_rounding_are_few_and_say_so():
    tolerated = {name for name, misreading in MISREADINGS.items() if misreading.within_rounding}
    assert tolerated == {"multiplied by the reciprocal"}


@in_checkout
def test_the_table_in_the_readme_is_the_one_that_is_generated():
    """Times differ from run to run; what was run and caught does not."""
    text = text_of("README.md")
    table = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    rows = figures_of(table)
    name = next(iter(MISREADINGS))
    kills = [kill(MISREADINGS[name], operators_of(MISREADINGS[name])[0], 0)]
    assert figures_of(summary_markdown(kills)), "the generator writes the same kind of table"
    assert rows["**all**"][0] == len(MISREADINGS)
    assert rows["**all**"][1] == sum(len(operators_of(misreading)) for misreading in MISREADINGS.values())

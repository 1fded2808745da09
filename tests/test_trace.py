"""The trace: clauses, laws, operators and parameters are kept in step by a test, not by habit."""

from __future__ import annotations

import itertools
from importlib import import_module

import pytest

from convform.adapters import load
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import tables
from convform.conformance.laws.index import LAWS, laws_of
from convform.conformance.laws.law import QUICK, Drawn, Listed, Swept
from convform.conformance.running.smoke import smoke
from convform.reference.misreadings.catalogue import MISREADINGS, PAGES
from convform.spec.clauses import clauses
from convform.spec.operators import DIALECTS, FAMILIES, OPERATORS

CITED = {name for law in LAWS for name in law.clauses}


def test_every_law_cites_clauses_that_exist():
    assert set(clauses()) >= CITED
    assert all(law.clauses for law in LAWS)


def test_every_clause_is_cited_by_a_law():
    assert set(clauses()) - CITED == set()


def test_every_law_belongs_to_a_family():
    assert {family for law in LAWS for family in law.families} == set(FAMILIES)


def test_law_names_are_unique_within_a_family():
    for operator in OPERATORS.values():
        names = [law.name for law in laws_of(operator)]
        assert len(names) == len(set(names))


def test_a_law_has_the_level_of_its_strictest_clause():
    for law in LAWS:
        levels = {clauses()[name].level for name in law.clauses}
        assert law.level == ("strict" if "strict" in levels else "core")


def cases_of(name):
    """All cases that the quick profile can build for the reference, which claims everything."""
    subject, _ = smoke(load("reference").implementations[name])
    for law in laws_of(subject.operator):
        if law.not_claimed(subject):
            continue
        if isinstance(law.source, Listed):
            yield law, list(law.source.cases(subject))
            continue
        table = tables(subject.space, law.source.focus, sweep=isinstance(law.source, Swept))
        if not table.empty:
            yield (
                law,
                [build(subject.operator, geometry) for geometry in itertools.islice(table.sweep(40, 1), 40)],
            )


@pytest.mark.parametrize("name", OPERATORS)
def test_every_parameter_is_exercised_by_some_case(name):
    cases = [case for _, cases in cases_of(name) for case in cases if case.refused is None]
    for parameter in OPERATORS[name].parameters:
        values = {str(case.parameters[parameter]) for case in cases}
        assert len(values) > 1, f"{parameter} is always {values}"


@pytest.mark.parametrize("name", OPERATORS)
def test_the_reference_claims_every_law(name):
    """No law is out of reach for an implementation that claims everything."""
    subject, _ = smoke(load("reference").implementations[name])
    claimed = {law.name for law, cases in cases_of(name) if cases}
    unreached = {law.name for law in laws_of(subject.operator)} - claimed
    # The standard prints its examples for rank 2, and strict ones for some operators only.
    printed = {"worked_examples_strict"} | ({"worked_examples"} if subject.operator.rank != 2 else set())
    # What only the process of a suspect can show is asked of suspects.
    assert unreached - {law.name for law in LAWS if law.of_process} <= printed


def test_sources_are_of_the_three_kinds():
    assert {type(law.source) for law in LAWS} == {Drawn, Swept, Listed}
    assert QUICK.sweep is not None


def test_every_misreading_of_the_standard_is_in_the_catalogue():
    listed = {misreading.name for clause in clauses().values() for misreading in clause.misreadings}
    assert set(MISREADINGS) == listed


def test_every_misreading_belongs_to_the_clause_that_lists_it():
    for clause in clauses().values():
        for misreading in clause.misreadings:
            assert MISREADINGS[misreading.name].clause == clause.id


def test_every_misreading_stands_in_the_file_of_the_page_of_its_clause():
    assert {page.name for page in PAGES} == {clause.page for clause in clauses().values()}
    for page in PAGES:
        assert import_module(f"convform.reference.misreadings.{page.name}").PAGE is page
        assert {clauses()[misreading.clause].page for misreading in page.entries.values()} == {page.name}
    assert sum(len(page.entries) for page in PAGES) == len(MISREADINGS)


def test_every_misreading_can_occur_where_a_law_cites_its_clause():
    for misreading in MISREADINGS.values():
        for family in misreading.families:
            assert any(misreading.clause in law.clauses for law in LAWS if family in law.families)


def test_every_clause_has_a_misreading():
    assert {misreading.clause for misreading in MISREADINGS.values()} == set(clauses())


def test_every_dialect_is_a_misreading_that_can_be_declared():
    declared = {misreading.dialect for misreading in MISREADINGS.values() if misreading.dialect}
    assert declared == {(name, value) for name, values in DIALECTS.items() for value in values}

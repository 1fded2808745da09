"""Dialects: whoever reads the standard as declared is judged by that reading, and meets it."""

import pytest

from convform.conformance import check
from convform.conformance.subjects.twin import adapter_of
from convform.conformance.teeth.kills import operators_of
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread

DECLARED = [
    (misreading, operator)
    for misreading in MISREADINGS.values()
    if misreading.dialect
    for operator in operators_of(misreading)
]


@pytest.mark.parametrize(
    ("misreading", "operator"), DECLARED, ids=[f"{m.name}-{op.name}" for m, op in DECLARED]
)
def test_a_declared_dialect_is_met_by_whoever_speaks_it(misreading, operator):
    speaker = adapter_of("speaker", misread(misreading), [operator], **dict([misreading.dialect]))
    report = check(speaker, level="strict")
    broken = [
        (law.law, law.reason)
        for op in report.operators
        for law in op.laws
        if law.status in ("violated", "error")
    ]
    assert not broken

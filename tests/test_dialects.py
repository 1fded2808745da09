"""Dialects: whoever reads the standard as declared is judged by that reading, and meets it."""

from typing import Any

import pytest

from convform.adapters import Adapter
from convform.conformance import check
from convform.conformance.kill_matrix import operators_of
from convform.conformance.twin import wrapper
from convform.reference.catalogue import MISREADINGS
from convform.reference.misreading import misread

DECLARED = [
    (misreading, operator)
    for misreading in MISREADINGS.values()
    if misreading.dialect
    for operator in operators_of(misreading)
]


def speaker(misreading, operator) -> Adapter:
    """An adapter that claims everything and declares how it reads the standard."""
    dialect, value = misreading.dialect
    claims: dict[str, Any] = {"dtypes": ("float64", "float32")}
    if "padding" in operator.parameters:
        claims["padding"] = "low-high"
    if "indices" in operator.outputs:
        claims["indices"] = True
    if dialect == "dtypes":
        claims["dtypes"] += (value,)
    else:
        claims[dialect] = f"{claims[dialect]} {value}" if dialect in claims else value
    adapter = Adapter("speaker", columns="n c kd kh kw od oh ow")
    adapter.implements(operator.name, **claims)(wrapper(operator, misread(misreading)))
    return adapter


@pytest.mark.parametrize(
    ("misreading", "operator"), DECLARED, ids=[f"{m.name}-{op.name}" for m, op in DECLARED]
)
def test_a_declared_dialect_is_met_by_whoever_speaks_it(misreading, operator):
    report = check(speaker(misreading, operator), level="strict")
    broken = [
        (law.law, law.reason)
        for op in report.operators
        for law in op.laws
        if law.status in ("violated", "error")
    ]
    assert not broken

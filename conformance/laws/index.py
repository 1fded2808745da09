"""All laws, in the order in which they are run: from the first rung to the last."""

from __future__ import annotations

from convform.conformance.laws.contract import CONTRACT_LAWS
from convform.conformance.laws.examples import EXAMPLE_LAWS
from convform.conformance.laws.law import Law
from convform.conformance.laws.refusals import REFUSAL_LAWS
from convform.conformance.laws.values import VALUE_LAWS
from convform.spec.operators import Operator

LAWS: tuple[Law, ...] = (*VALUE_LAWS, *EXAMPLE_LAWS, *CONTRACT_LAWS, *REFUSAL_LAWS)


def laws_of(operator: Operator) -> tuple[Law, ...]:
    """Return the laws of an operator's family, core ones first."""
    mine = [law for law in LAWS if operator.family in law.families]
    return tuple(sorted(mine, key=lambda law: law.level == "strict"))

"""Twins: an evaluation of the standard, misread or not, dressed up as a subject that claims everything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from convform.adapters import Adapter
from convform.reference.misreading import Evaluate
from convform.spec.operators import Operator


def wrapper(operator: Operator, evaluate: Evaluate) -> Callable[..., Any]:
    """Write an evaluation as a wrapper that takes everything the operator has."""
    names = [*operator.inputs, *operator.parameters]
    outputs = [name for name in operator.outputs if name != "indices"]

    def call(**arguments: Any) -> Any:
        inputs = {name: arguments[name] for name in operator.inputs if arguments.get(name) is not None}
        parameters = {name: arguments[name] for name in operator.parameters}
        answer = evaluate(operator.name, inputs, parameters)
        if "indices" in operator.outputs:
            return answer["y"], answer["indices"]
        return {name: answer[name] for name in outputs} if len(outputs) > 1 else answer[outputs[0]]

    keyword = inspect.Parameter.KEYWORD_ONLY
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, keyword, default=None if name == "b" else inspect.Parameter.empty)
            for name in names
        ]
    )
    return call


def adapter_of(name: str, evaluate: Evaluate, operators: Sequence[Operator]) -> Adapter:
    """Describe an evaluation as an adapter that claims everything, in canonical layouts."""
    adapter = Adapter(name, columns="n c kd kh kw od oh ow")
    for operator in operators:
        claims: dict[str, Any] = {}
        if "padding" in operator.parameters:
            claims["padding"] = "low-high"
        if "indices" in operator.outputs:
            claims["indices"] = True
        dtypes = ("float64", "float32", "float16")
        claims["dtypes"] = dtypes if operator.family.startswith("avg_pool") else (*dtypes, "int64")
        adapter.implements(operator.name, **claims)(wrapper(operator, evaluate))
    return adapter

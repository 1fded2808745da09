"""Operators as plain functions of a library: called, derived, and printed in scripts as they stand.

Such a function takes the library's arrays first, and parameters by name after them. Two functions more say
for all operators of a library how NumPy's arrays get there and back: one calls a function, one derives it.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS, Operator

Function = Callable[..., Any]


@dataclass(frozen=True)
class Library:
    """What all operators of a library have in common.

    Attributes
    ----------
    imports
        The first lines of every script.
    call
        ``call(function, *arrays)``: what a function returns, in the order of the operator's outputs.
    derive
        ``derive(function, dy, *arrays)``: the gradients of a function in its arrays.
    around
        Makes the context in which wrappers run.
    """

    imports: str
    call: Function
    derive: Function | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def adapter(self, name: str, **description: Any) -> Adapter:
        """Describe the library, without any operators yet; the functions to come are its scripts."""
        adapter = Adapter(name, script=lambda *call: self._script(adapter, *call), **description)
        return adapter

    def register(self, adapter: Adapter, operators: str, function: Function, **claims: Any) -> None:
        """Register a function for operators, apart by spaces, or its gradients where it is asked for them.

        It is where an operator has a dy, or columns, that the function does not take; columns are pulled back
        to an image of zeros, as to any other.
        """
        for operator in operators.split():
            adapter.implements(operator, **claims)(self._wrapper(OPERATORS[operator], function))

    def _wrapper(self, row: Operator, function: Function) -> Function:
        run, names = self._calls(row, function)

        @functools.wraps(function)
        def wrapper(**given: Any) -> dict[str, Array]:
            if {"x", "cols"} <= {*names}:
                given["x"] = np.zeros(given.pop("input_size"), given["cols"].dtype)
            arrays = [array for name in names if (array := given.pop(name)) is not None]
            with self.around():
                returned = run(functools.partial(function, **given), *arrays)
            return dict(zip(row.outputs, returned, strict=False))

        known = inspect.signature(function).parameters
        takes = [n for n in (*row.inputs, *row.parameters) if n in (*known, *names, "input_size")]
        return taking(takes, wrapper, [name for name in known if known[name].default is None])

    def _calls(self, row: Operator, function: Function) -> tuple[Function, list[str]]:
        """What calls a function for an operator, and with which arrays."""
        known = inspect.signature(function).parameters
        asked = [name for name in ("dy", "cols") if name in row.inputs and name not in known]
        run = self.derive if asked else self.call
        assert run is not None
        return run, [*asked, *(name for name in known if name in ("x", "w", "b", "dy", "cols"))]

    def _script(self, adapter: Adapter, operator: str, parameters: Mapping[str, Any]) -> str:
        row, function = OPERATORS[operator], inspect.unwrap(adapter[operator])
        run, names = self._calls(row, function)
        known = inspect.signature(function).parameters
        values = "".join(f", {name}={parameters[name]!r}" for name in known if name in parameters)
        sized = f"x = np.zeros({parameters.get('input_size')}, cols.dtype)\n"
        image = sized if {"x", "cols"} <= {*names} else ""
        return (
            f"import functools\nimport numpy as np\n{self.imports}\n\n{sources(run, function)}\n\n{image}"
            f"arrays = [array for array in ({', '.join(names)},) if array is not None]\n"
            f"returned = {run.__name__}(functools.partial({function.__name__}{values}), *arrays)\n"
            f"answer = dict(zip({[*row.outputs]}, returned))\n"
        )


def taking(names: Iterable[str], function: Function, optional: Iterable[str] = ("b",)) -> Function:
    """Let a function of ``**given`` say what it takes, and what may be None: adapters read signatures."""
    parameter = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter(name, default=None) if name in optional else parameter(name) for name in names]
    )
    return function


def sources(*functions: Function) -> str:
    """Write functions, and those of their modules that they call, without annotations and docstrings."""
    found, left = dict[Function, str](), [*reversed(functions)]
    while left:
        function = left.pop()
        tree = ast.parse(inspect.getsource(function))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.returns = None
                node.body = node.body[1:] if ast.get_docstring(node) else node.body
            elif isinstance(node, ast.arg):
                node.annotation = None
        found[function] = ast.unparse(tree)
        names = {node.id: None for node in ast.walk(tree) if isinstance(node, ast.Name)}
        called = [other for other in map(function.__globals__.get, names) if inspect.isfunction(other)]
        left += [f for f in called if f.__module__ == function.__module__ and f not in found]
    return "\n\n".join(found.values())

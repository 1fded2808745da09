"""Wrappers as scripts: the body of a wrapper, written out so that it runs without an adapter.

A backend whose wrappers are self-contained (they use nothing but NumPy, their library and their arguments,
and end with the only ``return``, of a dict of arrays) need not say in a script what its wrappers say.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

Script = Callable[[str, Mapping[str, Any]], str | None]
"""Writes the call of an operator with parameters; see `convform.adapters.Adapter`."""


def script_of(function: Callable[..., Any], parameters: Mapping[str, Any], *before: str) -> str:
    """Write a call of a wrapper as Python source.

    Parameters
    ----------
    function
        A self-contained wrapper. Its arrays are variables of the script, which are there already.
    parameters
        Its other arguments by name; their values must be literals.
    *before
        Lines that come first: imports, and what the wrapper takes from the function that it is defined in.

    Returns
    -------
    str
        The lines, one assignment for each parameter that the wrapper takes, and the body of the wrapper,
        which assigns to ``answer`` what the wrapper returns.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    *statements, last = definition.body
    assert isinstance(last, ast.Return)
    assert last.value is not None
    taken = inspect.signature(function).parameters
    assignments = [f"{name} = {value!r}" for name, value in parameters.items() if name in taken]
    body = [*map(ast.unparse, statements), f"answer = {ast.unparse(last.value)}"]
    return "\n".join([*before, *assignments, *body]) + "\n"

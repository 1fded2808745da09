"""Bare functions as an adapter: ``check(conv2d=my_conv, conv2d_backward=my_gradient)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from convform.adapters import Adapter, AdapterError
from convform.adapters.errors import closest, described
from convform.conformance.reports.reproducer import Expression
from convform.spec.operators import OPERATORS

_KEYWORDS: Mapping[str, str] = {name.replace(".", "_"): name for name in OPERATORS}


def given_or_inferred(adapter: Adapter | None, functions: Mapping[str, Callable[..., Any]]) -> Adapter:
    """Return the adapter that is given, or the one that is inferred from functions.

    Parameters
    ----------
    adapter
        An adapter; None where functions are given.
    functions
        Functions or layer classes by operator, with a dot of its name written as an underscore:
        ``conv2d_backward``.

    Raises
    ------
    AdapterError
        If there is neither, or both; if a keyword is no operator, or its value cannot be called; or if
        nothing that the judge tries makes a function answer like its operator.
    """
    if adapter is not None and not isinstance(adapter, Adapter):
        name = getattr(adapter, "__name__", "my_conv")
        raise AdapterError(
            f"check({name}): expected an Adapter, got {described(adapter)}",
            f"say which operator a function is: check(conv2d={name}); or load a file: check(load('hw.py'))",
        )
    for keyword, function in functions.items():
        if keyword not in _KEYWORDS:
            raise AdapterError(
                f"check({keyword}=…): there is no operator and no option of that name",
                closest(keyword, _KEYWORDS) or "operators are im2col, conv2d, conv2d_backward, max_pool2d, …",
            )
        if not callable(function):
            raise AdapterError(f"check({keyword}=…): expected a function, got {described(function)}")
    if adapter is not None:
        if functions:
            raise AdapterError(
                f"check({adapter.name}, {next(iter(functions))}=…): expected an adapter or functions, "
                "not both",
                "register the function on the adapter: @adapter.implements(…)",
            )
        return adapter
    if not functions:
        raise AdapterError(
            "check(): there is nothing to judge", "check(load('hw.py')) or check(conv2d=my_conv)"
        )
    # Inference is large, and most runs need none of it.
    from convform.conformance.inference.infer import infer_adapter

    return infer_adapter({_KEYWORDS[keyword]: function for keyword, function in functions.items()})


def expression_of(functions: Mapping[str, Callable[..., Any]]) -> Expression:
    """Write the Python that makes the adapter of functions again."""
    named = ", ".join(
        f"{_KEYWORDS[keyword]!r}: {getattr(function, '__name__', keyword)}"
        for keyword, function in functions.items()
    )
    return Expression(f"infer_adapter({{{named}}})")

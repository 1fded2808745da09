"""Adapters that were inferred, before a worker runs them: nothing but what inference writes may be in them.

The process that infers knows the standard's answers, and the homework runs in it. So its text is read here as
syntax and written anew: comments, long texts and large numbers, in which code could travel, do not arrive.
"""

from __future__ import annotations

import ast

from convform.adapters.errors import AdapterError

LONGEST_FILE, LONGEST_TEXT, ALL_TEXTS, LONGEST_NAME = 24_000, 300, 6_000, 80
"""Characters of the file, of one text in it, of all texts together, and of a name."""

LARGEST = 10**12
"""Largest integer; a float may be anything."""

_IMPORTS = ("sys", "importlib", "pathlib", "numpy", "convform.adapters", "convform.adapters.find")
_CALLS_NEVER = ("exec", "eval", "compile", "open", "__import__", "globals", "vars", "input", "breakpoint")


def plain(text: str, module: str) -> str:
    """Write an inferred adapter anew.

    Parameters
    ----------
    text
        What the process that inferred it said.
    module
        Name under which the homework is imported.

    Raises
    ------
    AdapterError
        If it holds what inference does not write.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _unfit("it is no Python") from None
    texts = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            _check_imports([alias.name for alias in node.names], module)
        elif isinstance(node, ast.ImportFrom):
            _check_imports([node.module or ""], module)
        elif isinstance(node, ast.Constant):
            texts += _check_constant(node.value)
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if len(name) > LONGEST_NAME or name in _CALLS_NEVER:
                raise _unfit(f"it speaks of {name[:40]!r}")
    if texts > ALL_TEXTS:
        raise _unfit(f"its texts have {texts} characters")
    written = ast.unparse(tree)
    if len(written) > LONGEST_FILE:
        raise _unfit(f"it has {len(written)} characters")
    return written + "\n"


def _check_imports(names: list[str], module: str) -> None:
    for name in names:
        if name not in _IMPORTS and name != module:
            raise _unfit(f"it imports {name[:40]!r}")


def _check_constant(value: object) -> int:
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise _unfit(f"it holds a text of {len(value)} characters")
        return len(value)
    if isinstance(value, bytes) or (isinstance(value, int) and abs(value) > LARGEST):
        raise _unfit("it holds data")
    return 0


def _unfit(why: str) -> AdapterError:
    return AdapterError(
        f"the adapter that was inferred is none that inference writes: {why}", "write the adapter by hand"
    )

"""Read a notebook as the module that its definitions make up.

A notebook mixes what a homework *is* with what its author tried out. Only the first is run: imports,
functions and classes, adapters and what is said to them, and the assignments that those need. Everything
else (plots, training, shell commands) is left out, and `left_out` says what that was.
"""

from __future__ import annotations

import ast
import linecache
import re
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from convform.adapters.errors import BrokenFile, NotFound, Unavailable

TRANSPARENT = ("time", "timeit", "capture", "prun")
"""Cell magics whose cell is Python; the cell of any other one is not."""

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MAGIC = re.compile(r"^(\s*)([%!?].*|.*\?\??)$")
_ASSIGNED_MAGIC = re.compile(r"^(\s*[\w, ]+=\s*)[%!].*$")


@dataclass(frozen=True)
class Cell:
    """A code cell.

    Attributes
    ----------
    number
        Its place among the code cells, from one.
    filename
        What tracebacks call it: ``/home/ada/hw.ipynb, cell 3``.
    statements
        Its statements; their lines are those of the cell.
    kept
        Whether each of them is run.
    """

    number: int
    filename: str
    statements: tuple[ast.stmt, ...]
    kept: tuple[bool, ...] = ()


def code_of(path: Path) -> list[CodeType]:
    """Compile what is run of a notebook, cell by cell.

    Raises
    ------
    Unavailable
        If the library that reads notebooks is not installed.
    NotFound
        If the file is no notebook, or not one in Python.
    BrokenFile
        If a cell does not parse; the message names the cell and the line.
    """
    codes = []
    for cell in _selected(_cells(path)):
        body = [statement for statement, kept in zip(cell.statements, cell.kept, strict=True) if kept]
        if body:
            codes.append(compile(ast.Module(body, []), cell.filename, "exec", dont_inherit=True))
    return codes


def left_out(path: Path) -> str | None:
    """Name the cells and lines that are not run, in one phrase; None where everything is."""
    parts = []
    for cell in _selected(_cells(path)):
        skipped = [s for s, kept in zip(cell.statements, cell.kept, strict=True) if not kept]
        if skipped and len(skipped) == len(cell.statements):
            parts.append(f"cell {cell.number}")
        elif skipped:
            lines = ", ".join(str(statement.lineno) for statement in skipped)
            parts.append(f"cell {cell.number} line{'s' if len(skipped) > 1 else ''} {lines}")
    return "; ".join(parts) or None


def _cells(path: Path) -> list[Cell]:
    try:
        import nbformat
    except ModuleNotFoundError:
        raise Unavailable(
            f"{path} is a notebook, and the library that reads notebooks is not installed",
            "pip install 'convform[notebook]'",
        ) from None
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # no JSON, no notebook, a version from the future: each has its own
        raise NotFound(f"{path} is no notebook: {str(error).strip().splitlines()[0]}") from None
    language = notebook.metadata.get("kernelspec", {}).get("language", "python")
    if language.lower() != "python":
        raise NotFound(f"{path} is a notebook in {language}, expected one in Python")
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [_parsed(path, number, source) for number, source in enumerate(sources, start=1)]


def _parsed(path: Path, number: int, source: str) -> Cell:
    filename = f"{path.resolve()}, cell {number}"
    lines = source.splitlines(keepends=True)
    # Tracebacks find their lines here; without a time of change the entry stays.
    linecache.cache[filename] = (len(source), None, lines, filename)
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].startswith("%%"):
        words = lines[first][2:].split()
        if not words or words[0] not in TRANSPARENT:
            return Cell(number, filename, ())
        lines[first] = "\n"
    text = "".join(lines)
    try:
        tree = ast.parse(text, filename)
    except SyntaxError:
        # A line that starts with % may also be the middle of a text or a sum: only now are they magics.
        try:
            tree = ast.parse("".join(map(_without_magic, lines)), filename)
        except SyntaxError as error:
            line = f": {error.text.strip()}" if error.text else ""
            raise BrokenFile(
                f"{path}, cell {number}, line {error.lineno}: syntax error, {error.msg}{line}"
            ) from None
    return Cell(number, filename, tuple(tree.body))


def _without_magic(line: str) -> str:
    """Replace a line of notebook syntax by one of Python that does nothing, in the same place."""
    bare = line.rstrip("\n")
    if assigned := _ASSIGNED_MAGIC.match(bare):
        return f"{assigned[1]}None\n"
    if magic := _MAGIC.match(bare):
        return f"{magic[1]}pass\n"
    return line


def _selected(cells: Sequence[Cell]) -> list[Cell]:
    """Decide what is run: definitions and adapters, and then, backwards, what they need."""
    statements = [statement for cell in cells for statement in cell.statements]
    adapters = {name for statement in statements if _makes_adapter(statement) for name in _binds(statement)}
    kept = {id(s) for s in statements if _is_definition(s) or _makes_adapter(s) or _is_said_to(adapters, s)}
    needed: set[str] = set()
    while True:
        for statement in statements:
            if id(statement) in kept:
                needed |= _needs(statement)
        # What binds a name that is needed is run, too; what it needs in turn is seen in the next round.
        more = {id(s) for s in statements if id(s) not in kept and needed.intersection(_binds(s))}
        if not more:
            break
        kept |= more
    return [
        Cell(
            cell.number,
            cell.filename,
            cell.statements,
            tuple(id(s) in kept or isinstance(s, ast.Pass) or _is_text(s) for s in cell.statements),
        )
        for cell in cells
    ]


def _is_definition(statement: ast.stmt) -> bool:
    """Whether a statement defines something, perhaps under a condition."""
    if isinstance(statement, ast.If | ast.Try | ast.With):
        inside = ast.iter_child_nodes(statement)
        return any(isinstance(inner, ast.stmt) and _is_definition(inner) for inner in inside)
    if isinstance(statement, ast.Expr):
        return ast.unparse(statement).startswith(("sys.path.", "os.environ."))  # imports may need them
    return isinstance(statement, _DEFINITIONS)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _makes_adapter(statement: ast.stmt) -> bool:
    """Whether a statement assigns what some function with "adapter" in its name returns."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or not isinstance(statement.value, ast.Call):
        return False
    return "adapter" in ast.unparse(statement.value.func).rpartition(".")[2].lower()


def _is_said_to(names: set[str], statement: ast.stmt) -> bool:
    """Whether a statement calls something of an adapter: ``hw.implements("conv2d")(conv)``."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    return _root(statement.value) in names


def _root(node: ast.expr) -> str | None:
    """Name at the left end of calls, attributes and items."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _binds(statement: ast.stmt) -> Iterator[str]:
    """Names that an assignment binds, or whose values it changes."""
    if isinstance(statement, ast.Assign):
        targets: Iterable[ast.expr] = statement.targets
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        targets = [statement.target]
    else:
        targets = []
    for target in targets:
        for each in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            name = _root(each)
            if name is not None:
                yield name
    # Not from loops: those are where the training is.
    if isinstance(statement, ast.If | ast.Try | ast.With):
        for node in ast.walk(statement):
            if isinstance(node, ast.stmt) and node is not statement:
                yield from _binds(node)


def _needs(statement: ast.stmt) -> set[str]:
    """Global names that a statement, or a function defined in it, looks up."""
    source = ast.unparse(statement)
    return set(_globals_of(symtable.symtable(source, "<cell>", "exec")))


def _globals_of(table: symtable.SymbolTable) -> Iterator[str]:
    at_top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (at_top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals_of(child)

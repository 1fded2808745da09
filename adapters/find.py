"""Find adapters: by the name of an installed one, in a file, or in a module.

============================  ===============================================================
target                        what it finds
============================  ===============================================================
``torch``                     the adapter installed under that name (group ``convform.adapters``)
``hw.py``                     every adapter in the file
``hw.py:name``                the one of that variable name or adapter name
``hw.ipynb``                  the same for a notebook, whose definitions are run (`notebook`)
``package.module``            every adapter in the module
``package.module:name``       the one of that name; ``torch:cuda`` looks beside an installed one
============================  ===============================================================

Backends are imported only when they are named: they may be missing, heavy, or broken.

A homework that plots must not open windows. So whatever is imported here finds ``MPLBACKEND=Agg`` in the
environment, unless a backend of matplotlib is named there already; it stays there, since the homework may
import matplotlib as late as in a call.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from convform.adapters import notebook
from convform.adapters.adapter import Adapter
from convform.adapters.errors import (
    AdapterError,
    BrokenFile,
    NoAdapter,
    NotFound,
    Unavailable,
    closest,
    described,
)

GROUP = "convform.adapters"
"""The entry-point group in which a package offers adapters."""


@dataclass(frozen=True)
class Installed:
    """An adapter that some installed package offers.

    Attributes
    ----------
    name
        The name of the entry point.
    adapter
        The adapter, or None where it could not be imported.
    problem
        Why it could not, or None.
    """

    name: str
    adapter: Adapter | None
    problem: AdapterError | None


def find(target: str) -> list[Adapter]:
    """Return the adapters that a target names; see the table above.

    Parameters
    ----------
    target
        The name of an installed adapter, ``file.py``, ``file.py:name``, ``package.module`` or
        ``package.module:name``.

    Raises
    ------
    NotFound
        If there is no such file, module, adapter or name.
    BrokenFile
        If the file or module does not compile, or raises while it is imported.
    Unavailable
        If a module that it imports is not installed.
    AdapterError
        If there is no adapter in it, or an adapter in it is wrong.
    """
    place, name = _split(target)
    entries = _entry_points()
    # An installed name comes before a file or folder of that name: `torch` is the backend, wherever one is.
    if place in entries:
        if name is None:
            return [_at(place, _load_entry_point(entries[place]))]
        module, shown = _import_module(entries[place].module), f"the module of {place!r}"
    elif _looks_like_a_path(place):
        module, shown = _import_file(Path(place)), place
    elif name is None and "." not in place:
        raise _unknown_name(place, entries)
    else:
        module, shown = _import_module(place), f"module {place!r}"
    adapters = _adapters_in(module)
    if not adapters:
        raise NoAdapter(f"there is no adapter in {shown}", 'hw = Adapter("my-homework") makes one')
    for variable, adapter in adapters.items():
        _at(f"{place}:{variable}", adapter)
    if name is not None:
        return [_at(f"{place}:{name}", _select(adapters, name, shown, module))]
    names = [adapter.name for adapter in adapters.values()]
    for adapter_name in names:
        if names.count(adapter_name) > 1:
            raise AdapterError(
                f"{names.count(adapter_name)} adapters in {shown} are called {adapter_name!r}",
                f"give each a name of its own, or name one by its variable: {place}:{next(iter(adapters))}",
            )
    return list(adapters.values())


def _at(target: str, adapter: Adapter) -> Adapter:
    """Note where an adapter was found."""
    adapter.origin = target
    return adapter


def load(target: str) -> Adapter:
    """Return the one adapter that a target names.

    Raises
    ------
    AdapterError
        As `find`, and if there is more than one.
    """
    adapters = find(target)
    if len(adapters) > 1:
        names = ", ".join(adapter.name for adapter in adapters)
        raise AdapterError(
            f"{target} holds {len(adapters)} adapters: {names}; expected one", f"{target}:{adapters[0].name}"
        )
    return adapters[0]


def installed() -> list[Installed]:
    """Return every adapter that installed packages offer, sorted by name; importing none may fail."""
    found = []
    for name, entry_point in sorted(_entry_points().items()):
        try:
            found.append(Installed(name, _load_entry_point(entry_point), None))
        except AdapterError as problem:
            found.append(Installed(name, None, problem))
    return found


def _split(target: str) -> tuple[str, str | None]:
    """Split ``place:name``; a colon inside a path (a drive letter) does not count."""
    place, colon, name = target.rpartition(":")
    if not colon or "/" in name or "\\" in name or name.endswith((".py", ".ipynb")) or not place:
        return target, None
    if not name:
        raise NotFound(f"{target!r} ends with a colon, expected a name after it", place)
    return place, name


def is_installed(place: str) -> bool:
    """Whether an adapter is installed under a name."""
    return place in _entry_points()


def _looks_like_a_path(place: str) -> bool:
    return place.endswith((".py", ".ipynb")) or "/" in place or "\\" in place or Path(place).exists()


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry_point.name: entry_point for entry_point in importlib.metadata.entry_points(group=GROUP)}


def _unknown_name(name: str, known: Iterable[str]) -> NotFound:
    hint = f"did you mean the file {name}.py?" if Path(f"{name}.py").is_file() else closest(name, known)
    return NotFound(
        f"no adapter is installed under the name {name!r}; "
        f"installed are {', '.join(sorted(known)) or 'none'}",
        hint or "a file is named with its ending: hw.py",
    )


def _load_entry_point(entry_point: importlib.metadata.EntryPoint) -> Adapter:
    module = _import_module(entry_point.module, f"adapter {entry_point.name!r}")
    value: object = module
    for part in entry_point.attr.split(".") if entry_point.attr else ():
        value = getattr(value, part, None)
    if not isinstance(value, Adapter):
        raise AdapterError(
            f"the installed adapter {entry_point.name!r} points to {entry_point.value}, which is no Adapter"
        )
    return value


def _adapters_in(module: ModuleType) -> dict[str, Adapter]:
    """All adapters of a module by variable name, each once, in the order of definition."""
    adapters: dict[str, Adapter] = {}
    for variable, value in vars(module).items():
        if isinstance(value, Adapter) and not any(value is other for other in adapters.values()):
            adapters[variable] = value
    return adapters


def _select(adapters: dict[str, Adapter], name: str, shown: str, module: ModuleType) -> Adapter:
    value = vars(module).get(name)
    if isinstance(value, Adapter):
        return value
    for adapter in adapters.values():
        if adapter.name == name:
            return adapter
    names = [*adapters, *(adapter.name for adapter in adapters.values())]
    if value is not None:
        raise AdapterError(
            f"{name!r} in {shown} is {described(value)}, expected an Adapter; "
            f"adapters are {', '.join(adapters)}",
            closest(name, names),
        )
    raise NotFound(
        f"there is no adapter {name!r} in {shown}; adapters are {', '.join(adapters)}", closest(name, names)
    )


def _without_windows() -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")


def _import_module(name: str, shown: str | None = None) -> ModuleType:
    shown = shown or f"module {name!r}"
    _without_windows()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise NotFound(f"there is no module {name!r}", "a file is named with its ending: hw.py") from None
        raise _import_problem(shown, error, None) from error
    except (Exception, SystemExit) as error:
        raise _import_problem(shown, error, None) from error


# Modules that came in with the file that was imported last. They are forgotten before the next file, or
# else a `layers.py` beside one homework would be taken for the `layers.py` beside another.
_from_last_file: dict[str, ModuleType] = {}


def split_target(target: str) -> tuple[str, str | None]:
    """Split ``place:name`` as `find` does; the name is None where there is none."""
    return _split(target)


def import_file(path: Path) -> ModuleType:
    """Import a homework file, which need not hold an adapter; errors are those of `find`."""
    return _import_file(path)


def _import_file(path: Path) -> ModuleType:
    """Import a file under its stem, afresh each time, with its folder first on the import path."""
    if path.is_dir():
        files = ", ".join(sorted(file.name for file in path.glob("*.py"))[:5])
        raise NotFound(f"{path} is a folder, expected a .py file", f"it holds {files}" if files else None)
    if not path.is_file():
        folder = path.parent
        if not folder.is_dir():
            raise NotFound(f"there is no folder {folder}, so no file {path}")
        raise NotFound(
            f"there is no file {path}", closest(path.name, (file.name for file in folder.glob("*.py")))
        )
    if path.suffix not in (".py", ".ipynb"):
        raise NotFound(f"{path} is no .py file", "an adapter is a Python file, such as hw.py")

    _without_windows()
    full = path.resolve()
    module = ModuleType(path.stem)
    module.__file__ = str(full)
    cells = notebook.code_of(path) if path.suffix == ".ipynb" else None
    try:
        text = b"" if cells is not None else full.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from None
    try:
        # Compiled here and not by the import system, whose cache of bytecode can be a second too old.
        codes = cells
        if codes is None:
            codes = [compile(text, str(full), "exec", dont_inherit=True)]
        with _homework_imports(full.parent, module):
            for code in codes:
                exec(code, vars(module))
    except (Exception, SystemExit) as error:
        raise _import_problem(str(path), error, full) from error
    return module


@contextmanager
def _homework_imports(folder: Path, module: ModuleType) -> Iterator[None]:
    """Let a file import what lies beside it, and forget what the file before it had imported."""
    for name, old in _from_last_file.items():
        if sys.modules.get(name) is old:
            del sys.modules[name]
    _from_last_file.clear()
    before = set(sys.modules)
    if module.__name__ not in before:  # a homework called numpy.py must not replace numpy
        sys.modules[module.__name__] = module
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the homework may have changed the path itself
            sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
        for name in set(sys.modules) - before:
            root = sys.modules.get(name.partition(".")[0])
            if root is module or _lies_in(root, folder):
                _from_last_file[name] = sys.modules[name]


def _lies_in(root: ModuleType | None, folder: Path) -> bool:
    """Whether a top-level module is a file or package directly in `folder` (not in a .venv below it)."""
    places = list(getattr(root, "__path__", ())) or [getattr(root, "__file__", None)]
    return any(place is not None and Path(place).resolve().parent == folder for place in places)


def _import_problem(shown: str, error: BaseException, path: Path | None) -> AdapterError:
    """Say in one sentence why an import failed, with the line at fault where there is one."""
    if isinstance(error, SyntaxError):
        where = f"{_short(error.filename, shown, path)}:{error.lineno}" if error.lineno else shown
        text = f": {error.text.strip()}" if error.text else ""
        return BrokenFile(f"{where}: syntax error, {error.msg}{text}")
    where = _where(shown, error, path)
    if isinstance(error, AdapterError):
        return type(error)(f"{where}: {error.message}", error.hint)
    if isinstance(error, ModuleNotFoundError) and error.name:
        root = error.name.partition(".")[0]
        beside = [file.stem for file in path.parent.glob("*.py")] if path is not None else []
        if hint := closest(root, beside):
            return BrokenFile(f"{where}: there is no module {error.name!r}", hint)
        return Unavailable(f"{where}: the module {error.name!r} is not installed", _install_hint(root))
    what = str(error).strip().splitlines()
    return BrokenFile(
        f"{where}: raised {type(error).__name__} while it was imported" + (f": {what[0]}" if what else "")
    )


def _where(shown: str, error: BaseException, path: Path | None) -> str:
    """``file:line`` of the innermost frame that lies in the file's folder, else what was asked for."""
    if path is not None:
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).parent == path.parent:
                in_cell = path.suffix == ".ipynb" and Path(frame.filename) != path
                return f"{_short(frame.filename, shown, path)}{', line ' if in_cell else ':'}{frame.lineno}"
    return shown


def _short(filename: str | None, shown: str, path: Path | None) -> str:
    """Name a file the way its user did, and a file beside it by its name alone."""
    if filename is None or path is None:
        return filename or shown
    return shown if Path(filename) == path else Path(filename).name


def _install_hint(module: str) -> str:
    extras = importlib.metadata.metadata("convform").get_all("Provides-Extra") or ()
    extra = module.replace("_", "-")
    return f"pip install 'convform[{extra}]'" if extra in extras else f"pip install {module}"

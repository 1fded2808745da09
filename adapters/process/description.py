"""Descriptions: what a process says of the adapters that it serves, as data that the judge checks.

The judge asks for one before anything else (docs/PROTOCOL.md) and makes adapters of it by the same means as a
file would: whatever could not be said there cannot be said here.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convform.adapters.adapter import Adapter
from convform.adapters.claims import Switch
from convform.adapters.errors import AdapterError
from convform.adapters.process.errors import ProtocolError, printable
from convform.spec.operators import OPERATORS, PARAMETERS

VERSION = 1
"""Version of the protocol."""

MOST_ADAPTERS, MOST_LIMITS, MOST_SWITCHES = 32, 500, 100
LONGEST, MOST_DESCRIBED = 2000, 500_000
"""Characters of one text, and of the whole."""

_LAYOUTS = ("input", "weight", "bias", "columns", "output")
_OF_ADAPTER = (*_LAYOUTS, "version", "install", "unavailable")
_OF_LIMIT = ("reason", "link", "when", "shows")

Function = Callable[..., Any]


def describe(adapters: Sequence[Adapter]) -> str:
    """Write adapters as JSON text.

    Parameters
    ----------
    adapters
        What the process serves.

    Raises
    ------
    Exception
        Whatever `Adapter.available` or `Adapter.switches` raises.
    """
    return json.dumps({"convform": VERSION, "adapters": [_described(adapter) for adapter in adapters]})


def _described(adapter: Adapter) -> dict[str, Any]:
    unavailable = adapter.available() if adapter.available else None
    return {
        "name": adapter.name,
        **adapter.said,
        "unavailable": unavailable,
        "operators": {
            name: {
                "takes": sorted(implementation.takes),
                "bias_optional": implementation.claims.bias_optional,
                **implementation.said,
            }
            for name, implementation in adapter.implementations.items()
        },
        "known_limits": [{**vars(limit)} for limit in adapter.known_limits],
        "switches": [vars(switch) for switch in adapter.switches()]
        if adapter.switches and unavailable is None
        else [],
    }


def adapters_of(text: str, function_of: Callable[[str, str], Function]) -> list[Adapter]:
    """Make adapters of a description.

    Parameters
    ----------
    text
        What a process said: not believed before it has been checked.
    function_of
        Makes the wrapper of an operator, given the names of the adapter and the operator.

    Raises
    ------
    ProtocolError
        If it is no description.
    AdapterError
        If it describes what no adapter can be, such as an operator that does not exist.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError(f"its description is no JSON: {printable(text)[:60]!r}") from None
    found = _entry(said, "adapters", list, "the description")
    if not 1 <= len(found) <= MOST_ADAPTERS:
        raise ProtocolError(f"it describes {len(found)} adapters, expected 1 to {MOST_ADAPTERS}")
    adapters = [_adapter(entry, function_of) for entry in found]
    if len({adapter.name for adapter in adapters}) < len(adapters):
        raise AdapterError("two adapters have the same name", "give each a name of its own")
    return adapters


def _adapter(said: Any, function_of: Callable[[str, str], Function]) -> Adapter:
    name = _text(_entry(said, "name", str, "an adapter"))
    where = f"the adapter {name[:60]!r}"
    texts = {key: _optional(said, key, str, where) for key in _OF_ADAPTER}
    unavailable = texts.pop("unavailable")
    dtypes: dict[str, Any] = {
        key: _names(said[key], where) for key in ("dtypes", "optional_dtypes") if said.get(key)
    }
    switches = [_switch(entry, where) for entry in _optional(said, "switches", list, where) or ()]
    adapter = Adapter(
        name,
        **texts,
        **dtypes,
        available=(lambda: unavailable) if unavailable is not None else None,
        switches=(lambda: switches) if switches else None,
    )
    if len(switches) > MOST_SWITCHES:
        raise ProtocolError(f"{where} has {len(switches)} switches, expected {MOST_SWITCHES} at most")
    operators = _entry(said, "operators", dict, where)
    for operator in operators:
        adapter._operator(_text(operator))
    for operator, entry in operators.items():
        _implement(adapter, operator, entry, function_of(name, operator))
    limits = _optional(said, "known_limits", list, where) or []
    if len(limits) > MOST_LIMITS:
        raise ProtocolError(f"{where} has {len(limits)} known limits, expected {MOST_LIMITS} at most")
    for limit in limits:
        _limit(adapter, limit)
    return adapter


def _implement(adapter: Adapter, operator: str, said: Any, function: Function) -> None:
    where = f"{adapter.name}: {operator}"
    takes = _names(_entry(said, "takes", list, where), where)
    known = (*OPERATORS[operator].inputs, *PARAMETERS)
    for name in takes:
        if name not in known:
            raise AdapterError(
                f"{where} takes {name!r}, which no operator has", f"it may take {', '.join(known)}"
            )
    optional = _optional(said, "bias_optional", bool, where)
    empty = inspect.Parameter.empty
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None if name == "b" and optional else empty
            )
            for name in takes
        ]
    )
    layouts = {key: _optional(said, key, str, where) for key in _LAYOUTS}
    dtypes = _names(said["dtypes"], where) if said.get("dtypes") else None
    claims = _optional(said, "claims", dict, where) or {}
    for value in claims.values():
        if not isinstance(value, str | bool):
            raise ProtocolError(
                f"{where} claims {printable(repr(value))[:60]}, expected a word or a truth value"
            )
    cleaned: dict[str, Any] = {
        _text(key): _text(value) if isinstance(value, str) else value for key, value in claims.items()
    }
    if clash := sorted({*cleaned} & {*_LAYOUTS, "dtypes", "operator", "self"}):
        raise ProtocolError(f"{where} claims {clash[0]!r}, which is no claim")
    adapter.implements(operator, **layouts, dtypes=dtypes, **cleaned)(function)


def _limit(adapter: Adapter, said: Any) -> None:
    where = f"{adapter.name}: a known limit"
    texts = {key: _optional(said, key, str, where) for key in _OF_LIMIT}
    always, ranks = _optional(said, "always", bool, where), _optional(said, "ranks", list, where)
    dtypes = _names(said["dtypes"], where) if said.get("dtypes") else None
    adapter.known_limit(
        " ".join(_names(_entry(said, "operators", list, where), where)),
        " ".join(_names(_entry(said, "breaks", list, where), where)),
        reason=texts["reason"] or "",
        link=texts["link"] or "",
        dtypes=dtypes,
        ranks=[int(rank) for rank in ranks if isinstance(rank, int)] if ranks is not None else None,
        when=texts["when"],
        shows=texts["shows"],
        always=always is not False,
    )


def _switch(said: Any, where: str) -> Switch:
    value: Any = said.get("value") if isinstance(said, dict) else None
    if value is not None and not isinstance(value, str | int | float):
        raise ProtocolError(f"{where}: a switch is set to what is no value")
    name, breaks = _text(_entry(said, "name", str, where)), _optional(said, "breaks", str, where)
    return Switch(name, _text(value) if isinstance(value, str) else value, breaks)


def _entry(said: Any, key: str, kind: type, where: str) -> Any:
    """An entry that has to be there, of a kind."""
    value = _optional(said, key, kind, where)
    if value is None:
        raise ProtocolError(f"{where} has no {key!r}")
    return value


def _optional(said: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(said, Mapping):
        raise ProtocolError(f"{where} is described by {printable(repr(said))[:60]}, expected an object")
    value = said.get(key)
    if value is not None and not isinstance(value, kind):
        raise ProtocolError(f"{where}: {key!r} is {printable(repr(value))[:60]}, expected {_KINDS[kind]}")
    return _text(value) if isinstance(value, str) else value


_KINDS = {str: "a text", list: "a list", dict: "an object", bool: "true or false"}


def _names(value: Any, where: str) -> tuple[str, ...]:
    named = isinstance(value, list) and all(isinstance(name, str) for name in value)
    if not named or len(set(value)) < len(value) or len(value) > 200:
        raise ProtocolError(f"{where}: {printable(repr(value))[:60]}, expected a list of names, each once")
    return tuple(_text(name) for name in value)


def _text(value: str) -> str:
    return printable(value, LONGEST)

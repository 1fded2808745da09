"""What an adapter is asked before it is judged: its operators, its settings, and if its limits make sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from convform.adapters import Adapter, AdapterError, KnownLimit, Switch, find
from convform.adapters.errors import closest
from convform.adapters.find import split_target
from convform.adapters.process.client import Limits
from convform.adapters.process.guard import first_line
from convform.adapters.process.worker import Options
from convform.conformance.diagnosis.condition import WORDS, parsed
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import Profile
from convform.conformance.laws.violation import CRASHED, TIMED_OUT
from convform.conformance.reports.results import Way
from convform.conformance.subjects.hosting import Hosting


@dataclass(frozen=True)
class Setting:
    """How an adapter is judged, and how another process finds it.

    Attributes
    ----------
    target, adapter
        What `convform.adapters.find` finds it by, None where that is not known; and its name.
    profile, seed
        As for `convform.conformance.check`.
    origin
        What reproducers load it by.
    isolated, limits
        Whether to judge it in a process of its own, and what that may spend.
    find
        Finds the adapters of the target in the other process, and so must be a function of some module.
    hosting, options
        How its file or program is hosted, and what a worker of it is told; None for code that is trusted.
    excuses
        Whether known limits that it lists excuse it.
    seconds
        What the run may take.
    """

    target: str | None
    adapter: str
    profile: Profile
    seed: int
    origin: str | None = None
    isolated: bool = False
    limits: Limits | None = None
    find: Callable[[str], Sequence[Adapter]] = find
    hosting: Hosting | None = None
    options: Options | None = None
    excuses: bool = True
    seconds: float | None = None


def selected_operators(adapter: Adapter, operators: Sequence[str] | None) -> list[str]:
    """Names of the operators to judge, in the adapter's order.

    Raises
    ------
    AdapterError
        If it implements none, or not what is asked for; or if it lists a limit of which no law speaks.
    """
    implemented = list(adapter.implementations)
    if not implemented:
        raise AdapterError(
            f"the adapter {adapter.name!r} implements no operator",
            hint=f'register a wrapper: @{adapter.name}.implements("conv2d")',
        )
    for name in operators or ():
        if name not in implemented:
            raise AdapterError(
                f"the adapter {adapter.name!r} does not implement {name!r}",
                hint=f"it implements {', '.join(implemented)}",
            )
    for limit in adapter.known_limits:
        _check_limit(adapter, limit)
    return [name for name in implemented if not operators or name in operators]


def _check_limit(adapter: Adapter, limit: KnownLimit) -> None:
    """Refuse a limit that could never show: it is a slip."""
    where = f"{adapter.name}: known limit of {' '.join(limit.operators)}"
    for pattern in limit.operators:
        alone = replace(limit, operators=(pattern,))
        if not any(alone.is_of(one.operator) for one in adapter.implementations.values()):
            raise AdapterError(
                f"{where}: no operator that is implemented fits {pattern!r}",
                closest(pattern, adapter.implementations),
            )
    operators = [one.operator for one in adapter.implementations.values() if limit.is_of(one.operator)]
    laws = [law for operator in operators for law in laws_of(operator)]
    known = list(dict.fromkeys(name for law in laws for name in (law.name, *law.clauses)))
    known += [CRASHED, TIMED_OUT]
    for word in limit.breaks:
        if word not in known:
            raise AdapterError(
                f"{where}: no law of it is called {word!r}, and none cites such a clause",
                closest(word, known) or "convform spec lists the clauses",
            )
    try:
        parsed(limit.when) if limit.when is not None else None
    except ValueError as error:
        raise AdapterError(
            f"{where}: when={limit.when!r}: {str(error)!r} is no condition that can be judged",
            closest(str(error), WORDS) or f"conditions are {', '.join(WORDS)}",
        ) from None


def switches_of(adapter: Adapter) -> tuple[Switch, ...]:
    """Read the global settings that an adapter says its arithmetic depends on.

    Raises
    ------
    AdapterError
        If they cannot be read.
    """
    try:
        return tuple(adapter.switches()) if adapter.switches else ()
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(str(error))}"
        raise AdapterError(f"{adapter.name}: its switches cannot be read: {said}") from error


def way_of(setting: Setting) -> Way:
    """Say how an adapter is judged."""
    hosting = setting.hosting
    of_file = split_target(setting.target or "")[0].endswith((".py", ".ipynb"))
    if hosting is None:
        return Way(own_process=setting.isolated, of_file=of_file)
    kind, why = (hosting.sandbox.kind, hosting.sandbox.why) if hosting.sandbox else (None, None)
    return Way(True, kind, why, hosting.forbid, setting.excuses, of_file)


def declared_by(adapter: Adapter, operators: Sequence[str]) -> tuple[str, ...]:
    """What an adapter declares of its own accord and is judged by, one phrase for each reading."""
    said: dict[str, list[str]] = {}
    for name in operators:
        claims = adapter.implementations[name].claims
        readings = [f"{key}={value!r}" for key, value in claims.dialects]
        readings += ["arithmetic='transform'"] if claims.arithmetic == "transform" else []
        for reading in readings:
            said.setdefault(reading, []).append(name)
    return tuple(f"{reading} ({', '.join(names)})" for reading, names in said.items())


def said_of(limit: KnownLimit) -> str:
    """Write a known limit as one phrase."""
    return f"{' '.join(limit.operators)} · {' '.join(limit.breaks)}: {limit.reason}"

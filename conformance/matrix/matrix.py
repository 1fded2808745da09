"""The matrix: every backend, every operator, one file that grows over several environments.

Backends live in environments of their own, so a matrix is filled by running the same command in each of them
with the same folder. ``matrix.json`` is what is kept: each (backend, operator) is written there as soon as it
is finished, under a lock and by a rename, so that an interrupted run goes on where it stopped, and runs in
two environments at once do not lose each other's results. The pages are drawn from it.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.text import Text

from convform.adapters import Adapter, AdapterError, Unavailable, find
from convform.adapters.find import GROUP
from convform.adapters.process.client import Limits
from convform.adapters.process.guard import quiet, watching
from convform.adapters.process.worker import Options
from convform.conformance.laws.law import PROFILES
from convform.conformance.laws.violation import CRASHED, TIMED_OUT
from convform.conformance.matrix.ledger import SHOWN, Divergence, Entry, divergences, merged, reproduce
from convform.conformance.matrix.pages import html, markdown
from convform.conformance.reports.results import BROKEN, CONFORMS, INCOMPLETE, Failed, OperatorReport
from convform.conformance.running.jobs import JudgeEnded, finished, judged, pool
from convform.conformance.running.judge import judge
from convform.conformance.running.preparing import Setting, selected_operators, switches_of
from convform.conformance.running.smoke import smoke
from convform.conformance.subjects.hosting import DiedOfImport, Hosting
from convform.spec.operators import OPERATORS

SCHEMA = 1

JUDGED, UNAVAILABLE = "judged", "unavailable"

IMPORT_SECONDS = 180.0
"""Time that the import of an adapter, and of its library, may take."""

Data = dict[str, Any]
"""What ``matrix.json`` holds."""


class Watcher(Protocol):
    """Is told how far a run has come."""

    def expect(self, units: int) -> None:
        """So many more results are to come."""

    def done(self, says: str) -> None:
        """One of them is there."""


class Silence:
    """A watcher that says nothing."""

    def expect(self, units: int) -> None:
        """Say nothing."""

    def done(self, says: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Run:
    """How the backends are judged.

    Attributes
    ----------
    profile, seed
        As for `convform.conformance.check`; a result that was found with others is found anew.
    jobs
        Number of operators that are judged at once.
    fresh
        Whether to judge what is judged already.
    reproduces
        Whether to run the programs of the ledger.
    limits
        What the process of a backend may spend.
    """

    profile: str = "quick"
    seed: int = 0
    jobs: int = 1
    fresh: bool = False
    reproduces: bool = True
    limits: Limits | None = None


@dataclass(frozen=True)
class Description:
    """An adapter, as a process that could import it describes it."""

    name: str
    version: str | None
    operators: tuple[str, ...]
    switches: tuple[Mapping[str, Any], ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guest:
    """A file or program whose code no process of the judge runs.

    Attributes
    ----------
    adapters
        What its process describes.
    hosting, options
        How it is hosted, and what its worker is told.
    excuses
        Whether known limits that it lists itself excuse it.
    """

    adapters: Sequence[Adapter]
    hosting: Hosting
    options: Options
    excuses: bool = False


Host = Callable[[str], Guest | None]
"""Hosts a target; None for one that is trusted, and is imported by processes of the judge."""


# ---------------------------------------------------------------------------------------- the store


class Store:
    """``matrix.json`` in a folder, changed by one process at a time.

    Parameters
    ----------
    folder
        Where the matrix lies; it is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "matrix.json"

    def read(self) -> Data:
        """Return what is there; an empty matrix where nothing is.

        Raises
        ------
        AdapterError
            If the file is no matrix.
        """
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"schema": SCHEMA, "backends": {}}
        except (ValueError, OSError) as error:
            raise self._no_matrix(str(error)) from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or "backends" not in data:
            raise self._no_matrix(f"it does not have schema {SCHEMA}")
        return data

    def _no_matrix(self, why: str) -> AdapterError:
        return AdapterError(
            f"{self.file} is no matrix that can be continued: {why}", "name another folder with --out"
        )

    def change(self, edit: Callable[[Data], None]) -> None:
        """Read, change and write it, while no other process does."""
        with self._lock():
            data = self.read()
            edit(data)
            # In which order things were finished is nobody's business.
            data["backends"] = dict(sorted(data["backends"].items(), key=_reference_first))
            for backend in data["backends"].values():
                if "operators" in backend:
                    units = backend["operators"]
                    backend["operators"] = {name: units[name] for name in OPERATORS if name in units}
            self.write(self.file.name, json.dumps(data, ensure_ascii=False) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write a file so that it is there as a whole or not at all."""
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=name)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            import fcntl
        except ImportError:  # elsewhere, one run at a time
            yield
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _reference_first(item: tuple[str, Data]) -> tuple[bool, str]:
    return item[0] != "reference", item[0]


# ----------------------------------------------------------------------------------------- the run


def installed_names() -> list[str]:
    """Names of the adapters that installed packages offer, in the order in which they offer them."""
    return list(dict.fromkeys(entry.name for entry in importlib.metadata.entry_points(group=GROUP)))


def run_matrix(
    targets: Sequence[str],
    folder: Path,
    run: Run | None = None,
    watcher: Watcher | None = None,
    host: Host = lambda target: None,
) -> tuple[Data, list[str]]:
    """Judge backends, and write ``matrix.json``, ``matrix.md`` and ``matrix.html``.

    Parameters
    ----------
    targets
        Names of installed adapters, or files; none means all that are installed.
    folder
        Where the matrix lies. What it holds of other backends is kept.
    run
        How they are judged.
    watcher
        Is told how far it has come.
    host
        Hosts files and programs among the targets.

    Returns
    -------
    data
        The whole matrix.
    names
        The backends that this run was about.

    Raises
    ------
    AdapterError
        If a target is named that does not exist, or the folder holds something else.
    """
    run, watcher = run or Run(), watcher or Silence()
    if run.profile not in PROFILES:
        raise ValueError(f"profile={run.profile!r}: expected one of {', '.join(PROFILES)}")
    store = Store(folder)
    store.read()
    names = []
    try:
        for target in targets or installed_names():
            try:
                names.append(_judge_backend(target, store, run, watcher, host))
            except AdapterError as error:
                if targets:
                    raise
                _note(store, target, BROKEN, error)
                names.append(target)
    finally:
        data = store.read()
        if data["backends"]:
            entries = ledger(data)
            store.write("matrix.md", markdown(data, entries))
            store.write("matrix.html", html(data, entries))
    return data, names


def ledger(data: Data) -> list[Entry]:
    """All divergences of a matrix, one entry for each cause."""
    return [
        entry
        for name, backend in data["backends"].items()
        for entry in merged(name, backend.get("version"), _divergences(backend))
    ]


def _divergences(backend: Data) -> Iterator[Divergence]:
    for unit in backend.get("operators", {}).values():
        yield from map(Divergence.from_json, unit["divergences"])


def _judge_backend(target: str, store: Store, run: Run, watcher: Watcher, host: Host) -> str:
    """Judge what is missing of one backend; return its name."""
    try:
        guest = host(target)
        if guest is not None:
            described = described_by(target, guest.adapters)
        else:
            with pool(1) as processes:
                described = processes.submit(describe, target).result(IMPORT_SECONDS)
    except Unavailable as missing:
        _note(store, target, UNAVAILABLE, missing)
        return target
    except DiedOfImport as died:
        _note(store, target, died.outcome, died)
        return target
    except JudgeEnded:
        _note(store, target, CRASHED, AdapterError("the process ended while the adapter was imported"))
        return target
    except TimeoutError:
        problem = AdapterError(f"the adapter was not imported within {IMPORT_SECONDS:g} s")
        _note(store, target, TIMED_OUT, problem)
        return target
    # An installed adapter goes by the name that it is installed under, wherever it is missing as well.
    name = target if target in installed_names() else described.name
    key = _key(described, run)
    store.change(lambda data: _note_described(data, name, described, key, run.fresh))
    have = store.read()["backends"][name]["operators"]
    missing_ones = [operator for operator in _longest_first(described.operators) if operator not in have]
    watcher.expect(len(missing_ones))
    setting = Setting(
        target,
        described.name,
        PROFILES[run.profile],
        run.seed,
        origin=target,
        isolated=True,
        limits=run.limits,
    )
    if guest is not None:
        origin = guest.adapters[0].origin
        setting = replace(
            setting, target=origin, hosting=guest.hosting, options=guest.options, excuses=guest.excuses
        )

    def keep(operator: str, unit: Data) -> None:
        store.change(lambda data: _put(data["backends"][name]["operators"], operator, {**unit, "key": key}))
        watcher.done(f"{name} · {operator}")

    # Closed here, and not when the garbage is collected: an interrupt may come between two results.
    with contextlib.closing(_judge_operators(setting, missing_ones, run.jobs)) as units:
        for operator, unit in units:
            keep(operator, unit)
    if run.reproduces:
        _reproduce(store, name, run.jobs, watcher)
    return name


def _judge_operators(
    setting: Setting, operators: Sequence[str], jobs: int
) -> Generator[tuple[str, Data], None, None]:
    """Judge operators side by side; one that ends the judge is told alone."""
    left = dict.fromkeys(operators)
    if not left:
        return
    try:
        with pool(min(jobs, len(left))) as processes:
            futures = {processes.submit(judge_operator, setting, operator): operator for operator in left}
            for future in finished(futures):
                unit = future.result()
                del left[futures[future]]
                yield futures[future], unit
    except JudgeEnded:
        for operator in left:
            yield operator, _alone(setting, operator)


def _alone(setting: Setting, operator: str) -> Data:
    try:
        with pool(1) as processes:
            return processes.submit(judge_operator, setting, operator).result()
    except JudgeEnded as ended:
        return {
            "core": CRASHED,
            "strict": CRASHED,
            "cases": 0,
            "seconds": 0.0,
            "problem": ended.message,
            "divergences": [],
        }


def _longest_first(operators: Iterable[str]) -> list[str]:
    """What takes long is begun early, so that nobody waits for it in the end."""
    rows = [OPERATORS[name] for name in operators]
    return [row.name for row in sorted(rows, key=lambda row: (not row.is_gradient, -row.rank))]


def _key(described: Description, run: Run) -> Data:
    """What a result depends on."""
    key: Data = {
        "version": described.version,
        "profile": run.profile,
        "seed": run.seed,
        "convform": importlib.metadata.version("convform"),
    }
    if described.left_out:
        key["left_out"] = list(described.left_out)
    # Who asks for another deadline than the usual one is not content with what that one has cut off.
    return key if run.limits is None else {**key, "deadline": run.limits.call_seconds}


def _put(place: Data, name: str, value: Data) -> None:
    place[name] = value


def _note(store: Store, name: str, state: str, problem: AdapterError) -> None:
    """Note that a backend cannot be judged here, unless it was judged elsewhere."""

    def note(data: Data) -> None:
        if data["backends"].get(name, {}).get("state") != JUDGED:
            _put(
                data["backends"],
                name,
                {"state": state, "problem": problem.message, "install": problem.hint},
            )

    store.change(note)


def _half_arithmetic() -> list[str]:
    """What the processor can do with half types: libraries choose other code, with other defects, by that."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return []
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    known = [flag for flag in ("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16") if flag in flags]
    return [f"({', '.join(known)})"] if known else []


def _note_described(data: Data, name: str, described: Description, key: Data, fresh: bool) -> None:
    """Begin or continue a backend: results with another key are dropped."""
    old = data["backends"].get(name, {}).get("operators", {})
    kept = {
        operator: unit
        for operator, unit in old.items()
        if not fresh and unit["key"] == key and operator in described.operators
    }
    data["backends"][name] = {
        "state": JUDGED,
        "version": described.version,
        "date": datetime.date.today().isoformat(),
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "system": " ".join((platform.system(), platform.machine(), *_half_arithmetic())),
        },
        "switches": list(described.switches),
        **({"left_out": list(described.left_out)} if described.left_out else {}),
        "operators": kept,
    }


def _reproduce(store: Store, name: str, jobs: int, watcher: Watcher) -> None:
    """Run the programs of a backend's ledger that were not run yet, and note what came of it."""
    backend = store.read()["backends"][name]
    programs = {
        entry.divergence.program: entry.divergence
        for entry in merged(name, backend.get("version"), _divergences(backend))
        if entry.divergence.program is not None and entry.divergence.reproduced is None
    }
    watcher.expect(len(programs))
    with ThreadPoolExecutor(jobs) as threads:
        outcomes: dict[str | None, str] = {}
        for program, outcome in zip(programs, threads.map(reproduce, programs.values()), strict=True):
            outcomes[program] = outcome
            watcher.done(f"{name} · reproducing {programs[program].clause}")

    def note(data: Data) -> None:
        for unit in data["backends"][name]["operators"].values():
            for divergence in unit["divergences"]:
                if divergence.get("program") in outcomes:
                    divergence["reproduced"] = outcomes[divergence["program"]]

    if outcomes:
        store.change(note)


def exit_code(data: Data, names: Sequence[str], level: str, *, named: bool) -> int:
    """Return the exit code of a run: as that of ``convform check``, over all its backends.

    Parameters
    ----------
    data, names
        What `run_matrix` returned.
    level
        The level that decides.
    named
        Whether the backends were asked for by name, so that one that is missing is an error.
    """
    backends = [data["backends"][name] for name in names]
    verdicts = {unit[level] for backend in backends for unit in backend.get("operators", {}).values()}
    states = {backend["state"] for backend in backends}
    if BROKEN in verdicts | states:
        return 2
    if states & {CRASHED, TIMED_OUT} or verdicts - {CONFORMS, INCOMPLETE}:
        return 1
    if INCOMPLETE in verdicts:
        return 4
    return 3 if UNAVAILABLE in states and (named or not verdicts) else 0


def summary(data: Data, names: Sequence[str]) -> Iterator[Text]:
    """One line for each backend of a run: verdicts, and what the ledger says of it."""
    entries = ledger(data)
    width = max((len(name) for name in names), default=0)
    for name in names:
        backend = data["backends"][name]
        if backend["state"] != JUDGED:
            hint = f" ({backend['install']})" if backend.get("install") else ""
            said = (f"{backend['state']}: {backend['problem']}{hint}", "yellow")
            yield Text.assemble((f"{name:<{width}}", "bold"), "  ", said)
            continue
        units = backend["operators"].values()
        verdicts = Counter(unit["core"] for unit in units)
        own = [entry.divergence for entry in entries if entry.backend == name]
        parts = [f"{count} {verdict}" for verdict, count in verdicts.most_common()]
        partly = sum(unit["core"] == CONFORMS != unit["strict"] for unit in units)
        parts += [f"{partly} of them not at level strict"] if partly else []
        parts += [f"{sum(unit['cases'] for unit in units)} cases", f"{len(own)} in the ledger"]
        ran = [divergence.reproduced for divergence in own if divergence.reproduced is not None]
        parts += [f"{ran.count(SHOWN)} of {len(ran)} reproduced"] if ran else []
        style = "green" if set(verdicts) <= {CONFORMS} else "red"
        version = f" {backend['version']}" if backend["version"] else ""
        yield Text.assemble((f"{name:<{width}}", "bold"), version, "  ", (" · ".join(parts), style))


# ---------------------------------------------------------------------- in a process of the pool


def describe(target: str) -> Description:
    """Import an adapter and say what it is, as `described_by` does."""
    with quiet():
        adapters = find(target)
    return described_by(target, adapters)


def described_by(target: str, adapters: Sequence[Adapter]) -> Description:
    """Say what the one adapter of a target is.

    Raises
    ------
    Unavailable
        If it cannot run here.
    AdapterError
        If there are several.
    """
    if len(adapters) > 1:
        names = ", ".join(adapter.name for adapter in adapters)
        raise AdapterError(
            f"{target} holds {len(adapters)} adapters: {names}; expected one", f"{target}:{adapters[0].name}"
        )
    (adapter,) = adapters
    problem = adapter.available() if adapter.available else None
    if problem:
        raise Unavailable(problem, adapter.install)
    return Description(
        adapter.name,
        adapter.version,
        tuple(selected_operators(adapter, None)),
        tuple({"name": s.name, "value": s.value, "breaks": s.breaks} for s in switches_of(adapter)),
        adapter.left_out,
    )


def judge_operator(setting: Setting, operator: str) -> Data:
    """Judge one operator of a backend; what comes back is what the matrix keeps of it."""
    adapter = judged(setting)
    with watching(setting.seed):
        (report,) = judge(adapter, [operator], setting.profile, setting.seed, setting.origin)
        subject, _ = smoke(adapter.implementations[operator])
        found = divergences(adapter, subject, report, setting.profile, setting.seed)
    return _unit(adapter, report, found)


def _unit(adapter: Adapter, report: OperatorReport, found: Sequence[Divergence]) -> Data:
    by_status: dict[str, list[str]] = {}
    for law in report.laws:
        by_status.setdefault(law.status, []).append(law.law)
    errors = [law.reason for law in report.laws if isinstance(law, Failed)]
    unit: Data = {
        "core": report.verdict("core"),
        "strict": report.verdict("strict"),
        "cases": report.cases,
        "seconds": round(report.seconds, 2),
        "laws": by_status,
        "dialects": [
            f'{name}="{value}"' for name, value in adapter.implementations[report.name].claims.dialects
        ],
        "divergences": [divergence.to_json() for divergence in found],
    }
    return unit if not errors else {**unit, "problem": errors[0]}

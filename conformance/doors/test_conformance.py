"""One pytest item for each law of each operator of the adapters given with ``--adapter``."""

from __future__ import annotations

import atexit
import io
from collections.abc import Iterator
from functools import cache

import pytest
from rich.console import Console

from convform.adapters import Adapter
from convform.adapters.process.guard import watching
from convform.conformance.doors.plugin import meant
from convform.conformance.inference.targets import Found
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import PROFILES
from convform.conformance.reports.results import Failed, Known, LawResult, NotClaimed, Outgrown, Violated
from convform.conformance.reports.terminal import law_view
from convform.conformance.running.limits import known_limits_applied
from convform.conformance.running.smoke import SMOKE, smoke
from convform.conformance.running.trial import run_law, without_files
from convform.conformance.subjects.hosting import isolated
from convform.conformance.subjects.subject import Subject

_NAMES = ("target", "adapter_name", "operator", "law_name")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the items: adapter × operator × law."""
    if "law_name" not in metafunc.fixturenames:
        return
    targets = metafunc.config.getoption("--adapter")
    items = [item for target in targets for item in _items(meant(target, metafunc.config), target)]
    if not targets:
        # An empty list would be reported as a riddle about parameter sets.
        skip = pytest.mark.skip(reason="no adapter to judge: give --adapter NAME_OR_FILE")
        metafunc.parametrize(_NAMES, [pytest.param("", "", "", "", marks=skip)], ids=["no adapter given"])
        return
    metafunc.parametrize(_NAMES, items, ids=["-".join(item[1:]) for item in items])


def _items(found: Found, target: str) -> Iterator[tuple[str, str, str, str]]:
    # Targets that cannot be found have ended the run before this, in the plugin.
    for adapter in found.adapters:
        for name, implementation in adapter.implementations.items():
            yield target, adapter.name, name, SMOKE
            for law in laws_of(implementation.operator):
                yield target, adapter.name, name, law.name


@cache
def _adapter(config: pytest.Config, target: str, name: str) -> Adapter:
    adapter = next(adapter for adapter in meant(target, config).adapters if adapter.name == name)
    if not adapter.isolated:
        return adapter
    context = isolated(adapter, target)
    atexit.register(context.__exit__, None, None, None)
    return context.__enter__()


@cache
def _smoke(
    config: pytest.Config, target: str, adapter_name: str, operator: str
) -> tuple[Subject | None, LawResult]:
    return smoke(_adapter(config, target, adapter_name).implementations[operator])


def _decided_with(adapter: Adapter, operator: str, law_name: str) -> list[str]:
    """Names of the laws that the known limits of a law cover, itself included."""
    together = {law_name}
    laws = laws_of(adapter.implementations[operator].operator)
    for word in (word for limit in adapter.implementations[operator].known_limits for word in limit.breaks):
        covered = {law.name for law in laws if word in (law.name, *law.clauses)}
        if law_name in covered:
            together |= covered
    return [law.name for law in laws if law.name in together]


@cache
def _ran(
    config: pytest.Config, target: str, adapter_name: str, operator: str, law_name: str
) -> tuple[LawResult, str]:
    """Run a law once: its result, and what the subject did and printed meanwhile."""
    profile, seed = config.getoption("--convform-profile"), config.getoption("--convform-seed")
    subject, _ = _smoke(config, target, adapter_name, operator)
    assert subject is not None
    law = next(law for law in laws_of(subject.operator) if law.name == law_name)
    origin = meant(target, config).origin_of(_adapter(config, target, adapter_name))
    with watching(seed) as conduct, without_files():
        result = run_law(subject, law, PROFILES[profile], seed, origin)
    return result, "".join(f"{remark}\n" for remark in conduct.remarks) + conduct.printed.text


def test_law(
    target: str, adapter_name: str, operator: str, law_name: str, pytestconfig: pytest.Config
) -> None:
    """The law holds for the operator; otherwise the failure shows the smallest violation."""
    adapter = _adapter(pytestconfig, target, adapter_name)
    if adapter.available and (problem := adapter.available()):
        pytest.skip(f"unavailable: {problem}")
    subject, result = _smoke(pytestconfig, target, adapter_name, operator)
    if subject is None and law_name != SMOKE:
        problem = result.reason if isinstance(result, Failed) else result.outcome
        pytest.skip(f"broken adapter: {problem}")
    if law_name != SMOKE:
        # A limit may be kept alive by another law: all that it covers are run before it is applied.
        found = {}
        for name in _decided_with(adapter, operator, law_name):
            found[name], said = _ran(pytestconfig, target, adapter_name, operator, name)
            if name == law_name:
                print(said, end="")  # pytest shows this beside a failure
        thorough = PROFILES[pytestconfig.getoption("--convform-profile")].thorough
        applied = known_limits_applied(adapter, operator, list(found.values()), thorough=thorough)
        result = next(one for one in applied if one.law == law_name)
    if isinstance(result, NotClaimed):
        pytest.skip(f"not claimed: {result.reason}")
    if isinstance(result, Known):
        pytest.xfail(f"known limit: {result.limit.reason} {result.limit.link}")
    if isinstance(result, Failed):
        pytest.fail(result.reason or "broken adapter", pytrace=False)
    if isinstance(result, (Violated, Outgrown)):
        if not result.decides(pytestconfig.getoption("--convform-level")):
            pytest.xfail(f"strict, does not decide at level core: {result.clauses[0]}")
        pytest.fail(_drawn(operator, result), pytrace=False)


def _drawn(operator: str, result: Violated | Outgrown) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False, color_system=None)
    console.print(law_view(operator, result))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()

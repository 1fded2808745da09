"""The golden record: what every subject of ours is told, so that a change of the house changes no verdict.

``python -m convform.tests.golden [NAME …]`` judges each of them (or those whose names hold one of the words)
at two seeds, in a fresh process each, and compares with ``golden.json`` beside this file; ``--write FILE``
writes the record instead. It holds verdicts, the status and the number of cases of every law, the smallest
case of a violation and the cause that was named.

It is compared in an installed convform: Hypothesis draws now and then from the constants of modules that lie
outside of ``site-packages``, so that a checkout is asked other cases.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SEEDS = (0, 1)
BACKENDS = ("reference", "torch", "array-api-numpy", "array-api-strict")
RECORD = "golden.json"
BY_TIME = ("shape_12_one_sample.py", "many_ones")
"""Its counterexample is made small until the time for that is spent, so that it depends on the machine."""


def subjects() -> list[str]:
    """Name every subject: ``example:lab_conv.py``, ``villain:honest``, ``backend:torch``."""
    from convform.tests import villains
    from convform.tests.test_unusual import UNUSUAL

    examples = sorted(
        entry.name
        for entry in files("convform.examples").iterdir()
        if entry.name.endswith(".py") and entry.name not in ("__init__.py", "test_examples.py")
    )
    faults = [
        name
        for name, value in vars(villains).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == villains.__name__
    ]
    return [
        *(f"backend:{name}" for name in BACKENDS),
        *(f"unusual:{name}" for name in UNUSUAL),
        *(f"example:{name}" for name in examples),
        *(f"villain:{name}" for name in faults if name != "conv_villain"),
    ]


def adapters_of(subject: str) -> list[Any]:
    """Make the adapters that a name stands for."""
    from convform.adapters import find
    from convform.tests import villains
    from convform.tests.test_unusual import UNUSUAL

    kind, _, name = subject.partition(":")
    if kind == "villain":
        return [villains.conv_villain(getattr(villains, name))]
    if kind == "unusual":
        return [UNUSUAL[name]()]
    return list(find(str(files("convform.examples") / name) if kind == "example" else name))


def told(subject: str, seed: int) -> dict[str, Any]:
    """Judge one subject, and keep what must not change."""
    from convform.conformance import check

    found = {}
    for adapter in adapters_of(subject):
        report = check(adapter, seed=seed).to_json()
        for name, operator in report["operators"].items():
            found[f"{adapter.name} {name}"] = {
                "verdict": operator["verdict"],
                "laws": [_law(law, subject) for law in operator["laws"]],
            }
    return found


def _law(law: dict[str, Any], subject: str) -> str:
    """Write one law on a line: its status and cases, the smallest case as a digest, the named cause."""
    line = f"{law['law']} {law['status']} {law['cases']}"
    by_time = subject.endswith(BY_TIME[0]) and law["law"] == BY_TIME[1]
    if law["counterexample"] is not None and not by_time:
        # What a subject answers in the last bit depends on its threads; what it was asked does not.
        asked = ("operator", "dtype", "parameters", "inputs", "arrangement", "refused", "expected")
        text = json.dumps({key: law["counterexample"][key] for key in asked}, sort_keys=True)
        line += f" {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    for cause in law.get("diagnosis", ()):
        line += f" · {cause['misreading']}"
    if "when" in law:
        line += f" · when {law['when']['condition']}"
    return line


def record(names: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Judge everything, or what is named, two at a time."""
    chosen = [subject for subject in subjects() if not names or any(name in subject for name in names)]
    asked = [(subject, seed) for subject in chosen for seed in SEEDS]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        results = [(subject, seed, pool.submit(told, subject, seed)) for subject, seed in asked]
        for subject, seed, result in results:
            yield f"{subject} seed {seed}", result.result()


def differences(kept: dict[str, Any], seen: dict[str, Any]) -> Iterator[str]:
    """Say, line by line, where two records differ."""
    for name in sorted(kept.keys() | seen.keys()):
        before, after = kept.get(name, {}), seen.get(name, {})
        for operator in sorted(before.keys() | after.keys()):
            a, b = before.get(operator, {}), after.get(operator, {})
            if a.get("verdict") != b.get("verdict"):
                yield f"{name}: {operator}: verdict {a.get('verdict')} → {b.get('verdict')}"
            lines, others = a.get("laws", []), b.get("laws", [])
            yield from (f"{name}: {operator}: − {line}" for line in lines if line not in others)
            yield from (f"{name}: {operator}: + {line}" for line in others if line not in lines)


def main(arguments: list[str]) -> int:
    """Write the record, or compare with it: 0 if nothing differs."""
    seen = {}
    names = [] if arguments[:1] == ["--write"] else arguments
    for name, found in record(names):
        seen[name] = found
        print(name, "·", ", ".join(sorted({entry["verdict"] for entry in found.values()})), flush=True)
    if arguments[:1] == ["--write"]:
        text = json.dumps(seen, indent=1, ensure_ascii=False) + "\n"
        Path(arguments[1]).write_text(text, encoding="utf-8")
        return 0
    kept = json.loads(files("convform.tests").joinpath(RECORD).read_text(encoding="utf-8"))
    found = list(differences({name: kept[name] for name in kept if name in seen or not names}, seen))
    print(*found, sep="\n")
    print(f"{len(seen)} records, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

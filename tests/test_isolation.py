"""Subjects that crash, hang or lie in a process of their own: a clear verdict, and nothing is left behind."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from convform.adapters import Adapter, AdapterError, load
from convform.adapters.process.client import Limits, Process, ProtocolError, SubjectCrashed, SubjectTimedOut
from convform.adapters.process.program import Program
from convform.conformance import check
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import QUICK
from convform.conformance.running.smoke import smoke
from convform.conformance.running.trial import Effort, run_law
from convform.conformance.subjects.hosting import isolated
from convform.tests import villains

FAULTS = Path(__file__).parent / "subjects" / "faults.py"
HASTY = Limits(call_seconds=0.6, memory_bytes=1 << 28)
PATIENT = Limits(call_seconds=20, memory_bytes=1 << 28)

# What each fault ends in, and a word of the sentence that says so.
PROTOCOL_FAULTS = {
    "garbage": "no frame",
    "words": "no frame",
    "ten_gigabytes": "claims 10737418240 bytes",
    "header_of_ten_gigabytes": "header claims",
    "nested_header": "no JSON",
    "no_such_dtype": "dtype 'PICKLE'",
    "wrong_size": "8 bytes, expected 8000",
    "negative_offsets": "data_offsets",
    "bytes_left_over": "8 bytes after the last array",
    "another_request": "answered request '12345' when it was asked request '1'",
    "shares_nonsense": "'shares'",
    "closes_its_output": "closed its output",
}
CRASHES = {
    "truncated": "in the middle of an answer",
    "exits": "exit code 7",
    "segfaults": "SIGSEGV",
    "aborts": "SIGABRT",
    "leaves_children": "exit code 0",
    "allocates_without_bound": "exit code 9",
}
HANGS = ("sleeps", "ignores_sigterm", "does_not_read", "floods_standard_error", "sleeps_with_children")
ENDS = (
    {name: (ProtocolError, says) for name, says in PROTOCOL_FAULTS.items()}
    | {name: (SubjectCrashed, says) for name, says in CRASHES.items()}
    | dict.fromkeys(HANGS, (SubjectTimedOut, "no answer within 0.6 s"))
)

X = np.array([[[1.0, -1.0]]])


def faulty(name, after=0):
    # Without site-packages it starts quickly.
    return [sys.executable, "-I", "-S", str(FAULTS), name, str(after)]


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("name", ENDS)
def test_every_fault_has_its_own_end_and_leaves_nothing_behind(name, tmp_path, monkeypatch):
    error, says = ENDS[name]
    pids = tmp_path / "pids"
    pids.touch()
    monkeypatch.setenv("PIDS", str(pids))
    # Only who hangs is to meet the deadline, however busy the machine is.
    process = Process(faulty(name), HASTY if name in HANGS else PATIENT)
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    started = time.monotonic()
    with pytest.raises(error, match=says.replace("(", r"\(")):
        process.call("max_pool1d", {"x": X})
    assert time.monotonic() - started < (4 if name in HANGS else 20)
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors
    children = [int(line) for line in pids.read_text(encoding="utf-8").split()]
    assert len(children) == (2 if "children" in name else 0)
    time.sleep(0.05)
    assert all(is_gone(pid) for pid in children)


def test_no_fault_costs_the_judge_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("ten_gigabytes", "floods_standard_error", "nested_header"):
        with pytest.raises((ProtocolError, SubjectTimedOut)):
            Process(faulty(name), HASTY).call("max_pool1d", {"x": X})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_the_next_call_has_a_new_process():
    process = Process(faulty("exits", after=1), HASTY)
    for _ in range(3):
        assert process.call("max_pool1d", {"x": X}).tolist() == [[[1.0]]]
        with pytest.raises(SubjectCrashed):
            process.call("max_pool1d", {"x": X})
    assert process.deaths == 3
    process.close()


def test_a_second_answer_is_noticed_at_the_next_call():
    process = Process(faulty("two_answers"), HASTY)
    process.call("max_pool1d", {"x": X})
    with pytest.raises(ProtocolError, match="more than one answer"):
        process.call("max_pool1d", {"x": X})


def test_who_hangs_again_and_again_is_waited_for_less():
    process = Process(faulty("sleeps"), Limits(call_seconds=8))
    assert process.patience("conv2d") == 8
    process._timeouts["conv2d"] = 2
    assert process.patience("conv2d") == 2
    process._timeouts["conv2d"] = 20
    assert process.patience("conv2d") == 1
    assert process.patience("max_pool2d") == 8


@pytest.mark.parametrize(
    ("name", "verdict"), [("segfaults", "crashed"), ("garbage", "crashed"), ("sleeps", "timed out")]
)
def test_a_program_that_never_answers_has_a_verdict(name, verdict):
    adapter = Adapter("faulty")
    program = Program(faulty(name), HASTY)
    adapter.implements("max_pool1d")(program.wrapper("max_pool1d", "x kernel"))
    report = check(adapter)
    assert report.verdict == verdict
    assert report.exit_code == 1
    assert program.process.deaths == 2


HOMEWORK = """
import ctypes, os, time
import numpy as np
from convform import reference
from convform.adapters import Adapter

hw = Adapter("hw")

@hw.implements("conv2d")
def conv(x, w, b=None, stride=1, padding=0, groups=1):
    print("on standard output, where the answers go")
    if {when}:
        {fault}
    return reference.conv(x, w, b, stride=stride, padding=padding, groups=groups)

@hw.implements("max_pool2d")
def pool(x, kernel, stride):
    return reference.max_pool(x, kernel=kernel, stride=stride)[0]
"""


def homework(folder, fault, when="groups > 1"):
    file = folder / "hw.py"
    file.write_text(HOMEWORK.format(fault=fault, when=when), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("fault", "outcome", "says"),
    [
        ("ctypes.string_at(0)", "crashed", "SIGSEGV"),
        ("time.sleep(100)", "timed out", "no answer within 0.6 s"),
    ],
)
def test_a_homework_that_dies_on_some_input_is_judged_to_the_end(tmp_path, fault, outcome, says):
    report = check(load(homework(tmp_path, fault)), isolated=True, limits=Limits(call_seconds=0.6))
    assert report.verdict == report["conv2d"].verdict("core") == outcome
    assert report.exit_code == 1
    assert report["max_pool2d"].verdict("strict") == "conforms"
    (law,) = [law for law in report["conv2d"].laws if law.law == "groups"]
    assert law.status == "violated"
    assert says in law.violation.says
    assert law.to_json()["outcome"] == outcome
    # The smallest case that it dies of: two groups of one channel, and next to nothing else.
    case = law.violation.case
    assert case.parameters["groups"] == 2
    assert max(case.inputs["w"].shape) <= 4
    assert "groups=2" in law.reproducer
    # Laws about other things hold all the same.
    held = {law.law for law in report["conv2d"].laws if law.status == "holds"}
    assert {"values", "stride", "padding", "bias"} <= held
    json.loads(report.dumps())


def test_the_command_line_isolates(tmp_path):
    file = Path(homework(tmp_path, "os._exit(3)", when="True"))
    own = file.read_text(encoding="utf-8").replace("convform import", "convform.tests import plain as")
    file.write_text(own, encoding="utf-8")
    command = [sys.executable, "-m", "convform.conformance.doors.cli", "check", file]
    run = subprocess.run(
        [*command, "--operator", "conv2d", "--isolate", "--deadline", "5"],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "✗ crashed" in run.stdout
    assert "exit code 3" in run.stdout


def test_an_adapter_may_ask_for_a_process_of_its_own(tmp_path):
    file = Path(homework(tmp_path, "os._exit(3)", when="True"))
    text = file.read_text(encoding="utf-8").replace('"hw")', '"hw", isolated=True)')
    file.write_text(text, encoding="utf-8")
    assert check(load(str(file)), operators=["conv2d"]).verdict == "crashed"


def test_an_adapter_from_nowhere_cannot_be_isolated():
    with pytest.raises(AdapterError, match="was not loaded from anywhere"):
        check(villains.conv_villain(villains.honest), isolated=True)


def test_a_worker_that_cannot_import_is_a_broken_adapter(tmp_path):
    file = Path(homework(tmp_path, "pass"))
    adapter = load(str(file))
    file.write_text("1 / 0", encoding="utf-8")
    report = check(adapter, isolated=True)
    assert report.verdict == "broken adapter"
    assert "ZeroDivisionError" in report["conv2d"].laws[0].reason


VILLAINS = """
from convform.tests import villains
{lines}
"""


@pytest.fixture(scope="module")
def villain_file(tmp_path_factory):
    names = [name for name, _ in VERDICTS]
    lines = [f"{name} = villains.conv_villain(villains.{name})" for name in names]
    file = tmp_path_factory.mktemp("villains") / "plugged_in.py"
    file.write_text(VILLAINS.format(lines="\n".join(lines)), encoding="utf-8")
    return str(file)


VERDICTS = (
    ("honest", ()),
    ("returns_none", ("smoke",)),
    ("writes_to_input", ("inputs_unmodified",)),
    ("upcasts", ("dtype",)),
    ("c_order_only", ("views",)),
    ("remembers", ("values", "no_memory_between_calls")),
    ("reuses_its_buffer", ("no_memory_between_calls", "no_shared_memory")),
)
"""Villains, and what is found of each."""


@pytest.mark.parametrize(("name", "broken"), VERDICTS)
def test_isolation_does_not_change_what_is_found(villain_file, name, broken):
    adapter = load(f"{villain_file}:{name}")
    with isolated(adapter) as outside:
        found = statuses(outside)
        assert found == statuses(adapter)
    assert {law for law, status in found.items() if status in ("violated", "error")} >= set(broken)


def statuses(adapter):
    """What the smoke law and the laws about conduct find."""
    subject, smoked = smoke(adapter.implementations["conv2d"])
    results = [smoked]
    if subject is not None:
        laws = [law for law in laws_of(subject.operator) if law.lane == "contract" or law.name == "values"]
        results += [run_law(subject, law, QUICK, 0, effort=Effort(shrink=False)) for law in laws]
    return {result.law: result.status for result in results}


def test_arrays_lie_in_the_worker_as_they_lie_here(tmp_path):
    file = tmp_path / "hw.py"
    file.write_text(
        textwrap.dedent("""
            from convform.adapters import Adapter
            hw = Adapter("hw")
            @hw.implements("im2col")
            def f(x, kernel):
                raise ValueError(f"{x.strides} {x.flags.writeable} {x.tolist()}")
        """),
        encoding="utf-8",
    )
    x = np.arange(24.0).reshape(1, 1, 4, 6)[:, :, ::-1, ::2]
    x.flags.writeable = False
    with isolated(load(str(file))) as adapter, pytest.raises(Exception, match="ValueError") as raised:
        adapter["im2col"](x=x, kernel=(1, 1))
    assert str(raised.value) == f"ValueError: {x.strides} False {x.tolist()}"

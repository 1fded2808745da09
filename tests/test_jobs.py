"""Several processes find what one finds."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
import time
from textwrap import dedent

import numpy as np
import pytest

from convform.adapters import Adapter, AdapterError, load
from convform.adapters.process.guard import Printed, Remark
from convform.conformance import check
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import Axis, Geometry
from convform.conformance.laws.examples import example_case
from convform.conformance.laws.violation import Violation
from convform.conformance.reports.results import Holds, Violated
from convform.conformance.running import jobs
from convform.conformance.running.jobs import Done, JudgeEnded
from convform.spec.clauses import examples
from convform.spec.operators import OPERATORS

SUBJECTS = """
    import os
    import numpy as np
    from convform.tests import plain as reference
    from convform.adapters import Adapter

    hw = Adapter("hw", dtypes=("float64",))

    @hw.implements("im2col1d")
    def gather(x, kernel):
        print("gathering")
        np.seterr(all="raise")
        return np.zeros_like(reference.im2col(x, kernel))

    @hw.implements("conv1d")
    def conv(x, w):
        if x.shape[1] == 0:
            raise ValueError("no channels")
        return reference.conv(x, w)

    hw.known_limit("conv1d", "CONV-6", reason="It wants channels.", link="https://example.org/1")

    deadly = Adapter("deadly", dtypes=("float64",))

    @deadly.implements("im2col1d")
    def crash(x, kernel):
        if kernel[0] == 3:
            os.abort()
        return reference.im2col(x, kernel)
"""


@pytest.fixture
def subjects(tmp_path):
    file = tmp_path / "subjects.py"
    file.write_text(dedent(SUBJECTS), encoding="utf-8")
    return file


def timeless(data):
    """A report without what the clock says."""
    if isinstance(data, dict):
        return {key: timeless(value) for key, value in data.items() if key not in ("seconds", "found_after")}
    return [timeless(value) for value in data] if isinstance(data, list) else data


def test_the_report_does_not_depend_on_the_number_of_jobs(subjects):
    target = f"{subjects}:hw"
    steps = []
    one = check(load(target), origin=target)
    two = check(load(target), origin=target, jobs=2, progress=lambda *step: steps.append(step))
    assert one.verdict == "violates"
    assert timeless(two.to_json()) == timeless(one.to_json())
    assert sorted({operator for operator, _ in steps}) == ["conv1d", "im2col1d"]
    assert str(two["im2col1d"].laws[1].violation) == str(one["im2col1d"].laws[1].violation)


def test_jobs_and_isolation_go_together(subjects):
    target = f"{subjects}:deadly"
    one, two = (
        check(load(target), origin=target, isolated=True, jobs=count, operators=["im2col1d"])
        for count in (1, 2)
    )
    assert one.verdict == two.verdict == "crashed"
    assert [(law.law, law.status, law.outcome) for law in two["im2col1d"].laws] == [
        (law.law, law.status, law.outcome) for law in one["im2col1d"].laws
    ]


def test_a_subject_that_ends_the_judge_is_told_in_one_sentence(subjects):
    with pytest.raises(JudgeEnded, match="the subject has crashed it") as told:
        check(load(f"{subjects}:deadly"), jobs=2)
    assert "--isolate" in told.value.hint


def test_a_pool_leaves_nothing_behind_however_it_ends():
    def interrupted():
        with jobs.pool(2) as processes:
            processes.submit(time.sleep, 0.01).result()
            processes.submit(time.sleep, 600)
            raise RuntimeError("in the middle")

    threads, children = threading.active_count(), multiprocessing.active_children()
    with pytest.raises(RuntimeError, match="in the middle"):
        interrupted()
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == children


def test_an_adapter_that_no_other_process_can_find():
    hw = Adapter("hw")
    hw.implements("conv1d")(lambda x, w: x)
    with pytest.raises(AdapterError, match="no other process can find it"):
        check(hw, jobs=2)


def test_at_least_one_job():
    hw = Adapter("hw")
    hw.implements("conv1d")(lambda x, w: x)
    with pytest.raises(ValueError, match="jobs=0: expected at least 1"):
        check(hw, jobs=0)


def test_violations_travel_between_processes():
    case = build(OPERATORS["max_pool1d"], Geometry((Axis(3, 2, 1, 0, 0, 1),)))
    found = Violation(case, "says", {"y": np.ones(2)}, {"y": np.zeros(2)}, {"y": np.ones(2, bool)}, "crashed")
    found._traceback = "file.py:1"
    arrived = pickle.loads(pickle.dumps(found))
    assert arrived.case.operator is case.operator
    assert arrived.case.parameters == case.parameters
    assert (arrived.says, arrived.kind, arrived.traceback) == ("says", "crashed", "file.py:1")
    assert arrived.actual["y"].tolist() == [0, 0]
    assert copy.copy(arrived).says == "says"


def test_cases_of_worked_examples_travel_whole():
    for example in examples():
        operator = OPERATORS[example.operator or f"max_pool{len(example.window['input_size'])}d"]
        case = example_case(operator, example, "float64")
        arrived = pickle.loads(pickle.dumps(case))
        assert arrived.operator is operator
        assert type(arrived.inputs) is type(arrived.example.inputs) is type(case.inputs)
        assert repr(arrived.inputs) == repr(case.inputs)
        assert (arrived.parameters, arrived.geometry) == (case.parameters, case.geometry)
        assert (arrived.example.says, arrived.example.window) == (example.says, example.window)
        assert repr(arrived.example.outputs) == repr(example.outputs)


def test_conduct_is_put_together_as_one_run_would_tell_it():
    done = [
        Done((), (Remark("printed", ("conv1d",), 2), Remark("drew")), Printed(1, "a\n")),
        Done((), (Remark("printed", ("conv2d",), 3), Remark("drew")), Printed(2, "b\nc\n")),
    ]
    assert jobs._remarks(done) == (Remark("printed", ("conv1d", "conv2d"), 5), Remark("drew"))
    assert jobs._printed(done) == Printed(3, "a\nb\nc\n")


def test_only_later_deaths_of_an_operator_are_run_again():
    case = build(OPERATORS["max_pool1d"], Geometry((Axis(3, 2, 1, 0, 0, 1),)))
    death = Violation(case, "crashed", kind="crashed")

    def done(died):
        about = "law", "core", ()
        law = Violated(*about, violation=death, found_after=0.0) if died else Holds(*about)
        return Done((law,), (), Printed())

    found = {("a", "1"): done(True), ("a", "2"): done(False), ("a", "3"): done(True), ("b", "3"): done(True)}
    assert jobs._after_a_death(found, found) == [("a", "3")]

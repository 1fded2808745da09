"""The judge is judged: villains are caught by the right law, the honest conform."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convform import reference
from convform.adapters import Adapter, AdapterError, Unavailable, load
from convform.conformance import check
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import Axis, Geometry
from convform.conformance.laws.violation import Violation
from convform.conformance.reports.results import Holds, Violated
from convform.conformance.running.limits import known_limits_applied
from convform.spec.operators import OPERATORS
from convform.tests import villains


def status(adapter, law, operator="conv2d", **options):
    report = check(adapter, operators=[operator], level="strict", **options)
    return next(result for result in report[operator].laws if result.law == law)


def villain(name):
    return villains.conv_villain(getattr(villains, name))


def test_honest_wrapper_conforms_at_both_levels():
    report = check(villain("honest"), level="strict")
    assert report.verdict == "conforms", report.dumps()
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("name", "law", "kind"),
    [
        ("always_zero", "values", "values"),
        ("nan_everywhere", "values", "values"),
        ("one_row_short", "values", "shape"),
        ("needs_square_input", "values", "raises"),
        ("first_sample_only", "batch", "values"),
        ("low_precision", "rounding", "values"),
        ("writes_to_input", "inputs_unmodified", "other"),
        ("upcasts", "dtype", "dtype"),
        ("accepts_everything", "refuses_windows", "answers"),
        ("accepts_everything", "refuses_shapes", "answers"),
        ("remembers", "no_memory_between_calls", "other"),
        ("reuses_its_buffer", "no_memory_between_calls", "other"),
        ("c_order_only", "views", "values"),
    ],
)
def test_villain_is_caught_by_the_law_that_forbids_it(name, law, kind):
    result = status(villain(name), law)
    assert (result.status, result.violation.kind) == ("violated", kind)
    assert result.reproducer is not None


@pytest.mark.parametrize("name", ["upcasts", "writes_to_input", "c_order_only", "accepts_everything"])
def test_core_verdict_is_about_values_alone(name):
    report = check(villain(name))
    assert report.verdict == "conforms"
    assert report["conv2d"].violated("strict")


def test_flaky_subject_violates_and_the_run_ends():
    assert check(villain("flips_a_coin")).verdict == "violates"


@pytest.mark.parametrize("name", ["returns_none", "returns_text", "always_raises"])
def test_wrapper_that_gives_no_answer_is_a_broken_adapter(name):
    report = check(villain(name))
    assert report.verdict == "broken adapter"
    assert report.exit_code == 2
    (only,) = report["conv2d"].laws
    assert only.law == "smoke"
    assert "conv2d" in only.reason


def test_counterexample_is_small():
    """A batch is needed to see that only the first sample is used, and nothing else."""
    case = status(villain("first_sample_only"), "batch").violation.case
    assert case.inputs["x"].shape[0] == 2
    assert case.inputs["x"].size <= 8
    assert sum(np.count_nonzero(array) for array in case.inputs.values()) <= 3


def test_same_seed_same_run():
    def run(seed):
        data = check(villain("first_sample_only"), seed=seed).to_json()
        return json.dumps(
            [
                (law["law"], law["status"], law["cases"], law["counterexample"])
                for law in data["operators"]["conv2d"]["laws"]
            ]
        )

    assert run(11) == run(11)
    assert run(11) != run(12)


def test_one_operator_alone_sees_the_same_cases():
    adapter = load("reference")
    both = check(adapter, operators=["im2col", "col2im"], seed=5)["col2im"]
    alone = check(adapter, operators=["col2im"], seed=5)["col2im"]
    assert [(law.law, law.cases) for law in both.laws] == [(law.law, law.cases) for law in alone.laws]


def test_reproducer_shows_the_violation():
    """The lines run, and print what the standard does not say."""
    adapter = villain("always_zero")
    result = status(adapter, "values")
    lines = result.reproducer.splitlines()
    load_line = next(i for i, line in enumerate(lines) if "load(" in line)
    printed = []
    source = "\n".join([*lines[:load_line], *lines[load_line + 1 :]])
    exec(source, {"conv2d": adapter["conv2d"], "print": printed.append})
    assert not printed[0].any()
    assert lines[-1].startswith("# expected")


def test_json_has_the_documented_keys():
    data = json.loads(check(villain("upcasts"), level="strict").dumps())
    assert data["schema"] == 1
    assert {"adapter", "version", "seed", "verdict", "seconds", "operators"} <= set(data)
    laws = data["operators"]["conv2d"]["laws"]
    keys = {"law", "level", "clauses", "status", "cases", "seconds", "counterexample", "reproducer"}
    assert all(keys <= set(law) for law in laws)
    assert {law["status"] for law in laws} == {"holds", "violated", "not-claimed"}


def test_what_is_not_claimed_is_said():
    adapter = Adapter("plain")

    @adapter.implements("conv2d", kernel="square")
    def conv(x, w):
        return reference.conv(x, w)

    reasons = {law.law: law.reason for law in check(adapter)["conv2d"].laws if law.status == "not-claimed"}
    assert reasons["stride"] == "the wrapper takes no stride"
    assert reasons["bias"] == "the wrapper takes no b"
    assert check(adapter, level="strict").verdict == "conforms"


def test_known_limit_is_run_and_does_not_decide():
    adapter = villain("upcasts")
    adapter.known_limit("conv2d", "CONTRACT-5", reason="always double", link="https://example.org/1")
    report = check(adapter, level="strict")
    result = next(law for law in report["conv2d"].laws if law.law == "dtype")
    assert (result.status, result.limit.reason) == ("known", "always double")
    assert result.cases > 0
    assert report.verdict == "conforms"


def test_known_limit_that_no_longer_shows_fails_the_run():
    adapter = villain("honest")
    adapter.known_limit("conv2d", "CONTRACT-5", reason="always double", link="https://example.org/1")
    report = check(adapter, level="strict")
    assert report.verdict == "violates"
    (result,) = report["conv2d"].violated()
    assert "no longer shows" in result.reason


def test_subject_without_its_device_is_unavailable():
    adapter = Adapter("gpu", available=lambda: "no CUDA device")
    adapter.implements("conv2d")(villains.honest)
    with pytest.raises(Unavailable, match="no CUDA device"):
        check(adapter)


def test_operator_that_is_not_implemented_is_named():
    with pytest.raises(AdapterError, match="does not implement 'max_pool2d'"):
        check(villain("honest"), operators=["max_pool2d"])


def test_false_pass_bound_is_reported_for_linear_operators():
    laws = check(load("reference"), operators=["conv2d"])["conv2d"].laws
    bounds = [law.false_pass for law in laws if isinstance(law, Holds) and law.false_pass is not None]
    assert bounds
    assert all(0 < bound < 1 for bound in bounds)


def test_known_limit_shows_as_long_as_one_of_its_laws_is_violated():
    """Worked examples cite the clause as well, and need not hit the defect."""
    adapter = villain("honest")
    adapter.known_limit("conv2d", "CONV-6", reason="no channels", link="https://example.org/1")
    holds = [law for law in check(adapter, level="strict")["conv2d"].laws if law.clauses[0] == "CONV-6"]
    assert len(holds) > 1
    found = Violation(build(OPERATORS["conv2d"], Geometry((Axis(3, 2, 1, 0, 0, 1),) * 2)), "differs")
    results = [
        Violated("zero_channels", "strict", ("CONV-6",), violation=found, found_after=0.0),
        Holds("worked_examples_strict", "strict", ("CONV-6",)),
    ]
    statuses = [result.status for result in known_limits_applied(adapter, "conv2d", results)]
    assert statuses == ["known", "holds"]


def test_known_limit_has_its_reason_and_link_in_every_report():
    adapter = villain("upcasts")
    adapter.known_limit("conv2d", "dtype", reason="always double", link="https://example.org/1")
    report = check(adapter, level="strict")
    (known,) = [law for law in report.to_json()["operators"]["conv2d"]["laws"] if law["status"] == "known"]
    assert (known["law"], known["reason"], known["link"]) == (
        "dtype",
        "always double",
        "https://example.org/1",
    )
    assert known["counterexample"] is not None
    assert "always double  https://example.org/1" in str(report)


def test_known_limit_of_one_operator_excuses_no_other():
    adapter = villain("upcasts")
    adapter.implements("conv1d")(villains.upcasts)
    adapter.known_limit("conv2d", "dtype", reason="always double", link="https://example.org/1")
    report = check(adapter, level="strict")
    assert report["conv2d"].verdict("strict") == "conforms"
    assert report["conv1d"].verdict("strict") == "violates"

"""bfloat16: a dtype that NumPy does not have by itself, judged like the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from convform import reference
from convform.adapters import Adapter, Unavailable, find
from convform.adapters.process import frames
from convform.conformance.cases import contents, oracle
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import Axis, Channels, Geometry
from convform.conformance.doors.python import check
from convform.conformance.laws.compare import cells_that_differ
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import QUICK
from convform.conformance.reports.grid import number, plane
from convform.conformance.running.smoke import smoke
from convform.conformance.running.trial import run_law
from convform.conformance.subjects.twin import wrapper
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.operators import OPERATORS

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16

LINEAR = [operator for operator in OPERATORS.values() if operator.is_linear and operator.rank == 2]


def twin(evaluate=reference.evaluate, operators=("conv2d",), dtypes=("float32", "bfloat16"), **claims):
    """An adapter that claims bfloat16, whose mathematics is `evaluate`."""
    adapter = Adapter("twin", columns="n c kh kw oh ow", dtypes=dtypes)
    for name in operators:
        adapter.implements(name, padding="low-high", **claims)(wrapper(OPERATORS[name], evaluate))
    return adapter


def test_a_conforming_subject_conforms_in_bfloat16():
    names = [name for name, row in OPERATORS.items() if row.rank == 1 and row.family != "max_pool"]
    report = check(twin(operators=names, dtypes=("bfloat16",)), level="strict")
    assert report.verdict == "conforms", str(report)


def test_max_pooling_of_bfloat16_knows_nan_and_infinity():
    adapter = twin(operators=["max_pool1d"], dtypes=("bfloat16",), indices=True)
    report = check(adapter, level="strict")
    held = {law.law for law in report["max_pool1d"].laws if law.status == "holds"}
    assert report.verdict == "conforms", str(report)
    assert {"special_values", "no_real_element"} <= held


def test_the_reference_evaluates_bfloat16_in_float32_and_rounds_once():
    x = np.ones((1, 300, 1), bfloat16)
    y = reference.evaluate("conv1d", {"x": x, "w": np.ones((1, 300, 1), bfloat16)}, {})["y"]
    assert y.dtype == bfloat16
    assert float(y[0, 0, 0]) == 300.0
    # Arrays of several dtypes are refused as they were (CONTRACT-6).
    with pytest.raises(TypeError):
        reference.evaluate("conv1d", {"x": x, "w": np.ones((1, 300, 1), np.float32)}, {})


@pytest.mark.parametrize("operator", LINEAR, ids=lambda operator: operator.name)
def test_the_exact_lane_stays_below_256(operator):
    axes = (Axis(9, 5, 1, 2, 2, 1),) * 2
    channels = Channels(3, 9, 9, 1) if "conv" in operator.family else Channels(3, 3)
    for seed in range(5):
        case = build(operator, Geometry(axes, channels, "bfloat16", seed=seed))
        absolute = {name: np.abs(array).astype(np.float64) for name, array in case.inputs.items()}
        sums = reference.evaluate(operator.name, absolute, case.parameters)
        assert all(array.max() < 256 for array in sums.values())
        assert all(np.any(array != 0) for array in case.inputs.values())


def test_the_bounded_lane_allows_float32_sums_and_one_rounding():
    case = build(
        OPERATORS["conv1d"], Geometry((Axis(5, 3, 1, 0, 0, 1),), Channels(1, 2, 1), "bfloat16", "real")
    )
    expected = oracle.bounded(case)
    answer = reference.evaluate("conv1d", case.inputs, case.parameters)["y"]
    exact, room = expected.values["y"], expected.tolerance["y"]
    assert not cells_that_differ(answer, exact, room).any()
    two_units = answer.astype(np.float64) * (1 + 2.0**-6)
    assert cells_that_differ(two_units, exact, room).any()
    assert contents.unit_roundoff("bfloat16") == 2.0**-8
    assert contents.smallest_subnormal("bfloat16") == np.array(1, np.int16).view(bfloat16)


def law_named(operator, name):
    return next(law for law in laws_of(OPERATORS[operator]) if law.name == name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_columns_added_up_in_half_are_caught(dtype):
    in_half = misread(MISREADINGS["overlaps added in half"])
    law = law_named("col2im", "large_and_small")
    for evaluate, status in ((reference.evaluate, "holds"), (in_half, "violated")):
        adapter = twin(evaluate, ["col2im"], (dtype,))
        subject, _ = smoke(adapter.implementations["col2im"])
        assert run_law(subject, law, QUICK, 0).status == status


def test_columns_added_up_in_half_can_be_declared():
    in_half = misread(MISREADINGS["overlaps added in half"])
    adapter = twin(in_half, ["col2im"], ("float32", "float16", "bfloat16"), scatter="native")
    assert check(adapter).verdict == "conforms"


def test_ones_added_in_bfloat16_stop_at_256():
    cols = np.ones((1, 1, 512, 512), bfloat16)
    call = "col2im1d", {"cols": cols}, {"input_size": (1, 1, 1023), "kernel": 512}
    middle = np.s_[0, 0, 511]
    assert float(reference.evaluate(*call)["x"][middle]) == 512
    assert float(misread(MISREADINGS["overlaps added in half"])(*call)["x"][middle]) == 256


def test_every_misreading_can_be_asked_about_bfloat16():
    for reading in MISREADINGS.values():
        for row in OPERATORS.values():
            if row.rank == 1 and reading.applies_to(row.family):
                case = build(row, Geometry((Axis(4, 2, 2, 0, 0, 1),), Channels(), "bfloat16"))
                single = {name: array.astype(np.float32) for name, array in case.inputs.items()}
                answers = []
                for inputs in (case.inputs, single):
                    try:
                        with np.errstate(all="ignore"):
                            answers.append(misread(reading)(row.name, inputs, case.parameters))
                    except (ValueError, TypeError, IndexError):
                        answers.append(None)
                assert (answers[0] is None) == (answers[1] is None), (reading.name, row.name)


def test_bfloat16_travels_in_frames():
    x = np.array([[1.0, -0.0], [np.inf, np.nan]], bfloat16)
    frame = b"".join(frames.encode({}, {"x": x.T, "scale": np.array(2.0)}))
    assert b'"dtype":"BF16"' in frame
    _, read = frames.decode(frame[8:])
    assert read["x"].dtype == bfloat16
    assert read["x"].tobytes() == x.T.tobytes()


def test_a_subject_elsewhere_gets_and_gives_bfloat16(tmp_path):
    file = tmp_path / "halves.py"
    file.write_text(
        "from convform import reference\n"
        "from convform.adapters import Adapter\n"
        "halves = Adapter('halves', columns='n c kw ow', dtypes=('bfloat16',))\n"
        "@halves.implements('im2col1d')\n"
        "def _(x, kernel):\n"
        "    return reference.evaluate('im2col1d', {'x': x}, {'kernel': kernel})['cols']\n"
    )
    report = check(find(str(file))[0], isolated=True, level="strict")
    assert report.verdict == "conforms", str(report)


def test_without_ml_dtypes_it_is_said_in_one_sentence(tmp_path):
    (tmp_path / "halves.py").write_text(
        "from convform.adapters import Adapter\nhalves = Adapter('halves', dtypes=('bfloat16',))\n"
    )
    block = (
        "import sys; sys.modules['ml_dtypes'] = None; from convform.conformance.doors.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", block, "check", str(tmp_path / "halves.py")], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "bfloat16 arrays need ml_dtypes, which is not installed" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_without_ml_dtypes_a_frame_with_bfloat16_is_refused(monkeypatch):
    frame = b"".join(frames.encode({}, {"x": np.ones(1, bfloat16)}))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(frames.FrameError, match="need ml_dtypes"):
        frames.decode(frame[8:])


def test_a_claim_without_ml_dtypes_is_unavailable(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for options in ({}, {"optional_dtypes": ["bfloat16"]}):  # where nothing else is claimed, nothing is left
        with pytest.raises(Unavailable):
            Adapter("halves", dtypes=("bfloat16",), **options)


def optional(**options):
    """An adapter that claims bfloat16 where it is there, and lists a limit of it that always shows."""
    adapter = Adapter("half", dtypes=("float32", "bfloat16"), optional_dtypes=("bfloat16",), **options)
    for name in ("im2col1d", "conv1d"):
        adapter.implements(name, dtypes=("float32", "bfloat16"))(
            wrapper(OPERATORS[name], broken_in(("bfloat16",)) if name == "conv1d" else reference.evaluate)
        )
    for clause in ("CONV-1", "WINDOW-1"):
        adapter.known_limit("conv1d", clause, reason="Off by one.", link="here", dtypes=("bfloat16",))
    return adapter


def test_an_optional_dtype_is_judged_where_it_is_there():
    adapter = optional(columns="n c kw ow")
    assert adapter.left_out == ()
    assert all(one.claims.dtypes == ("float32", "bfloat16") for one in adapter.implementations.values())
    report = check(adapter)
    assert {law.status for law in report["conv1d"].laws} >= {"known"}
    assert "left_out" not in report.to_json()


def test_an_optional_dtype_that_is_not_there_is_named_and_the_others_are_judged(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    adapter = optional(columns="n c kw ow")
    assert all(one.claims.dtypes == ("float32",) for one in adapter.implementations.values())
    report = check(adapter)
    assert report.verdict == "conforms", str(report)
    said = "bfloat16, whose arrays need ml_dtypes, which is not installed (pip install ml_dtypes)"
    assert f"half: {said}" in str(report)
    assert json.loads(report.dumps())["left_out"] == [said]


@pytest.mark.parametrize("door", [["convform", "check"], ["pytest", "--pyargs", "convform.conformance"]])
def test_torch_without_ml_dtypes_is_judged_in_its_other_dtypes(door, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "ml_dtypes.py").write_text("raise ModuleNotFoundError(name='ml_dtypes')\n")
    options = ["torch", "--operator", "conv1d"]
    if door[0] == "pytest":
        options = [
            "--adapter",
            "torch",
            "-k",
            "conv1d-smoke",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
        ]
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-m", *door, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bfloat16, whose arrays need ml_dtypes, which is not installed" in done.stdout


def test_values_are_printed_as_numbers():
    values = np.array([[2.5, -np.inf], [np.nan, -0.0]], bfloat16)
    assert [[number(v) for v in row] for row in values.astype(np.float64)] == [["2.5", "−∞"], ["NaN", "−0"]]
    assert "−∞" in plane(values).plain


def test_a_violation_in_bfloat16_is_reported_with_its_values():
    def wrong(operator, inputs, parameters):
        outputs = reference.evaluate(operator, inputs, parameters)
        return {"y": outputs["y"] + outputs["y"].dtype.type(inputs["x"].dtype == bfloat16)}

    adapter = twin(wrong, dtypes=("float32", "bfloat16"))
    report = check(adapter)
    (law,) = [law for law in report["conv2d"].laws if law.law == "together"]
    found = json.loads(json.dumps(law.to_json()))
    assert found["counterexample"]["dtype"] == "bfloat16"
    assert isinstance(found["counterexample"]["expected"]["y"]["values"][0][0][0][0], float)
    assert "import ml_dtypes" in law.reproducer
    assert "bfloat16" in str(report)


def broken_in(dtypes):
    def evaluate(operator, inputs, parameters):
        outputs = reference.evaluate(operator, inputs, parameters)
        return {"y": outputs["y"] + 1} if inputs["x"].dtype.name in dtypes else outputs

    return evaluate


@pytest.mark.parametrize(
    ("broken", "status"), [(("bfloat16",), "known"), (("bfloat16", "float32"), "violated")]
)
def test_what_one_dtype_is_known_to_break_hides_no_other(broken, status):
    adapter = twin(broken_in(broken), operators=["conv1d"])
    for clause in ("CONV-1", "WINDOW-1"):
        adapter.known_limit("conv1d", clause, reason="Off by one.", link="here", dtypes=("bfloat16",))
    report = check(adapter, profile="quick")
    (law,) = [law for law in report["conv1d"].laws if law.law == "sweep"]
    assert law.status == status
    assert law.violation.case.dtype.name == ("bfloat16" if status == "known" else "float32")


def test_a_limit_that_shows_in_some_runs_may_be_absent():
    for always, verdict in ((True, "violates"), (False, "conforms")):
        adapter = twin(operators=["im2col1d"], dtypes=("float32",))
        adapter.known_limit("im2col1d", "WINDOW-7", reason="Now and then.", link="here", always=always)
        assert check(adapter).verdict == verdict


@pytest.mark.parametrize("variable", ["adapter", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_script_of_torch_repeats_what_the_wrapper_does(variable, dtype):
    pytest.importorskip("torch")
    adapter = find(f"convform.adapters.backends.torch:{variable}")[0]
    for name, implementation in adapter.implementations.items():
        if dtype not in implementation.claims.dtypes:
            continue
        row = implementation.operator
        case = build(row, Geometry((Axis(5, 3, 3, 1, 1, 1),) * row.rank, Channels(2, 2, 2), dtype, seed=3))
        arguments = implementation.native_arguments(case.inputs, case.parameters)
        given = {key: value for key, value in arguments.items() if key not in row.inputs}
        variables = {"b": None, **{key: arguments[key] for key in row.inputs if key in arguments}}
        exec(adapter.script(name, given), variables)
        said = implementation.named_outputs(implementation.function(**arguments))
        for output, array in variables["answer"].items():
            if output in said:
                np.testing.assert_array_equal(array.astype(np.float64), said[output].astype(np.float64))
        assert set(said) <= set(variables["answer"])

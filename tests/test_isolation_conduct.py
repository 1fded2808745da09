"""What a subject in its own process does besides answering reaches the report, and large arrays arrive."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from convform.adapters import load
from convform.adapters.process.client import (
    Limits,
    Process,
    ProtocolError,
    RaisedElsewhere,
    SubjectTimedOut,
    _unusual,
)
from convform.adapters.process.shared import SHARED_FROM, create
from convform.conformance import check
from convform.conformance.running import judge
from convform.conformance.subjects.hosting import worker

HOMEWORK = """
import os, random, sys, threading, time, warnings
import numpy as np
from convform import reference
from convform.adapters import Adapter

print("while it is imported")
random.random()
hw = Adapter("hw")

@hw.implements("max_pool1d", dtypes=("float64",))
def pool(x, kernel):
    y = reference.max_pool(x, kernel=kernel)[0]
    {deed}
    return y
"""


def homework(folder, deed):
    file = folder / "hw.py"
    file.write_text(HOMEWORK.format(deed=deed), encoding="utf-8")
    return load(str(file))


@pytest.fixture(autouse=True)
def _no_diagnosis(monkeypatch):
    monkeypatch.setattr(judge, "diagnosed", lambda subject, results, seed: list(results))


DEEDS = (
    "pass",
    "print('two'); sys.stderr.write('lines\\n')",
    "np.seterr(all='raise')",
    "np.set_printoptions(precision=2)",
    "os.chdir('/')",
    "warnings.simplefilter('error')",
    "np.random.rand(); random.random()",
    "sys.stdin.read()",
    "threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
    "sys.exit(0)",
)


@pytest.mark.parametrize("deed", DEEDS)
def test_conduct_is_reported_as_in_the_judges_process(tmp_path, deed):
    adapter = homework(tmp_path, deed)
    here, there = check(adapter), check(adapter, isolated=True)
    assert there.verdict == here.verdict
    # (How many calls see a thread depends on how long it takes to end.)
    assert {(r.says, r.operators) for r in there.remarks} == {(r.says, r.operators) for r in here.remarks}
    assert bool(here.remarks) == (deed not in DEEDS[:2])
    assert there.printed.text == here.printed.text
    # What is asked ahead of a violation is asked for nothing, and prints all the same.
    assert here.printed.lines <= there.printed.lines < 1.1 * here.printed.lines + 1


def test_who_prints_much_is_counted_to_the_last_line(tmp_path):
    process = worker(homework(tmp_path, "print('x\\n' * 100_000)"))
    process.call("max_pool1d", {"x": np.ones((1, 1, 2)), "kernel": (1,)})
    printed, remarks = process.take_conduct()
    assert printed.count("\n") == 100_001
    assert remarks == []
    assert process.take_conduct() == ("", [])
    process.close()


DTYPES = {
    "complex64": "violates",
    "complex128": "violates",
    "longdouble": "violates",
    "object": "violates",
    "timedelta64[s]": "broken adapter",
    "S3": "broken adapter",
}


@pytest.mark.parametrize(("dtype", "verdict"), DTYPES.items())
def test_an_unusual_dtype_is_named(tmp_path, dtype, verdict):
    adapter = homework(tmp_path, f"y = np.nan_to_num(y).astype(int).astype({dtype!r})")
    report = check(adapter, isolated=True, level="strict")
    assert report.verdict == verdict == check(adapter, level="strict").verdict
    said = [
        law.violation.says if law.status == "violated" else getattr(law, "reason", None)
        for law in report["max_pool1d"].laws
    ]
    names = {np.dtype(dtype).name, str(np.dtype(dtype))}
    assert any(name in (text or "") for text in said for name in names)


def test_objects_that_are_no_numbers_are_no_answer(tmp_path):
    adapter = homework(tmp_path, "y = np.full(y.shape, 'one', object)")
    report = check(adapter, isolated=True)
    assert report.verdict == "broken adapter"
    assert "y has dtype object, expected numbers" in report["max_pool1d"].laws[0].reason


def test_who_hangs_says_where(tmp_path):
    process = worker(homework(tmp_path, "time.sleep(100)"), limits=Limits(call_seconds=0.5))
    with pytest.raises(SubjectTimedOut) as hung:
        process.call("max_pool1d", {"x": np.ones((1, 1, 2)), "kernel": (1,)})
    assert "hw.py" in hung.value.last_words
    assert "in pool" in hung.value.last_words


LARGE = dedent("""
    from convform.adapters import Adapter
    kept = []
    hw = Adapter("hw")

    @hw.implements("max_pool1d")
    def echo(x, kernel):
        kept.append(x)
        return kept[0] if kernel == (0,) else x
""")


FORGETFUL = LARGE.replace("kept.append(x)", "kept[:] = ()")


def served(folder, text, limits=None):
    """Start the worker of an adapter that is written into a file."""
    file = folder / "hw.py"
    file.write_text(text, encoding="utf-8")
    return worker(load(str(file)), limits=limits)


@pytest.fixture(scope="module", params=[LARGE, FORGETFUL], ids=["keeps", "forgets"])
def echo(request, tmp_path_factory):
    process = served(tmp_path_factory.mktemp("large"), request.param)
    yield lambda x, kernel=1: process.call("max_pool1d", {"x": x, "kernel": (kernel,)})
    process.close()


@pytest.mark.parametrize("size", [SHARED_FROM // 8 - 100, SHARED_FROM // 8, 1 << 20, 1 << 23, (1 << 25) + 1])
def test_large_arrays_come_back_whole(echo, size):
    x = np.arange(float(size)).reshape(1, 1, -1)
    for step in (1, -1):
        np.testing.assert_array_equal(echo(x[..., ::step]), x[..., ::step])


def test_an_answer_that_is_held_is_not_overwritten(echo):
    gc.collect()
    held = [echo(np.full((1, 1, 1 << 18), float(number))) for number in range(4)]
    assert [float(y.mean()) for y in held] == [0, 1, 2, 3]
    part = held[0][0, 0, :3]
    del held
    echo(np.full((1, 1, 1 << 18), 9.0))
    assert part.tolist() == [0, 0, 0]


def test_an_argument_that_comes_back_is_not_kept(tmp_path):
    """Whoever returns what it was given holds it only until the answer is written."""
    process = served(tmp_path, FORGETFUL)
    for number in range(3):
        y = process.call("max_pool1d", {"x": np.full((1, 1, 1 << 18), float(number)), "kernel": (1,)})
        assert np.unique(y).tolist() == [number]
        assert not process._running.request_kept
        del y
    process.close()


def test_an_argument_that_is_kept_is_not_overwritten(tmp_path):
    process = served(tmp_path, LARGE)
    for number in range(3):
        process.call("max_pool1d", {"x": np.full((1, 1, 1 << 18), float(number)), "kernel": (1,)})
        assert process._running.request_kept
    first = process.call("max_pool1d", {"x": np.full((1, 1, 1 << 18), 9.0), "kernel": (0,)})
    assert np.unique(first).tolist() == [0]
    process.close()


HOARDS = """
    import numpy as np
    from convform.adapters import Adapter
    kept = []
    hw = Adapter("hw")

    @hw.implements("max_pool1d")
    def pool(x, kernel):
        kept.append(np.ones({size} << 17))
        return x + len(kept)
"""


@pytest.mark.parametrize(("mebibytes", "answers"), [(64, True), (1024, False)])
def test_memory_that_earlier_calls_have_taken_is_given_back(tmp_path, mebibytes, answers):
    """The limit is that of one call, whatever a library keeps; who needs more for one call fails."""
    process = served(tmp_path, dedent(HOARDS.format(size=mebibytes)), Limits(memory_bytes=1 << 29))
    x = np.zeros((1, 1, 2))
    if answers:
        told = [float(process.call("max_pool1d", {"x": x, "kernel": (1,)}).max()) for _ in range(12)]
        assert told[0] == 1
        assert told.count(1) > 1, "the process was never a fresh one"
    else:
        for _ in range(2):
            with pytest.raises(RaisedElsewhere, match="MemoryError"):
                process.call("max_pool1d", {"x": x, "kernel": (1,)})
    assert process.deaths == 0
    process.close()


def test_nobody_can_cut_shared_memory_off():
    memory = create(1 << 16)
    if memory is None:
        pytest.skip("no shared memory of that kind here")
    for size in (0, 1 << 20):
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(memory.descriptor, size)
    os.close(memory.descriptor)


NONSENSE = ("nonsense", "[]", '{"y": "float128x"}', '{"z": "object"}', '{"y": "complex128"}')


@pytest.mark.parametrize("text", NONSENSE)
def test_dtypes_that_do_not_fit_are_no_answer(text):
    with pytest.raises(ProtocolError, match="'dtypes'"):
        _unusual({"dtypes": text}, {"y": np.zeros((2, 3), np.uint8)})


def test_large_frames_of_programs_go_through_the_pipe(tmp_path):
    faults = Path(__file__).parent / "subjects" / "faults.py"
    process = Process([sys.executable, "-I", "-S", str(faults), "exits", "9"])
    process.call("max_pool1d", {"x": np.ones((1, 1, 1 << 20))})
    assert process._running.shared is None
    process.close()

"""Subjects that misbehave: the run goes on, everything is put back, and the report says what happened."""

from __future__ import annotations

import json
import os
import random
import runpy
import subprocess
import sys
import threading
import time
import warnings
from textwrap import dedent

import numpy as np
import pytest

from convform import reference
from convform.adapters import Adapter
from convform.adapters.process.guard import Guarded, quiet, subject_traceback, watching
from convform.conformance import check
from convform.conformance.running import judge


@pytest.fixture(autouse=True)
def _no_diagnosis(monkeypatch):
    monkeypatch.setattr(judge, "diagnosed", lambda subject, results, seed: list(results))


def judged(deed, **options):
    """Judge a right max pooling that does something else as well."""
    adapter = Adapter("homework")

    @adapter.implements("max_pool1d")
    def pool(x, kernel):
        deed()
        return reference.max_pool(x, kernel)[0]

    return check(adapter, **options)


def remarks(report):
    return [remark.says for remark in report.remarks]


def everything():
    """The settings that no subject may change for others."""
    return (
        np.geterr(),
        np.get_printoptions(),
        os.getcwd(),
        list(warnings.filters),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    )


DEEDS = {
    "error state": (lambda: np.seterr(all="raise"), "NumPy's error state"),
    "print options": (lambda: np.set_printoptions(precision=2), "NumPy's print options"),
    "working directory": (lambda: os.chdir("/"), "working directory"),
    "warnings filters": (lambda: warnings.simplefilter("error"), "warnings filters"),
    "replaced warnings filters": (lambda: setattr(warnings, "filters", []), "warnings filters"),
    "random state": (lambda: np.random.seed(3), "NumPy's global random state"),  # noqa: NPY002
    "random state of Python": (random.random, "Python's global random state"),
    "standard input": (lambda: sys.stdin.read(), "standard input"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_change_is_put_back_and_told(deed):
    act, told = DEEDS[deed]
    before = everything()
    report = judged(act)
    assert everything() == before
    assert report.verdict == "conforms"
    (said,) = remarks(report)
    assert told in said
    assert told in str(report)


def test_a_quiet_subject_is_not_mentioned():
    report = judged(lambda: None)
    assert (report.remarks, report.printed.lines) == ((), 0)
    assert "Besides" not in str(report)
    assert "Printed" not in str(report)


def test_remarks_name_operators_and_count_calls():
    (remark,) = judged(lambda: os.chdir("/")).remarks
    assert remark.operators == ("max_pool1d",)
    assert remark.calls > 10


def test_prints_are_caught_counted_and_cut(capsys):
    def deed():
        print("standard output " * 5)
        print("standard error", file=sys.stderr)
        sys.stdout.buffer.write(b"bytes\n")

    report = judged(deed)
    assert capsys.readouterr() == ("", "")
    assert report.verdict == "conforms"
    assert report.printed.lines > 100
    assert len(report.printed.text) <= 2000
    for text in ("standard output", "standard error", "bytes"):
        assert text in report.printed.text
    assert str(report).count("standard output ") <= 25


def test_closing_or_replacing_standard_output_harms_nobody(capsys):
    def deed():
        print("last words")
        sys.stdout.close()
        sys.stdin.close()
        sys.stdout = None

    assert judged(deed).verdict == "conforms"
    print("still here")
    assert capsys.readouterr().out == "still here\n"


def _as_python_does(message, category, filename, lineno, file=None, line=None):
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def test_warnings_of_a_subject_are_part_of_what_it_prints():
    def deed():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _as_python_does  # pytest collects them instead
            warnings.warn("overflow", stacklevel=1)

    assert "overflow" in judged(deed).printed.text


@pytest.mark.parametrize("ask", [lambda: input("how many? "), lambda: os.read(0, 1) or 1 / 0])
def test_nobody_answers_a_subject_that_asks(ask):
    """Reading ends at once instead of waiting for a person."""
    seen = []

    def deed():
        try:
            ask()
        except (EOFError, ZeroDivisionError) as error:
            seen.append(type(error))

    assert judged(deed).verdict == "conforms"
    assert seen


def test_input_that_nobody_gives_is_the_subjects_error():
    report = judged(lambda: input("how many? "))
    assert report.verdict == "broken adapter"
    assert "EOFError" in str(report)


@pytest.mark.parametrize(
    "end", [SystemExit(0), SystemExit("bye"), GeneratorExit(), pytest.fail.Exception("x")]
)
def test_a_subject_cannot_end_the_run(end):
    calls = []

    def deed():
        calls.append(0)
        if len(calls) > 10:
            raise end

    report = judged(deed)
    assert report.verdict == "violates"
    assert ("tried to end the program (SystemExit)" in remarks(report)) == isinstance(end, SystemExit)


def test_interruption_is_not_swallowed():
    def deed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(deed)


def test_threads_that_are_left_running_are_told():
    stop = threading.Event()
    report = judged(lambda: threading.Thread(target=stop.wait, daemon=True).start())
    stop.set()
    assert report.verdict == "conforms"
    assert remarks(report) == ["left threads running"]


def test_open_figures_are_closed(monkeypatch):
    """A stand-in for matplotlib, which keeps its open figures in one table."""
    figures = {}

    class Helpers:
        class Gcf:
            figs = figures

    class Pyplot:
        get_fignums = staticmethod(lambda: sorted(figures))
        close = staticmethod(figures.pop)

    monkeypatch.setitem(sys.modules, "matplotlib._pylab_helpers", Helpers)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", Pyplot)
    figures[1] = "the caller's own"
    report = judged(lambda: figures.update({2: "left open"}))
    assert figures == {1: "the caller's own"}
    assert remarks(report) == ["left figures open (closed)"]


def test_same_verdict_for_a_subject_that_draws_random_numbers():
    adapter = Adapter("dropout")

    @adapter.implements("im2col1d")
    def columns(x, kernel):
        return reference.im2col(x, kernel) + (np.random.rand() < 0.02)  # noqa: NPY002

    def found():
        return [(law.law, law.status, law.cases) for law in check(adapter)["im2col1d"].laws]

    np.random.seed()  # noqa: NPY002
    first = found()
    np.random.seed()  # noqa: NPY002
    assert found() == first
    assert any(status == "violated" for _, status, _ in first)


def helper(x):
    raise ValueError("one at a time")


def raising():
    adapter = Adapter("raising")

    @adapter.implements("im2col1d")
    def columns(x, kernel):
        if len(x) > 1:
            helper(x)
        return reference.im2col(x, kernel)

    return check(adapter)


def test_an_exception_is_shown_with_the_frames_of_the_subject():
    report = raising()
    shown = next(law.violation.traceback for law in report["im2col1d"].violated() if law.law == "batch")
    lines = shown.splitlines()
    assert lines[-1] == "ValueError: one at a time"
    assert [line.rpartition(" ")[2] for line in lines if line.startswith("  File")] == ["columns", "helper"]
    assert "conformance" not in shown.replace("test_conformance", "")
    assert "raise ValueError" in str(report)
    laws = json.loads(report.dumps())["operators"]["im2col1d"]["laws"]
    assert shown in [law["counterexample"]["traceback"] for law in laws if law["counterexample"]]


def test_frames_of_libraries_stand_only_where_there_are_no_others(tmp_path):
    # This file may be installed among the libraries; the subject's is not.
    homework = tmp_path / "homework.py"
    homework.write_text("import numpy as np\nnp.linalg.inv(np.zeros((2, 2)))\n", encoding="utf-8")
    with pytest.raises(np.linalg.LinAlgError) as caught:
        runpy.run_path(str(homework))
    text = subject_traceback(caught.value)
    assert "np.linalg.inv" in text
    assert "site-packages" not in text
    last = caught.value.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    library_alone = caught.value.with_traceback(last)
    assert "_linalg" in subject_traceback(library_alone)


def test_long_tracebacks_are_cut():
    def deep(n):
        if n == 0:
            raise ValueError("line\n" * 1000 + "x" * 5000)
        deep(n - 1)

    with pytest.raises(ValueError, match="line") as caught:
        deep(500)
    text = subject_traceback(caught.value)
    assert len(text.splitlines()) < 30
    assert max(map(len, text.splitlines())) < 400


def test_wrong_shapes_have_no_traceback():
    adapter = Adapter("short")
    adapter.implements("im2col1d")(lambda x, kernel: reference.im2col(x, kernel)[..., 1:])
    assert all(law.violation.traceback is None for law in check(adapter)["im2col1d"].violated())


def test_the_guard_is_cheap():
    def nothing():
        with Guarded("conv2d"):
            pass

    with watching():
        best = min(_seconds(nothing) for _ in range(5))
    print(f"{best * 1e6:.1f} µs for a guarded call")
    assert best < 60e-6  # 5 µs on a quiet machine


def _seconds(call, times=2000):
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def test_an_import_is_quiet_and_keeps_its_settings():
    with quiet() as conduct:
        print("hello")
        with pytest.raises(EOFError):
            input()
    assert conduct.printed.lines == 1


# ------------------------------------------------------------------------------------------- a real process


def convform(tmp_path, body, *options, stdin=None):
    file = tmp_path / "hw.py"
    head = """
    import sys, threading, time
    from convform.tests import plain as reference
    from convform.adapters import Adapter
    hw = Adapter("hw")
    """
    file.write_text(dedent(head) + dedent(body))
    command = [sys.executable, "-m", "convform.conformance.doors.cli", "check", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, stdin=stdin)


def test_threads_that_never_end_do_not_keep_the_program(tmp_path):
    run = convform(
        tmp_path,
        """
        started = []
        @hw.implements("im2col1d")
        def columns(x, kernel):
            if not started:
                started.append(threading.Thread(target=time.sleep, args=(1000,)))
                started[0].start()
            return reference.im2col(x, kernel)
        """,
    )
    assert run.returncode == 0, run.stderr
    assert "left threads running" in run.stdout
    assert "conforms at level core" in run.stdout


def test_a_file_that_prints_and_asks_while_it_is_imported(tmp_path):
    """Standard input stays open at the other end: whoever waits for it waits for ever."""
    read, write = os.pipe()
    run = convform(tmp_path, "print('welcome')\nname = input('name? ')\n", stdin=read)
    os.close(read)
    os.close(write)
    assert run.returncode == 2
    assert "EOFError" in run.stderr
    assert "welcome" not in run.stdout

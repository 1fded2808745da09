"""The pytest door: one item for each law, with the outcomes that pytest people expect."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

import pytest

HEAD = """
    import numpy as np
    from convform.tests import plain as reference
    from convform.adapters import Adapter
    hw = Adapter("hw")
"""
HONEST = """
    @hw.implements("conv1d")
    def conv(x, w):
        return reference.conv(x, w)
"""


@pytest.fixture
def suite(tmp_path):
    """Write a homework and run the suite on it; return the exit code and the output."""

    def run(body, *options, head=HEAD, target="hw.py"):
        (tmp_path / "hw.py").write_text(dedent(head) + dedent(body), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--import-mode=importlib"]
        command += ["-rA", "--color=no", "--pyargs", "convform.conformance"]
        command += ["--adapter", target] if target else []
        done = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "COLUMNS": "200"},
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_honest_file_passes_law_by_law_and_skips_with_reasons(suite):
    code, output = suite(HONEST, "-k", "smoke or values or stride")
    assert code == 0, output
    assert "PASSED" in output
    assert "test_law[hw-conv1d-smoke]" in output
    assert "test_law[hw-conv1d-values]" in output
    assert "not claimed: the wrapper takes no stride" in output
    assert "FAILED" not in output


def test_violation_fails_with_the_smallest_case_drawn(suite):
    code, output = suite(
        """
        @hw.implements("im2col1d")
        def gather(x, kernel):
            return reference.im2col(x[:, :, ::-1], kernel)
        """,
        "-k",
        "values or smoke",
    )
    assert code == 1, output
    assert "FAILED" in output
    assert "IM2COL-1" in output
    assert "expected" in output
    assert "Reproduce" in output
    assert "load('hw.py')" in output
    assert "running/trial.py" not in output, "the judge's own frames are of no interest"


UPCASTS = """
    @hw.implements("conv1d")
    def conv(x, w):
        return reference.conv(x, w).astype(np.float64)
"""


def test_strict_violation_is_an_expected_failure_at_core_and_a_failure_at_strict(suite):
    code, output = suite(UPCASTS, "-k", "dtype")
    assert code == 0, output
    assert "XFAIL" in output
    assert "does not decide at level core: CONTRACT-5" in output
    code, output = suite(UPCASTS, "-k", "dtype", "--convform-level", "strict")
    assert code == 1, output


ACCEPTS = "--convform-accept-known-limits"


def test_known_limit_is_an_expected_failure(suite):
    limit = """
    hw.known_limit("conv1d", "CONTRACT-5", reason="always double", link="https://example.org/1")
    """
    options = "-k", "dtype", "--convform-level", "strict"
    code, output = suite(UPCASTS + limit, *options, ACCEPTS)
    assert code == 0, output
    assert "known limit: always double https://example.org/1" in output
    code, output = suite(UPCASTS + limit, *options)
    assert code == 1, "a file's own limits excuse nothing unless somebody says so"


STRIDE_MIRRORS = """
    @hw.implements("conv1d")
    def conv(x, w, stride):
        return reference.conv(x, w if stride == (1,) else w[:, :, ::-1], stride=stride)
    hw.known_limit("conv1d", "CONV-1", reason="mirrors for strides", link="https://example.org/1")
"""


def test_known_limit_of_a_clause_covers_laws_of_it_that_hold(suite):
    """As for the command: it shows as long as any law of the clause is violated."""
    code, output = suite(STRIDE_MIRRORS, "-k", "values or together", ACCEPTS)
    assert code == 0, output
    assert "known limit: mirrors for strides" in output
    assert "PASSED" in output


def test_known_limit_that_no_longer_shows_fails_at_any_level(suite):
    limit = 'hw.known_limit("conv1d", "CONTRACT-5", reason="always double", link="https://example.org/1")'
    code, output = suite(HONEST + f"    {limit}", "-k", "dtype", ACCEPTS)
    assert code == 1, output
    assert "the known limit CONTRACT-5 no longer shows" in output


def test_known_limit_of_no_law_ends_the_run(suite):
    limit = 'hw.known_limit("conv1d", "CONV-66", reason="none", link="https://example.org/1")'
    code, output = suite(HONEST + f"    {limit}", ACCEPTS)
    assert code == 2, output
    assert "no law of it is called 'CONV-66'" in output


def test_broken_adapter_fails_once_and_skips_the_rest(suite):
    code, output = suite(
        """
        @hw.implements("conv1d")
        def conv(x, w):
            raise NotImplementedError
        """
    )
    assert code == 1, output
    assert "1 failed" in output
    assert "NotImplementedError" in output
    assert "broken adapter" in output
    assert "passed" not in output.splitlines()[-1]


def test_without_an_adapter_one_skipped_item_says_what_to_type(suite):
    code, output = suite(HONEST, target=None)
    assert code == 0, output
    assert "1 skipped" in output
    assert "--adapter NAME_OR_FILE" in output


@pytest.mark.parametrize(
    ("head", "code", "word"),
    [
        ("def broken(:", 2, "syntax error"),
        ("import a_backend_nobody_has", 3, "a_backend_nobody_has"),
        ("", 2, "no adapter"),
        (HEAD, 2, "no operator"),
    ],
)
def test_target_that_cannot_be_judged_ends_the_run(suite, head, code, word):
    found, output = suite("", head=head)
    assert found == code, output
    assert word in output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output


def test_missing_device_ends_like_a_missing_backend(suite):
    head = HEAD.replace('"hw"', '"hw", available=lambda: "no such card"')
    _, output = suite(HONEST, "-k", "values", head=head)
    assert "no such card" in output
    assert "passed" not in output.splitlines()[-1]


def test_a_file_with_two_adapters_has_the_items_of_both(suite):
    body = (
        HONEST
        + """
    other = Adapter("second")
    @other.implements("im2col1d")
    def gather(x, kernel):
        return np.zeros((1, 1, 1))
    """
    )
    code, output = suite(body, "-k", "values")
    assert code == 1, output
    assert "PASSED" in output
    assert "test_law[second-im2col1d-values]" in output
    assert "load('hw.py:second')" in output


def test_a_homework_without_an_adapter_is_judged_as_by_the_command(suite):
    """One is inferred; what reproduces a violation names the file in which it would be kept."""
    head = """
    import numpy as np
    def conv1d(x, w):
        k = w.shape[2]
        wide = np.stack([x[:, :, i : i + k] for i in range(x.shape[2] - k + 1)], axis=2)
        return np.einsum("nclk,ock->nol", wide, w) + (x.shape[0] > 2)
    """
    code, output = suite("", "-k", "smoke or batch", head=head)
    assert code == 1, output
    assert "test_law[hw-conv1d-smoke]" in output
    assert "load('hw_adapter.py')" in output


def test_installed_adapters_are_judged_by_name(suite):
    code, output = suite("", "-k", "im2col1d and (smoke or sweep)", target="reference")
    assert code == 0, output
    assert "test_law[reference-im2col1d-sweep]" in output


def test_the_plugin_leaves_other_test_runs_alone(tmp_path):
    """It is loaded into every pytest run of the environment: it must be small and silent."""
    (tmp_path / "test_mine.py").write_text(
        "import sys\ndef test_mine():\n    assert 'convform.conformance.running.judge' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout

"""Global settings that change arithmetic are recorded, and the exact lane says when one is on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from convform import reference
from convform.adapters import Adapter, AdapterError, Switch
from convform.conformance.doors.python import check


def adapter_with(switches):
    adapter = Adapter("mine", columns="n (c kh kw) (oh ow)", switches=switches)
    adapter.implements("im2col")(lambda x, kernel: reference.im2col(x, kernel))
    return adapter


def test_switches_are_recorded_as_data_and_in_one_line():
    report = check(adapter_with(lambda: [Switch("threads", 4), Switch("MODE", None)]))
    assert json.loads(report.dumps())["switches"] == [
        {"name": "threads", "value": 4, "breaks": None},
        {"name": "MODE", "value": None, "breaks": None},
    ]
    assert "  threads 4 · MODE unset\n" in str(report)
    assert "exact lane asks" not in str(report)


def test_the_exact_lane_says_which_switch_breaks_it():
    report = check(adapter_with(lambda: [Switch("MODE", "BF16", "factors are rounded to bfloat16")]))
    said = " ".join(str(report).split())
    assert (
        "The exact lane asks for sums that are equal, and MODE is BF16: factors are rounded to bfloat16."
        in said
    )


def test_an_adapter_need_not_have_any():
    report = check(adapter_with(None))
    assert report.switches == ()
    assert json.loads(report.dumps())["switches"] == []


def test_switches_that_cannot_be_read_are_the_adapters_mistake():
    with pytest.raises(AdapterError, match="its switches cannot be read: ZeroDivisionError"):
        check(adapter_with(lambda: 1 / 0))


READ = """
import json, torch
{before}
from convform.adapters.backends.torch import adapter
print(json.dumps({{s.name: [s.value, bool(s.breaks)] for s in adapter.switches()}}))
"""


@pytest.mark.parametrize(
    ("environment", "before", "name", "value", "breaks"),
    [
        ({}, "", "ONEDNN_DEFAULT_FPMATH_MODE", None, False),
        ({"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}, "", "ONEDNN_DEFAULT_FPMATH_MODE", "BF16", True),
        ({"ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"}, "", "ONEDNN_DEFAULT_FPMATH_MODE", "STRICT", False),
        (
            {},
            "torch.backends.mkldnn.conv.fp32_precision = 'bf16'",
            "torch.backends.mkldnn.conv.fp32_precision",
            "bf16",
            True,
        ),
        ({}, "torch._C._set_mkldnn_enabled(False)", "torch.backends.mkldnn.enabled", False, True),
        ({"OMP_NUM_THREADS": "2"}, "", "threads", 2, False),
        ({}, "", "threads", 1, False),
        ({}, "torch.use_deterministic_algorithms(True)", "deterministic algorithms", True, False),
    ],
)
def test_the_switches_of_torch(environment, before, name, value, breaks):
    pytest.importorskip("torch")
    known = ("ONEDNN_DEFAULT_FPMATH_MODE", "OMP_NUM_THREADS")
    clean = {key: text for key, text in os.environ.items() if key not in known}
    done = subprocess.run(
        [sys.executable, "-c", READ.format(before=before)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)[name] == [value, breaks]

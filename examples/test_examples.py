"""Every example gets the verdict it deserves, and the defective ones for the right reason."""

from __future__ import annotations

from importlib.resources import files

import pytest

from convform.adapters import find
from convform.conformance import check

PLUGGED = "plugged into convform"
LONGEST_ADAPTER = 10

# file: operators that violate at level core, and the first clause that says so
DESERVED = {
    "lab_conv.py": {},
    "channels_last.py": {},
    "lab_pool.py": {"max_pool2d": "MAXPOOL-2", "max_pool2d.backward": "MAXPOOL-2"},
    "lab_grad.py": {"conv2d.backward": "WINDOW-2"},
    "shape_01_first_lab.py": {},
    "shape_02_lab_ladder.py": {},
    "shape_03_ladder_pool.py": {"max_pool2d": "POOL-1"},
    "shape_04_notebook_layer.py": {"col2im": "COL2IM-1", "conv2d.backward": "CONVGRAD-1"},
    "shape_05_parameter_boxes.py": {"max_pool2d.backward": "MAXPOOL-6"},
    "shape_06_channels_last_functions.py": {"conv2d": "CONV-2"},
    "shape_07_external_cache.py": {},
    "shape_08_injected_arrays.py": {"conv2d.backward": "CONVGRAD-2"},
    "shape_09_initialiser_functions.py": {},
    "shape_10_autograd_tensors.py": {"conv2d.backward": "CONVGRAD-1"},
    "shape_11_parameter_dicts.py": {},
    "shape_12_one_sample.py": {"conv2d.backward": "CONVGRAD-1"},
    "shape_13_fused_relu.py": {},
    "shape_14_optimizer_callback.py": {"conv2d": "WINDOW-8", "conv2d.backward": "WINDOW-8"},
    "shape_15_six_scalars.py": {"col2im": "WINDOW-4"},
    "shape_16_flipped_weights.py": {},
    "shape_17_string_padding.py": {},
    "shape_18_array_api.py": {},
}
# What some of them do not do: laws that must be reported as not claimed, by the layouts and parameters alone.
NOT_CLAIMED = {
    "shape_01_first_lab.py": {"im2col": {"channels", "batch", "stride", "padding"}},
    "shape_12_one_sample.py": {"conv2d": {"batch", "padding", "bias"}},
    "shape_17_string_padding.py": {"conv2d": {"padding", "asymmetric_padding", "bias"}},
}


def sources():
    """All example files, by name."""
    entries = (entry for entry in files("convform.examples").iterdir() if entry.name.endswith(".py"))
    return {entry.name: entry for entry in entries if entry.name not in ("__init__.py", "test_examples.py")}


def test_every_example_is_judged():
    assert set(sources()) == set(DESERVED)


def test_every_shape_has_its_example():
    numbers = [name.split("_")[1] for name in DESERVED if name.startswith("shape_")]
    assert numbers == [f"{number:02}" for number in range(1, 19)]


@pytest.mark.parametrize("name", [name for name in DESERVED if name.startswith("shape_")])
def test_an_adapter_is_short(name):
    """At most ten lines each: neither imports nor the subject's own code are counted."""
    _, plugged = sources()[name].read_text(encoding="utf-8").split(PLUGGED)
    lines = [line for line in plugged.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= LONGEST_ADAPTER * len(find(str(sources()[name])))


@pytest.mark.parametrize("name", DESERVED)
def test_example_gets_the_verdict_it_deserves(name):
    found = {}
    for adapter in find(str(sources()[name])):
        report = check(adapter)
        violated = {operator.name: operator.violated("core") for operator in report.operators}
        found |= {operator: laws[0].clauses[0] for operator, laws in violated.items() if laws}
        assert report.verdict == ("violates" if any(violated.values()) else "conforms")
        for operator, laws in NOT_CLAIMED.get(name, {}).items():
            assert laws <= {law.law for law in report[operator].laws if law.status == "not-claimed"}
    assert found == DESERVED[name]

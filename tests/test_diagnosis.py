"""The diagnosis names the cause, or says nothing: measured on misreadings planted into a homework."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.adapters import Adapter, find
from convform.conformance import check
from convform.conformance.teeth.planted import (
    EQUIVALENT,
    NAMED,
    UNSEEN,
    WRONG,
    plant_all,
    plant_pairs,
    summary,
)
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.tests import villains

PAIRS = 200


def figures(plants):
    """(share of right causes, share of wrong ones) among what some law saw."""
    seen = [plant for plant in plants if plant.outcome != UNSEEN]
    right = sum(plant.outcome in (NAMED, EQUIVALENT) for plant in seen)
    wrong = sum(plant.outcome == WRONG for plant in seen)
    return right / len(seen), wrong / len(seen)


def test_misreadings_planted_alone_are_named():
    plants = list(plant_all())
    print(summary(plants, "alone"))
    right, wrong = figures(plants)
    assert right >= 0.95
    assert wrong < 0.02
    assert sum(plant.outcome == UNSEEN for plant in plants) <= 0.03 * len(plants)


def test_misreadings_planted_in_pairs_are_named():
    plants = [plant for seed in range(4) for plant in plant_pairs(PAIRS // 4, seed)]
    print(summary(plants, "pairs"))
    right, wrong = figures(plants)
    assert right >= 0.80
    assert wrong < 0.02


def findings(adapter, law=None):
    report = check(adapter, level="strict")
    results = [result for operator in report.operators for result in operator.violated()]
    return next(result.findings for result in results if law in (None, result.law))


def example(name):
    from importlib.resources import files

    (adapter,) = find(str(files("convform.examples") / name))
    return adapter


def test_zero_padding_of_max_pooling_is_named():
    (first, *_) = findings(example("lab_pool.py")).diagnoses
    assert first.misreadings == ("padding counts as zero",)
    assert first.explains[0] == first.explains[1] >= 40
    assert "padding" in first.says


@pytest.mark.parametrize("name", ["nan_everywhere", "always_zero", "one_row_short"])
def test_no_cause_is_made_up(name):
    found = findings(villains.conv_villain(getattr(villains, name)))
    assert not found.diagnoses
    assert found.condition is not None or found.remark == "no single cause explains these answers"


def test_random_answers_have_no_cause():
    rng = np.random.default_rng(0)

    def conv(x, w, b, stride, padding):
        """Answers at random."""
        y = reference.conv(x, w, b, stride=stride, padding=padding)
        return rng.integers(-5, 5, y.shape).astype(y.dtype)

    found = findings(villains.conv_villain(conv))
    assert not found.diagnoses
    assert found.remark.startswith("not deterministic: two calls with the same")


def test_condition_separates_what_no_misreading_explains():
    adapter = Adapter("odd")

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding):
        y = reference.conv(x, w, stride=stride, padding=padding)
        return y + (x.shape[2] != x.shape[3])

    found = findings(adapter)
    assert not found.diagnoses
    assert found.condition.condition == "H ≠ W"
    assert found.condition.fails[0] == found.condition.fails[1] > 3
    assert found.condition.passes[0] == found.condition.passes[1] > 3


def test_findings_are_in_the_json_report():
    data = check(example("lab_pool.py")).to_json()
    law = next(law for law in data["operators"]["max_pool2d"]["laws"] if law["law"] == "padding")
    (diagnosis,) = law["diagnosis"][:1]
    assert set(diagnosis) == {"misreading", "clause", "explains", "says"}
    assert diagnosis["clause"] == "MAXPOOL-2"


def test_every_misreading_says_what_and_where():
    for misreading in MISREADINGS.values():
        assert misreading.says
        assert misreading.look.rstrip().endswith((".", "?", ")"))

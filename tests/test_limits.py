"""A known limit excuses what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convform import reference
from convform.adapters import Adapter, AdapterError, load
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import Axis, Channels, Geometry
from convform.conformance.diagnosis.condition import WORDS, holds, parsed
from convform.conformance.doors.python import check
from convform.conformance.laws.violation import KINDS
from convform.conformance.running.preparing import selected_operators
from convform.spec.operators import OPERATORS

LAW = "sweep"
WHY: dict[str, Any] = {"reason": "It is so.", "link": "https://example.org/1"}


def conv(fault: Callable[..., Any]) -> Adapter:
    """A convolution along one axis whose answer goes through `fault(y, x, stride)`."""
    adapter = Adapter("faulty", dtypes=("float64", "float32"))

    @adapter.implements("conv1d")
    def forward(x: Any, w: Any, stride: Any, padding: Any) -> Any:
        return fault(reference.conv(x, w, stride=stride, padding=padding), x, stride[0])

    return adapter


def judged(adapter: Adapter) -> Any:
    """What the sweep over small geometries comes to."""
    report = check(adapter, operators=["conv1d"])
    return next(law for law in report["conv1d"].laws if law.law == LAW)


def wrong_for_strides(y: Any, x: Any, stride: int) -> Any:
    return y + 1 if stride > 1 else y


def raises_for_strides(y: Any, x: Any, stride: int) -> Any:
    if stride > 1:
        raise ValueError("no strides")
    return y


def wrong_in_float32_with_strides(y: Any, x: Any, stride: int) -> Any:
    return y + 1 if stride > 1 and x.dtype == "float32" else y


@pytest.mark.parametrize(
    ("fault", "limit", "status"),
    [
        (wrong_for_strides, {}, "known"),
        (wrong_for_strides, {"when": "stride > 1", "shows": "values"}, "known"),
        (wrong_for_strides, {"when": "there is padding"}, "violated"),
        (wrong_for_strides, {"shows": "raises"}, "violated"),
        (raises_for_strides, {"shows": "raises"}, "known"),
        (raises_for_strides, {"shows": "values"}, "violated"),
        (wrong_in_float32_with_strides, {"dtypes": "float32", "when": "stride > 1"}, "known"),
        (wrong_for_strides, {"dtypes": "float32", "when": "stride > 1"}, "violated"),
        (wrong_for_strides, {"ranks": (1,)}, "known"),
    ],
)
def test_a_limit_excuses_what_fits_all_that_it_says(fault, limit, status):
    adapter = conv(fault)
    adapter.known_limit("conv?d", f"{LAW} WINDOW-2", **WHY, **limit)
    assert judged(adapter).status == status


def wrong_in_two_ways(y: Any, x: Any, stride: int) -> Any:
    return y + 1 if stride > 1 or x.shape[1] > 1 else y


def wrong_or_raising(y: Any, x: Any, stride: int) -> Any:
    if x.shape[1] > 1:
        raise ValueError("one channel only")
    return wrong_for_strides(y, x, stride)


@pytest.mark.parametrize(
    ("fault", "limit"),
    [(wrong_in_two_ways, {"when": "stride > 1"}), (wrong_or_raising, {"shows": "values"})],
)
def test_what_a_limit_excuses_hides_nothing_else(fault, limit):
    adapter = conv(fault)
    adapter.known_limit("conv1d", LAW, **WHY, **limit)
    law = judged(adapter)
    assert law.status == "violated"
    assert law.violation.case.sizes["c"] > 1  # shrinking has not walked to what is excused


def test_a_limit_whose_case_is_not_the_smallest_still_shows():
    adapter = conv(wrong_in_two_ways)
    for when in ("stride > 1", "C > 1"):
        adapter.known_limit("conv1d", f"{LAW} stride channels together", when=when, **WHY)
    report = check(adapter)
    assert {law.status for law in report["conv1d"].laws if law.law in (LAW, "stride", "channels")} == {
        "known"
    }


def _list_and_select(adapter: Adapter, operators: str, breaks: str, **more: Any) -> None:
    adapter.known_limit(operators, breaks, **WHY, **more)
    selected_operators(adapter, None)


@pytest.mark.parametrize(
    ("operators", "breaks", "more", "says", "hint"),
    [
        ("conv2d conv", "CONV-6", {}, "there is no operator 'conv'", "did you mean"),
        ("conv1d", "CONV-6", {"dtypes": "float61"}, "there is no dtype 'float61'", "float16"),
        ("conv1d", "CONV-6", {"ranks": (4,)}, "ranks=\\(4,\\)", None),
        ("conv1d", "CONV-6", {"shows": "rises"}, "shows='rises'", "raises"),
        ("conv1d", " ", {}, "breaks=' '", None),
        ("conv1d col2im*", "CONV-6", {}, "no operator that is implemented fits 'col2im\\*'", None),
        ("conv1d", "CONV-6 CONV-66", {}, "no law of it is called 'CONV-66'", "CONV-6"),
        ("conv1d", "CONV-6", {"when": "stride > 2"}, "'stride > 2' is no condition", "stride > 1"),
        ("conv1d", "CONV-6", {"when": "stride > 1 and so on"}, "'so on' is no condition", None),
    ],
)
def test_a_limit_that_could_never_show_is_a_slip(operators, breaks, more, says, hint):
    adapter = conv(wrong_for_strides)
    with pytest.raises(AdapterError, match=says) as caught:
        _list_and_select(adapter, operators, breaks, **more)
    assert hint is None or (caught.value.hint and hint in caught.value.hint)


def test_every_word_of_the_vocabulary_can_be_read_and_joined():
    words = list(WORDS)
    for one, other in zip(words, words[1:] + words[:1], strict=True):
        condition = f"{one} and not ({other}), or {other}"
        assert parsed(condition) == (((WORDS[one], True), (WORDS[other], False)), ((WORDS[other], True),))


def test_a_condition_is_judged_on_a_case():
    row = OPERATORS["conv2d"]
    case = build(
        row, Geometry((Axis(5, 3, 1, 0, 0, 1), Axis(4, 3, 3, 0, 0, 1)), Channels(2, 1, 1), "float32")
    )
    assert holds("the output has one column and the last stride > 1", case)
    assert holds("dilation > 1, or stride > 1 and not (there is padding)", case)
    assert not holds("a stride exceeds the kernel", case)


def test_the_kinds_of_answer_have_one_name():
    from convform.adapters.limits import SHOWS

    assert SHOWS == KINDS


@pytest.mark.parametrize("name", ["torch", "torch-channels-last"])
def test_the_limits_of_a_backend_could_all_show(name):
    pytest.importorskip("torch")
    target = {"torch": "torch", "torch-channels-last": "convform.adapters.backends.torch:channels_last"}[name]
    adapter = load(target)
    assert selected_operators(adapter, None)
    assert all(limit.link.startswith("https://") for limit in adapter.known_limits)

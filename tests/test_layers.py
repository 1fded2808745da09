"""Layers: paths into state, and the two operators that one description plugs in."""

from __future__ import annotations

import types

import numpy as np
import pytest

from convform.adapters import Adapter, AdapterError, Layer
from convform.adapters.layers import fetch, place, put


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("W", [("attribute", "W")]),
        ("W.data", [("attribute", "W"), ("attribute", "data")]),
        ("params['W']", [("attribute", "params"), ("item", "W")]),
        (
            'conv.params["W"].data',
            [("attribute", "conv"), ("attribute", "params"), ("item", "W"), ("attribute", "data")],
        ),
        ("boxes[0].grad", [("attribute", "boxes"), ("item", 0), ("attribute", "grad")]),
    ],
)
def test_a_path_is_attributes_and_items(path, steps):
    assert list(place(path)) == steps


@pytest.mark.parametrize("path", ["", ".W", "W.", "W..data", "['W']", "W data", "W[x]", "W.data()", None])
def test_anything_else_is_no_path(path):
    with pytest.raises(AdapterError, match="expected names and items"):
        place(path)


def test_what_is_put_is_fetched():
    holder = types.SimpleNamespace(conv=types.SimpleNamespace(params={"W": 1}), boxes=[0])
    for path in ("conv.params['W']", "conv.params['new']", "conv.b", "boxes[0]"):
        put(holder, path, 7)
        assert fetch(holder, path) == 7


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("weights.data", "path 'weights.data': SimpleNamespace has no 'weights'"),
        ("params['w']", "path \"params['w']\": dict has no ['w']"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(path, message):
    with pytest.raises(AdapterError) as caught:
        fetch(types.SimpleNamespace(params={"W": 1}), path)
    assert caught.value.message == message
    assert caught.value.hint in ("it has params", "it has W")


class Scale:
    """Not a convolution: what matters is what is called, and when."""

    def __init__(self, stride):
        self.box = types.SimpleNamespace(data=None, grad=None)
        self.stride = stride

    def forward(self, x):
        self.x = x
        return x * self.box.data * self.stride

    def backward(self, dy):
        self.box.grad = dy * self.x
        return dy * self.box.data


def plugged(**options):
    adapter = Adapter("scale")
    Layer(lambda stride: Scale(stride), weight="box.data", dw="box.grad", **options).plug_into(
        adapter, "conv2d", stride="scalar"
    )
    return adapter


def test_a_layer_plugs_in_its_operator_and_the_gradient():
    adapter = plugged()
    assert list(adapter.implementations) == ["conv2d", "conv2d.backward"]
    assert adapter.implementations["conv2d"].takes == {"x", "w", "stride"}
    assert adapter.implementations["conv2d.backward"].takes == {"x", "w", "dy", "stride"}
    assert adapter["conv2d"](x=np.array(2.0), w=np.array(3.0), stride=5) == 30
    returned = adapter["conv2d.backward"](x=np.array(2.0), w=np.array(3.0), dy=np.array(7.0), stride=5)
    assert returned == {"dx": 21, "dw": 14}


def test_a_layer_without_backward_is_forward_only():
    assert list(plugged(backward=None).implementations) == ["conv2d"]


def test_a_wrong_path_is_found_when_the_layer_is_described():
    with pytest.raises(AdapterError, match=r"path 'W\.\.grad'"):
        Layer(Scale, dw="W..grad")

"""Layers: classes that keep weights and gradients as state, plugged in by saying where these live.

Most course code is a class with `forward` and `backward`, and its adapter would build it, put the weights
in, call it and fetch the gradients, twice over. A `Layer` says it once::

    Layer(
        lambda w, stride, padding: Conv2d(w.shape[1], w.shape[0], w.shape[2], stride, padding),
        weight="W.data",
        bias="b.data",
        dw="W.grad",
        db="b.grad",
    ).plug_into(hw, "conv2d", kernel="square", stride="scalar", padding="scalar")

What a layer does not fit, a plain wrapper does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convform.adapters.adapter import Adapter
from convform.adapters.errors import AdapterError
from convform.spec.operators import OPERATORS

_STEP = re.compile(r"\.?([^\W\d]\w*)|\[\s*(?:'([^']*)'|\"([^\"]*)\"|(\d+))\s*\]")


def place(path: str) -> tuple[tuple[str, str | int], ...]:
    """Read a path such as ``conv.params['W'].data``.

    Returns
    -------
    tuple
        Steps in order: ``("attribute", name)`` or ``("item", key)``.

    Raises
    ------
    AdapterError
        If it is no path of attributes and items.

    Examples
    --------
    >>> place("params['W'].data")
    (('attribute', 'params'), ('item', 'W'), ('attribute', 'data'))
    """
    steps: list[tuple[str, str | int]] = []
    position = 0
    while isinstance(path, str) and position < len(path):
        match = _STEP.match(path, position)
        # A name follows the start or a dot, and nothing starts with a dot or a bracket.
        dotted = match is not None and match.group().startswith(".")
        if match is None or (match.group(1) and dotted is (position == 0)) or (not steps and not match[1]):
            break
        name, single, double, number = match.groups()
        if name is not None:
            steps.append(("attribute", name))
        else:
            steps.append(("item", int(number) if number is not None else (single or double or "")))
        position = match.end()
    else:
        if steps:
            return tuple(steps)
    raise AdapterError(
        f"path {path!r}: expected names and items in a row",
        'for example "W.data", "params[\'W\']" or "conv.dLdW"',
    )


def fetch(holder: Any, path: str) -> Any:
    """Return what lies at `path`, seen from `holder`.

    Raises
    ------
    AdapterError
        If there is no such attribute or item; the message names the part of the path that is missing.
    """
    return _follow(holder, path, place(path))


def put(holder: Any, path: str, value: Any) -> None:
    """Set what lies at `path`, seen from `holder`.

    Raises
    ------
    AdapterError
        If the way there does not exist, or the value cannot be set there.
    """
    *way, (kind, key) = place(path)
    last = _follow(holder, path, way)
    try:
        if kind == "item":
            last[key] = value
        else:
            setattr(last, str(key), value)
    except (AttributeError, TypeError, IndexError) as error:
        raise AdapterError(f"path {path!r}: {type(last).__name__} does not let it be set: {error}") from None


def _follow(holder: Any, path: str, steps: Any) -> Any:
    for kind, key in steps:
        try:
            holder = getattr(holder, key) if kind == "attribute" else holder[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            shown = f"[{key!r}]" if kind == "item" else repr(key)
            raise AdapterError(
                f"path {path!r}: {type(holder).__name__} has no {shown}", _there(holder)
            ) from None
    return holder


def _there(holder: Any) -> str | None:
    """Say which attributes or items there are instead."""
    names = list(holder) if isinstance(holder, dict) else list(getattr(holder, "__dict__", ()))
    return f"it has {', '.join(map(str, names[:12]))}" if names else None


@dataclass(frozen=True)
class Layer:
    """A class with state, described: how to build it, and where it keeps what.

    Attributes
    ----------
    build
        Returns a new layer. Its parameters are named like those of a wrapper (``w b kernel stride padding
        …``) and say what the layer can do; it is called with keywords.
    weight, bias
        Paths at which the weights and the bias are put after `build`; None where `build` has taken them
        or there are none.
    dw, db
        Paths at which the gradients lie after the backward pass; None where there are none.
    forward, backward
        Paths of the methods. A backward pass that returns several arrays returns dx first. None for
        `backward`: forward only.

    Examples
    --------
    >>> hw = Adapter("my-pool")
    >>> Layer(lambda kernel, stride: MaxPool(kernel, stride)).plug_into(hw, "max_pool2d", kernel="square")
    >>> sorted(hw.implementations)
    ['max_pool2d', 'max_pool2d.backward']
    """

    build: Callable[..., Any]
    weight: str | None = None
    bias: str | None = None
    dw: str | None = None
    db: str | None = None
    forward: str = "forward"
    backward: str | None = "backward"

    def __post_init__(self) -> None:
        for path in (self.weight, self.bias, self.dw, self.db, self.forward, self.backward):
            if path is not None:
                place(path)

    def plug_into(self, adapter: Adapter, operator: str, **options: Any) -> None:
        """Register the operator, and its gradient where the layer has a backward pass.

        Parameters
        ----------
        adapter
            Where to register.
        operator
            A forward operator, for example ``"conv2d"``.
        **options
            Claims and layouts, as for `Adapter.implements`; both operators get them.

        Raises
        ------
        AdapterError
            As `Adapter.implements` does.
        """
        adapter.implements(operator, **options)(self._wrapper(operator, ()))
        gradient = OPERATORS[operator].gradient
        if self.backward is not None and gradient is not None:
            # Which index a maximum came from is an answer of the forward pass alone.
            rest = {name: value for name, value in options.items() if name not in ("indices", "index")}
            adapter.implements(gradient, **rest)(self._wrapper(operator, ("dy",)))

    def _wrapper(self, operator: str, more: tuple[str, ...]) -> Callable[..., Any]:
        """Write the wrapper: a function whose signature says what the layer takes."""
        asked = dict(inspect.signature(self.build).parameters)
        names = dict.fromkeys(("x", *more, *asked))
        if self.weight is not None:
            names.setdefault("w")
        if self.bias is not None:
            names.setdefault("b")

        def wrapper(**given: Any) -> Any:
            layer = self.build(**{name: given[name] for name in asked})
            if self.weight is not None:
                put(layer, self.weight, given["w"])
            if self.bias is not None:
                put(layer, self.bias, given["b"])
            y = fetch(layer, self.forward)(given["x"])
            return self._gradients(layer, given["dy"]) if more else y

        keyword = inspect.Parameter.KEYWORD_ONLY
        wrapper.__name__ = wrapper.__qualname__ = operator.replace(".", "_")
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [asked[n].replace(kind=keyword) if n in asked else inspect.Parameter(n, keyword) for n in names]
        )
        return wrapper

    def _gradients(self, layer: Any, dy: Any) -> Any:
        assert self.backward is not None
        dx = fetch(layer, self.backward)(dy)
        gradients = {"dw": self.dw, "db": self.db}
        named = {name: fetch(layer, path) for name, path in gradients.items() if path is not None}
        return {"dx": dx, **named} if named else dx

"""SciPy: the correlation of an image with a kernel, summed directly or by FFT.

``signal.correlate`` knows neither samples, filters, stride, padding nor dilation. What it can do is one
convolution layer with one filter: in mode ``"valid"`` the axis of the channels is as long in the image as in
the kernel, so that the sum over channels is part of the correlation. Its gradients are SciPy's, too: in x the
full convolution of dy with the kernel, in w the correlation of the image with dy.

``scipy-fft`` asks for the FFT, which never is exact. The default ``method="auto"`` may choose either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import scipy
from scipy import signal

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.spec.operators import RANKS

Answer = dict[str, Array]

CORRELATE = "https://docs.scipy.org/doc/scipy/reference/generated/scipy.signal.correlate.html"


def make(name: str, method: str, dtypes: Sequence[str], **claims: Any) -> Adapter:
    """Describe SciPy with one way of computing.

    Parameters
    ----------
    name
        What reports call it.
    method
        ``"direct"`` or ``"fft"``.
    dtypes
        Dtypes that SciPy has this method for; "promote" where different ones are promoted as in NumPy.
    **claims
        Other claims of every operator.

    Returns
    -------
    Adapter
        Convolution and its gradients in x and w, one sample and one filter at a time.
    """
    adapter = Adapter(
        name,
        input="c d h w",
        weight="i kd kh kw",
        output="1 od oh ow",
        version=scipy.__version__,
        install="pip install 'convform[scipy]'",
        script=f"from scipy import signal\nmethod = {method!r}",
    )
    for rank in RANKS:

        @adapter.implements(f"conv{rank}d", dtypes=dtypes, **claims)
        def forward(x: Array, w: Array) -> Answer:
            return {"y": signal.correlate(x, w, "valid", method)}

        @adapter.implements(f"conv{rank}d.backward", dtypes=dtypes, **claims)
        def backward(x: Array, w: Array, dy: Array) -> Answer:
            dx = signal.convolve(dy, w, "full", method)
            return {"dx": dx, "dw": signal.correlate(x, dy, "valid", method)}

    # What SciPy answers where the standard refuses, and the other way round.
    # fmt: off
    known = adapter.known_limit
    known("conv?d*", "WINDOW-6",
          reason="Whichever array is larger counts as the image, so that a kernel is never too large.",
          link=CORRELATE)
    known("conv?d*", "CONV-7",
          reason="An axis is an axis: channels that the other array does not have are slid along.",
          link=CORRELATE)
    known("conv?d.backward", "CONVGRAD-5",
          reason="A correlation of any two arrays has an answer, and a gradient of that size.",
          link=CORRELATE)
    known("conv?d.backward", "CONV-6",
          reason="Arrays without elements are no arrays for it.", link=CORRELATE)
    # fmt: on
    return adapter


adapter = make("scipy", "direct", ("float64", "float32", "int64", "int32", "int16", "int8", "promote"))
fft = make("scipy-fft", "fft", ("float64", "float32", "float16"), arithmetic="transform")

# fmt: off
known = fft.known_limit
known("conv?d", "CONV-6",
      reason="Arrays without elements are no arrays for it.", link=CORRELATE)
known("conv?d*", "CONTRACT-6", shows="answers",
      reason="Arrays of different dtypes are promoted as in NumPy.",
      link="https://numpy.org/doc/stable/reference/arrays.promotion.html")
# fmt: on

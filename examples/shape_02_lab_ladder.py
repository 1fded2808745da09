"""Lab ladder, correct: five convolution classes in a row, each of which can do one thing more.

Shape 2: kernel size → stride and padding → input channels → output channels → batch. Each rung has an
adapter of its own and is judged at its own level: an axis that a rung does not have is left out of its
layouts. There is no bias, and no backward pass. ``convform check examples/shape_02_lab_ladder.py``
"""

import numpy as np

from convform.adapters import Adapter, Layer


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


class Conv2dKernel:
    """One image, one filter."""

    def __init__(self, kernel_size):
        self.weight = np.zeros(pair(kernel_size))

    def forward(self, x):
        kH, kW = self.weight.shape
        out = np.zeros((x.shape[0] - kH + 1, x.shape[1] - kW + 1), dtype=x.dtype)
        for i in range(out.shape[0]):
            for j in range(out.shape[1]):
                out[i, j] = (x[i : i + kH, j : j + kW] * self.weight).sum()
        return out


class Conv2dStride(Conv2dKernel):
    """The same with stride and padding."""

    def __init__(self, kernel_size, stride=1, padding=0):
        super().__init__(kernel_size)
        self.stride, self.padding = stride, padding

    def forward(self, x):
        every_window = super().forward(np.pad(x, self.padding))
        return every_window[:: self.stride, :: self.stride]


class Conv2dInputChannels:
    """Several input channels, still one filter; one matrix product for each image."""

    def __init__(self, in_channels, kernel_size, stride=1, padding=0):
        self.weight = np.zeros((in_channels, *pair(kernel_size)))
        self.kernel_size = pair(kernel_size)
        self.stride, self.padding = stride, padding

    def output_size(self, x):
        return [
            (n + 2 * self.padding - k) // self.stride + 1
            for n, k in zip(x.shape[-2:], self.kernel_size, strict=True)
        ]

    def columns(self, x):
        p, s = self.padding, self.stride
        kH, kW = self.kernel_size
        oH, oW = self.output_size(x)
        x = np.pad(x, ((0, 0), (p, p), (p, p)))
        col = np.zeros((len(x) * kH * kW, oH * oW), dtype=x.dtype)
        for i in range(oH):
            for j in range(oW):
                col[:, i * oW + j] = x[:, i * s : i * s + kH, j * s : j * s + kW].reshape(-1)
        return col

    def forward(self, x):
        return (self.weight.reshape(-1) @ self.columns(x)).reshape(self.output_size(x))


class Conv2dOutputChannels(Conv2dInputChannels):
    """Several filters."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        super().__init__(in_channels, kernel_size, stride, padding)
        self.weight = np.zeros((out_channels, in_channels, *pair(kernel_size)))

    def forward(self, x):
        flat = self.weight.reshape(len(self.weight), -1)
        return (flat @ self.columns(x)).reshape(len(flat), *self.output_size(x))


class Conv2dBatch(Conv2dOutputChannels):
    """Several images at once."""

    def forward(self, x):
        return np.stack([super(Conv2dBatch, self).forward(image) for image in x])


# ------------------------------------------------------------------------------- plugged into convform
SCALAR = {"stride": "scalar", "padding": "scalar"}

kernel = Adapter("ladder-1-kernel", input="h w", weight="kh kw")
Layer(lambda w: Conv2dKernel(w.shape), weight="weight", backward=None).plug_into(kernel, "conv2d")

stride = Adapter("ladder-2-stride", input="h w", weight="kh kw")
Layer(
    lambda w, stride, padding: Conv2dStride(w.shape, stride, padding), weight="weight", backward=None
).plug_into(stride, "conv2d", **SCALAR)

inputs = Adapter("ladder-3-input-channels", input="c h w", weight="c kh kw", columns="(c kh kw) (oh ow)")
Layer(
    lambda w, stride, padding: Conv2dInputChannels(len(w), w.shape[1:], stride, padding),
    weight="weight",
    backward=None,
).plug_into(inputs, "conv2d", output="oh ow", **SCALAR)
Layer(
    lambda x, kernel, stride, padding: Conv2dInputChannels(len(x), kernel, stride, padding), forward="columns"
).plug_into(inputs, "im2col", **SCALAR)

outputs = Adapter("ladder-4-output-channels", input="c h w", weight="o c kh kw")
Layer(
    lambda w, stride, padding: Conv2dOutputChannels(w.shape[1], len(w), w.shape[2:], stride, padding),
    weight="weight",
    backward=None,
).plug_into(outputs, "conv2d", **SCALAR)

batch = Adapter("ladder-5-batch")
Layer(
    lambda w, stride, padding: Conv2dBatch(w.shape[1], len(w), w.shape[2:], stride, padding),
    weight="weight",
    backward=None,
).plug_into(batch, "conv2d", **SCALAR)

"""A layer for one sample at a time, with one true defect: it learns before it answers.

Shape 12: images c h w without a batch axis, and a `backward` that also takes a step of gradient descent. The
step comes first, so dx is computed with weights that the forward pass never saw. With a tiny learning rate
nobody notices. ``convform check examples/shape_12_one_sample.py``
"""

import numpy as np

from convform.adapters import Adapter, Layer


class ConvLayer:
    def __init__(self, weights, stride=1, learning_rate=1.0):
        self.weights = weights.copy()
        self.stride, self.learning_rate = stride, learning_rate

    def patches(self, array):
        _, _, kH, kW = self.weights.shape
        s = self.stride
        for i in range((array.shape[1] - kH) // s + 1):
            for j in range((array.shape[2] - kW) // s + 1):
                yield i, j, array[:, i * s : i * s + kH, j * s : j * s + kW]

    def forward(self, x):
        self.x = x
        outputs = {(i, j): np.tensordot(self.weights, patch, axes=3) for i, j, patch in self.patches(x)}
        oH, oW = (last + 1 for last in max(outputs))
        return np.stack(list(outputs.values()), axis=1).reshape(-1, oH, oW)

    def backward(self, dout):
        self.grad_weights = np.zeros_like(self.weights)
        for i, j, patch in self.patches(self.x):
            self.grad_weights += dout[:, i, j, None, None, None] * patch
        self.weights -= self.learning_rate * self.grad_weights  # the defect: should come last
        dx = np.zeros_like(self.x)
        for i, j, patch in self.patches(dx):
            patch += np.tensordot(dout[:, i, j], self.weights, axes=1)
        return dx


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("one-sample", input="c h w")
Layer(lambda w, stride: ConvLayer(w, stride), dw="grad_weights").plug_into(lab, "conv2d", stride="scalar")

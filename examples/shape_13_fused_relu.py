"""A layer that ends in ReLU, correct; the convolution inside it is what is judged.

Shape 13: what the layer returns is relu(z), and the judge wants z. Both wrappers keep the ReLU out of the
way without touching the layer: z = relu(z) − relu(−z), where −z is what the negated weights and bias give;
and a huge bias keeps every unit active in a backward pass, whose gradients do not depend on it.
``convform check examples/shape_13_fused_relu.py``
"""

import numpy as np

from convform.adapters import Adapter


class ConvReLU:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        F, _, kH, kW = self.W.shape
        self.x = x
        out = np.zeros((len(x), F, x.shape[2] - kH + 1, x.shape[3] - kW + 1), dtype=x.dtype)
        for k in range(kH):
            for m in range(kW):
                taps = x[:, :, k : k + out.shape[2], m : m + out.shape[3]]
                out += np.einsum("nchw,fc->nfhw", taps, self.W[:, :, k, m])
        self.active = out + self.b[:, None, None] > 0
        return np.where(self.active, out + self.b[:, None, None], 0)

    def backward(self, dout):
        _, _, kH, kW = self.W.shape
        dout = np.where(self.active, dout, 0)
        self.dW, self.db = np.zeros_like(self.W), dout.sum(axis=(0, 2, 3))
        dx = np.zeros_like(self.x)
        for k in range(kH):
            for m in range(kW):
                here = (..., slice(k, k + dout.shape[2]), slice(m, m + dout.shape[3]))
                self.dW[:, :, k, m] = np.einsum("nfhw,nchw->fc", dout, self.x[here])
                dx[here] += np.einsum("nfhw,fc->nchw", dout, self.W[:, :, k, m])
        return dx


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("fused-relu")


@lab.implements("conv2d")
def forward(x, w, b):
    return ConvReLU(w, b).forward(x) - ConvReLU(-w, -b).forward(x)


@lab.implements("conv2d.backward")
def backward(x, w, b, dy):
    layer = ConvReLU(w, np.full_like(b, 1e30))
    layer.forward(x)
    return {"dx": layer.backward(dy), "dw": layer.dW, "db": layer.db}

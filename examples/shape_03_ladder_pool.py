"""The lab ladder's pool, with one true defect: without a stride it moves by one element.

Shape 3: `MaxPool2d(kernel_size, stride=None, padding=0).forward(x)` on batches, square kernels. A stride
of None should be the kernel size. ``convform check examples/shape_03_ladder_pool.py``
"""

import numpy as np

from convform.adapters import Adapter, Layer


class MaxPool2d:
    def __init__(self, kernel_size, stride=None, padding=0):
        self.kernel_size = kernel_size
        self.stride = stride or 1  # the defect: should be kernel_size
        self.padding = padding

    def forward(self, x):
        k, s, p = self.kernel_size, self.stride, self.padding
        border = ((0, 0), (0, 0), (p, p), (p, p))
        x = np.pad(x, border, constant_values=-np.inf)
        oH, oW = (x.shape[2] - k) // s + 1, (x.shape[3] - k) // s + 1
        out = np.full((*x.shape[:2], oH, oW), -np.inf, dtype=x.dtype)
        for i in range(k):
            for j in range(k):
                out = np.maximum(out, x[:, :, i : i + s * oH : s, j : j + s * oW : s])
        return out


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("ladder-pool")
Layer(lambda kernel, stride, padding: MaxPool2d(kernel, stride, padding), backward=None).plug_into(
    lab, "max_pool2d", kernel="square", stride="scalar", padding="scalar", max_padding="half-kernel"
)

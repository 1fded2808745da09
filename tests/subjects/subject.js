// A subject in JavaScript: conv2d and max_pool2d, float64 and float32, spoken to as docs/PROTOCOL.md says.

"use strict";
const fs = require("fs");

const KINDS = { F64: Float64Array, F32: Float32Array, I64: BigInt64Array };

function read(count) {
  const bytes = Buffer.alloc(count);
  for (let filled = 0; filled < count; ) {
    const came = fs.readSync(0, bytes, filled, count - filled, null);
    if (came === 0) return null;
    filled += came;
  }
  return bytes;
}

function receive() {
  const prefix = read(8);
  if (prefix === null) return null;
  const body = read(Number(prefix.readBigUInt64LE(0)));
  const size = Number(body.readBigUInt64LE(0));
  const { __metadata__: text, ...entries } = JSON.parse(body.toString("utf8", 8, 8 + size));
  const arrays = {};
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
    const copy = body.buffer.slice(body.byteOffset + 8 + size + begin, body.byteOffset + 8 + size + end);
    arrays[name] = { dtype, shape, data: KINDS[dtype] ? new KINDS[dtype](copy) : null };
  }
  return { text, arrays };
}

function send(text, arrays) {
  const header = { __metadata__: text };
  const parts = [];
  let reached = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(arrays)) {
    header[name] = { dtype, shape, data_offsets: [reached, reached + data.byteLength] };
    reached += data.byteLength;
    parts.push(Buffer.from(data.buffer));
  }
  const written = Buffer.from(JSON.stringify(header));
  const sizes = Buffer.alloc(16);
  sizes.writeBigUInt64LE(BigInt(8 + written.length + reached), 0);
  sizes.writeBigUInt64LE(BigInt(written.length), 8);
  const all = Buffer.concat([sizes, written, ...parts]);
  for (let sent = 0; sent < all.length; ) sent += fs.writeSync(1, all, sent);
}

function refuseUnless(holds, why) {
  if (!holds) throw new RangeError(why);
}

function windowOf(text, spatial, kernel) {
  const [stride, padding, dilation] = ["stride", "padding", "dilation"].map((name) => JSON.parse(text[name]));
  const up = text.ceil_mode === "true";
  return spatial.map((n, axis) => {
    const [k, s, d, [low, high]] = [kernel[axis], (stride || kernel)[axis], dilation[axis], padding[axis]];
    refuseUnless(k >= 1 && s >= 1 && d >= 1 && low >= 0 && high >= 0, "no such window");
    const room = n + low + high - d * (k - 1) - 1;
    let o = (up ? Math.ceil(room / s) : Math.floor(room / s)) + 1;
    if (up && (o - 1) * s >= n + low) o -= 1;
    refuseUnless(o >= 1, "the kernel does not fit");
    return { n, k, s, d, low, o };
  });
}

// Calls visit(place of the tap in the window, place of the element in the plane) for every real tap.
function taps([v, h], p, q, visit) {
  for (let r = 0; r < v.k; r++)
    for (let t = 0; t < h.k; t++) {
      const [i, j] = [p * v.s - v.low + r * v.d, q * h.s - h.low + t * h.d];
      if (i >= 0 && i < v.n && j >= 0 && j < h.n) visit(r * h.k + t, i * h.n + j);
    }
}

const OPERATORS = {
  conv2d(text, { x, w, b }) {
    refuseUnless(x.shape.length === 4 && w.shape.length === 4, "x and w have four axes");
    refuseUnless(x.dtype === w.dtype && (!b || b.dtype === x.dtype), "the dtypes differ");
    const groups = JSON.parse(text.groups);
    const [[N, C, H, W], [O, I, ...kernel]] = [x.shape, w.shape];
    refuseUnless(groups >= 1 && C % groups === 0 && O % groups === 0, "groups do not divide the channels");
    refuseUnless(I === C / groups, "the channels of x and w do not match");
    refuseUnless(!b || (b.shape.length === 1 && b.shape[0] === O), "b has one element for each output channel");
    const window = windowOf(text, [H, W], kernel);
    const shape = [N, O, window[0].o, window[1].o];
    const y = new KINDS[x.dtype](shape.reduce((a, c) => a * c, 1));
    let out = 0;
    for (let n = 0; n < N; n++)
      for (let o = 0; o < O; o++)
        for (let p = 0; p < window[0].o; p++)
          for (let q = 0; q < window[1].o; q++) {
            let sum = b ? b.data[o] : 0;
            for (let i = 0; i < I; i++) {
              const plane = (n * C + Math.floor(o / (O / groups)) * I + i) * H * W;
              const weights = (o * I + i) * kernel[0] * kernel[1];
              taps(window, p, q, (tap, place) => {
                sum += x.data[plane + place] * w.data[weights + tap];
              });
            }
            y[out++] = sum;
          }
    return { y: { dtype: x.dtype, shape, data: y } };
  },

  max_pool2d(text, { x }) {
    refuseUnless(x.shape.length === 4, "x has four axes");
    const [N, C, H, W] = x.shape;
    const window = windowOf(text, [H, W], JSON.parse(text.kernel));
    const shape = [N, C, window[0].o, window[1].o];
    const count = shape.reduce((a, c) => a * c, 1);
    const [y, indices] = [new KINDS[x.dtype](count), new BigInt64Array(count)];
    let out = 0;
    for (let plane = 0; plane < N * C; plane++)
      for (let p = 0; p < window[0].o; p++)
        for (let q = 0; q < window[1].o; q++, out++) {
          let [best, index] = [-Infinity, -1];
          taps(window, p, q, (tap, place) => {
            const value = x.data[plane * H * W + place];
            if (index < 0 || value > best || (Number.isNaN(value) && !Number.isNaN(best))) {
              [best, index] = [value, place];
            }
          });
          y[out] = best;
          indices[out] = BigInt(index);
        }
    return { indices: { dtype: "I64", shape, data: indices }, y: { dtype: x.dtype, shape, data: y } };
  },
};

const DESCRIPTION = {
  convform: 1,
  adapters: [
    {
      name: "in-js",
      operators: {
        conv2d: { takes: "x w b stride padding dilation groups".split(" "), bias_optional: true },
        max_pool2d: { takes: "x kernel stride padding dilation ceil_mode".split(" ") },
      },
    },
  ],
};
DESCRIPTION.adapters[0].operators.conv2d.claims = { padding: "low-high" };
DESCRIPTION.adapters[0].operators.max_pool2d.claims = { padding: "low-high", indices: true };

for (let asked = receive(); asked !== null; asked = receive()) {
  const text = { request: asked.text.request };
  let answer = {};
  if (asked.text.operator === "describe") {
    send({ ...text, description: JSON.stringify(DESCRIPTION) }, {});
    continue;
  }
  try {
    answer = OPERATORS[asked.text.operator](asked.text, asked.arrays);
  } catch (error) {
    text.raised = error.name;
    text.message = error.message;
  }
  send(text, answer);
}

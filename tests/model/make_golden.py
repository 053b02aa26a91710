#!/usr/bin/env python3
"""Makes tests/model/golden/TYPE.bin with the package gguf (pip install gguf numpy): random blocks of each tensor type
and the values its own quants.py makes of them.

A file holds, little-endian: number of bytes (u32), number of values (u32), the bytes, the values (f32). The random
bytes are arbitrary but for the f16 scales, which are finite: half of them random, among them denormals and zero.
"""
import pathlib

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

# Where the f16 scales lie in a block.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
N_ROWS, BLOCKS_PER_ROW = 4, 3


def finite_halves(rng, n):
    values = rng.normal(0, 0.05, n).astype(np.float16).view(np.uint16)
    values[::4] = rng.integers(0, 0x7C00, values[::4].size)      # any positive finite one
    values[1::8] = rng.integers(0, 0x0400, values[1::8].size)    # denormals and zero
    return values


def main():
    out = pathlib.Path(__file__).parent / "golden"
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(20261122)
    for qtype in [T.F16, T.BF16, *SCALES]:
        elements, size = GGML_QUANT_SIZES[qtype]
        n = N_ROWS * BLOCKS_PER_ROW if elements > 1 else 1024
        raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for at in SCALES.get(qtype, []):
            raw[:, at:at + 2] = finite_halves(rng, n).view(np.uint8).reshape(n, 2)
        if qtype in (T.F16, T.BF16):                             # no NaN: its bits may differ
            halves = raw.view(np.uint16)
            exponent = 0x7C00 if qtype == T.F16 else 0x7F80
            nan = (halves & exponent == exponent)
            halves[nan] &= 0x8000 | exponent                     # infinities stay
        row = raw.reshape(-1) if elements == 1 else raw.reshape(N_ROWS, -1)
        if qtype == T.F16:
            values = raw.view(np.float16).astype(np.float32)
        else:
            values = dequantize(row, qtype)
        values = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
        with open(out / f"{qtype.name.lower()}.bin", "wb") as f:
            np.array([raw.size, values.size], dtype="<u4").tofile(f)
            raw.tofile(f)
            values.tofile(f)


main()

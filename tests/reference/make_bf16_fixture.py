"""Writes tests/fixtures/bf16.csv: floats, and the bf16 that ml_dtypes (the types of JAX) rounds them to, as bits in hex.

    pip install ml_dtypes && python3 tests/reference/make_bf16_fixture.py
"""
import ml_dtypes
import numpy as np

random = np.random.default_rng(1)
# of every size; ties, their neighbours; subnormal ones, the largest, infinity
bits = list(random.integers(0, 0x7F800000, 150)) + [b | 0x80000000 for b in random.integers(0, 0x7F800000, 50)]
for upper in list(random.integers(0, 0x7F7F, 20)) + [0, 1, 0x7F, 0x80, 0x7F7E, 0x7F7F, 0x8000, 0xBF80]:
    bits += [(int(upper) << 16) + rest for rest in (0x7FFF, 0x8000, 0x8001)]
bits += [0, 0x80000000, 0x7F800000, 0xFF800000]
floats = np.array(bits, dtype=np.uint32).view(np.float32)
rounded = floats.astype(ml_dtypes.bfloat16).view(np.uint16)
with open("tests/fixtures/bf16.csv", "w") as file:
    for b, r in zip(bits, rounded):
        file.write(f"{int(b):08x},{int(r):04x}\n")

#!/usr/bin/env python3
"""Makes python.safetensors, which tests/test_safetensors.c reads, with the library of the format's authors.

  pip install safetensors numpy ml_dtypes; tests/reference/make_safetensors.py

Element i of most arrays is (i - count / 2) * scale; the scale is chosen so that the type holds it exactly.
"""
import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file


def ramp(count, scale, dtype):
    return ((np.arange(count) - count // 2) * scale).astype(dtype)


arrays = {
    "double": ramp(15, 0.1, np.float64).reshape(3, 5),
    "single": ramp(24, 0.25, np.float32).reshape(2, 3, 4),
    "half": ramp(7, 2.0**-15, np.float16),  # subnormal and normal numbers, and zero
    "brain": ramp(9, 1.5, ml_dtypes.bfloat16),
    "long": ramp(5, 2**40, np.int64),
    "int": ramp(5, -70000, np.int32),
    "bytes": np.array([1, 128, 255], np.uint8),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "блок.0": np.array([[[[-1.0]]]], np.float32),
}
save_file(arrays, pathlib.Path(__file__).with_name("python.safetensors"), {"format": "pt", "made by": "Python"})

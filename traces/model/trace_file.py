"""Writes and reads the bytes of a trace (README.md has the format)."""
import json
from pathlib import Path

import numpy as np

from bad_input import BadInput

UNIT_ROUNDOFF = {"f16": 2.0 ** -11, "bf16": 2.0 ** -8, "f32": 2.0 ** -24}
LIBRARY_TYPE = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "i64": "int64"}
NUMPY_TYPE = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "I64": "<i8"}


def store(x, dtype, name):
    """Float32 x as an array with the bytes of dtype; bfloat16 as its 16 bits, rounded to nearest even."""
    if dtype == "bf16":
        bits = np.ascontiguousarray(x).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        y = np.ascontiguousarray(x, {"f16": np.float16, "f32": np.float32}[dtype])
    if not np.isfinite(y).all():
        raise BadInput(f"{name} reaches {np.abs(x).max():.3g}, more than --dtype {dtype} holds: use bf16")
    return y


def encode_trace(got, positions, tokens, dtype, metadata):
    """The bytes of a trace file. `o` is small, and the rest is checked against it: float32 whatever dtype is."""
    from safetensors import TensorSpec, serialize
    parts = {"positions": ("i64", positions), "tokens": ("i64", tokens)}
    for name, x in got.items():
        kind = "f32" if name.endswith(".o") else dtype
        parts[name] = kind, store(x, kind, name)
    specs = {name: TensorSpec(dtype=LIBRARY_TYPE[kind], shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes)
             for name, (kind, a) in parts.items()}
    blob = serialize(specs, metadata=metadata)
    # The library writes the metadata in hash order, another in each process. Sorted, one capture has one hash.
    n = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:8 + n])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + blob[8 + n:]


def read_trace(path):
    """(metadata, {name: array}) of a trace file: BF16 widened to float32, the other types as they are."""
    raw = Path(path).read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + n])
    metadata, tensors = header.pop("__metadata__"), {}
    for name, t in header.items():
        begin, end = (8 + n + offset for offset in t["data_offsets"])
        x = np.frombuffer(raw[begin:end], NUMPY_TYPE[t["dtype"]]).reshape(t["shape"])
        tensors[name] = (x.astype(np.uint32) << 16).view(np.float32) if t["dtype"] == "BF16" else x
    return metadata, tensors

"""torch.ops.adamas: one layer's decode step as operators of PyTorch, on CPU tensors and on a GPU's.

    import adamas.ops

    codes = torch.empty_like(k, dtype=torch.uint8)[..., : d // 4].contiguous()
    torch.ops.adamas.encode(k, codes, length, thresholds)                                   # after the prompt
    out = torch.ops.adamas.step(q, k_new, v_new, k, v, codes, length, 256, thresholds)       # each token

    q              [batch, n_q_heads, d]               the new token's query, after RoPE; d is 64, 128 or 256
    k_new, v_new   [batch, n_kv_heads, d]              its key and value
    k, v           [batch, n_kv_heads, capacity, d]    the cache, to which the step adds them at token length - 1
    codes          [batch, n_kv_heads, capacity, d/4]  uint8: every key in 2 bits an element, in the device's own order
    length         [batch] int32                       tokens, the new one included; 0: an empty sequence
    channels       [n_kv_heads, 4, d] float32          metric="asym4": of each channel of the transformed keys three ascending
                                                       thresholds, in place of `thresholds`, and the scale; learn_channels()
    tokens         [batch, heads, budget] int32        if given: receives the tokens attended to, ascending; the first
                                                       min(budget, length) of a row are written

On a GPU: float16 or bfloat16, up to 64 sequences, a capacity that is a multiple of 32. On a CPU also float32. All tensors are
contiguous and on one device. The operators have fake kernels (torch.compile) and may be captured into a CUDA graph; length and
the contents of the tensors may change between replays, the numbers may not. No gradients.

metric="asym4" compares 4-bit queries with codes that are centred and scaled by channel, which loses less than "l1" at the same
size; encode and step must then be given the same channels.

select="group": the query heads of a KV head share one selection. sinks and recent tokens are always attended to, and count
against the budget. What is wrong with a call is raised as ValueError.
"""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import addressof, c_float, c_int, c_size_t, c_uint32, c_void_p
from functools import cache
from typing import Any

import torch

from .library import Error, Shape, bind, open_library

PAPER = (-10.0, 0.0, 10.0)  # thresholds; they fit the keys of Llama 2, and attend() learns a layer's own
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # adm_dtype


class ModelStep(ctypes.Structure):  # adm_model_step of core/contract/model_step.h
    _fields_ = [("shape", Shape), ("dtype", c_int), ("batch", c_uint32), ("capacity", c_uint32), ("budget", c_uint32),
                ("n_sinks", c_uint32), ("n_recent", c_uint32), ("selection", c_int), ("threshold", c_float * 3),
                ("scale", c_float), *((name, c_void_p) for name in ("q", "k_new", "v_new", "k", "v", "codes", "length", "out",
                                                                    "index", "n_selected")),
                ("metric", c_int), ("channels", c_void_p)]


FUNCTIONS = {  # adm_model_NAME
    "step_host": ([c_void_p, c_void_p], c_int),
    "encode_host": ([c_void_p, c_void_p], c_int),
    "step_cuda": ([c_void_p, c_void_p, c_void_p, c_void_p], c_int),
    "encode_cuda": ([c_void_p, c_void_p, c_void_p], c_int),
    "step_workspace_bytes": ([c_void_p], c_size_t),
}
UNSUPPORTED = 2  # adm_status
METRICS = {"l1": 0, "asym4": 6}  # adm_code_metric


@cache
def _functions() -> Any:
    return open_library(lambda library: bind(library, "adm_model_", FUNCTIONS))


def _wrong(text: str) -> None:
    raise ValueError(f"torch.ops.adamas: {text}")


def _check(name: str, tensor: torch.Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype or tensor.device != device:
        _wrong(f"{name} is {list(tensor.shape)} of {tensor.dtype} on {tensor.device}; {list(shape)} of {dtype} on {device} is "
               "wanted")
    if not tensor.is_contiguous():
        _wrong(f"{name} is not contiguous")


def learn_channels(k: torch.Tensor) -> torch.Tensor:
    """The channels of metric="asym4" from a layer's prompt, k [batch, n_kv_heads, tokens, d]: [n_kv_heads, 4, d], float32.

    Of each KV head's transformed keys the centre of every channel and a standard deviation around it are the thresholds, the
    deviation is the scale, as `adamas replay` learns them.
    """
    from .attending import transformed
    y = transformed(k).double().transpose(0, 1).flatten(1, 2)
    centre, scale = y.mean(1).float(), y.std(1, unbiased=False).float()
    return torch.stack([centre - scale, centre, centre + scale, scale], 1).add(0.0).contiguous()  # 0.0: no -0


def _metric_of(metric: str, k: torch.Tensor, channels: torch.Tensor | None) -> None:
    if metric not in METRICS:
        _wrong(f"metric={metric!r}; 'l1' and 'asym4' are known")
    if (metric == "asym4") != (channels is not None):
        _wrong(f"metric={metric!r} {'with' if channels is not None else 'without'} channels: they belong to asym4")
    if channels is not None:
        _check("channels", channels, (k.shape[1], 4, k.shape[3]), torch.float32, k.device)


def _cache_of(k: torch.Tensor, codes: torch.Tensor, length: torch.Tensor, thresholds: Sequence[float], metric: str,
              channels: torch.Tensor | None) -> None:
    if k.ndim != 4 or k.dtype not in DTYPES:
        _wrong(f"k is {list(k.shape)} of {k.dtype}; [batch, n_kv_heads, capacity, d] of float16, bfloat16 or float32 is wanted")
    batch, n_kv, capacity, d = k.shape
    _check("k", k, k.shape, k.dtype, k.device)
    _check("codes", codes, (batch, n_kv, capacity, d // 4), torch.uint8, k.device)
    _check("length", length, (batch,), torch.int32, k.device)
    if len(thresholds) != 3:
        _wrong(f"{len(thresholds)} thresholds; three are wanted")
    _metric_of(metric, k, channels)


def _all(q: torch.Tensor, k_new: torch.Tensor, v_new: torch.Tensor, k: torch.Tensor, v: torch.Tensor, codes: torch.Tensor,
         length: torch.Tensor, budget: int, thresholds: Sequence[float], select: str, tokens: torch.Tensor | None,
         metric: str, channels: torch.Tensor | None) -> int:
    """Checks a step's arguments; returns how many selections a sequence has."""
    _cache_of(k, codes, length, thresholds, metric, channels)
    batch, n_kv, _, d = k.shape
    if q.ndim != 3:
        _wrong(f"q is {list(q.shape)}; [batch, n_q_heads, d] is wanted")
    _check("q", q, (batch, q.shape[1], d), k.dtype, k.device)
    for name, tensor in (("k_new", k_new), ("v_new", v_new)):
        _check(name, tensor, (batch, n_kv, d), k.dtype, k.device)
    _check("v", v, k.shape, k.dtype, k.device)
    if select not in ("head", "group"):
        _wrong(f"select={select!r}; 'head' and 'group' are known")
    selections = q.shape[1] if select == "head" else n_kv
    if budget < 1:
        _wrong(f"budget={budget}; at least 1 is wanted")
    if tokens is not None:
        _check("tokens", tokens, (batch, selections, budget), torch.int32, k.device)
    return selections


def _description(k: torch.Tensor, codes: torch.Tensor, length: torch.Tensor, thresholds: Sequence[float],
                 n_q_heads: int, metric: str, channels: torch.Tensor | None) -> ModelStep:
    batch, n_kv, capacity, d = k.shape
    return ModelStep(shape=Shape(n_q_heads, n_kv, d), dtype=DTYPES[k.dtype], batch=batch, capacity=capacity, budget=1,
                     threshold=(c_float * 3)(*thresholds), k=k.data_ptr(), codes=codes.data_ptr(), length=length.data_ptr(),
                     metric=METRICS[metric], channels=None if channels is None else channels.data_ptr())


def _raise(status: int, error: Error) -> None:
    if status:
        raise ValueError(error.text.decode())


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream


def _encode(k: torch.Tensor, codes: torch.Tensor, length: torch.Tensor, thresholds: Sequence[float] = PAPER, metric: str = "l1",
            channels: torch.Tensor | None = None) -> None:
    _cache_of(k, codes, length, thresholds, metric, channels)
    step, error = _description(k, codes, length, thresholds, k.shape[1], metric, channels), Error()
    if k.is_cuda:
        with torch.cuda.device(k.device):
            _raise(_functions().encode_cuda(addressof(step), _stream(k.device), addressof(error)), error)
    else:
        _raise(_functions().encode_host(addressof(step), addressof(error)), error)


def _step(q: torch.Tensor, k_new: torch.Tensor, v_new: torch.Tensor, k: torch.Tensor, v: torch.Tensor, codes: torch.Tensor,
          length: torch.Tensor, budget: int, thresholds: Sequence[float] = PAPER, scale: float | None = None, sinks: int = 0,
          recent: int = 1, select: str = "head", tokens: torch.Tensor | None = None, metric: str = "l1",
          channels: torch.Tensor | None = None) -> torch.Tensor:
    selections = _all(q, k_new, v_new, k, v, codes, length, budget, thresholds, select, tokens, metric, channels)
    out, error = torch.empty_like(q), Error()
    counts = torch.empty(len(q) * selections, dtype=torch.int32, device=k.device)
    if tokens is None and k.is_cuda:
        tokens = torch.empty((len(q), selections, budget), dtype=torch.int32, device=k.device)
    step = _description(k, codes, length, thresholds, q.shape[1], metric, channels)
    step.budget, step.n_sinks, step.n_recent, step.selection = budget, sinks, recent, int(select == "group")
    step.scale = k.shape[-1] ** -0.5 if scale is None else scale
    step.q, step.k_new, step.v_new, step.v, step.out = (x.data_ptr() for x in (q, k_new, v_new, v, out))
    step.index, step.n_selected = None if tokens is None else tokens.data_ptr(), counts.data_ptr()
    if not k.is_cuda:
        _raise(_functions().step_host(addressof(step), addressof(error)), error)
        return out
    with torch.cuda.device(k.device):
        stream, space = _stream(k.device), None
        status = _functions().step_cuda(addressof(step), None, stream, addressof(error))
        if status == UNSUPPORTED:  # no single launch takes it: the stages one after another, in memory of ours
            n_bytes = _functions().step_workspace_bytes(addressof(step))
            space = torch.zeros(n_bytes, dtype=torch.uint8, device=k.device)
            status = _functions().step_cuda(addressof(step), space.data_ptr(), stream, addressof(error))
        _raise(status, error)
    return out


def _fake_encode(k: torch.Tensor, codes: torch.Tensor, length: torch.Tensor, thresholds: Sequence[float] = PAPER,
                 metric: str = "l1", channels: torch.Tensor | None = None) -> None:
    _cache_of(k, codes, length, thresholds, metric, channels)


def _fake_step(q: torch.Tensor, k_new: torch.Tensor, v_new: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
               codes: torch.Tensor, length: torch.Tensor, budget: int, thresholds: Sequence[float] = PAPER,
               scale: float | None = None, sinks: int = 0, recent: int = 1, select: str = "head",
               tokens: torch.Tensor | None = None, metric: str = "l1", channels: torch.Tensor | None = None) -> torch.Tensor:
    _all(q, k_new, v_new, k, v, codes, length, budget, thresholds, select, tokens, metric, channels)
    return torch.empty_like(q)


_library = torch.library.Library("adamas", "DEF")
_library.define("encode(Tensor k, Tensor(a!) codes, Tensor length, float[] thresholds=[-10., 0., 10.], str metric='l1', "
                "Tensor? channels=None) -> ()")
_library.define("step(Tensor q, Tensor k_new, Tensor v_new, Tensor(a!) k, Tensor(b!) v, Tensor(c!) codes, Tensor length, "
                "int budget, float[] thresholds=[-10., 0., 10.], float? scale=None, int sinks=0, int recent=1, "
                "str select='head', Tensor(d!)? tokens=None, str metric='l1', Tensor? channels=None) -> Tensor")
for _device in ("CPU", "CUDA"):
    _library.impl("encode", _encode, _device)
    _library.impl("step", _step, _device)
torch.library.register_fake("adamas::encode", _fake_encode, lib=_library)
torch.library.register_fake("adamas::step", _fake_step, lib=_library)

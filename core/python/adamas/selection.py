"""Which tokens a policy selects, on arrays of one's own."""
from __future__ import annotations

from typing import Any

import numpy as np

from .library import Sparse, load

NONE = np.uint32(0xFFFFFFFF)  # behind the last token of a shorter list


def as_float32(array: Any, name: str) -> np.ndarray:
    """A float32 array of C order in host memory: the tensor's own memory where it is one, else a converted copy."""
    if not isinstance(array, np.ndarray):
        if hasattr(array, "detach"):  # a torch tensor may want gradients and be on a GPU
            array = array.detach().cpu()
            array = array if str(array.dtype) == "torch.float32" else array.float()
        array = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} holds {array.dtype}; floating-point numbers are wanted")
    return np.ascontiguousarray(array, np.float32)


def select(q: Any, k: Any, *, policy: str = "adamas", budget: int, seed: int = 1) -> Any:
    """The tokens that each query head attends to under a policy, as a replay selects them.

    q       [n_steps, n_q_heads, d] or [n_q_heads, d]: the queries of the last steps, after RoPE
    k       [n_kv_heads, n_tokens, d]: all keys, after RoPE; the last n_steps are the steps' own
    policy  an item of `adamas replay --policies`, that names one variant: "quest", "adamas:metric=asym4"
    budget  tokens per query head and step

    Returns [..., n_q_heads, budget] int64, ascending; -1 behind the last where a policy selects fewer. A torch tensor comes
    back for a torch tensor. float32 in host memory is read in place (DLPack); other types and places are copied. What a policy
    learns, it learns from the tokens before the steps. Raises ValueError with the reason: shapes that do not fit, an unknown
    policy or setting, a budget below what the policy always selects, a policy that needs the prompt's attention (h2o,
    accumulated).
    """
    queries, keys = as_float32(q, "q"), as_float32(k, "k")
    if queries.ndim not in (2, 3) or keys.ndim != 3:
        raise ValueError(f"q is [n_steps, n_q_heads, d] or [n_q_heads, d] and k [n_kv_heads, n_tokens, d]; "
                         f"they are {list(queries.shape)} and {list(keys.shape)}")
    steps = queries if queries.ndim == 3 else queries[None]
    n_steps, n_q_heads, d = steps.shape
    n_kv_heads, n_tokens, key_d = keys.shape
    if d != key_d:
        raise ValueError(f"q has heads of {d} elements and k of {key_d}")
    if not 1 <= n_steps < n_tokens:
        raise ValueError(f"{n_steps} steps and {n_tokens} tokens: the steps' own keys and at least one before them are wanted")
    if budget < 1:
        raise ValueError(f"budget is {budget}; it must be at least 1")
    if load().looks_back(policy.encode()):
        raise ValueError(f"{policy} selects by the attention that the whole prompt paid, which q does not hold: replay a "
                         "trace")
    budget = min(budget, n_tokens)
    index = np.full((n_steps, n_q_heads, budget), NONE, np.uint32)
    out = np.empty_like(steps)
    with Sparse(policy, n_q_heads, n_kv_heads, d, keys.ctypes.data, n_tokens - n_steps, n_tokens, n_steps, seed) as sparse:
        sparse.attend(budget, d**-0.5, steps.ctypes.data, keys.ctypes.data, keys.ctypes.data, n_tokens, n_steps,
                      out.ctypes.data, index.ctypes.data)
    chosen = np.where(index == NONE, -1, index.astype(np.int64)).reshape(*queries.shape[:-1], budget)
    if type(q).__module__.partition(".")[0] == "torch":
        import torch
        return torch.from_numpy(chosen)
    return chosen

"""A trace of any Hugging Face model's attention, taken while the model generates."""
from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator
from typing import Any

NAME = "adamas-capture"
NEVER = ("softcap", "s_aux")  # options of attention that is not plain softmax: logits capped, learnt sinks
MAX_OUTPUT_ERROR = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}  # relative L2 of the output recomputed in float32


class _Layer:
    """What one layer did: its caches as they are now, and the queries and outputs of its decode steps."""

    def __init__(self) -> None:
        self.k: Any = None
        self.v: Any = None
        self.q: list[Any] = []
        self.o: list[Any] = []
        self.scale = 0.0
        self.n_tokens = 0  # that came by, the prompt's included
        self.windowed = False


class _Recorder:
    def __init__(self, layers: Collection[int] | None):
        self.wanted = None if layers is None else set(layers)
        self.layers: dict[int, _Layer] = {}

    def see(self, module: Any, query: Any, key: Any, value: Any, mask: Any, output: Any, options: dict[str, Any]) -> None:
        """query [1, heads, new tokens, d], key and value [1, kv_heads, cache, d], output [1, new tokens, heads, d]."""
        index = module.layer_idx
        if self.wanted is not None and index not in self.wanted:
            return
        if len(query) != 1:
            raise ValueError(f"a trace is one sequence, and the model runs {len(query)} at once")
        for name in NEVER:
            if options.get(name) is not None:
                raise ValueError(f"layer {index}: attention with {name} is not plain softmax attention")
        layer = self.layers.setdefault(index, _Layer())
        layer.n_tokens += query.shape[2]
        if query.shape[2] > 1:
            if layer.q:
                raise ValueError("a second prompt came: one session is captured at a time")
            return
        n_tokens = key.shape[2]
        if mask is not None:  # a static cache is longer than what was written; a window hides older tokens
            seen = mask[0, 0, -1]
            seen = seen if str(seen.dtype) == "torch.bool" else seen == 0
            places = seen.nonzero()[:, 0]
            n_tokens = int(places[-1]) + 1
            layer.windowed |= len(places) != n_tokens
        layer.windowed |= n_tokens < layer.n_tokens  # the cache of a window drops the oldest
        layer.k, layer.v = key[0, :, :n_tokens], value[0, :, :n_tokens]
        layer.scale = options.get("scaling") or key.shape[-1] ** -0.5
        layer.q.append(query[0, :, 0].detach().clone())
        layer.o.append(output[0, -1].detach().clone())

    def tensors(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The tensors of a trace and its metadata. Checks each layer's last output against its queries, keys and values."""
        import torch
        missing = sorted((self.wanted or set()) - {i for i, layer in self.layers.items() if layer.q})
        if missing:
            raise ValueError(f"no decode step of layer {missing[0]} was seen")
        kept = {i: layer for i, layer in sorted(self.layers.items()) if layer.q and not layer.windowed}
        windowed = sorted(i for i, layer in self.layers.items() if layer.windowed)
        if self.wanted is not None and windowed:
            raise ValueError(f"layer {windowed[0]} attends within a window; a trace is of layers that see every token")
        if not kept:
            raise ValueError("every layer attends within a window; a trace is of layers that see every token"
                             if windowed else "no decode step was seen: generate tokens inside the context")
        tensors: dict[str, Any] = {}
        for i, layer in kept.items():
            k, v, q, o = layer.k.contiguous(), layer.v.contiguous(), torch.stack(layer.q), torch.stack(layer.o)
            self._check(i, q[-1], k, v, o[-1], layer.scale)
            tensors |= {f"layers.{i}.{name}": x.cpu().contiguous() for name, x in zip("kvqo", (k, v, q, o))}
        scales = {layer.scale for layer in kept.values()}
        if len(scales) > 1:
            raise ValueError(f"the layers' softmax scales differ: {sorted(scales)}; name layers of one scale")
        return tensors, {"format": "adamas-trace/1", "kind": "real", "softmax_scale": repr(float(scales.pop()))}

    @staticmethod
    def _check(index: int, q: Any, k: Any, v: Any, o: Any, scale: float) -> None:
        group = q.shape[0] // k.shape[0]
        keys, values = (x.float().repeat_interleave(group, 0) for x in (k, v))
        weights = ((keys @ q.float()[:, :, None])[:, :, 0] * scale).softmax(-1)
        expected = (weights[:, None] @ values)[:, 0]
        error = float((o.float() - expected).norm() / expected.norm())
        limit = MAX_OUTPUT_ERROR[str(o.dtype).removeprefix("torch.")]
        if not error <= limit:
            raise ValueError(f"layer {index} computes no plain softmax attention: its output is off by {error:.2g} in relative "
                             f"L2, and {limit:g} is allowed")


def _text_config(model: Any) -> Any:
    return model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config


@contextlib.contextmanager
def capture(model: Any, path: str | os.PathLike[str], *, layers: Collection[int] | None = None) -> Iterator[None]:
    """Records the attention of a Hugging Face model while it generates inside the context, and writes it as a trace at the end.

        with adamas.capture(model, "mine.safetensors", layers=(8, 20)):
            model.generate(prompt, max_new_tokens=65)

    model   a causal language model of transformers whose attention is eager or sdpa; static and dynamic caches
    path    the trace: keys and values of every token, queries and outputs of every decode step, in the model's own type
    layers  which; None: all that see every token (layers with a sliding window are left out)

    One prompt of two tokens or more and one sequence per context. An exception inside writes nothing. Raises ValueError with
    the reason where the model's attention is not plain softmax attention, which the last step's outputs show.
    """
    from safetensors.torch import save_file
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    config = _text_config(model)
    own = config._attn_implementation
    if own not in ("eager", "sdpa"):
        raise ValueError(f"the model's attention is {own}; load it with attn_implementation='sdpa' or 'eager'")
    recorder = _Recorder(layers)

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, *args: Any, **options: Any) -> Any:
        forward = (AttentionInterface()["sdpa"] if own == "sdpa" else
                   sys.modules[type(module).__module__].eager_attention_forward)
        result = forward(module, query, key, value, mask, *args, **options)
        recorder.see(module, query, key, value, mask, result[0], options)
        return result

    def mask(*args: Any, **options: Any) -> Any:
        options["allow_is_causal_skip"] = False  # a mask each time: it says which tokens of the cache there are
        return ALL_MASK_ATTENTION_FUNCTIONS[own](*args, **options)

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(own)
    tensors, metadata = recorder.tensors()
    save_file(tensors, path, {**metadata, "model": model.name_or_path or type(model).__name__})

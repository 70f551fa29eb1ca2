"""A Hugging Face model that decodes with the attention of Adamas."""
from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

NAME = "adamas-attend"
QUANTILES = (1 / 3, 1 / 2, 2 / 3)  # `calibrated`, as core/policy/thresholds.c has it
CALIBRATION_ROWS = 4096  # per KV head


def hadamard(d: int, device: Any = None) -> Any:
    """H_d / sqrt(d), Sylvester's order, float32 [d, d]."""
    import torch
    h = torch.ones(1, 1, device=device)
    while len(h) < d:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h * d**-0.5


def transformed(k: Any) -> Any:
    """The keys of a prompt that thresholds are learnt from, k [..., tokens, d]: at most CALIBRATION_ROWS per KV head, in
    float32 and transformed."""
    rows = k.shape[-2]
    picked = [i * rows // min(rows, CALIBRATION_ROWS) for i in range(min(rows, CALIBRATION_ROWS))]
    return k[..., picked, :].float() @ hadamard(k.shape[-1], k.device)


def learn_thresholds(k: Any) -> list[float]:
    """A layer's three thresholds from its prompt, k [..., tokens, d]: quantiles of all transformed keys, as float32."""
    import torch
    y = transformed(k).flatten().sort().values
    found = []
    for q in QUANTILES:  # torch.quantile() takes no more than 2^24 elements
        rank = q * (len(y) - 1)
        low, high = float(y[int(rank)]), float(y[min(int(rank) + 1, len(y) - 1)])
        found.append(low + (rank - int(rank)) * (high - low))
    return torch.tensor(found).tolist()


class _Layer:
    """The codes of one layer's keys, and the thresholds that made them."""

    def __init__(self) -> None:
        self.codes: Any = None
        self.thresholds: list[float] = []
        self.channels: Any = None


class _Attention:
    def __init__(self, sdpa: Any, budget: int, dense_layers: int, thresholds: Sequence[float] | None, options: dict[str, Any]):
        """sdpa: transformers' function, or None where the model's own attention is eager. Found here: torch.compile follows
        the methods below and may not import."""
        self.sdpa, self.budget, self.dense_layers, self.options = sdpa, budget, dense_layers, options
        self.thresholds, self.metric = thresholds, options["metric"]
        self.layers: dict[int, _Layer] = {}

    def dense(self, module: Any, *args: Any, **options: Any) -> Any:
        forward = self.sdpa or sys.modules[type(module).__module__].eager_attention_forward
        return forward(module, *args, **options)

    def attend(self, module: Any, query: Any, key: Any, value: Any, mask: Any, *args: Any, **options: Any) -> Any:
        """query [batch, heads, new tokens, d]; key and value: the whole static cache, the new token in it."""
        plain = options.get("sliding_window") is None and not any(options.get(x) is not None for x in ("softcap", "s_aux"))
        if not plain or module.layer_idx < self.dense_layers:
            return self.dense(module, query, key, value, mask, *args, **options)
        if query.shape[2] > 1:
            self.take_prompt(module.layer_idx, query.shape[2], key, mask)
            return self.dense(module, query, key, value, mask, *args, **options)
        return self.step(self.layers[module.layer_idx], query, key, value, options), None

    def take_prompt(self, index: int, n_tokens: int, key: Any, mask: Any) -> None:
        import torch

        from . import ops
        if key.shape[2] <= n_tokens or key.shape[2] % 32:
            raise ValueError(f"layer {index}: the cache has room for {key.shape[2]} tokens; adamas.attend() wants a "
                             "StaticCache longer than the prompt, of a multiple of 32 tokens")
        if mask is not None and not bool((mask[:, 0, -1, :n_tokens] if mask.dtype == torch.bool else
                                          mask[:, 0, -1, :n_tokens] == 0).all()):
            raise ValueError("the prompt is padded or masked; adamas.attend() wants prompts of one length")
        layer = self.layers.setdefault(index, _Layer())
        if self.metric == "asym4":
            if layer.channels is None:
                layer.channels = torch.empty((key.shape[1], 4, key.shape[3]), device=key.device)
                torch._dynamo.mark_static_address(layer.channels)
                layer.channels.copy_(ops.learn_channels(key[:, :, :n_tokens]))
            layer.thresholds = [0.0, 0.0, 0.0]
        layer.thresholds = layer.thresholds or list(self.thresholds or learn_thresholds(key[:, :, :n_tokens]))
        if layer.codes is None or layer.codes.shape[:3] != key.shape[:3]:
            layer.codes = torch.zeros((*key.shape[:3], key.shape[3] // 4), dtype=torch.uint8, device=key.device)
            torch._dynamo.mark_static_address(layer.codes)
        length = torch.full((len(key),), n_tokens, dtype=torch.int32, device=key.device)
        torch.ops.adamas.encode(key, layer.codes, length, layer.thresholds, self.metric, layer.channels)

    def step(self, layer: _Layer, query: Any, key: Any, value: Any, options: dict[str, Any]) -> Any:
        import torch
        position = options["position_ids"][:1, -1]
        length = (position + 1).to(torch.int32).expand(len(key)).contiguous()
        k_new, v_new = (x.index_select(2, position)[:, :, 0] for x in (key, value))
        out = torch.ops.adamas.step(query[:, :, 0].contiguous(), k_new, v_new, key, value, layer.codes, length, self.budget,
                                    layer.thresholds, options.get("scaling"), channels=layer.channels, **self.options)
        return out[:, None]


@contextlib.contextmanager
def attend(model: Any, *, budget: int, dense_layers: int = 2, thresholds: Sequence[float] | None = None, sinks: int = 0,
           recent: int = 1, select: str = "head", metric: str = "l1") -> Iterator[None]:
    """Inside the context, a Hugging Face model's decode steps attend to `budget` tokens per query head, chosen by Adamas.

        cache = transformers.StaticCache(config=model.config, max_cache_len=4096)
        with adamas.attend(model, budget=256):
            model.generate(prompt, past_key_values=cache, max_new_tokens=64)

    model         a causal language model of transformers whose attention is eager or sdpa, on a CPU or a GPU
    dense_layers  the first layers, which attend to every token; so do layers with a sliding window
    thresholds    three, for every layer; None: learnt per layer from the first prompt
    metric        "l1", or "asym4": 4-bit queries against codes by channel, always learnt from the first prompt
    sinks, recent, select  as torch.ops.adamas.step has them

    The prompt is dense. The cache must be static, of a multiple of 32 tokens; sequences of a batch are of one length. Works
    under torch.compile, which compiles anew for each context. Raises ValueError with the reason.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    from . import ops  # registers torch.ops.adamas
    from .capturing import _text_config

    config = _text_config(model)
    own = config._attn_implementation
    if own not in ("eager", "sdpa"):
        raise ValueError(f"the model's attention is {own}; load it with attn_implementation='sdpa' or 'eager'")
    if metric not in ops.METRICS or (metric == "asym4" and thresholds is not None):
        raise ValueError(f"metric={metric!r}: 'l1' and 'asym4' are known, and asym4 learns its thresholds")
    if budget < sinks + recent or budget < 1:
        raise ValueError(f"budget is {budget}; it must be at least 1, and {sinks} sinks and {recent} recent tokens count in it")
    attention = _Attention(AttentionInterface()["sdpa"] if own == "sdpa" else None, budget, dense_layers, thresholds,
                           {"sinks": sinks, "recent": recent, "select": select, "metric": metric})
    AttentionInterface.register(NAME, attention.attend)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS[own])
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(own)

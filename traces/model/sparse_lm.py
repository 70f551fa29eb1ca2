"""A local language model in PyTorch whose decode steps attend as a policy of the host library says (core/contract/adamas.h).

    prompt   dense attention                                    -> Cache: K, V of every layer, attention drawn
    steps    layers 0, 1: dense; the others: adm_sparse_attend  -> logits

The tokens of the steps are known (they are scored, not sampled), so all steps of a layer run at once, each seeing the
tokens up to itself: the same numbers as one step after the other. Keys and values of a step come from what sparse
attention made of the layers below, as in real decoding. A layer with a window attends densely within it, at every
budget. Models are those of model_files.py, in float32.
"""
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from bad_input import BadInput
from calibration import policy_at
from model_files import load_model

PREFILL_BLOCK = 512  # queries whose scores are held at a time
ACTIVATIONS = {"silu": silu, "gelu_tanh": partial(gelu, approximate="tanh")}


@dataclass
class Cache:
    """Keys and values [n_layers, n_kv_heads, capacity, d] of the first n tokens. The capacity is the session's length."""
    m: object  # the architecture.Model as it computes a session of that length
    k: torch.Tensor
    v: torch.Tensor
    n: int = 0
    drawn: dict = None  # {n tokens: [n_layers, n_q_heads, n]} attention that each token drew from the n tokens


def rms_norm(x, w, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w


def rotate(x, positions, rope):
    """Rotate x (..., T, d) by its positions, as rope.Rope says."""
    angle = torch.outer(positions.double(), torch.from_numpy(rope.frequencies()))
    cos, sin = (rope.amplitude * angle.cos()).float(), (rope.amplitude * angle.sin()).float()
    half = rope.n_rotated // 2
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


class Model:
    def __init__(self, path, n_dense_layers=2):
        m = self.m = load_model(path)
        self.n_dense_layers = n_dense_layers
        self.embedding = self._tensor(m.weight("token_embd"))
        self.head = self.embedding if m.tied else self._tensor(m.weight("output"))
        self.norm = self._tensor(m.weight("output_norm"))
        names = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
        names += ["attn_q_norm", "attn_k_norm"] if m.family.qk_norm else []
        names += ["post_attention_norm", "post_ffw_norm"] if m.family.post_norms else []
        self.layers = [{name: self._tensor(m.weight(name, i)) for name in names}
                       | {name + ".bias": self._tensor(m.bias(name, i)) for name in m.biases}
                       for i in range(m.n_layers)]

    @staticmethod
    def _tensor(x):
        return torch.from_numpy(np.array(x, np.float32))

    def embed(self, tokens):
        return self.embedding[tokens] * self.m.embed_scale

    @staticmethod
    def _linear(w, x, name):
        y = x @ w[name].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    def _norm(self, w, x, name):
        return rms_norm(x, w[name], self.m.eps)

    def check_context(self, n_tokens):
        if n_tokens > self.m.context:
            raise BadInput(f"{n_tokens} tokens: {self.m.name} was made for {self.m.context}")

    def new_cache(self, capacity):
        self.check_context(capacity)
        shape = self.m.n_layers, self.m.n_kv_heads, capacity, self.m.d
        return Cache(self.m.for_tokens(capacity), torch.zeros(shape), torch.zeros(shape), drawn={})

    def _qkv(self, i, x, positions, m):
        """x [..., T, hidden] to layer i's q [..., n_q_heads, T, d] and k, v [..., n_kv_heads, T, d]."""
        w = self.layers[i]
        h = self._norm(w, x, "attn_norm")
        q, k, v = (self._linear(w, h, name).unflatten(-1, (-1, self.m.d)).transpose(-2, -3)
                   for name in ("attn_q", "attn_k", "attn_v"))
        if self.m.family.qk_norm:
            q, k = self._norm(w, q, "attn_q_norm"), self._norm(w, k, "attn_k_norm")
        rope = m.rope_local if m.windows[i] else m.rope
        return rotate(q, positions, rope), rotate(k, positions, rope), v

    def _rest_of_layer(self, i, x, out):
        w, post = self.layers[i], self.m.family.post_norms
        h = self._linear(w, out.transpose(-2, -3).flatten(-2), "attn_output")
        x = x + (self._norm(w, h, "post_attention_norm") if post else h)
        h = self._norm(w, x, "ffn_norm")
        activation = ACTIVATIONS[self.m.family.activation]
        h = self._linear(w, activation(self._linear(w, h, "ffn_gate")) * self._linear(w, h, "ffn_up"), "ffn_down")
        return x + (self._norm(w, h, "post_ffw_norm") if post else h)

    def logits(self, x):
        return rms_norm(x, self.norm, self.m.eps) @ self.head.T

    def _group(self, x):
        return x.repeat_interleave(self.m.n_q_heads // self.m.n_kv_heads, dim=-3)

    def prefill(self, tokens, cache, keep_drawn_at=()):
        """Appends tokens with dense attention. Returns their last hidden state [len(tokens), hidden].

        keep_drawn_at: lengths n at which the attention drawn is put into cache.drawn[n]; of a cache that is not empty it
        goes on from cache.drawn[cache.n]."""
        begin, end = cache.n, cache.n + len(tokens)
        positions, x = torch.arange(begin, end), self.embed(tokens)
        for n in keep_drawn_at:
            cache.drawn[n] = torch.zeros(self.m.n_layers, self.m.n_q_heads, n, dtype=torch.float64)
        for i in range(self.m.n_layers):
            q, k, v = self._qkv(i, x, positions, cache.m)
            cache.k[i, :, begin:end], cache.v[i, :, begin:end] = k, v
            out = torch.empty_like(q)
            drawn = torch.zeros(self.m.n_q_heads, end, dtype=torch.float64)
            if keep_drawn_at and begin:
                drawn[:, :begin] = cache.drawn[begin][i]
            for a in range(begin, end, PREFILL_BLOCK):
                b = min(a + PREFILL_BLOCK, end)
                out[:, a - begin:b - begin] = self._dense(i, q[:, a - begin:b - begin], cache, a, b, keep_drawn_at, drawn)
            x = self._rest_of_layer(i, x, out)
        cache.n = end
        return x

    def _dense(self, i, q, cache, a, b, keep_drawn_at=(), drawn=None):
        """Queries a..b of layer i; adds what they pay to drawn, and keeps its state at the wanted lengths."""
        k, v = self._group(cache.k[i, :, :b]), self._group(cache.v[i, :, :b])
        distance = torch.arange(a, b)[:, None] - torch.arange(b)
        seen = (distance >= 0) & (distance < (self.m.windows[i] or b))
        if not keep_drawn_at:
            return scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=seen, scale=self.m.softmax_scale)[0]
        p = (q @ k.transpose(1, 2) * self.m.softmax_scale).masked_fill_(~seen, -torch.inf).softmax(-1)
        for n in keep_drawn_at:
            if a < n <= b:
                cache.drawn[n][i] = (drawn[:, :b] + p[:, :n - a].sum(1))[:, :n]
        drawn[:, :b] += p.sum(1)
        return p @ v

    def decode(self, library, policy, budgets, cache, n_prompt, tokens, seed=1):
        """Logits [len(budgets), len(tokens), vocabulary] of tokens decoded behind the first n_prompt of the cache, which is
        left as it was. Policies that look back need cache.drawn[n_prompt]."""
        begin, end = n_prompt, n_prompt + len(tokens)
        positions, x = torch.arange(begin, end), self.embed(tokens).expand(len(budgets), -1, -1)
        saved = cache.k[:, :, begin:end].clone(), cache.v[:, :, begin:end].clone()
        for i in range(self.m.n_layers):
            q, k, v = self._qkv(i, x, positions, cache.m)
            x = self._rest_of_layer(i, x, self._decode_layer(library, policy, budgets, cache, i, n_prompt, seed, q, k, v))
        cache.k[:, :, begin:end], cache.v[:, :, begin:end] = saved
        return self.logits(x)

    def _decode_layer(self, library, policy, budgets, cache, i, n_prompt, seed, q, k, v):
        """The attention of layer i's steps, like q [len(budgets), n_q_heads, n, d]. Leaves the last k and v in the cache."""
        n, begin, end = q.shape[-2], n_prompt, n_prompt + q.shape[-2]
        name = "dense" if i < self.n_dense_layers else policy_at(policy, i)
        windowed, out = not self.m.sees_all(i, end), torch.empty_like(q)
        sparse = None if windowed else library.open(name, self.m.n_q_heads, cache.k[i], n_prompt, n, seed * 1000 + i)
        for b, budget in enumerate(budgets):
            cache.k[i, :, begin:end], cache.v[i, :, begin:end] = k[b], v[b]
            if windowed:
                out[b] = self._dense(i, q[b], cache, begin, end)
                continue
            drawn = None
            if library.looks_back(name):
                drawn = torch.zeros(self.m.n_q_heads, end, dtype=torch.float64)
                drawn[:, :begin] = cache.drawn[n_prompt][i]
            steps = q[b].transpose(0, 1).contiguous()
            out[b] = sparse.attend(budget, self.m.softmax_scale, steps, cache.k[i], cache.v[i], torch.empty_like(steps),
                                   drawn).transpose(0, 1)
        if sparse:
            sparse.close()
        return out

"""A local language model in PyTorch whose decode steps attend as a policy of the host library says (core/contract/adamas.h).

    prompt   dense attention                                    -> Cache: K, V of every layer, attention drawn (h2o)
    steps    layers 0, 1: dense; the others: adm_sparse_attend  -> logits

The tokens of the steps are known (they are scored, not sampled), so all steps of a layer run at once, each seeing the
tokens up to itself: the same numbers as one step after the other. Keys and values of a step come from what sparse
attention made of the layers below, as in real decoding. Llama from GGUF or a Hugging Face folder, read by capture.py.
"""
import ctypes
from dataclasses import dataclass

import capture
import numpy as np
import torch
from capture import BadInput
from torch.nn.functional import scaled_dot_product_attention, silu

PREFILL_BLOCK = 512  # queries whose scores are held at a time


# ---------------------------------------------------------------- the library

class Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("n_q_heads", "n_kv_heads", "head_dim")]


class Error(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("text", ctypes.c_char * 768)]


POINTER, SIZE, U32, U64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint64


class Library:
    """The functions of core/contract/adamas.h in libadamas.so."""

    def __init__(self, path):
        try:
            lib = ctypes.CDLL(str(path))
            self._open, self._attend, self._close = lib.adm_sparse_open, lib.adm_sparse_attend, lib.adm_sparse_close
            self._variant = lib.adm_sparse_variant
        except (OSError, AttributeError) as e:
            raise BadInput(f"{path}: not the host library of this version: {e}; `ninja` builds it") from e
        self._open.argtypes = [ctypes.c_char_p, POINTER, POINTER, SIZE, SIZE, SIZE, U64, POINTER, POINTER]
        self._attend.argtypes = [POINTER, U32, ctypes.c_double, POINTER, POINTER, POINTER, SIZE, SIZE, POINTER, POINTER,
                                 POINTER, POINTER]
        self._close.argtypes = [POINTER]
        self._variant.argtypes = [POINTER, ctypes.c_char_p]

    def open(self, *arguments):
        return Sparse(self, *arguments)

    def variant(self, policy, n_q_heads, n_kv_heads, d, seed):
        """What the database calls the variant; BadInput if the library does not know the policy."""
        sparse = self.open(policy, n_q_heads, torch.zeros(n_kv_heads, 1, d), 1, 0, seed)
        name = ctypes.create_string_buffer(176)
        self._variant(sparse._handle, name)
        sparse.close()
        return name.value.decode()


def call(function, *arguments):
    error = Error()
    if function(*arguments, ctypes.byref(error)):
        raise BadInput(error.text.decode())


def address(tensor):
    assert tensor is None or tensor.is_contiguous()
    return None if tensor is None else tensor.data_ptr()


class Sparse:
    """One layer's prompt under one policy; k [n_kv_heads, capacity, d] of which n_prompt tokens are the prompt."""

    def __init__(self, library, policy, n_q_heads, k, n_prompt, max_steps, seed):
        self._library, self._handle, self.policy = library, POINTER(), policy
        shape = Shape(n_q_heads, k.shape[0], k.shape[2])
        call(library._open, policy.encode(), ctypes.byref(shape), address(k), n_prompt, k.shape[1], max_steps, seed,
             ctypes.byref(self._handle))

    def attend(self, budget, scale, q, k, v, drawn=None):
        """q [n_steps, n_q_heads, d]; the steps' keys and values are in k and v. Returns the outputs, like q."""
        out = torch.empty_like(q)
        call(self._library._attend, self._handle, budget, scale, address(q), address(k), address(v), k.shape[1], len(q),
             address(drawn), address(out), None)
        return out

    def close(self):
        self._library._close(ctypes.byref(self._handle))


# ---------------------------------------------------------------- the model

@dataclass
class Cache:
    """Keys and values [n_layers, n_kv_heads, capacity, d] of the first n tokens."""
    k: torch.Tensor
    v: torch.Tensor
    n: int = 0
    drawn: dict = None  # {n tokens: [n_layers, n_q_heads, n]} attention that each token drew from the n tokens


def rms_norm(x, w, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w


def rope(x, positions, base):
    """Rotate x (..., T, d) by its positions, element i with element i + d/2."""
    d = x.shape[-1]
    angle = torch.outer(positions.double(), base ** (-torch.arange(0, d, 2).double() / d))
    cos, sin = angle.cos().float(), angle.sin().float()
    a, b = x[..., :d // 2], x[..., d // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Model:
    def __init__(self, path, n_dense_layers=2):
        m = self.m = capture.load_model(path)
        if m.arch != "llama":
            raise BadInput(f"{path}: architecture {m.arch} is not supported here; llama is")
        self.n_dense_layers = n_dense_layers

        def weight(name, layer=None):
            return torch.from_numpy(np.array(m.weights.get(name, layer=layer), np.float32))

        def rows(name, layer, n_heads):  # of Q and K, in the order that rope() wants
            w = m.weights.get(name, layer=layer)
            return torch.from_numpy(np.array(capture.unpermute_rope_rows(w, n_heads) if m.weights.permuted else w))

        self.embedding = weight("token_embd")
        self.head = weight("output") if m.weights.has("output") else self.embedding
        self.norm = weight("output_norm")
        names = ("attn_norm", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
        self.layers = [{name: weight(name, i) for name in names}
                       | {"attn_q": rows("attn_q", i, m.n_q_heads), "attn_k": rows("attn_k", i, m.n_kv_heads)}
                       for i in range(m.n_layers)]

    def check_context(self, n_tokens):
        if n_tokens > self.m.context:
            raise BadInput(f"{n_tokens} tokens: {self.m.name} was made for {self.m.context}")

    def new_cache(self, capacity):
        self.check_context(capacity)
        shape = self.m.n_layers, self.m.n_kv_heads, capacity, self.m.d
        return Cache(torch.zeros(shape), torch.zeros(shape), drawn={})

    def _qkv(self, w, x, positions):
        """x [..., T, hidden] to q [..., n_q_heads, T, d] and k, v [..., n_kv_heads, T, d]."""
        h = rms_norm(x, w["attn_norm"], self.m.eps)

        def heads(name):
            return (h @ w[name].T).unflatten(-1, (-1, self.m.d)).transpose(-2, -3)

        q, k = (rope(heads(name), positions, self.m.rope_base) for name in ("attn_q", "attn_k"))
        return q, k, heads("attn_v")

    def _rest_of_layer(self, w, x, out):
        x = x + out.transpose(-2, -3).flatten(-2) @ w["attn_output"].T
        h = rms_norm(x, w["ffn_norm"], self.m.eps)
        return x + (silu(h @ w["ffn_gate"].T) * (h @ w["ffn_up"].T)) @ w["ffn_down"].T

    def logits(self, x):
        return rms_norm(x, self.norm, self.m.eps) @ self.head.T

    def _group(self, x):
        return x.repeat_interleave(self.m.n_q_heads // self.m.n_kv_heads, dim=-3)

    def prefill(self, tokens, cache, keep_drawn_at=()):
        """Appends tokens with dense attention. Returns their last hidden state [len(tokens), hidden].

        keep_drawn_at: lengths n at which the attention drawn is put into cache.drawn[n]; of a cache that is not empty it
        goes on from cache.drawn[cache.n]."""
        begin, end = cache.n, cache.n + len(tokens)
        positions, x = torch.arange(begin, end), self.embedding[tokens]
        for n in keep_drawn_at:
            cache.drawn[n] = torch.zeros(self.m.n_layers, self.m.n_q_heads, n, dtype=torch.float64)
        for i, w in enumerate(self.layers):
            q, k, v = self._qkv(w, x, positions)
            cache.k[i, :, begin:end], cache.v[i, :, begin:end] = k, v
            out = torch.empty_like(q)
            drawn = torch.zeros(self.m.n_q_heads, end, dtype=torch.float64)
            if keep_drawn_at and begin:
                drawn[:, :begin] = cache.drawn[begin][i]
            for a in range(begin, end, PREFILL_BLOCK):
                b = min(a + PREFILL_BLOCK, end)
                out[:, a - begin:b - begin] = self._dense(i, q[:, a - begin:b - begin], cache, a, b, keep_drawn_at, drawn)
            x = self._rest_of_layer(w, x, out)
        cache.n = end
        return x

    def _dense(self, i, q, cache, a, b, keep_drawn_at, drawn):
        """Queries a..b of layer i; adds what they pay to drawn, and keeps its state at the wanted lengths."""
        k, v = self._group(cache.k[i, :, :b]), self._group(cache.v[i, :, :b])
        seen = torch.arange(b) <= torch.arange(a, b)[:, None]
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
        left as it was. h2o needs cache.drawn[n_prompt]."""
        n, (begin, end) = len(tokens), (n_prompt, n_prompt + len(tokens))
        positions, x = torch.arange(begin, end), self.embedding[tokens].expand(len(budgets), -1, -1)
        saved = cache.k[:, :, begin:end].clone(), cache.v[:, :, begin:end].clone()
        for i, w in enumerate(self.layers):
            q, k, v = self._qkv(w, x, positions)
            name = "dense" if i < self.n_dense_layers else policy
            sparse = library.open(name, self.m.n_q_heads, cache.k[i], n_prompt, n, seed * 1000 + i)
            out = torch.empty_like(q)
            for b, budget in enumerate(budgets):
                cache.k[i, :, begin:end], cache.v[i, :, begin:end] = k[b], v[b]
                drawn = None
                if name == "h2o":
                    drawn = torch.zeros(self.m.n_q_heads, end, dtype=torch.float64)
                    drawn[:, :begin] = cache.drawn[n_prompt][i]
                out[b] = sparse.attend(budget, self.m.softmax_scale, q[b].transpose(0, 1).contiguous(), cache.k[i],
                                       cache.v[i], drawn).transpose(0, 1)
            sparse.close()
            x = self._rest_of_layer(w, x, out)
        cache.k[:, :, begin:end], cache.v[:, :, begin:end] = saved
        return self.logits(x)

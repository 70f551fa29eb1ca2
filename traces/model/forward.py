"""The forward pass in float32 NumPy, which the capture takes Q, K, V and the attention output from.

    tokens --embed--> x [T, hidden] --layer_forward, layer after layer--> x --forward_logits--> [n_last, vocabulary]
                                          |
                                          +--> q, o [n_q_heads, T, d]; k, v [n_kv_heads, T, d]

A layer's weights are dequantised, used and dropped, and attention runs in blocks of queries, so memory grows with T, not
with its square.
"""
import math
import sys

import numpy as np

QUERY_BLOCK = 256  # queries at a time: scores take n_q_heads * 256 * T * 4 bytes, 134 MB at 4 heads and 32K


def rms_norm(x, w, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)) * w


def rotate(x, rope):
    """Rotate x (heads, T, d) by its positions 0..T-1."""
    angle = np.outer(np.arange(x.shape[1]), rope.frequencies())
    cos, sin = ((rope.amplitude * f(angle)).astype(np.float32) for f in (np.cos, np.sin))
    half = rope.n_rotated // 2
    a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)


def attention(q, k, v, scale, window=0):
    """Causal attention to the last `window` tokens (0: to all): q and result (n_q_heads, T, d); k, v (n_kv_heads, T, d)."""
    (n_q, T, d), n_kv = q.shape, len(k)
    out, window = np.empty_like(q), window or T
    for a in range(0, T, QUERY_BLOCK):
        b = min(a + QUERY_BLOCK, T)
        lo = max(0, a - window + 1)
        pos, key = np.arange(a, b)[:, None], np.arange(lo, b)
        s = (q[:, a:b].reshape(n_kv, -1, d) @ k[:, lo:b].swapaxes(1, 2)).reshape(n_q, b - a, b - lo)
        s *= np.float32(scale)
        s[:, (key > pos) | (key <= pos - window)] = -np.inf
        s -= s.max(axis=-1, keepdims=True)
        np.exp(s, out=s)
        s /= s.sum(axis=-1, keepdims=True)
        out[:, a:b] = (s.reshape(n_kv, -1, b - lo) @ v[:, lo:b]).reshape(n_q, b - a, d)
    return out


def silu(x):
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x ** 3)))


ACTIVATIONS = {"silu": silu, "gelu_tanh": gelu_tanh}


def layer_forward(m, i, x):
    """x (T, hidden) through layer i. Returns x and its attention's q, k, v, o, each (heads, T, d)."""
    family = m.family

    def norm(x, name):
        return rms_norm(x, m.weight(name, i), m.eps)

    def linear(x, name):
        return x @ m.weight(name, i).T + m.bias(name, i)

    def heads(x, name):
        return np.ascontiguousarray(linear(x, name).reshape(len(x), -1, m.d).swapaxes(0, 1))

    h = norm(x, "attn_norm")
    q, k, v = (heads(h, name) for name in ("attn_q", "attn_k", "attn_v"))
    if family.qk_norm:
        q, k = norm(q, "attn_q_norm"), norm(k, "attn_k_norm")
    rope = m.rope_local if m.windows[i] else m.rope
    q, k = rotate(q, rope), rotate(k, rope)
    o = attention(q, k, v, m.softmax_scale, m.windows[i])
    h = linear(o.swapaxes(0, 1).reshape(len(x), -1), "attn_output")
    x = x + (norm(h, "post_attention_norm") if family.post_norms else h)
    h = norm(x, "ffn_norm")
    h = linear(ACTIVATIONS[family.activation](linear(h, "ffn_gate")) * linear(h, "ffn_up"), "ffn_down")
    return x + (norm(h, "post_ffw_norm") if family.post_norms else h), (q, k, v, o)


def embed(m, tokens):
    return m.weight("token_embd", rows=tokens) * np.float32(m.embed_scale)


def forward_logits(m, tokens, n_last):
    """Next-token logits (n_last, vocabulary) of the last n_last positions."""
    x = embed(m, tokens)
    for i in range(m.n_layers):
        x, _ = layer_forward(m, i, x)
    x = rms_norm(x[-n_last:], m.weight("output_norm"), m.eps)
    return x @ m.weight("token_embd" if m.tied else "output").T


def capture(m, tokens, positions, layers):
    """tokens (T,) through layers 0..max(layers): {"layers.{i}.{k,v,q,o}": float32 in the trace's shape}."""
    got, x = {}, embed(m, tokens)
    for i in range(max(layers) + 1):
        if sys.stderr.isatty():
            print(f"\rlayer {i} of {max(layers)}", end="\n" if i == max(layers) else "", file=sys.stderr)
        x, (q, k, v, o) = layer_forward(m, i, x)
        if i in layers:
            got |= {f"layers.{i}.k": k, f"layers.{i}.v": v, f"layers.{i}.q": q[:, positions].swapaxes(0, 1),
                    f"layers.{i}.o": o[:, positions].swapaxes(0, 1)}
    return got

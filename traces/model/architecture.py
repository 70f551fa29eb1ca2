"""What a model computes: its sizes, its RoPE, its windows, and the tensors that this takes.

    file --gguf_reader or hf_reader--> Model --accept()--> forward.py, sparse_lm.py

Names are GGUF's: token_embd.weight, blk.3.attn_q.weight. accept() compares the tensors of the file with those that
the model's family uses. A tensor left over is a part of the model that the forward pass would leave out, so it is
refused by name, as is a tensor that is missing or has another shape.
"""
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bad_input import BadInput
from rope import LongRope, Rope

ALL = slice(None)  # rows of a tensor
HEAD_DIMS = (64, 128, 256)  # what the Hadamard transform of core/ and kernels/ takes


@dataclass(frozen=True)
class Family:
    """How the layers of an architecture differ from plain Llama's."""
    biases: tuple = ()        # linear maps that always have one
    qk_norm: bool = False     # RMS norm of each head of Q and K before RoPE
    post_norms: bool = False  # a norm after attention and after the feed-forward, before the residual is added
    fused: bool = False       # Q, K, V in one tensor, and gate, up in one
    activation: str = "silu"


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(biases=("attn_q", "attn_k", "attn_v")),
    "qwen3": Family(qk_norm=True),
    "gemma3": Family(qk_norm=True, post_norms=True, activation="gelu_tanh"),
    "phi3": Family(fused=True),
}


@dataclass
class Model:
    path: Path
    name: str
    arch: str
    weights: object         # gguf_reader.GgufFile or hf_reader.HfFolder
    n_layers: int
    n_q_heads: int
    n_kv_heads: int
    d: int
    hidden: int
    n_feed_forward: int
    eps: float
    rope: Rope              # of the layers that see every token
    context: int            # tokens that the model was made for
    rope_local: Rope = None  # of the layers with a window, where it differs
    rope_long: LongRope = None  # of a session that is longer than the original context
    rope_settings: dict = None  # of a GGUF file with YaRN or LongRoPE: what transformers calls them
    windows: tuple = ()     # per layer: tokens that it sees, its own included; 0: all
    softmax_scale: float = 0.0  # 0: d^-1/2
    embed_scale: float = 1.0
    biases: tuple = ()      # linear maps that have one
    tied: bool = False      # the embedding is the output matrix, too
    family: Family = field(init=False)

    def __post_init__(self):
        self.family = FAMILIES[self.arch]
        self.windows = self.windows or (0,) * self.n_layers
        self.softmax_scale = self.softmax_scale or self.d ** -0.5
        self.rope_local = self.rope_local or self.rope
        self.biases = self.biases or self.family.biases

    def for_tokens(self, n_tokens):
        """The model as it computes a session of n_tokens, which differs with LongRoPE alone."""
        if self.rope_long is None or n_tokens <= self.rope_long.context:
            return self
        return replace(self, rope=self.rope_long.rope, rope_local=self.rope_long.rope)

    def remark(self, n_tokens):
        """What a user should know of a session of n_tokens: a line, or nothing."""
        if self.rope_long is not None:
            kind, where = ("long", "more than") if n_tokens > self.rope_long.context else ("short", "at most")
            return (f"LongRoPE: {n_tokens} tokens are {where} the original context of {self.rope_long.context}, so all turn by "
                    f"the {kind} factors")
        if self.weights.left_out:
            return f"the {len(self.weights.left_out)} tensors of its vision tower are left out: no text reaches them"
        return ""

    def sees_all(self, layer, n_tokens):
        """Whether the layer's window, if it has one, holds all of n_tokens."""
        return self.windows[layer] == 0 or self.windows[layer] >= n_tokens

    def weight(self, name, layer=None, rows=ALL):
        """Float32 array of a weight, without its suffix: "attn_q" of layer 3. Q and K turn as Rope says."""
        return self._tensor(name + ".weight", layer, rows)

    def bias(self, name, layer):
        """Likewise of a bias; 0 where the model has none."""
        return self._tensor(name + ".bias", layer, ALL) if name in self.biases else np.float32(0)

    def _tensor(self, name, layer, rows):
        q, kv, f = self.n_q_heads * self.d, self.n_kv_heads * self.d, self.n_feed_forward
        if self.family.fused:
            name, rows = {
                "attn_q.weight": ("attn_qkv.weight", slice(0, q)),
                "attn_k.weight": ("attn_qkv.weight", slice(q, q + kv)),
                "attn_v.weight": ("attn_qkv.weight", slice(q + kv, None)),
                "ffn_gate.weight": ("ffn_up.weight", slice(0, f)),
                "ffn_up.weight": ("ffn_up.weight", slice(f, None)),
            }.get(name, (name, rows))
        x = self.weights.read(name if layer is None else f"blk.{layer}.{name}", rows)
        if self.weights.permuted and name.startswith(("attn_q.", "attn_k.")):
            x = unpermute_rope_rows(x, self.n_q_heads if name.startswith("attn_q") else self.n_kv_heads)
        return x


def unpermute_rope_rows(w, n_heads):
    """Undo llama.cpp's reordering of the rows of a Llama Q or K matrix, w (n_heads * d, in).

    The model rotates element i with i + d/2. llama.cpp rotates neighbours, so its converter interleaves the
    halves. q.k does not care; the Hadamard transform of q or k does.
    """
    d = w.shape[0] // n_heads
    return w.reshape(n_heads, d // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def expected_tensors(m):
    """{name: shape} of every tensor that the forward pass uses; -1 stands for the vocabulary."""
    q, kv, h, f = m.n_q_heads * m.d, m.n_kv_heads * m.d, m.hidden, m.n_feed_forward
    layer = {"attn_norm": (h,), "attn_output": (h, q), "ffn_norm": (h,), "ffn_down": (h, f)}
    if m.family.fused:
        layer |= {"attn_qkv": (q + 2 * kv, h), "ffn_up": (2 * f, h)}
    else:
        layer |= {"attn_q": (q, h), "attn_k": (kv, h), "attn_v": (kv, h), "ffn_gate": (f, h), "ffn_up": (f, h)}
    if m.family.qk_norm:
        layer |= {"attn_q_norm": (m.d,), "attn_k_norm": (m.d,)}
    if m.family.post_norms:
        layer |= {"post_attention_norm": (h,), "post_ffw_norm": (h,)}
    tensors = {"token_embd.weight": (-1, h), "output_norm.weight": (h,)}
    if not m.tied:
        tensors["output.weight"] = (-1, h)
    for i in range(m.n_layers):
        tensors |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
        tensors |= {f"blk.{i}.{name}.bias": layer[name][:1] for name in m.biases}
    return tensors


WHY = (  # of tensors that models have and the forward pass does not use
    (("rope_factors_long", "rope_factors_short"), "LongRoPE is supported for phi3 alone"),
    (("_exps.", "_inp.", "_shexp."), "mixtures of experts are not supported"),
    ((".bias",), "transformers reads no such bias in this architecture"),
    (("weight_scale", "_scale_inv", ".scale"), "quantised weights with separate scales are not supported"),
)


def refuse_tensors_left_over(m, shapes, expected):
    for name in shapes:
        if name not in expected:
            full = m.weights.file_name(name)
            why = next((why for parts, why in WHY if any(part in full for part in parts)),
                       f"no part of the {m.arch} architecture with {m.n_layers} layers uses it")
            raise BadInput(f"{m.path}: tensor {full} would be left out: {why}")


def accept(m):
    """Returns m if every tensor of the file is used, every tensor needed is there, and its heads can be transformed."""
    if m.d not in HEAD_DIMS:
        raise BadInput(f"{m.path}: its heads have {m.d} dimensions; the Hadamard transform takes "
                       f"{', '.join(map(str, HEAD_DIMS[:-1]))} or {HEAD_DIMS[-1]}")
    if m.n_kv_heads < 1 or m.n_q_heads % m.n_kv_heads:
        raise BadInput(f"{m.path}: {m.n_q_heads} query heads on {m.n_kv_heads} KV heads: not a whole number of each")
    for rope in (m.rope, m.rope_local, m.rope_long.rope if m.rope_long else m.rope):
        if rope.n_rotated % 2 or not 0 < rope.n_rotated <= m.d:
            raise BadInput(f"{m.path}: RoPE turns {rope.n_rotated} of {m.d} dimensions")
        if len(rope.divisors) not in (0, rope.n_rotated // 2) or not all(x > 0 for x in (*rope.divisors, rope.amplitude)):
            raise BadInput(f"{m.path}: RoPE turns {rope.n_rotated // 2} pairs of dimensions, and has {len(rope.divisors)} "
                           "factors for them; each must be there and above 0")
    shapes, expected = m.weights.shapes, expected_tensors(m)
    refuse_tensors_left_over(m, shapes, expected)
    vocabulary = shapes.get("token_embd.weight", (0,))[0]
    for name, shape in expected.items():
        shape = tuple(vocabulary if n == -1 else n for n in shape)
        if name not in shapes:
            raise BadInput(f"{m.path}: has no tensor {m.weights.file_name(name)}")
        if shapes[name] != shape:
            raise BadInput(f"{m.path}: tensor {m.weights.file_name(name)} has the shape {list(shapes[name])}; "
                           f"the model's sizes call for {list(shape)}")
    return m

#!/usr/bin/env python3
"""Capture an attention trace from a real language model: Q, K, V and the dense attention output.

    text --tokeniser--> tokens [T] --layer 0 .. last captured layer--> x [T, hidden]
                                       |
                     captured layer i  +-> layers.{i}.k, .v  [n_kv_heads, T, d]       every position
                                       +-> layers.{i}.q, .o  [n_steps, n_q_heads, d]  captured positions

The pass is teacher-forced: attention is causal, so the query at position p of a real text, against keys 0..p,
is exactly the query of a decode step. Q and K are taken where attention uses them: after RoPE and, where the
model has one, after QK-norm. `o` is softmax(q K^T scale) V, before the output projection. A layer's weights are
dequantised, used and dropped, and attention runs in blocks of queries, so memory grows with T, not its square.

This file owns the forward pass (float32, NumPy) of two architectures, llama and gemma3; reading their weights
from a GGUF file or a Hugging Face folder; writing a trace and checking it. It does not own the trace format
(README.md) nor the tokeniser, which is transformers'. It opens local files only.

Exit codes: 0 done; 2 bad usage or input; 4 a check failed, or the machine lacks something (a package, space).
"""
import argparse
import hashlib
import json
import math
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VERSION = "1.0"
QUERY_BLOCK = 256    # queries at a time: scores take n_q_heads * 256 * T * 4 bytes, 134 MB at 4 heads and 32K
CHECK_TOKENS = 1024  # read by the reference model: more than the 512-token window of Gemma's sliding layers
CHECK_LOGITS = 256   # the last positions of those, whose logits are compared


class BadInput(Exception):
    """What the user has to mend, in one sentence: exit 2."""


class CheckFailed(Exception):
    """The capture is wrong: exit 4, and no file is left behind."""


# ---------------------------------------------------------------- the model's files

# GGUF's names are the names used here. Gemma has a norm before and after each block: Llama's
# post_attention_layernorm stands before the feed-forward, Gemma's after the attention.
HF_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
HF_NORM_NAMES = {
    "llama": {"ffn_norm": "post_attention_layernorm"},
    "gemma3": {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
               "post_ffw_norm": "post_feedforward_layernorm"},
}
HF_FIELDS = {
    "block_count": "num_hidden_layers", "embedding_length": "hidden_size",
    "context_length": "max_position_embeddings", "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "query_pre_attn_scalar": "query_pre_attn_scalar",
    "attention.sliding_window": "sliding_window", "attention.sliding_window_pattern": "sliding_window_pattern",
    "rope.freq_base": "rope_theta", "rope.freq_base_swa": "rope_local_base_freq",
}


def unpermute_rope_rows(w, n_heads):
    """Undo llama.cpp's reordering of the rows of a Llama Q or K matrix, w (n_heads * d, in).

    The model rotates element i with i + d/2. llama.cpp rotates neighbours, so its converter interleaves the
    halves. q.k does not care; the Hadamard transform of q or k does.
    """
    d = w.shape[0] // n_heads
    return w.reshape(n_heads, d // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


class GgufFile:
    """Fields and tensors of a GGUF file; tensors are dequantised to float32 when asked for."""

    def __init__(self, path):
        import gguf
        self.files = [path]
        self._dequantize = gguf.quants.dequantize
        try:
            self._reader = gguf.GGUFReader(path)
            self.arch = self._reader.get_field("general.architecture").contents()
        except Exception as e:  # whatever its parsing runs into
            raise BadInput(f"{path}: not a readable GGUF file: {e}") from e
        self._tensors = {t.name: t for t in self._reader.tensors}
        self.permuted = self.arch == "llama"  # Q and K rows are in llama.cpp's order
        if self.arch not in HF_NORM_NAMES:
            raise BadInput(f"{path}: architecture {self.arch!r} is not supported; llama and gemma3 are")
        if (self.field("rope.scaling.type", "none") != "none" or self.has("rope_freqs")
                or self.field("expert_count", 0)):
            raise BadInput(f"{path}: scaled RoPE and mixtures of experts are not supported")

    def field(self, name, *default):
        f = self._reader.get_field(f"{self.arch}.{name}")
        if f is None and not default:
            raise BadInput(f"{self.files[0]}: has no field {self.arch}.{name}")
        return default[0] if f is None else f.contents()

    def has(self, name):
        return name + ".weight" in self._tensors

    def get(self, name, layer=None, rows=slice(None)):
        full = name + ".weight" if layer is None else f"blk.{layer}.{name}.weight"
        if full not in self._tensors:
            raise BadInput(f"{self.files[0]}: has no tensor {full}")
        t = self._tensors[full]
        return self._dequantize(t.data[rows], t.tensor_type).astype(np.float32, copy=False)


class HfFolder:
    """The same of a Hugging Face folder: config.json and *.safetensors, by GGUF's names."""

    permuted = False

    def __init__(self, folder):
        try:
            c = self._config = json.loads((folder / "config.json").read_text())
            self.arch = {"llama": "llama", "gemma3_text": "gemma3"}[c.get("model_type")]
        except (OSError, ValueError) as e:
            raise BadInput(f"{folder}: no readable config.json: {e}") from e
        except KeyError as e:
            raise BadInput(f"{folder}: model_type {e} is not supported; llama and gemma3_text are") from e
        # transformers 5 writes rope_parameters, a pair for Gemma; older versions rope_theta and rope_scaling.
        ropes = c.get("rope_parameters") or {}
        ropes = [ropes.get("full_attention", ropes), ropes.get("sliding_attention", {})]
        for key, r in zip(("rope_theta", "rope_local_base_freq"), ropes):
            c[key] = r.get("rope_theta") or c.get(key)
        if "full_attention" in (c.get("layer_types") or []):
            c["sliding_window_pattern"] = c["layer_types"].index("full_attention") + 1
        if c.get("rope_scaling") or any(r.get("rope_type", "default") != "default" for r in ropes):
            raise BadInput(f"{folder}: scaled RoPE is not supported")
        if c.get("attention_bias") or c.get("mlp_bias"):
            raise BadInput(f"{folder}: biases are not supported")
        from safetensors import SafetensorError, safe_open
        self._names = HF_NAMES | HF_NORM_NAMES[self.arch]
        # Gemma's norms multiply by 1 + w. A folder holds w; llama.cpp's converter has added the 1.
        self._norm_bias = np.float32(self.arch == "gemma3")
        self.files, self._shards = sorted(folder.glob("*.safetensors")), {}
        for f in self.files:
            try:
                shard = safe_open(f, framework="pt")  # NumPy has no bfloat16
            except (OSError, SafetensorError) as e:
                raise BadInput(f"{f}: not a readable safetensors file: {e}") from e
            self._shards.update(dict.fromkeys(shard.keys(), shard))

    def field(self, name, *default):
        value = self._config.get(HF_FIELDS[name])
        if value is None and not default:
            raise BadInput(f"config.json of the model has no {HF_FIELDS[name]}")
        return default[0] if value is None else value

    def has(self, name):
        return self._names[name] + ".weight" in self._shards

    def get(self, name, layer=None, rows=slice(None)):
        full = ("" if layer is None else f"model.layers.{layer}.") + self._names[name] + ".weight"
        if full not in self._shards:
            raise BadInput(f"the *.safetensors files of the model have no tensor {full}")
        w = self._shards[full].get_tensor(full)[rows].float().numpy()
        return w + self._norm_bias if name.endswith("norm") else w


def weights_sha256(files):
    """SHA-256 of the files' bytes, one file after the other."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


@dataclass
class Model:
    path: Path
    name: str
    arch: str               # llama or gemma3
    weights: object         # GgufFile or HfFolder
    n_layers: int
    n_q_heads: int
    n_kv_heads: int
    d: int
    context: int            # tokens that the model was made for
    eps: float
    rope_base: float        # of the layers that see every token
    softmax_scale: float
    embed_scale: float = 1.0
    window: int = 0         # tokens that a sliding layer sees, its own included
    rope_base_local: float = 0.0
    sliding: tuple = ()     # the sliding layers


def load_model(path):
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such GGUF file or model folder")
    w = HfFolder(path) if path.is_dir() else GgufFile(path)
    n_q, hidden, n_layers = w.field("attention.head_count"), w.field("embedding_length"), w.field("block_count")
    d = w.field("attention.key_length", hidden // n_q)
    m = Model(path, path.resolve().name if path.is_dir() else path.stem, w.arch, w, n_layers, n_q,
              n_kv_heads=w.field("attention.head_count_kv", n_q), d=d, context=w.field("context_length"),
              eps=w.field("attention.layer_norm_rms_epsilon"), rope_base=float(w.field("rope.freq_base", 1e4)),
              softmax_scale=w.field("query_pre_attn_scalar", d) ** -0.5)
    if w.arch == "gemma3":
        m.embed_scale, m.window = math.sqrt(hidden), w.field("attention.sliding_window")
        # Files may leave these out; llama.cpp's defaults: every sixth layer sees all tokens, the rest a window.
        m.rope_base_local = float(w.field("rope.freq_base_swa", 1e4))
        pattern = w.field("attention.sliding_window_pattern", 6)
        m.sliding = tuple(i for i in range(n_layers) if (i + 1) % pattern)
    return m


# ---------------------------------------------------------------- forward pass

def rms_norm(x, w, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)) * w


def rope(x, base):
    """Rotate x (heads, T, d) by its positions 0..T-1, element i with element i + d/2."""
    T, d = x.shape[1:]
    # float64, because a float32 angle is 2e-3 rad off at position 32K
    angle = np.outer(np.arange(T), float(base) ** (-np.arange(0, d, 2) / d))
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    a, b = x[..., :d // 2], x[..., d // 2:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attention(q, k, v, scale, window):
    """Causal attention to the last `window` tokens: q and result (n_q_heads, T, d); k, v (n_kv_heads, T, d)."""
    (n_q, T, d), n_kv = q.shape, len(k)
    out = np.empty_like(q)
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


def layer_forward(m, i, x):
    """x (T, hidden) through layer i. Returns x and its attention's q, k, v, o, each (heads, T, d)."""
    gemma = m.arch == "gemma3"

    def weight(name):
        return m.weights.get(name, layer=i)

    def heads(h, name, n_heads):
        w = weight(name)
        if m.weights.permuted and name != "attn_v":
            w = unpermute_rope_rows(w, n_heads)
        return np.ascontiguousarray((h @ w.T).reshape(len(h), n_heads, m.d).swapaxes(0, 1))

    h = rms_norm(x, weight("attn_norm"), m.eps)
    q, k = heads(h, "attn_q", m.n_q_heads), heads(h, "attn_k", m.n_kv_heads)
    v = heads(h, "attn_v", m.n_kv_heads)
    if gemma:
        q, k = rms_norm(q, weight("attn_q_norm"), m.eps), rms_norm(k, weight("attn_k_norm"), m.eps)
    base, window = (m.rope_base_local, m.window) if i in m.sliding else (m.rope_base, len(x))
    q, k = rope(q, base), rope(k, base)
    o = attention(q, k, v, m.softmax_scale, window)
    h = o.swapaxes(0, 1).reshape(len(x), -1) @ weight("attn_output").T
    x = x + (rms_norm(h, weight("post_attention_norm"), m.eps) if gemma else h)
    h = rms_norm(x, weight("ffn_norm"), m.eps)
    gate = (gelu_tanh if gemma else silu)(h @ weight("ffn_gate").T)
    h = (gate * (h @ weight("ffn_up").T)) @ weight("ffn_down").T
    return x + (rms_norm(h, weight("post_ffw_norm"), m.eps) if gemma else h), (q, k, v, o)


def embed(m, tokens):
    return m.weights.get("token_embd", rows=tokens) * np.float32(m.embed_scale)


def forward_logits(m, tokens, n_last):
    """Next-token logits (n_last, vocabulary) of the last n_last positions."""
    x = embed(m, tokens)
    for i in range(m.n_layers):
        x, _ = layer_forward(m, i, x)
    x = rms_norm(x[-n_last:], m.weights.get("output_norm"), m.eps)
    head = "output" if m.weights.has("output") else "token_embd"  # small models tie the two
    return x @ m.weights.get(head).T


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


# ---------------------------------------------------------------- trace file

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


# ---------------------------------------------------------------- checks

# Against transformers on the same weights. Two float32 programs differ in the order of their sums: a product of
# 1000 terms is off by some 2^-24 * sqrt(1000) = 2e-6 of its size, 200 of them in a row by sqrt(200) times that,
# 3e-5, and the worst of 10^7 logits by five times the typical one. A wrong norm, RoPE or mask moves logits by
# their own size, so the limit may be generous. K is less deep, but the reference takes RoPE angles in float32, up
# to 1023 * 2^-24 = 6e-5 rad off in the tokens that it reads, and the trace rounds K.
LOGITS_LIMIT = 1e-3  # max |difference| / RMS logit
KV_LIMIT = 3e-4      # |difference| / |reference|, plus the unit roundoff of the trace


def quiet_transformers():
    """Import transformers so that it neither talks nor asks the network."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import transformers
    transformers.utils.logging.set_verbosity_error()
    return transformers


def pretrained_args(path):
    """The arguments of from_pretrained() for a GGUF file or a folder."""
    return ({"pretrained_model_name_or_path": path} if path.is_dir()
            else {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name})


def check_model(m, tokens, tensors, layers, dtype):
    """Compare our logits, and the file's K and V, with transformers. Returns the lines to print."""
    import torch
    auto = quiet_transformers().AutoModelForCausalLM
    reference = auto.from_pretrained(**pretrained_args(m.path), dtype=torch.float32)
    n = min(len(tokens), CHECK_TOKENS)
    n_last = min(n, CHECK_LOGITS)
    with torch.no_grad():
        out = reference(torch.from_numpy(tokens[None, :n]), use_cache=True, logits_to_keep=n_last)
    ref, ours = out.logits[0].numpy(), forward_logits(m, tokens[:n], n_last)
    limit = LOGITS_LIMIT * math.sqrt(np.mean(np.square(ref, dtype=np.float64)))
    worst = np.abs(ours - ref).max()
    same = (ours.argmax(1) == ref.argmax(1)).sum()
    lines = [f"logits of {n_last} tokens against transformers: max abs difference {worst:.2e} "
             f"(limit {limit:.2e}), same argmax in {same} of {n_last}"]
    if not worst <= limit:
        raise CheckFailed("the forward pass is not the model's: " + lines[0])
    limit = KV_LIMIT + UNIT_ROUNDOFF[dtype]
    for i in layers:
        cache = out.past_key_values.layers[i]
        for name, r in ((f"layers.{i}.k", cache.keys[0].numpy()), (f"layers.{i}.v", cache.values[0].numpy())):
            error = np.linalg.norm(tensors[name][:, :n] - r) / np.linalg.norm(r)
            lines.append(f"{name} of {n} tokens against its cache: rel-L2 {error:.2e} (limit {limit:.2e})")
            if not error <= limit:
                raise CheckFailed("the file does not hold what the model caches: " + lines[-1])
    return lines


def check_outputs(tensors, layers, scale, dtype):
    """Recompute `o` from the file in float64. Returns the largest rel-L2 and the largest error / tolerance.

    The tolerance of a step and head follows from the rounding of the file. An element x is off by at most u |x|,
    evenly spread: a variance of u^2 x^2 / 3. The score s_j = scale sum_i q_i k_ij then has the standard deviation
    sigma_j = scale u sqrt(2/3 sum_i (q_i k_ij)^2), and to first order o moves by sum_j p_j ds_j (v_j - o), and by
    the rounding of V. Four sigma in every score, all to the same side: sum_j p_j (4 sigma_j |v_j - o| + u |v_j|).
    The 2^-20 in u is for the float32 arithmetic of the forward pass.
    """
    u = UNIT_ROUNDOFF[dtype] + 2.0 ** -20
    worst = worst_ratio = 0.0
    for i in layers:
        k, v, q, o = (tensors[f"layers.{i}.{name}"].astype(np.float64) for name in "kvqo")
        for step, pos in enumerate(tensors["positions"]):
            for head in range(q.shape[1]):
                kv_head = head * len(k) // q.shape[1]
                values = v[kv_head, :pos + 1]
                terms = k[kv_head, :pos + 1] * q[step, head]
                s = terms.sum(axis=1) * scale
                p = np.exp(s - s.max())
                p /= p.sum()
                y = p @ values
                sigma = scale * u * np.sqrt(2 / 3 * np.square(terms).sum(axis=1))
                tolerance = p @ (4 * sigma * np.linalg.norm(values - y, axis=1)
                                 + u * np.linalg.norm(values, axis=1))
                error = np.linalg.norm(y - o[step, head])
                worst = np.maximum(worst, error / np.linalg.norm(y))  # unlike max(), keeps a NaN
                worst_ratio = np.maximum(worst_ratio, error / tolerance)
    return worst, worst_ratio


# ---------------------------------------------------------------- command line

def read_tokens(m, text_file, n_tokens):
    try:
        text = Path(text_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{text_file}: not a readable UTF-8 text: {e}") from e
    try:
        tokenise = quiet_transformers().AutoTokenizer.from_pretrained(**pretrained_args(m.path))
    except (OSError, ValueError) as e:
        raise BadInput(f"{m.path}: transformers cannot load its tokeniser: {e}") from e
    ids = tokenise(text).input_ids
    if len(ids) < n_tokens:
        raise BadInput(f"{text_file}: has {len(ids)} tokens, but the last captured position is {n_tokens - 1}")
    return np.array(ids[:n_tokens], np.int64)


def plan_positions(steps_at, n_steps, context, limit):
    """Positions to capture, increasing: n_steps from each of steps_at, or the last n_steps of the context."""
    starts = sorted(steps_at) if steps_at else [context - n_steps]
    last = starts[-1] + n_steps - 1
    if n_steps < 1 or starts[0] < 0:
        raise BadInput(f"--n-steps {n_steps} from position {starts[0]}: at least one step, from 0 on, is needed")
    if last >= limit:
        raise BadInput(f"the last captured position is {last}, but the model's context ends at {limit - 1}")
    for a, b in zip(starts, starts[1:]):
        if b < a + n_steps:
            raise BadInput(f"--steps-at {a},{b}: the {n_steps} steps from {a} run into those from {b}")
    return np.concatenate([np.arange(a, a + n_steps, dtype=np.int64) for a in starts])


def plan_layers(asked, m):
    """Layers to capture. A sliding layer has no dense output over the whole context, so it is no candidate."""
    candidates = [i for i in range(m.n_layers) if i not in m.sliding]
    if asked is None:
        asked = [candidates[len(candidates) // 2], candidates[5 * len(candidates) // 6]]
    for i in asked:
        if i not in candidates:
            raise BadInput(f"--layers {i}: the layers of {m.name} that see the whole context are "
                           f"{', '.join(map(str, candidates))}")
    return sorted(set(asked))


def parse_args(argv):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise BadInput(message)

    def int_list(s):
        return [int(x) for x in s.split(",")]

    int_list.__name__ = "list of integers"  # argparse names it in its message
    p = Parser(prog="capture.py", allow_abbrev=False, epilog=__doc__.strip().splitlines()[-1],
               description="Capture Q, K, V and the dense attention output of a local language model.")
    add = p.add_argument
    add("--model", required=True, metavar="PATH", help="GGUF file, or folder of config.json and *.safetensors")
    add("--text", required=True, metavar="FILE", help="UTF-8 text to read")
    add("--out", required=True, metavar="FILE", help="trace to write (.safetensors)")
    add("--layers", type=int_list, metavar="L", help="layers, as 14,24 (default: a middle and a late one)")
    add("--n-steps", type=int, default=64, metavar="N", help="positions in a row to capture (default: 64)")
    where = p.add_mutually_exclusive_group()
    where.add_argument("--steps-at", type=int_list, metavar="P", help="first of the N positions, as 1024,4096")
    where.add_argument("--context", type=int, default=4096, metavar="T",
                       help="otherwise capture the last N positions of T tokens (default: 4096)")
    add("--dtype", choices=list(UNIT_ROUNDOFF), default="f16", help="of q, k, v (default: f16); o is f32")
    add("--text-source", metavar="S", help="for the metadata (default: the text's file name)")
    add("--text-licence", metavar="S", default="not stated", help="for the metadata")
    add("--verify", action=argparse.BooleanOptionalAction, default=True,
        help="check the forward pass against transformers, and o against the written file (default: on)")
    add("--version", action="version", version=f"capture.py {VERSION}")
    return p.parse_args(argv)


def command_line(args, argv):
    """The command as it was typed, but for the folders of its files."""
    names = {p: Path(p).resolve().name for p in (args.model, args.text, args.out)}
    words = [names.get(a) or "=".join(names.get(part, part) for part in a.split("=", 1)) for a in argv]
    return shlex.join(["traces/model/capture.py", *words])


def run(argv):
    args = parse_args(argv)
    out = Path(args.out)
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"--out {args.out}: must name a file in a folder that exists")
    m = load_model(args.model)
    layers = plan_layers(args.layers, m)
    positions = plan_positions(args.steps_at, args.n_steps, args.context, m.context)
    tokens = read_tokens(m, args.text, int(positions[-1]) + 1)
    print(f"{m.name}: {m.arch}, {m.n_layers} layers, {m.n_q_heads} query heads, {m.n_kv_heads} KV heads, "
          f"d = {m.d}; {len(tokens)} tokens, layers {layers}, {len(positions)} steps", flush=True)

    blob = encode_trace(capture(m, tokens, positions, layers), positions, tokens, args.dtype, {
        "format": "adamas-trace/1", "kind": "real", "created_by": f"capture.py {VERSION}",
        "model": m.name, "n_layers_model": str(m.n_layers), "weights_sha256": weights_sha256(m.weights.files),
        "softmax_scale": repr(m.softmax_scale), "rope_base": repr(m.rope_base),
        "text_source": args.text_source or Path(args.text).name, "text_licence": args.text_licence,
        "capture_command": command_line(args, argv),
    })
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as f:
            f.write(blob)
            f.flush()
            os.fsync(f.fileno())
        if args.verify:
            _, tensors = read_trace(temporary)
            worst, ratio = check_outputs(tensors, layers, m.softmax_scale, args.dtype)
            line = f"o from the file, in float64: rel-L2 at most {worst:.2e}, {ratio:.2f} of its tolerance"
            if not ratio <= 1:
                raise CheckFailed("the file does not reproduce its own output: " + line)
            print(line, *check_model(m, tokens, tensors, layers, args.dtype), sep="\n")
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{args.out}: {len(blob)} bytes" + ("" if args.verify else ", not verified"))


def main(argv=None):
    try:
        run(sys.argv[1:] if argv is None else argv)
    except BadInput as e:
        print(f"capture.py: {e}", file=sys.stderr)
        return 2
    except CheckFailed as e:
        print(f"capture.py: check failed: {e}", file=sys.stderr)
        return 4
    except (ImportError, OSError) as e:
        hint = "; `pip install -r traces/model/requirements.txt` brings it" if isinstance(e, ImportError) else ""
        print(f"capture.py: {e}{hint}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())

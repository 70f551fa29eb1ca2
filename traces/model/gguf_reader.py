"""Reads a model from a GGUF file: what its fields say, and its tensors, dequantised to float32 when asked for.

A field of the model's architecture that this reader does not know is refused by name: it may change the attention.
"""
import math
from dataclasses import replace

import numpy as np

from architecture import ALL, FAMILIES, Model, accept
from bad_input import BadInput, refuse_lfs_pointer
from rope import LongRope, Rope, yarn, yarn_amplitude

YARN = ("llama", "qwen2", "qwen3")  # architectures it is tested with
ARCHITECTURES = [arch for arch in FAMILIES if arch != "mistral"]  # whose GGUF files say llama

# Fields that do not change what is computed, or whose value would, and the value at which they do not.
ANY = object()
HARMLESS = {
    "vocab_size": ANY, "tensor_data_layout": ANY, "pooling_type": ANY, "rope.scaling.finetuned": ANY,
    "rope.scaling.original_context_length": ANY,  # which YaRN and LongRoPE alone use
    "rope.scaling.attn_factor": 1, "rope.scaling.yarn_ext_factor": 1, "rope.scaling.yarn_attn_factor": 1,
    "attention.causal": True, "expert_count": 0, "expert_used_count": 0, "use_parallel_residual": False,
    "attn_logit_softcapping": 0, "final_logit_softcapping": 0, "attention.sliding_window": 0,
}


class GgufFile:
    """Fields and tensors of a GGUF file."""

    def __init__(self, path):
        import gguf
        refuse_lfs_pointer(path)
        self.files, self.left_out = [path], ()
        self._dequantize, self._understood = gguf.quants.dequantize, set()
        try:
            self._reader = gguf.GGUFReader(path)
            self.arch = self._reader.get_field("general.architecture").contents()
        except Exception as e:  # whatever its parsing runs into
            raise BadInput(f"{path}: not a readable GGUF file: {e}") from e
        if self.arch not in ARCHITECTURES:
            raise BadInput(f"{path}: architecture {self.arch!r} is not supported; {', '.join(ARCHITECTURES)} are")
        self.permuted = self.arch == "llama"  # Q and K rows are in llama.cpp's order
        self._tensors = {t.name: t for t in self._reader.tensors}
        self.shapes = {name: tuple(map(int, reversed(t.shape))) for name, t in self._tensors.items()}
        self._check_file()

    def _check_file(self):
        path, kinds = self.files[0], {t.tensor_type: t for t in self._tensors.values()}
        kind, parts = self._value("general.type"), self._value("split.count")
        if kind not in (None, "model"):
            raise BadInput(f"{path}: holds no model: general.type is {kind!r}")
        if parts not in (None, 0, 1):
            raise BadInput(f"{path}: is one of {parts} parts; join them with `llama-gguf-split --merge`")
        for t in kinds.values():
            try:
                self._dequantize(t.data[:1], t.tensor_type)
            except Exception as e:
                raise BadInput(f"{path}: tensor {t.name} is of type {t.tensor_type.name}, which the package gguf "
                               "cannot dequantise") from e

    def _value(self, full_name):
        f = self._reader.get_field(full_name)
        return None if f is None else f.contents()

    def value(self, name, *default):
        """Any value of the field {architecture}.{name}, which is understood from now on."""
        self._understood.add(name)
        value = self._value(f"{self.arch}.{name}")
        if value is None and not default:
            raise BadInput(f"{self.files[0]}: has no field {self.arch}.{name}")
        return default[0] if value is None else value

    def number(self, name, *default):
        """One number; some converters write a list, one value per layer."""
        value = self.value(name, *default)
        if isinstance(value, list | tuple | np.ndarray):
            raise BadInput(f"{self.files[0]}: {self.arch}.{name} has a value per layer; one for all layers is supported")
        if isinstance(value, bool | str):
            raise BadInput(f"{self.files[0]}: {self.arch}.{name} is {value!r}, not a number")
        return value

    def refuse_fields_left_over(self):
        prefix = self.arch + "."
        for full in self._reader.fields:
            name = full.removeprefix(prefix)
            if not full.startswith(prefix) or name in self._understood:
                continue
            value = self._value(full)
            if name not in HARMLESS or (HARMLESS[name] is not ANY and value != HARMLESS[name]):
                raise BadInput(f"{self.files[0]}: field {full} = {value!r} is not supported: it may change what the "
                               "model computes")

    def file_name(self, name):
        return name

    def read(self, name, rows=ALL):
        t = self._tensors[name]
        return self._dequantize(t.data[rows], t.tensor_type).astype(np.float32, copy=False)

    def take(self, name):
        """Float values of a tensor that is no weight of a layer; it counts as used."""
        if name not in self.shapes:
            raise BadInput(f"{self.files[0]}: has no tensor {name}")
        values = self.read(name)
        del self.shapes[name]
        return values


def read_ropes(w, d):
    """Fields of a Model: the Rope of the layers that see every token, that of long sessions, what transformers calls them
    with YaRN or LongRoPE, and the tokens that the model was made for."""
    base, context = float(w.number("rope.freq_base", *([] if w.arch == "gemma3" else [1e4]))), w.number("context_length")
    rope = Rope(base, w.number("rope.dimension_count", d))
    if rope.n_rotated != d and w.arch != "phi3":
        raise BadInput(f"{w.files[0]}: {w.arch}.rope.dimension_count is {rope.n_rotated} of {d}: partial RoPE is supported "
                       "for phi3 alone")
    kind = w.value("rope.scaling.type", "linear")  # llama.cpp's default where there is a factor
    factor = w.number("rope.scaling.factor", 0) or w.number("rope.scale_linear", 0) or 1
    if kind == "yarn" and w.arch in YARN:
        return read_yarn(w, rope, factor, context)
    if any(f"rope_factors_{name}.weight" in w.shapes for name in ("long", "short")) and w.arch == "phi3":
        if factor != 1 or kind not in ("linear", "none", "longrope"):
            raise BadInput(f"{w.files[0]}: scales RoPE twice, by rope_factors_long.weight and by {w.arch}.rope.scaling.factor")
        return read_longrope(w, rope, context)
    if kind not in ("none", "linear"):
        raise BadInput(f"{w.files[0]}: {w.arch}.rope.scaling.type {kind!r} is not supported here; linear scaling and the "
                       f"rope_freqs of Llama 3 are, yarn for {', '.join(YARN)}, and the factors of LongRoPE for phi3")
    divisors = (float(factor),) * (rope.n_rotated // 2) if kind == "linear" and factor != 1 else ()
    if w.arch == "llama" and "rope_freqs.weight" in w.shapes:
        if divisors:
            raise BadInput(f"{w.files[0]}: scales RoPE twice, by rope_freqs.weight and by {w.arch}.rope.scaling.factor")
        divisors = tuple(map(float, w.take("rope_freqs.weight")))
    return {"rope": replace(rope, divisors=divisors), "context": context}


def read_yarn(w, rope, factor, context):
    """As llama.cpp reads it; its attn_factor multiplies what transformers derives from the factor."""
    original = w.number("rope.scaling.original_context_length", context)
    betas = w.number("rope.scaling.yarn_beta_fast", 32), w.number("rope.scaling.yarn_beta_slow", 1)
    amplitude = yarn_amplitude(factor) * w.number("rope.scaling.attn_factor", 1)
    return {"rope": yarn(rope, factor, original, *betas, amplitude), "context": max(context, int(factor * original)),
            "rope_settings": {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
                              "beta_fast": betas[0], "beta_slow": betas[1], "attention_factor": amplitude}}


def read_longrope(w, rope, context):
    """llama.cpp multiplies cos and sin by attn_factor at every length."""
    original = w.number("rope.scaling.original_context_length")
    amplitude = float(w.number("rope.scaling.attn_factor", 1))
    factors = {name: tuple(map(float, w.take(f"rope_factors_{name}.weight"))) for name in ("short", "long")}
    short, long = (replace(rope, divisors=factors[name], amplitude=amplitude) for name in ("short", "long"))
    return {"rope": short, "rope_long": LongRope(original, long), "context": context,
            "rope_settings": {"rope_type": "longrope", "original_max_position_embeddings": original,
                              "short_factor": list(factors["short"]), "long_factor": list(factors["long"]),
                              "attention_factor": amplitude}}


def read_windows(w, n_layers):
    if w.arch not in ("gemma3", "phi3"):
        return (0,) * n_layers
    window = w.number("attention.sliding_window", *([] if w.arch == "gemma3" else [0]))
    if w.arch == "phi3":
        return (window,) * n_layers
    pattern = w.value("attention.sliding_window_pattern", 6)  # llama.cpp's default: every sixth layer sees all
    slides = [(i + 1) % pattern != 0 for i in range(n_layers)] if isinstance(pattern, int) else list(map(bool, pattern))
    if len(slides) != n_layers:
        raise BadInput(f"{w.files[0]}: attention.sliding_window_pattern has {len(slides)} values for {n_layers} layers")
    return tuple(window if s else 0 for s in slides)


def read_gguf(path):
    """The Model in a GGUF file, or BadInput with the field or tensor that is not supported."""
    w = GgufFile(path)
    n_q, hidden, n_layers = (w.number(name) for name in ("attention.head_count", "embedding_length", "block_count"))
    d = w.number("attention.key_length", hidden // n_q)
    if w.number("attention.value_length", d) != d:
        raise BadInput(f"{path}: keys and values have heads of different dimensions")
    gemma, scale = w.arch == "gemma3", d ** -0.5
    if gemma and n_layers == 62:  # Gemma 3 27B scales by another size, which its GGUF file does not state
        scale = (hidden // n_q) ** -0.5
    if not math.isclose(w.number("attention.scale", scale), scale, rel_tol=1e-6):
        raise BadInput(f"{path}: {w.arch}.attention.scale is {w.number('attention.scale')}; only {scale:.6g} is supported")
    m = Model(path, path.stem, w.arch, w, n_layers, n_q, n_kv_heads=w.number("attention.head_count_kv", n_q), d=d,
              hidden=hidden, n_feed_forward=w.number("feed_forward_length"),
              eps=w.number("attention.layer_norm_rms_epsilon"), **read_ropes(w, d),
              rope_local=Rope(float(w.number("rope.freq_base_swa", 1e4)), d) if gemma else None,
              windows=read_windows(w, n_layers), softmax_scale=scale, embed_scale=math.sqrt(hidden) if gemma else 1.0,
              tied="output.weight" not in w.shapes)
    w.refuse_fields_left_over()
    return accept(m)

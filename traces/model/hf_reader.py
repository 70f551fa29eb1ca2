"""Reads a model from a Hugging Face folder: config.json, and model.safetensors or the shards of its index.

A setting that this reader does not know is refused where its name sounds like something that changes the model; a
weight that is not float32, bfloat16 or float16 is refused, because its scales are stored elsewhere.
"""
import json
import math
import re

import numpy as np

from architecture import ALL, Model, accept
from bad_input import BadInput, refuse_lfs_pointer
from hf_rope import read_ropes

MODEL_TYPES = {"llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3",
               "gemma3": "gemma3", "phi3": "phi3"}
TYPES = ("F32", "BF16", "F16")

# GGUF's names. Gemma has a norm before and after each block: Llama's post_attention_layernorm comes before the
# feed-forward, Gemma's after the attention.
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm",
}
FAMILY_NAMES = {
    "gemma3": {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
               "post_ffw_norm": "post_feedforward_layernorm"},
    "phi3": {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
}

# Gemma 3 with vision: where the text model's tensors are (transformers 4 and 5 differ), and those that no text reaches.
TEXT_MODEL = (("language_model.model.", "model."), ("language_model.lm_head.", "lm_head."), ("model.language_model.", "model."))
VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")

# What Gemma's config.json leaves out where it is transformers' default: the files of 4B to 27B state none of it.
GEMMA_DEFAULTS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
                  "rms_norm_eps": 1e-6, "sliding_window": 4096}

# Names of settings that may change what is computed, and among those the ones known not to.
SUSPECT = re.compile("attn|attention|rope|rotary|head|window|sliding|norm|bias|scal|softcap|expert|moe|multiplier|layer|"
                     "residual|position|quant|qk|kv|lora|mlp|logit|hidden|embed|act|adapter|transformers_weights")
HARMLESS = re.compile("_.*|architectures|pretraining_tp|.*dropout|.*pdrop|cache_implementation|num_logits_to_keep|"
                      "initializer_range|output_hidden_states|output_attentions|problem_type|chunk_size_feed_forward|"
                      "original_max_position_embeddings|max_window_layers")
HARMLESS_AT_ONE = ("full_attn_mod", "interpolate_factor")  # Phi-4-mini states them; transformers knows neither


class Config:
    """The settings of config.json; those taken are understood."""

    def __init__(self, folder):
        self.folder, self._taken = folder, set()
        path = folder / "config.json"
        try:
            refuse_lfs_pointer(path)
            self._values = json.loads(path.read_text(encoding="utf-8-sig"))
            self.arch = MODEL_TYPES.get(self._values.get("model_type"))
            self.has_vision = self._values.get("model_type") == "gemma3"
            if self.has_vision:
                tied = self._values.get("tie_word_embeddings", True)  # the text model's own does not count
                self._values |= self._values["text_config"] | {"tie_word_embeddings": tied}
            if self.arch == "gemma3":
                self._values = GEMMA_DEFAULTS | self._values
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as e:
            raise BadInput(f"{folder}: no readable config.json: {e}") from e
        if not self.arch:
            raise BadInput(f"{folder}: model_type {self._values.get('model_type')!r} is not supported; "
                           f"{', '.join(MODEL_TYPES)} are")

    def take(self, name, *default):
        self._taken.add(name)
        value = self._values.get(name)
        if value is None and not default:
            raise BadInput(f"{self.folder}: config.json has no {name}")
        return default[0] if value is None else value

    def number(self, name, *default):
        value = self.take(name, *default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInput(f"{self.folder}: config.json: {name} is {value!r}; one number is supported")
        return value

    def states(self, name):
        """Whether the file has the setting, be it null."""
        return name in self._values

    def refuse_settings_left_over(self):
        quantised = self._values.get("quantization_config")
        if quantised:
            method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
            raise BadInput(f"{self.folder}: its weights are quantised ({method}); float32, bfloat16 or float16 is needed")
        for name, value in self._values.items():
            if not value or name in self._taken or (value == 1 and name in HARMLESS_AT_ONE):
                continue
            if SUSPECT.search(name) and not HARMLESS.fullmatch(name):
                raise BadInput(f"{self.folder}: config.json: {name} = {json.dumps(value)[:60]} is not supported: it may "
                               "change what the model computes")


def weight_files(folder):
    """The files to read, and where an index says each tensor is: ([path], {tensor: path} or None)."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if (folder / "adapter_config.json").exists():
        raise BadInput(f"{folder}: has an adapter beside the model (adapter_config.json); merge it, or move it away")
    if single.exists() and index.exists():
        raise BadInput(f"{folder}: has both model.safetensors and an index of shards, and programs differ in which they "
                       "read; move one away")
    if single.exists():
        return [single], None
    if not index.exists():
        raise BadInput(f"{folder}: has neither model.safetensors nor model.safetensors.index.json")
    try:
        refuse_lfs_pointer(index)
        where = {name: folder / file for name, file in json.loads(index.read_text())["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(f"{index}: not a readable index: {e}") from e
    for path in where.values():
        if path.resolve().parent != folder.resolve():
            raise BadInput(f"{index}: names {path.name} outside the folder")
    return sorted(set(where.values())), where


class HfFolder:
    """The tensors of a folder, by GGUF's names."""

    permuted = False

    def __init__(self, folder, arch, has_vision=False):
        from safetensors import SafetensorError, safe_open
        self.files, where = weight_files(folder)
        self._names = NAMES | FAMILY_NAMES.get(arch, {})
        # Gemma's norms multiply by 1 + w. A folder holds w; llama.cpp's converter has added the 1.
        self._norm_bias = np.float32(arch == "gemma3")
        short = {full: name for name, full in self._names.items()}
        self._shards, self._full, self.shapes = {}, {}, {}
        self._has_vision, self.left_out = has_vision, []  # names of tensors
        for path in self.files:
            try:
                refuse_lfs_pointer(path)
                shard = safe_open(path, framework="pt")  # NumPy has no bfloat16
            except (OSError, SafetensorError) as e:
                raise BadInput(f"{path}: not a readable safetensors file: {e}") from e
            for full in list(shard.keys()):  # an object of the library, which is no dictionary
                if where is not None and where.get(full) != path:
                    raise BadInput(f"{path}: has the tensor {full}, which the index does not place there")
                self._add(path, shard, full, short)
        for full in where or ():
            if full not in self._shards:
                raise BadInput(f"{where[full]}: has no tensor {full}, which the index places there")

    def _add(self, path, shard, full, short):
        self._shards[full] = shard
        if self._has_vision and full.startswith(VISION):
            self.left_out.append(full)
            return
        text = full
        for theirs, ours in TEXT_MODEL if self._has_vision else ():
            text = ours + full.removeprefix(theirs) if full.startswith(theirs) else text
        layer, name, suffix = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.*?)(\.weight|\.bias|)", text).groups()
        s = shard.get_slice(full)
        if s.get_dtype() not in TYPES and not full.endswith(("_scale", "_scale_inv")):
            raise BadInput(f"{path}: tensor {full} is of type {s.get_dtype()}; float32, bfloat16 or float16 is needed")
        name = short[name] + suffix if name in short and suffix else full
        name = name if layer is None or name == full else f"blk.{layer}.{name}"
        if name in self._full:
            raise BadInput(f"{path}: has the tensor {full}, and {self._full[name]} of the same use")
        self._full[name], self.shapes[name] = full, tuple(s.get_shape())

    def file_name(self, name):
        if name in self._full:
            return self._full[name]
        layer, name, suffix = re.fullmatch(r"(?:blk\.(\d+)\.)?(.*)(\.\w+)", name).groups()
        return ("" if layer is None else f"model.layers.{layer}.") + self._names[name] + suffix

    def read(self, name, rows=ALL):
        full = self._full[name]
        w = self._shards[full].get_tensor(full)[rows].float().numpy()
        return w + self._norm_bias if name.endswith("norm.weight") else w

    def take_frequencies(self, rope):
        """Old checkpoints store RoPE's frequencies, which programs compute; they must be those."""
        for full in [name for name in self.shapes if name.endswith("rotary_emb.inv_freq")]:
            if not np.allclose(self.read(full), rope.frequencies(), rtol=1e-2):
                raise BadInput(f"tensor {full} is not what rope_theta gives")
            del self.shapes[full]

    def take_tied_head(self):
        """A folder may hold the output matrix although it is tied to the embedding; both must be equal."""
        if "output.weight" in self.shapes:
            if not np.array_equal(self.read("output.weight"), self.read("token_embd.weight")):
                raise BadInput("config.json ties lm_head to the embedding, but the folder has another lm_head.weight")
            del self.shapes["output.weight"]


def read_windows(c, n_layers):
    """Tokens that each layer sees, 0: all; with the defaults of transformers 5."""
    kinds, has_default = c.take("layer_types", None), c.arch in ("mistral", "gemma3", "qwen2", "qwen3")
    window = c.number("sliding_window", 4096 if has_default and not c.states("sliding_window") else 0)
    if c.arch in ("qwen2", "qwen3"):
        window = window if c.take("use_sliding_window", False) else 0
        first = c.number("max_window_layers", 28)
        slides = [window > 0 and i >= first for i in range(n_layers)]
    elif c.arch == "gemma3":
        pattern = c.number("sliding_window_pattern", c.number("_sliding_window_pattern", 6))
        slides = [(i + 1) % pattern != 0 for i in range(n_layers)]
    else:
        slides = [window > 0] * n_layers
    if c.arch == "llama" and window:
        raise BadInput(f"{c.folder}: config.json: sliding_window {window}: Llama's attention has none")
    if kinds is not None:
        if len(kinds) != n_layers or set(kinds) - {"full_attention", "sliding_attention"}:
            raise BadInput(f"{c.folder}: config.json: layer_types must name full_attention or sliding_attention for each of "
                           f"{n_layers} layers")
        asked = [kind == "sliding_attention" for kind in kinds]
        if asked != slides and c.arch not in ("qwen2", "qwen3", "gemma3"):
            raise BadInput(f"{c.folder}: config.json: layer_types and sliding_window do not agree")
        slides = asked
    if any(slides) and window < 1:
        raise BadInput(f"{c.folder}: config.json: layers of sliding_attention, but no sliding_window")
    return tuple(window if s else 0 for s in slides)


def read_biases(c):
    """The linear maps with a bias, by what config.json says; Qwen2's are part of the architecture."""
    if c.arch not in ("llama", "qwen3"):
        return ()
    attention = ("attn_q", "attn_k", "attn_v", "attn_output") if c.take("attention_bias", False) else ()
    mlp = ("ffn_gate", "ffn_up", "ffn_down") if c.arch == "llama" and c.take("mlp_bias", False) else ()
    return attention + mlp


def check_activation(c):
    wanted = "gelu_pytorch_tanh" if c.arch == "gemma3" else "silu"
    for name in ("hidden_act", "hidden_activation"):
        given = c.take(name, wanted)
        # Gemma's config has both, and hidden_activation counts
        if given != wanted and not (c.arch == "gemma3" and name == "hidden_act"):
            raise BadInput(f"{c.folder}: config.json: {name} {given!r} is not supported; {c.arch} uses {wanted}")


def read_folder(folder):
    """The Model in a Hugging Face folder, or BadInput with the setting or tensor that is not supported."""
    c = Config(folder)
    gemma, n_q, hidden = c.arch == "gemma3", c.number("num_attention_heads"), c.number("hidden_size")
    n_layers = c.number("num_hidden_layers")
    d = c.number("head_dim", {"gemma3": 256, "qwen3": 128}.get(c.arch, hidden // n_q))
    n_kv = c.number("num_key_value_heads", *([n_q] if c.arch in ("llama", "phi3") or c.states("num_key_value_heads") else []))
    ropes = read_ropes(c, d)
    check_activation(c)
    tied = bool(c.take("tie_word_embeddings", gemma))
    scale = c.number("query_pre_attn_scalar", 256) ** -0.5 if gemma else d ** -0.5
    fields = dict(n_layers=n_layers, n_q_heads=n_q, n_kv_heads=n_kv, d=d, hidden=hidden,
                  n_feed_forward=c.number("intermediate_size"), eps=c.number("rms_norm_eps"),
                  windows=read_windows(c, n_layers), softmax_scale=scale, embed_scale=math.sqrt(hidden) if gemma else 1.0,
                  biases=read_biases(c), tied=tied, **ropes)
    c.refuse_settings_left_over()
    w = HfFolder(folder, c.arch, c.has_vision)
    m = Model(folder, folder.resolve().name, c.arch, w, **fields)
    try:
        w.take_frequencies(m.rope)
        if tied:
            w.take_tied_head()
    except BadInput as e:
        raise BadInput(f"{folder}: {e}") from e
    return accept(m)

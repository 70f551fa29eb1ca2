"""Small random models of each architecture, made by transformers, as Hugging Face folders and as GGUF files.

The GGUF files are written as llama.cpp's converter writes them: its names, its order of Llama's Q and K rows, Gemma's
norms with their 1 added, Llama 3's scaling as the tensor rope_freqs. Every parameter is random and matters.
"""
import importlib.util
import math
import os
import re

import numpy as np
import pytest

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "gguf", "accelerate", "xxhash")


def skip_module_without_models():
    """Skips a test file where the packages of traces/model/requirements.txt are absent; tests/run.py --with-models has them."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent and "ADAMAS_WITH_MODELS" in os.environ:
        pytest.fail(f"not installed in the environment of the model tests: {', '.join(absent)}")
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}; `./configure.py --setup test --with-models` adds them and runs "
                    "these tests", allow_module_level=True)



SIZES = dict(vocab_size=258, hidden_size=256, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
             num_hidden_layers=3, max_position_embeddings=512, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0,
             pad_token_id=0, tie_word_embeddings=False)
PLAIN = {"rope_type": "default", "rope_theta": 1e4}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 128}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
FACTORS = np.random.default_rng(9).uniform(1, 9, (2, 24)).round(3).tolist()
LONGROPE = dict(original_max_position_embeddings=100, rope_parameters={
    "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75, "short_factor": FACTORS[0],
    "long_factor": FACTORS[1]})
GEMMA = dict(head_dim=64, sliding_window=32, query_pre_attn_scalar=64, tie_word_embeddings=True, num_hidden_layers=4,
             layer_types=["sliding_attention", "full_attention"] * 2,
             rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1e6},
                              "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})

VISION = dict(vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                                 image_size=28, patch_size=14),
              mm_tokens_per_image=4, image_token_index=257, boi_token_index=256, eoi_token_index=255)

# name: (transformers' configuration, what differs from SIZES, GGUF architecture or None)
MODELS = {
    "llama": ("LlamaConfig", {}, "llama"),
    "llama of hidden size 96, tied": ("LlamaConfig", dict(hidden_size=96, head_dim=64, tie_word_embeddings=True), "llama"),
    "llama 3": ("LlamaConfig", dict(rope_parameters=LLAMA3), "llama"),
    "llama, linear RoPE": ("LlamaConfig", dict(rope_parameters=PLAIN | {"rope_type": "linear", "factor": 4.0}), "llama"),
    "llama, YaRN": ("LlamaConfig", dict(rope_parameters=YARN), "llama"),
    "llama with biases": ("LlamaConfig", dict(attention_bias=True, mlp_bias=True), None),
    "mistral": ("MistralConfig", dict(sliding_window=None), "llama"),
    "mistral, windowed": ("MistralConfig", dict(sliding_window=40), None),
    "mistral, YaRN with weights": ("MistralConfig", dict(sliding_window=None, rope_parameters=YARN | {
        "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": False}), None),
    "qwen2": ("Qwen2Config", {}, "qwen2"),
    "qwen2, YaRN": ("Qwen2Config", dict(rope_parameters=YARN | {"rope_theta": 1e6}), "qwen2"),
    "qwen2, windowed from layer 1": ("Qwen2Config", dict(
        use_sliding_window=True, sliding_window=40, max_window_layers=1), None),
    "qwen3": ("Qwen3Config", dict(hidden_size=96, head_dim=64), "qwen3"),
    "qwen3, YaRN with betas": ("Qwen3Config", dict(hidden_size=96, head_dim=64, rope_parameters=YARN | {
        "beta_fast": 8.0, "beta_slow": 2.0}), "qwen3"),
    "qwen3, YaRN with its own amplitude": ("Qwen3Config", dict(hidden_size=96, head_dim=64, rope_parameters=YARN | {
        "attention_factor": 1.5}), None),
    "qwen3 with biases": ("Qwen3Config", dict(hidden_size=96, head_dim=64, attention_bias=True), None),
    "gemma3": ("Gemma3TextConfig", GEMMA, "gemma3"),
    "gemma3, scaled as 4B is": ("Gemma3TextConfig", GEMMA | {"query_pre_attn_scalar": 20, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}, None),
    "gemma3, linear RoPE": ("Gemma3TextConfig", GEMMA | {"rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}, "gemma3"),
    "gemma3 with vision": ("Gemma3Config", GEMMA, None),
    "phi3": ("Phi3Config", dict(rope_parameters=PLAIN | {"partial_rotary_factor": 0.75}), "phi3"),
    "phi3, LongRoPE": ("Phi3Config", LONGROPE, "phi3"),
    "phi3, LongRoPE within its context": ("Phi3Config", LONGROPE | {"original_max_position_embeddings": 400}, "phi3"),
    "phi3, windowed LongRoPE": ("Phi3Config", LONGROPE | {"sliding_window": 40}, "phi3"),
    "phi3, windowed": ("Phi3Config", dict(sliding_window=40), "phi3"),
}
WITH_GGUF = [name for name, (_, _, arch) in MODELS.items() if arch]

HF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
GEMMA_NAMES = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"}


def tiny_model(name, seed=20260, **changes):
    """A random transformers model of MODELS[name], in float32."""
    import torch
    import transformers
    kind, differs, _ = MODELS[name]
    sizes = SIZES | differs | changes
    if kind == "Gemma3Config":
        sizes = {"text_config": sizes} | VISION
    config = getattr(transformers, kind)(**sizes)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for full, p in model.named_parameters():
        if "norm" in full:
            p.data.normal_(0.0 if "Gemma" in kind else 1.0, 0.1)
        else:
            p.data.normal_(0.0, 0.5 if full.endswith("bias") or p.ndim == 1 else 1.5 * p.shape[-1] ** -0.5)
    return model


def interleave(rows, n_heads):
    """llama.cpp's order of the rows of Q and K: in each head 0, d/2, 1, d/2 + 1, ..."""
    d = len(rows) // n_heads
    return rows[[h * d + i + half for h in range(n_heads) for i in range(d // 2) for half in (0, d // 2)]]


def write_fields(w, arch, c):
    d = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    w.add_name("tiny")
    w.add_block_count(c.num_hidden_layers)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(d)
    w.add_value_length(d)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_rope_dimension_count(int(d * rope.get("partial_rotary_factor", 1)))
    w.add_vocab_size(c.vocab_size)
    if rope["rope_type"] == "linear":
        w.add_string(f"{arch}.rope.scaling.type", "linear")
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] in ("yarn", "longrope"):
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "yarn":
        w.add_string(f"{arch}.rope.scaling.type", "yarn")
        w.add_rope_scaling_factor(rope["factor"])
        for name in ("beta_fast", "beta_slow"):
            if rope.get(name):
                w.add_float32(f"{arch}.rope.scaling.yarn_{name}", rope[name])
    if rope["rope_type"] == "longrope":
        share = math.log(c.max_position_embeddings / rope["original_max_position_embeddings"])
        w.add_rope_scaling_attn_factors(math.sqrt(1 + share / math.log(rope["original_max_position_embeddings"])))
        for name in ("long", "short"):
            w.add_tensor(f"rope_factors_{name}.weight", np.array(rope[f"{name}_factor"], np.float32))
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, d))
    if arch in ("gemma3", "phi3") and c.sliding_window:
        w.add_sliding_window(c.sliding_window)
    if arch == "gemma3":
        w.add_uint32("gemma3.attention.sliding_window_pattern", 2)


def llama3_factors(rope, d):
    """rope_freqs, as llama.cpp's converter computes them for each pair of dimensions."""
    factors = []
    for i in range(0, d, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / d)
        low, high = (rope["original_max_position_embeddings"] / rope[name] for name in ("low_freq_factor", "high_freq_factor"))
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(rope["factor"])
        else:
            smooth = ((rope["original_max_position_embeddings"] / wavelength - rope["low_freq_factor"])
                      / (rope["high_freq_factor"] - rope["low_freq_factor"]))
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def write_tokeniser(w):
    """A byte-level vocabulary: token 0 ends a text, token 1 + b is the byte b, and the last is "th"."""
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(["<|endoftext|>", *byte_alphabet(), "th"])
    w.add_token_merges(["t h"])  # an empty list is left out of the file, and transformers wants it
    w.add_token_types([3] + [1] * 257)
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)


def byte_alphabet():
    """The 256 characters that stand for bytes in byte-level tokenisers, in the bytes' order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(b) if b in shown else chr(next(hidden)) for b in range(256)]


def write_gguf(model, path, arch, extra=lambda writer: None):
    """The model as llama.cpp's converter writes it; extra(writer) may add fields and tensors."""
    import gguf
    c, w = model.config, gguf.GGUFWriter(path, arch)
    write_fields(w, arch, c)
    write_tokeniser(w)
    names = HF_NAMES | (GEMMA_NAMES if arch == "gemma3" else {})
    for full, p in model.state_dict().items():
        if full == "lm_head.weight" and c.tie_word_embeddings:
            continue
        layer, name, suffix = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.*)(\.\w+)", full).groups()
        name, a = names[name], p.float().numpy()
        if arch == "llama" and name in ("attn_q", "attn_k"):
            a = interleave(a, c.num_attention_heads if name == "attn_q" else c.num_key_value_heads)
        if arch == "gemma3" and name.endswith("norm"):
            a = a + np.float32(1)
        w.add_tensor((f"blk.{layer}." if layer else "") + name + suffix, np.ascontiguousarray(a))
    extra(w)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def save_folder(model, path, **options):
    """The model as a Hugging Face folder with a tokeniser of single bytes."""
    import tokenizers
    import transformers
    model.save_pretrained(path, **options)
    vocabulary = {"<|endoftext|>": 0} | {c: i + 1 for i, c in enumerate(byte_alphabet())}
    t = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=t).save_pretrained(path)

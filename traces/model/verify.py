"""Checks a capture: its logits, keys and values against transformers, and the file's outputs recomputed in float64."""
import math

import numpy as np

from bad_input import CheckFailed
from forward import forward_logits
from model_files import pretrained_args, quiet_transformers
from trace_file import UNIT_ROUNDOFF

CHECK_TOKENS = 1024  # read by the reference model: more than the 512-token window of Gemma's sliding layers
CHECK_LOGITS = 256   # the last positions of those, whose logits are compared

# Two float32 programs differ in the order of their sums: a product of 1000 terms is off by some
# 2^-24 * sqrt(1000) = 2e-6 of its size, 200 of them in a row by sqrt(200) times that,
# 3e-5, and the worst of 10^7 logits by five times the typical one. A wrong norm, RoPE or mask moves logits by
# their own size, so the limit may be generous. K is less deep, but the reference takes RoPE angles in float32, up
# to 1023 * 2^-24 = 6e-5 rad off in the tokens that it reads, and the trace rounds K.
LOGITS_LIMIT = 1e-3  # max |difference| / RMS logit
KV_LIMIT = 3e-4      # |difference| / |reference|, plus the unit roundoff of the trace


def reference_of_gguf(m):
    """transformers' model of a GGUF file, with our reading of the fields.

    Its own reading of the fields leaves out partial RoPE, rope_freqs, linear scaling and windows without a word
    (findings/), so the configuration is ours and the weights are its own: names, dequantisation and order of rows.
    """
    import torch
    import transformers
    names = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config", "gemma3": "Gemma3TextConfig",
             "phi3": "Phi3Config"}
    rope = (m.rope_settings or {"rope_type": "default"}) | {"rope_theta": m.rope.base}
    fields = dict(
        vocab_size=m.weights.shapes["token_embd.weight"][0], hidden_size=m.hidden, intermediate_size=m.n_feed_forward,
        num_hidden_layers=m.n_layers, num_attention_heads=m.n_q_heads, num_key_value_heads=m.n_kv_heads, head_dim=m.d,
        max_position_embeddings=m.context, rms_norm_eps=m.eps, tie_word_embeddings=m.tied, rope_parameters=rope,
        bos_token_id=None, eos_token_id=None, pad_token_id=None)
    if m.arch == "phi3":
        fields |= {"sliding_window": m.windows[0] or None,
                   "rope_parameters": rope | {"partial_rotary_factor": m.rope.n_rotated / m.d}}
        if m.rope_long:  # which wins over the one in rope_parameters
            fields["original_max_position_embeddings"] = m.rope_long.context
    if m.arch == "gemma3":
        fields |= {"sliding_window": max(m.windows), "query_pre_attn_scalar": round(m.softmax_scale ** -2),
                   "layer_types": ["sliding_attention" if w else "full_attention" for w in m.windows],
                   "rope_parameters": {"full_attention": rope,
                                       "sliding_attention": rope | {"rope_theta": m.rope_local.base}}}
    config = getattr(transformers, names[m.arch])(**fields)
    reference, said = transformers.AutoModelForCausalLM.from_pretrained(
        **pretrained_args(m.path), config=config, dtype=torch.float32, output_loading_info=True)
    missing = [name for name in said["missing_keys"] if not (m.tied and name == "lm_head.weight")]
    if missing or said["mismatched_keys"]:
        raise CheckFailed(f"transformers finds no {', '.join(sorted(missing)) or said['mismatched_keys']} in the file")
    if m.rope.divisors and not m.rope_settings:
        for name, buffer in reference.named_buffers():
            if name.endswith("inv_freq") and "sliding" not in name:
                buffer.copy_(torch.from_numpy(m.rope.frequencies()))
    return reference


def load_reference(m):
    """The model as transformers computes it, in float32."""
    import torch
    auto = quiet_transformers().AutoModelForCausalLM
    reference = auto.from_pretrained(m.path, dtype=torch.float32) if m.path.is_dir() else reference_of_gguf(m)
    if m.rope_long and m.rope is m.rope_long.rope:
        keep_to_long_rope(reference)
    return reference


def keep_to_long_rope(reference):
    """transformers chooses LongRoPE's factors by the tokens it is given, which are the first of a long session here."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    original = reference.config.rope_parameters["original_max_position_embeddings"]
    for module in reference.modules():
        if hasattr(module, "original_inv_freq"):
            module.original_inv_freq, _ = ROPE_INIT_FUNCTIONS["longrope"](reference.config, None, seq_len=original + 1)


def check_model(m, tokens, tensors, layers, dtype):
    """Compare our logits, and the file's K and V, with transformers. Returns the lines to print."""
    import torch
    reference = load_reference(m)
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
            kept = r.shape[1]  # a layer with a window keeps one token less than the window
            error = np.linalg.norm(tensors[name][:, n - kept:n] - r) / np.linalg.norm(r)
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

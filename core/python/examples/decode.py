#!/usr/bin/env python3
"""Decodes with Adamas attention, and beside it with the model's own, and says how fast each was and where they part.

    core/python/examples/decode.py SmolLM2-135M-Instruct.Q4_1.gguf --text kjv-genesis.txt --context 4096 --budget 256

The model is a Hugging Face folder or a GGUF file that transformers reads. The text is the prompt, from its beginning.
"""
import argparse
import time
from pathlib import Path

import adamas
import torch
import transformers


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a folder or a GGUF file")
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 file, the prompt")
    parser.add_argument("--context", type=int, default=2048, help="tokens of the prompt (default %(default)s)")
    parser.add_argument("--budget", type=int, default=256, help="tokens per query head (default %(default)s)")
    parser.add_argument("--new", type=int, default=64, help="tokens to decode (default %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def load(path, device):
    folder, more = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **more).to(device).eval()
    model.generation_config.eos_token_id = None
    return model, transformers.AutoTokenizer.from_pretrained(folder, **more)


def decode(model, prompt, n_new):
    """(tokens, seconds per token behind the first) of a greedy continuation."""
    room = (prompt.shape[1] + n_new + 31) // 32 * 32
    cache = transformers.StaticCache(config=model.config, max_cache_len=room)
    token = model(prompt, past_key_values=cache, logits_to_keep=1).logits[:, -1:].argmax(-1)
    tokens, begun = [token], time.perf_counter()
    for position in range(prompt.shape[1], prompt.shape[1] + n_new - 1):
        at = torch.tensor([[position]], device=prompt.device)
        tokens.append(model(tokens[-1], past_key_values=cache, position_ids=at).logits.argmax(-1))
    said = torch.cat(tokens, 1)[0].tolist()
    return said, (time.perf_counter() - begun) / max(n_new - 1, 1)


@torch.inference_mode()
def main():
    options = parse_arguments()
    model, tokenizer = load(options.model, options.device)
    ids = tokenizer(options.text.read_text(), return_tensors="pt").input_ids[:, :options.context].to(options.device)
    dense, dense_s = decode(model, ids, options.new)
    with adamas.attend(model, budget=options.budget):
        sparse, sparse_s = decode(model, ids, options.new)
    same = next((i for i, (a, b) in enumerate(zip(dense, sparse)) if a != b), options.new)
    print(tokenizer.decode(sparse))
    print(f"\n{ids.shape[1]} tokens of prompt, budget {options.budget}: {1e3 * sparse_s:.1f} ms per token, dense "
          f"{1e3 * dense_s:.1f} ms (n = {options.new - 1}); the first {same} of {options.new} tokens are those of dense "
          "attention")


if __name__ == "__main__":
    main()

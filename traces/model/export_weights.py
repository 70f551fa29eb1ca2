#!/usr/bin/env python3
"""Write a model's weights, and tokens with what follows them, to a file that `adamas decode --weights` takes.

    GGUF file or folder --load_model--> Model --float16--> matrices as kernels/decode lays them out
    text --tokeniser--> tokens [T] --forward pass on those very weights--> expected [T], the next token at each position

kernels/decode/weights.h has the format. `adamas decode` follows the tokens, one step each, and counts how often it samples the
expected one. Only models like Llama are taken: RMSNorm, RoPE over whole heads, SwiGLU, with or without biases of Q, K and V.

Exit codes: 0 done; 2 bad usage or input; 4 the machine lacks something (a package, space).
"""
import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

from bad_input import BadInput, exit_code
from forward import forward_logits
from model_files import load_model
from tokens import read_tokens


class Rounded:
    """A model's weights with every matrix rounded to float16."""

    def __init__(self, weights):
        self._weights = weights

    def __getattr__(self, name):
        return getattr(self._weights, name)

    def read(self, name, rows):
        x = self._weights.read(name, rows)
        return x.astype(np.float16).astype(np.float32) if x.ndim == 2 else x


def accept(m):
    """Refuses what a decode step of kernels/decode does not compute."""
    rope, family = m.rope, m.family
    if family.qk_norm or family.post_norms or family.activation != "silu" or any(m.windows) or m.embed_scale != 1:
        raise BadInput(f"{m.path}: its layers are not those of Llama or Qwen2, which are what is decoded")
    if rope.n_rotated != m.d or len(rope.divisors) or rope.amplitude != 1:
        raise BadInput(f"{m.path}: its RoPE is scaled, or turns a part of each head; only the plain one is decoded")
    if set(m.biases) - {"attn_q", "attn_k", "attn_v"}:
        raise BadInput(f"{m.path}: has biases other than those of Q, K and V")


def tensors_of(m):
    """(name, array) of every tensor, one after another."""
    def half(name, layer=None):
        return m.weight(name, layer).astype(np.float16)

    yield "embedding", half("token_embd")
    if not m.tied:
        yield "head", half("output")
    yield "norm", m.weight("output_norm")
    for i in range(m.n_layers):
        qkv = ("attn_q", "attn_k", "attn_v")
        gate, up = half("ffn_gate", i), half("ffn_up", i)
        yield f"layers.{i}.qkv", np.concatenate([half(name, i) for name in qkv])
        yield f"layers.{i}.output", half("attn_output", i)
        yield f"layers.{i}.gate_up", np.stack([gate, up], axis=1).reshape(2 * len(gate), -1)
        yield f"layers.{i}.down", half("ffn_down", i)
        yield f"layers.{i}.norm1", m.weight("attn_norm", i)
        yield f"layers.{i}.norm2", m.weight("ffn_norm", i)
        if m.biases:
            yield f"layers.{i}.bias", np.concatenate([np.broadcast_to(m.bias(name, i), len(m.weight(name, i)))
                                                      for name in qkv]).astype(np.float32)


def write(path, tensors, metadata):
    """A safetensors file, tensor by tensor."""
    header, at, kinds = {"__metadata__": metadata}, 0, {"float16": "F16", "float32": "F32", "int32": "I32"}
    tensors = [(name, np.ascontiguousarray(x)) for name, x in tensors]
    for name, x in tensors:
        header[name] = {"dtype": kinds[x.dtype.name], "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text)
            for _, x in tensors:
                f.write(x.data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return 8 + len(text) + at


def export(m, tokens, out):
    """Writes the Model and, with what its forward pass predicts, the tokens; returns the file's size."""
    accept(m)
    m.weights = Rounded(m.weights)
    tensors = list(tensors_of(m))
    if len(tokens):
        expected = forward_logits(m, tokens, len(tokens)).argmax(axis=1)
        tensors += [("tokens", tokens.astype(np.int32)), ("expected", expected.astype(np.int32))]
    return write(out, tensors, {"format": "adamas-weights/1", "model": m.name, "eps": repr(float(m.eps)),
                                "rope_base": repr(float(m.rope.base))})


def run(argv):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise BadInput(message)

    p = Parser(prog="export_weights.py", allow_abbrev=False, epilog=__doc__.strip().splitlines()[-1],
               description="Write a model's weights for `adamas decode --weights`.")
    p.add_argument("--model", required=True, metavar="PATH", help="GGUF file, or folder of config.json and *.safetensors")
    p.add_argument("--out", required=True, metavar="FILE", help="file to write (.safetensors)")
    p.add_argument("--text", metavar="FILE", help="UTF-8 text whose first tokens are to be followed")
    p.add_argument("--n-tokens", type=int, default=256, metavar="N", help="of the text (default: 256)")
    args = p.parse_args(argv)
    out = Path(args.out)
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"--out {args.out}: must name a file in a folder that exists")
    if args.n_tokens < 1:
        raise BadInput(f"--n-tokens {args.n_tokens}: at least one is needed")
    m = load_model(args.model)
    tokens = read_tokens(m, args.text, args.n_tokens) if args.text else np.empty(0, np.int64)
    print(f"{args.out}: {export(m, tokens, out)} bytes of {m.name}, {len(tokens)} tokens")


def main(argv=None):
    return exit_code("export_weights.py", run, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())

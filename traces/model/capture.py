#!/usr/bin/env python3
"""Capture an attention trace from a local language model: Q, K, V and the dense attention output.

    text --tokeniser--> tokens [T] --layer 0 .. last captured layer--> x [T, hidden]
                                       |
                     captured layer i  +-> layers.{i}.k, .v  [n_kv_heads, T, d]       every position
                                       +-> layers.{i}.q, .o  [n_steps, n_q_heads, d]  captured positions

The pass is teacher-forced: attention is causal, so the query at position p of a real text, against keys 0..p,
is exactly the query of a decode step. Q and K are taken where attention uses them: after RoPE and, where the
model has one, after QK-norm. `o` is softmax(q K^T scale) V, before the output projection.

This file is the command line: what to capture, where to write it. Models are read by model_files.py, computed by
forward.py, and checked by verify.py. Only local files are opened.

Exit codes: 0 done; 2 bad usage or input; 4 a check failed, or the machine lacks something (a package, space).
"""
import argparse
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from bad_input import BadInput, CheckFailed, exit_code
from forward import capture
from model_files import load_model, weights_sha256
from tokens import read_tokens
from trace_file import UNIT_ROUNDOFF, encode_trace, read_trace
from verify import check_model, check_outputs

VERSION = "1.1"


def plan_positions(steps_at, n_steps, context, limit):
    """Positions to capture, increasing: n_steps from each of steps_at, or the last n_steps of the context."""
    starts = sorted(steps_at) if steps_at else [context - n_steps]
    last = starts[-1] + n_steps - 1
    if n_steps < 1 or starts[0] < 0:
        raise BadInput(f"--n-steps {n_steps} from position {starts[0]}: at least one step, from 0 on, is needed")
    if last >= limit:
        raise BadInput(f"the last captured position is {last}, but the model's context ends at {limit - 1}")
    for a, b in pairwise(starts):
        if b < a + n_steps:
            raise BadInput(f"--steps-at {a},{b}: the {n_steps} steps from {a} run into those from {b}")
    return np.concatenate([np.arange(a, a + n_steps, dtype=np.int64) for a in starts])


def plan_layers(asked, m, n_tokens):
    """Layers to capture. A layer whose window is smaller than the text has no dense output over all of it."""
    candidates = [i for i in range(m.n_layers) if m.sees_all(i, n_tokens)]
    if not candidates:
        raise BadInput(f"every layer of {m.name} sees at most {max(m.windows)} tokens; capture no more than that, "
                       f"--context {max(m.windows)}, not {n_tokens}")
    if asked is None:
        asked = [candidates[len(candidates) // 2], candidates[5 * len(candidates) // 6]]
    for i in asked:
        if i not in candidates:
            raise BadInput(f"--layers {i}: the layers of {m.name} that see all of {n_tokens} tokens are "
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
    positions = plan_positions(args.steps_at, args.n_steps, args.context, m.context)
    n_tokens = int(positions[-1]) + 1
    m = m.for_tokens(n_tokens)
    layers = plan_layers(args.layers, m, n_tokens)
    tokens = read_tokens(m, args.text, n_tokens)
    print(f"{m.name}: {m.arch}, {m.n_layers} layers, {m.n_q_heads} query heads, {m.n_kv_heads} KV heads, "
          f"d = {m.d}; {len(tokens)} tokens, layers {layers}, {len(positions)} steps", flush=True)
    if m.remark(n_tokens):
        print(m.remark(n_tokens), flush=True)

    blob = encode_trace(capture(m, tokens, positions, layers), positions, tokens, args.dtype, {
        "format": "adamas-trace/1", "kind": "real", "created_by": f"capture.py {VERSION}",
        "model": m.name, "n_layers_model": str(m.n_layers), "weights_sha256": weights_sha256(m.weights.files),
        "softmax_scale": repr(m.softmax_scale), "rope_base": repr(m.rope.base),
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
    return exit_code("capture.py", run, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())

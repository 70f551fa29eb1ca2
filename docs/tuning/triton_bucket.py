#!/usr/bin/env python3
"""A Triton kernel as a candidate of `adamas tune`: compiles the stage bucket for one architecture, without a GPU, and writes
each .cubin and the manifest.

    python3 triton_bucket.py --arch 90 --out DIR      then: adamas tune --stage bucket DIR/triton_bucket.json
"""
import argparse
import json
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

BLOCKS = (256, 512, 1024)


@triton.jit
def bucket(y, code, n, t0, t1, t2, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    value = tl.load(y + at, mask=inside, other=0.0)
    found = (value > t0).to(tl.int8) + (value > t1).to(tl.int8) + (value > t2).to(tl.int8)
    tl.store(code + at, found, mask=inside)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, default=90, help="compute capability, 90 for an H100 or H200 (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the files (default .)")
    options = parser.parse_args()
    signature = {"y": "*fp32", "code": "*i8", "n": "i32", "t0": "fp32", "t1": "fp32", "t2": "fp32", "BLOCK": "constexpr"}
    options.out.mkdir(parents=True, exist_ok=True)
    for block in BLOCKS:
        source = ASTSource(fn=bucket, signature=signature, constexprs={"BLOCK": block})
        compiled = triton.compile(source, target=GPUTarget("cuda", options.arch, 32), options={"num_warps": 4})
        (options.out / f"triton_bucket_{block}.cubin").write_bytes(compiled.asm["cubin"])
    rows = "batch * (n_q_heads + n_kv_heads) * head_dim"
    manifest = {
        "stage": "bucket", "module": "triton_bucket_{BLOCK}.cubin", "kernel": compiled.metadata.name,
        "grid": [f"cdiv({rows}, BLOCK)", 1, 1], "block": [128, 1, 1], "shared_bytes": compiled.metadata.shared,
        # The last two are Triton's own: scratch memory for the kernel and for its profiler, which this kernel does not use.
        "arguments": ["y", "code", f"i32: {rows}", "f32: threshold0", "f32: threshold1", "f32: threshold2", "pointer: 0",
                      "pointer: 0"],
        "parameters": {"BLOCK": list(BLOCKS)},
    }
    (options.out / "triton_bucket.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{options.out}/triton_bucket.json: {len(BLOCKS)} modules for sm_{options.arch}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Judges GPU candidates on a real device: top-ks with a planted fault each, which must all be refused and never timed; and our
own rows handed in as candidates, which must be accepted and come within 1% of their own time.

    python3 tests/bench/tune_gpu.py --program build/release/adamas [--rows rows.so]

Needs a GPU and nvcc. rows.so is tests/bench/tune_rows.cpp linked to this build's kernels; its head says how. Exit status 1 if a
claim does not hold.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAIVE = ROOT / "docs/tuning/naive_topk.cu"
LAUNCH = "topk<<<shape->batch * shape->n_q_heads, 1, 0, stream>>>"
END = "b.n_selected[r] = k;"

# name: [(what is replaced, by what)]; the large shapes that the faults look for are those of SHAPE below.
FAULTS = {
    "tie_to_the_older": [("(skip > 0 ? (skip--, false) : true)", "(older < left - below ? (older++, true) : false)"),
                         ("skip = 0, k = 0;", "skip = 0, k = 0, older = 0;")],
    "budget_short": [("last - first);\n", "last - first) - (budget > 40 ? 1 : 0);\n")],
    "newest_missing": [("t >= last;", "(t >= last && t + 1 < n);")],
    "last_row_missing": [("<<<shape->batch * shape->n_q_heads,", "<<<shape->batch * shape->n_q_heads - 1,")],
    "odd_lengths": [("t < n; t++) {\n        bool", "t < n - (n % 2 && n > 500); t++) {\n        bool")],
    "one_head_only": [(END, END + " if (r == 13 && n > 5000) index[0]++;")],
    "out_of_bounds_by_one": [(END, END + " if (r + 1 == gridDim.x) index[budget] = 9;")],
    "writes_its_input": [(END, END + " if (n > 9) ((uint16_t *)distance)[3] ^= 1;")],
    "writes_keys": [(END, END + " if (r == 0) ((uint16_t *)b.k)[0] ^= 1;")],
    "uninitialised_histogram": [("histogram[3 * 256 + 1] = {0}", "histogram[3 * 256 + 1]")],
    "needs_zeroed_output": [(END, "if (b.n_selected[r] == 0) " + END)],
    "race": [("n_q_heads, 1, 0, stream>>>", "n_q_heads, 64, 0, stream>>>"),
             ("if (in) index[k++] = t;", "if (in) index[atomicAdd(&b.n_selected[r], 1) % budget] = t;")],
    "illegal_address": [(END, END + " if (n == 1001) *(volatile int *)((char *)b.index + (1ull << 45)) = 1;")],
    "misaligned": [(END, END + " *(volatile uint64_t *)((char *)index + 2) = 1;")],
    "endless_kernel": [(END, END + " if (n == 1001) while (((volatile uint32_t *)b.length)[0] == 1001) {}")],
    "side_stream": [(LAUNCH, "static cudaStream_t side;\n"
                     "    if (!side) cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);\n    "
                     + LAUNCH.replace("stream>>>", "side>>>"))],
    "not_in_a_graph": [("    topk<<<", "    cudaStreamCaptureStatus how; cudaStreamIsCapturing(stream, &how);\n"
                        "    if (how != cudaStreamCaptureStatusNone) {\n"
                        "        topk<<<1, 1, 0, stream>>>(*shape, *buffers);\n        return 0;\n    }\n"
                        "    topk<<<")],
    "first_calls_only": [("    topk<<<",
                          "    static int calls; if (shape->capacity > 5000 && calls++ > 60) return 0;\n    topk<<<")],
    "cached_by_address": [("    topk<<<",
                           "    static const void *seen; if (shape->capacity > 5000) { if (seen == "
                           "buffers->index) return 0; seen = buffers->index; }\n    topk<<<")],
    "synchronises": [("    return cudaGetLastError();", "    cudaStreamSynchronize(stream);\n    return cudaGetLastError();")],
    "too_much_shared": [("n_q_heads, 1, 0, stream>>>", "n_q_heads, 1, 400000, stream>>>")],
    "out_of_memory": [("    topk<<<",
                       "    void *p; cudaError_t e = cudaMalloc(&p, 1ull << 42); if (e) return e;\n    topk<<<")],
    "host_reads_device": [("    topk<<<", "    if (buffers->length[0] == 0) return 0;\n    topk<<<")],
    "does_not_compile": [("uint32_t r = blockIdx.x", "uint32_t r = blockIdx.q")],
}
SHAPE = ["--seq-len", "8192", "--limit-s", "3", "--cap-ms", "60"]
ROWS = ["hadamard", "bucket", "pack", "append", "distance", "topk", "attention"]


def write_faults(folder):
    for name, pairs in FAULTS.items():
        text = NAIVE.read_text()
        for what, by in pairs:
            if what not in text:
                sys.exit(f"tune_gpu.py: {name}: {NAIVE.name} no longer has {what!r}")
            text = text.replace(what, by)
        (folder / f"{name}.cu").write_text(text)


def tune(program, folder, *arguments):
    result = subprocess.run([program, "tune", *map(str, arguments), "--json", "--db", folder / "tune.db"],
                            capture_output=True, text=True)
    if not result.stdout:
        sys.exit(result.stderr)
    return json.loads(result.stdout)["candidates"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/adamas")
    parser.add_argument("--rows", type=Path, help="our own rows as a shared object (tests/bench/tune_rows.cpp)")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_faults(folder)
        rows = tune(options.program.resolve(), folder, "--stage", "topk", "--implementation", "cluster", *SHAPE,
                    *sorted(folder.glob("*.cu")))
        missed = [row["name"] for row in rows if row["kind"] == "source" and
                  (row["verdict"] not in ("wrong", "invalid") or row["median_ns"] is not None)]
        for row in rows:
            print(f"{row['name']:32} {row['verdict']:8} {row['reason']}")
        print(f"{len(rows) - 1 - len(missed)} of {len(rows) - 1} faults refused, none of them timed")
        failed |= bool(missed)
        for stage in ROWS if options.rows else []:
            judged = tune(options.program.resolve(), folder, "--stage", stage, options.rows.resolve())
            own = {row["name"]: row for row in judged}
            for name, row in own.items():
                base = own.get(name.split(":")[-1])
                if row["kind"] != "shared":
                    continue
                ratio = row["median_ns"] / base["median_ns"] - 1 if row["median_ns"] and base and base["median_ns"] else None
                right = ratio is not None and abs(ratio) <= 0.01
                print(f"{stage:10} {name:20} {row['verdict']:8} " + (f"{ratio:+.2%} of its own time" if ratio is not None else
                                                                     row["reason"]))
                failed |= not right
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Judges GPU candidates on a real device, in five parts:

    verdict   from a saved .cu to its verdict: compiled, checked, timed                         less than 10 s
    faults    top-ks with a planted fault each                                                  all refused, none timed
    rows      our own rows handed in as candidates (--rows)                                     within 1% of their own time
    search    successive halving against judging every setting                                  a setting within 2% of the best,
                                                                                                in a quarter of the time
    grid      the tuned choice among rows and launch parameters against the default             never slower

    python3 tests/bench/tune_gpu.py --program build/release/adamas [--rows rows.so] [--parts verdict,search] [--out FOLDER]

Needs a GPU and nvcc. rows.so is tests/bench/tune_rows.cpp linked to this build's kernels; its head says how. Exit status 1 if a
claim does not hold.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAIVE, FASTER = ROOT / "docs/tuning/naive_topk.cu", ROOT / "docs/tuning/faster_topk.cu"
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
GRID = [("topk", 32768, 8, 256), ("topk", 131072, 32, 2048), ("attention", 32768, 8, 256), ("attention", 8192, 32, 1024),
        ("step", 32768, 8, 256), ("step", 131072, 32, 1024)]
ROWS = ["hadamard", "bucket", "pack", "append", "distance", "topk", "attention"]


def write_faults(folder):
    for name, pairs in FAULTS.items():
        text = NAIVE.read_text()
        for what, by in pairs:
            if what not in text:
                sys.exit(f"tune_gpu.py: {name}: {NAIVE.name} no longer has {what!r}")
            text = text.replace(what, by)
        (folder / f"{name}.cu").write_text(text)


def call(options, *arguments):
    result = subprocess.run([options.program.resolve(), "tune", *map(str, arguments), "--json", "--db",
                             options.folder / "tune.db"], capture_output=True, text=True)
    if not result.stdout:
        sys.exit(result.stderr)
    document = json.loads(result.stdout)
    with (options.out / "tune_gpu.jsonl").open("a") as log:
        log.write(json.dumps({"arguments": [str(word) for word in arguments], **document}) + "\n")
    return document


def tune(options, *arguments):
    return call(options, *arguments)["candidates"]


def part_verdict(options):
    """Wall time of one call with one new source, the registry's row beside it."""
    (options.folder / "new.cu").write_text(FASTER.read_text() + f"// {time.time()}\n")
    start = time.monotonic()
    rows = tune(options, "--stage", "topk", "--implementation", "cluster", "--set", "THREADS=512", options.folder / "new.cu")
    took = time.monotonic() - start
    mine = rows[-1]
    print(f"verdict: {took:.1f} s from the saved file to '{mine['verdict']}', {mine['median_ns'] or 0:.0f} ns")
    return took < 10 and mine["verdict"] == "right"


def part_faults(options):
    write_faults(options.folder)
    files = [options.folder / f"{name}.cu" for name in FAULTS]
    rows = tune(options, "--stage", "topk", "--implementation", "cluster", *SHAPE, *files)
    mine = [row for row in rows if row["kind"] == "source"]
    for row in mine:
        print(f"  {row['name']:32} {row['verdict']:8} {row['reason']}")
    missed = [row["name"] for row in mine if row["verdict"] not in ("wrong", "invalid") or row["median_ns"] is not None]
    n_timed = sum(row["median_ns"] is not None for row in mine)
    print(f"faults: {len(mine) - len(missed)} of {len(mine)} refused, {n_timed} timed")
    return not missed


def part_rows(options):
    right = True
    for stage in ROWS if options.rows else []:
        judged = tune(options, "--stage", stage, options.rows.resolve())
        own = {row["name"]: row for row in judged}
        for name, row in own.items():
            base = own.get(name.split(":")[-1])
            if row["kind"] != "shared":
                continue
            ratio = row["median_ns"] / base["median_ns"] - 1 if row["median_ns"] and base and base["median_ns"] else None
            words = row["reason"] if ratio is None else f"{ratio:+.2%} of its own time, {row['median_ns']:.0f} ns"
            print(f"rows: {stage:10} {name:20} {row['verdict']:8} {words}")
            right &= ratio is not None and abs(ratio) <= 0.01
    return right


def part_search(options):
    """The same settings searched, and each judged as a candidate of its own. Compiling is the same work in both."""
    values = range(64, 64 + 32 * options.settings, 32)
    source = FASTER.read_text().replace("THREADS = 128, 256, 512, 1024", "THREADS = " + ", ".join(map(str, values)))
    if source == FASTER.read_text():
        sys.exit(f"tune_gpu.py: {FASTER.name} no longer declares its parameter as it did")
    (options.folder / "some.cu").write_text(source)
    for value in values:
        (options.folder / f"all{value}.cu").write_text(source.replace("THREADS = " + ", ".join(map(str, values)),
                                                                      f"THREADS = {value}"))
    files = [options.folder / f"all{value}.cu" for value in values]
    common = ["--stage", "topk", "--implementation", "cluster"]
    searched, every = call(options, *common, options.folder / "some.cu"), call(options, *common, *files)
    found, best = (min(row["median_ns"] for row in document["candidates"] if row["kind"] == "source" and row["median_ns"])
                   for document in (searched, every))
    shares = searched["elapsed_s"] / every["elapsed_s"], ((searched["elapsed_s"] - searched["compile_s"]) /
                                                          (every["elapsed_s"] - every["compile_s"]))
    print(f"search: {len(files)} settings: {found:.0f} ns found, {best:.0f} ns the best ({found / best - 1:+.1%}); "
          f"{searched['elapsed_s']:.1f} s against {every['elapsed_s']:.1f} s ({shares[0]:.0%}), without compiling "
          f"{searched['elapsed_s'] - searched['compile_s']:.1f} s against {every['elapsed_s'] - every['compile_s']:.1f} s "
          f"({shares[1]:.0%})")
    return found <= 1.02 * best and shares[1] <= 0.25


def part_grid(options):
    """What a session chooses among the rows and their launch parameters; bench_tuned.c does it for the whole grid."""
    gains = []
    for stage, tokens, kv_heads, budget in GRID:
        document = call(options, "--stage", stage, "--search-rows", "--seq-len", tokens, "--kv-heads", kv_heads, "--budget",
                        budget, "--cap-ms", 60)
        timed = [row for row in document["candidates"] if row["median_ns"]]
        shown = json.loads(subprocess.run([options.program.resolve(), "tune", "--show", "--json", "--db",
                                           options.folder / "tune.db"], capture_output=True, check=True).stdout)
        tuned = next(row for row in shown["tuned"] if row["run_id"] == document["run_id"])
        gains.append(timed[0]["median_ns"] / tuned["median_ns"] - 1)
        print(f"grid: {stage:9} {tokens:6} tokens, {kv_heads:2} KV heads, budget {budget:4}: {tuned['variant']:32} "
              f"{tuned['median_ns']:9.0f} ns, {gains[-1]:+.1%} against {timed[0]['name']}, {document['elapsed_s']:.1f} s")
    n_faster = sum(gain >= 0.05 for gain in gains)
    print(f"grid: {n_faster} of {len(gains)} shapes at least 5% faster than the default, none slower")
    return all(gain >= 0 for gain in gains)


PARTS = {"verdict": part_verdict, "faults": part_faults, "rows": part_rows, "search": part_search, "grid": part_grid}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/adamas")
    parser.add_argument("--rows", type=Path, help="our own rows as a shared object (tests/bench/tune_rows.cpp)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--settings", type=int, default=27, help="how many settings the search has (default 27)")
    parser.add_argument("--out", type=Path, default=Path("."), help="where tune_gpu.jsonl with every verdict goes")
    options = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory() as name:
        options.folder = Path(name)
        for part in options.parts.split(","):
            start = time.monotonic()
            if not PARTS[part](options):
                missed.append(part)
            print(f"({part}: {time.monotonic() - start:.0f} s)", flush=True)
    print(f"does not hold: {', '.join(missed)}" if missed else "every claim holds")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())

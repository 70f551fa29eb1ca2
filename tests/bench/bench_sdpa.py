#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention, every backend, on the decode shapes that `adamas profile` times as `dense`.

The peer of the dense baseline: one query per head against T cached tokens, float16. Cold L2: keys and values rotate through
at least four times its size, and two sets of them; many calls in one CUDA graph, the median of its replays. Where query heads
share a KV head, each backend is tried both ways that PyTorch knows: enable_gqa, and the group's queries as rows of one head.
The shapes are twelve with 32 query heads, and those whose KV heads are few; --shapes names others. --ours DB compares them
with the times of `dense` of runs on the same machine just before, and lists every shape where PyTorch is faster; the exit
status is then 1:

    adamas profile --stages dense --seq-lens 8192,32768 --kv-heads 8,32 --batch 1,8 --db dense.db
    adamas profile --stages dense --seq-lens 8192,32768 --heads 28 --kv-heads 4 --db dense.db
    tests/bench/bench_sdpa.py --backends CUDNN_ATTENTION --ours dense.db

--peers FILE writes PyTorch's best per shape as a table, which `adamas profile` then compares with
(kernels/profile/dense_peers.tsv).

A worker process does the measuring and is replaced if a backend takes it down; what a backend refuses is listed with its
words. Needs PyTorch with CUDA: exit status 77 without.
"""
import argparse
import datetime
import json
import sqlite3
import statistics
import subprocess
import sys
import time

TWELVE = [f"32/{kv}/128/{tokens}/{batch}" for kv in (32, 8) for tokens in (8192, 32768, 131072) for batch in (1, 8)]
FEW_KV_HEADS = [*(f"{heads}/128/{tokens}/1" for heads in ("28/4", "16/2", "64/8", "40/8") for tokens in (8192, 32768, 131072)),
                "4/1/256/8192/1", "4/1/256/32768/1", "9/3/64/3584/1", "9/3/64/8192/1", "9/3/64/32768/1"]
BACKENDS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH")
COLD = 4          # times the L2 between two uses of the same bytes
MAX_SECONDS = 2   # of samples for one figure


# ---- the worker: jobs in on the command line, one line of JSON a result out ----

def median_us(torch, call, n_buffers):
    """Median time of one call inside a CUDA graph of at least 16 calls over the buffers in turn, and the replays."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for i in range(n_buffers):
            call(i)
    torch.cuda.synchronize()
    n_calls = n_buffers * max(1, 16 // n_buffers)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(n_calls):
            call(i % n_buffers)
    samples, start = [], time.monotonic()
    while len(samples) < 28 and (len(samples) < 5 or time.monotonic() - start < MAX_SECONDS):
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        graph.replay()
        after.record()
        after.synchronize()
        samples.append(before.elapsed_time(after) * 1e3 / n_calls)
    return statistics.median(samples[3:]), len(samples) - 3


def tensors_for(torch, heads, kv_heads, head_dim, tokens, batch):
    """(keys, values, query): as many of the first two as make the L2 cold."""
    l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    each = 2 * batch * kv_heads * tokens * head_dim * 2
    n_buffers = min(1024, COLD * l2_bytes // each + 2)  # two at least: of one, the L2 keeps some until the next call

    def cache():
        return [torch.randn(batch, kv_heads, tokens, head_dim, device="cuda", dtype=torch.float16) for _ in range(n_buffers)]
    return cache(), cache(), torch.randn(batch, heads, 1, head_dim, device="cuda", dtype=torch.float16)


def measure(torch, backend, layout, keys, values, query):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    attend = torch.nn.functional.scaled_dot_product_attention
    batch, kv_heads = keys[0].shape[:2]
    rows = query.view(batch, kv_heads, query.shape[1] // kv_heads, query.shape[3])
    with sdpa_kernel(getattr(SDPBackend, backend)):
        if layout == "rows":
            return median_us(torch, lambda i: attend(rows, keys[i], values[i]), len(keys))
        return median_us(torch, lambda i: attend(query, keys[i], values[i], enable_gqa=layout == "gqa"), len(keys))


def work(jobs):
    import torch
    torch.manual_seed(0)
    present, tensors = None, None
    for job in jobs:
        backend, layout, *shape = job
        try:
            if present != shape:
                tensors = None
                torch.cuda.empty_cache()
                tensors, present = tensors_for(torch, *shape), shape
            us, n = measure(torch, backend, layout, *tensors)
            print(json.dumps({"us": us, "n": n}), flush=True)
        except Exception as error:  # whatever a backend raises is its answer
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
            torch.cuda.synchronize()  # ends this worker, and leaves the answer to its parent, if the context is gone
            print(json.dumps({"reason": reason}), flush=True)


# ---- the main program ----

def run_jobs(jobs):
    """Yields (job, result) in order; a worker that dies takes one job with it."""
    left = list(jobs)
    while left:
        worker = subprocess.Popen([sys.executable, __file__, "--worker", json.dumps(left)], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True)
        for line in worker.stdout:
            yield left.pop(0), json.loads(line)
        code = worker.wait()
        if left:
            yield left.pop(0), {"reason": f"it ended the worker (exit status {code})"}


def ours(database, heads, kv_heads, head_dim, tokens, batch):
    """The best `dense` of the database's last run that has the shape, in us, or None."""
    if not database:
        return None
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    row = connection.execute(
        "SELECT min(median) FROM stage_summary WHERE stage = 'dense' AND metric = 'time_ns' AND status = 'ok' AND cache = "
        "'cold' AND launch = 'graph' AND dtype = 'F16' AND q_heads = ? AND kv_heads = ? AND head_dim = ? AND seq_len = ? AND "
        "batch = ? GROUP BY run_id ORDER BY run_id DESC LIMIT 1", (heads, kv_heads, head_dim, tokens, batch)).fetchone()
    connection.close()
    return row[0] / 1e3 if row else None


def print_shape(shape, results, our_us):
    """results: {(backend, layout): result} of one shape. PyTorch's best as (us, backend, layout), or None."""
    heads, kv_heads, head_dim, tokens, batch = shape
    n_bytes = 2 * batch * kv_heads * tokens * head_dim * 2
    print(f"\n{heads}/{kv_heads} heads, d = {head_dim}, {tokens} tokens, batch {batch}: {n_bytes / 1e6:.1f} MB of K and V")
    for (backend, layout), result in results.items():
        label = f"  {backend.lower() + ('' if layout == 'plain' else ', ' + layout):28s}"
        if "us" in result:
            print(f"{label} {result['us']:10.2f} us {n_bytes / result['us'] / 1e6:7.3f} TB/s  n = {result['n']}")
        else:
            print(f"{label} not run: {result['reason']}")
    best = min(((result["us"], *key) for key, result in results.items() if "us" in result), default=None)
    if best:
        beside = f"; ours {our_us:.2f} us, {best[0] / our_us:.3f} times as fast" if our_us else ""
        print(f"  PyTorch's best: {best[1].lower()}, {best[0]:.2f} us{beside}", flush=True)
    return best


def shapes_of(text):
    """Tuples of five whole numbers from 1 on, or what argparse says of a bad value."""
    shapes = []
    for word in text.split(","):
        try:
            shapes.append(tuple(map(int, word.split("/"))))
        except ValueError:
            shapes.append(())
        if len(shapes[-1]) != 5 or min(shapes[-1]) < 1:
            raise argparse.ArgumentTypeError(f"'{word}' is not HEADS/KV-HEADS/D/TOKENS/BATCH such as 32/8/128/32768/1")
    return shapes


def jobs_for(options):
    """(backend, layout, heads, KV heads, d, tokens, batch), shape by shape."""
    return [(backend, layout, *shape) for shape in options.shapes for backend in options.backends.split(",")
            for layout in (("plain",) if shape[0] == shape[1] else ("gqa", "rows"))]


def write_peers(path, machine, best):
    with open(path, "w") as out:
        print("q_heads", "kv_heads", "head_dim", "dtype", "seq_len", "batch", "time_ns", "peer", "source", "machine",
              sep="\t", file=out)
        for shape, (us, backend, layout) in best.items():
            heads, kv_heads, head_dim, tokens, batch = shape
            name = {"CUDNN_ATTENTION": "cuDNN", "FLASH_ATTENTION": "FlashAttention"}.get(backend, backend.lower())
            print(heads, kv_heads, head_dim, "F16", tokens, batch, f"{us * 1e3:.0f}", name,
                  f"PyTorch {machine[0]} scaled_dot_product_attention, layout {layout}, {datetime.date.today()}", machine[1],
                  sep="\t", file=out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=shapes_of, default=",".join([*TWELVE, *FEW_KV_HEADS]), metavar="LIST",
                        help="HEADS/KV-HEADS/D/TOKENS/BATCH, several by commas")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--ours", metavar="DB", help="database of `adamas profile --stages dense`")
    parser.add_argument("--peers", metavar="FILE", help="write PyTorch's best per shape as a table")
    parser.add_argument("--worker", metavar="JOBS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(json.loads(options.worker))
        return
    probe = subprocess.run([sys.executable, "-c",
                            "import torch; assert torch.cuda.is_available(), 'PyTorch sees no CUDA device'; "
                            "print(torch.__version__, torch.cuda.get_device_name(), sep=chr(10))"],
                           capture_output=True, text=True)
    if probe.returncode:
        print("bench_sdpa.py:", (probe.stderr.strip().splitlines() or ["PyTorch does not start"])[-1], file=sys.stderr)
        sys.exit(77)
    machine = probe.stdout.split("\n")
    print(f"PyTorch {machine[0]}, {machine[1]}; float16, cold L2, CUDA graph")
    jobs = jobs_for(options)
    results, best, slower = {}, {}, []
    for (backend, layout, *shape), result in run_jobs(jobs):
        of_shape = results.setdefault(tuple(shape), {})
        of_shape[backend, layout] = result
        if len(of_shape) == sum(job[2:] == tuple(shape) for job in jobs):
            our_us = ours(options.ours, *shape)
            peer = print_shape(tuple(shape), of_shape, our_us)
            if peer:
                best[tuple(shape)] = peer
            if peer and our_us and our_us > peer[0]:
                slower.append(f"{'/'.join(map(str, shape))}: ours {our_us:.2f} us, {peer[1].lower()} {peer[0]:.2f}")
    if options.peers:
        write_peers(options.peers, machine, best)
    if options.ours:
        print(f"\n{len(slower)} of {len(best)} shapes where PyTorch is faster than ours")
        print("".join(f"  {line}\n" for line in slower), end="")
        sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention, every backend, on the decode shapes that `adamas profile` times as `dense`.

The peer of the dense baseline: one query a head against T cached tokens, 32 query heads, float16, d = 128. Cold L2: keys
and values rotate through at least four times its size; many calls in one CUDA graph, the median of its replays. Where
query heads share a KV head, each backend is tried both ways that PyTorch knows: enable_gqa, and the group's queries as
rows of one head. With --ours DB the times of `dense` stand beside it, of a run on the same machine just before:

    adamas profile --stages dense --seq-lens 8192,32768 --kv-heads 8,32 --batch 1,8 --db dense.db
    tests/bench/bench_sdpa.py --seq-lens 8192,32768 --kv-heads 8,32 --batch 1,8 --ours dense.db

A worker process does the measuring and is replaced if a backend takes it down; what a backend refuses is listed with its
words. Needs PyTorch with CUDA: exit status 77 without.
"""
import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import time

HEADS, HEAD_DIM = 32, 128
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


def tensors_for(torch, tokens, kv_heads, batch):
    """(keys, values, query): as many of the first two as make the L2 cold."""
    l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    each = 2 * batch * kv_heads * tokens * HEAD_DIM * 2
    n_buffers = min(1024, COLD * l2_bytes // each + 1)

    def cache():
        return [torch.randn(batch, kv_heads, tokens, HEAD_DIM, device="cuda", dtype=torch.float16) for _ in range(n_buffers)]
    return cache(), cache(), torch.randn(batch, HEADS, 1, HEAD_DIM, device="cuda", dtype=torch.float16)


def measure(torch, backend, layout, keys, values, query):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    attend = torch.nn.functional.scaled_dot_product_attention
    batch, kv_heads = keys[0].shape[:2]
    rows = query.view(batch, kv_heads, HEADS // kv_heads, HEAD_DIM)
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


def ours(database, tokens, kv_heads, batch):
    """The best `dense` of the database's last run that has the shape, in us, or None."""
    if not database:
        return None
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    row = connection.execute(
        "SELECT min(median) FROM stage_summary WHERE stage = 'dense' AND metric = 'time_ns' AND status = 'ok' AND cache = "
        "'cold' AND launch = 'graph' AND dtype = 'F16' AND q_heads = ? AND head_dim = ? AND seq_len = ? AND kv_heads = ? AND "
        "batch = ? GROUP BY run_id ORDER BY run_id DESC LIMIT 1", (HEADS, HEAD_DIM, tokens, kv_heads, batch)).fetchone()
    connection.close()
    return row[0] / 1e3 if row else None


def print_shape(shape, results, our_us):
    """results: {(backend, layout): result} of one shape."""
    tokens, kv_heads, batch = shape
    n_bytes = 2 * batch * kv_heads * tokens * HEAD_DIM * 2
    print(f"\n{tokens} tokens, {kv_heads} KV heads, batch {batch}: {n_bytes / 1e6:.1f} MB of K and V")
    best = None
    for (backend, layout), result in results.items():
        label = f"  {backend.lower() + ('' if layout == 'plain' else ', ' + layout):28s}"
        if "us" in result:
            print(f"{label} {result['us']:10.2f} us {n_bytes / result['us'] / 1e6:7.3f} TB/s  n = {result['n']}")
            best = min(best or (result["us"], backend), (result["us"], backend))
        else:
            print(f"{label} not run: {result['reason']}")
    if best:
        beside = f"; ours {our_us:.2f} us, {best[0] / our_us:.3f} times as fast" if our_us else ""
        print(f"  PyTorch's best: {best[1].lower()}, {best[0]:.2f} us{beside}", flush=True)


def jobs_for(options):
    numbers = lambda text: [int(word) for word in text.split(",")]
    return [(backend, layout, tokens, kv_heads, batch)
            for kv_heads in numbers(options.kv_heads) for tokens in numbers(options.seq_lens)
            for batch in numbers(options.batch)
            for backend in options.backends.split(",")
            for layout in (("plain",) if kv_heads == HEADS else ("gqa", "rows"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seq-lens", default="8192,32768,131072")
    parser.add_argument("--kv-heads", default="32,8")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--ours", metavar="DB", help="database of `adamas profile --stages dense`")
    parser.add_argument("--worker", metavar="JOBS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(json.loads(options.worker))
        return
    probe = subprocess.run([sys.executable, "-c",
                            "import torch; assert torch.cuda.is_available(), 'PyTorch sees no CUDA device'; "
                            "print(torch.__version__, torch.cuda.get_device_name())"], capture_output=True, text=True)
    if probe.returncode:
        print("bench_sdpa.py:", (probe.stderr.strip().splitlines() or ["PyTorch does not start"])[-1], file=sys.stderr)
        sys.exit(77)
    print(f"PyTorch {probe.stdout.strip()}; {HEADS} query heads, d = {HEAD_DIM}, float16, cold L2, CUDA graph")
    jobs = jobs_for(options)
    results = {}
    for (backend, layout, *shape), result in run_jobs(jobs):
        of_shape = results.setdefault(tuple(shape), {})
        of_shape[backend, layout] = result
        if len(of_shape) == sum(job[2:] == tuple(shape) for job in jobs):
            print_shape(tuple(shape), of_shape, ours(options.ours, *shape))


if __name__ == "__main__":
    main()

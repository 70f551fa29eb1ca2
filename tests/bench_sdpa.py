#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention, every backend, on the decode shapes that `adamas profile` times as `dense`.

A peer for the dense baseline: one query a head against T cached tokens, float16, d = 128, cold L2 (buffers rotate over
at least four times 60 MB), many calls in one CUDA graph, median of 25 replays. Run it on the same machine, right after
`adamas profile --stages dense`. Needs PyTorch with CUDA; a backend that refuses a shape is listed with its reason.
"""
import argparse
import statistics
import sys


def median_us(torch, call, n_buffers):
    """Median time of one call inside a CUDA graph of at least 16 calls over the buffers in turn."""
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
    samples = []
    for _ in range(28):
        before, after = torch.cuda.Event(True), torch.cuda.Event(True)
        before.record()
        graph.replay()
        after.record()
        after.synchronize()
        samples.append(before.elapsed_time(after) * 1e3 / n_calls)
    return statistics.median(samples[3:])


def bench(torch, tokens, kv_heads, batch, heads=32, head_dim=128):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    bytes_each = 2 * batch * kv_heads * tokens * head_dim * 2
    n_buffers = min(16, max(2, 240_000_000 // bytes_each + 1))
    shape = (batch, kv_heads, tokens, head_dim)
    keys = [torch.randn(shape, device="cuda", dtype=torch.float16) for _ in range(n_buffers)]
    values = [torch.randn(shape, device="cuda", dtype=torch.float16) for _ in range(n_buffers)]
    query = torch.randn(batch, heads, 1, head_dim, device="cuda", dtype=torch.float16)
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION,
                    SDPBackend.MATH):
        label = f"{backend.name:20s} {tokens:7d} tokens {kv_heads:3d} KV heads batch {batch}"
        try:
            with sdpa_kernel(backend):
                us = median_us(torch, lambda i: torch.nn.functional.scaled_dot_product_attention(
                    query, keys[i], values[i], enable_gqa=kv_heads != heads), n_buffers)
            print(f"{label} {us:10.2f} us {bytes_each / us / 1e6:8.3f} TB/s", flush=True)
        except RuntimeError as error:
            print(f"{label}  not run: {str(error).splitlines()[0][:100]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seq-lens", default="8192,32768,131072")
    parser.add_argument("--kv-heads", default="32,8")
    parser.add_argument("--batch", default="1,8")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("bench_sdpa.py: PyTorch is not installed here")
    if not torch.cuda.is_available():
        sys.exit("bench_sdpa.py: PyTorch sees no CUDA device")
    torch.manual_seed(0)
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
    for kv_heads in map(int, options.kv_heads.split(",")):
        for tokens in map(int, options.seq_lens.split(",")):
            for batch in map(int, options.batch.split(",")):
                bench(torch, tokens, kv_heads, batch)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

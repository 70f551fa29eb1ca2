#!/usr/bin/env python3
"""torch.ops.adamas on a GPU: equal to the host over shapes, under torch.compile and in a CUDA graph; a model that decodes with
it; and what it costs beside PyTorch's dense attention. Needs a GPU, a PyTorch that sees it, transformers, and a libadamas.so
that was built with CUDA (ADAMAS_LIBRARY names it). Exit status 1 where a check fails.

    python3 tests/bench/torch_gpu.py [--no-model] [--no-compile]
"""
import argparse
import functools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "core/python"))
import adamas
import adamas.ops
import torch

THRESHOLDS = [-0.43, 0.0, 0.43]
F16, BF16 = torch.float16, torch.bfloat16
LIMIT = {F16: 2**-10, BF16: 2**-7}  # twice the rows' tolerance: host and GPU both round
failures = []


def check(name, good, says=""):
    print(f"{'ok  ' if good else 'FAIL'}  {name}  {says}", flush=True)
    if not good:
        failures.append(name)


def tensors(batch, n_q, n_kv, capacity, d, dtype, lengths, seed=1):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=g).to(dtype)
    return [normal(batch, n_q, d), normal(batch, n_kv, d), normal(batch, n_kv, d), normal(batch, n_kv, capacity, d),
            normal(batch, n_kv, capacity, d), torch.zeros(batch, n_kv, capacity, d // 4, dtype=torch.uint8),
            torch.tensor(lengths, dtype=torch.int32)]


def error_of(a, b):
    return float((a.cpu().double() - b.cpu().double()).norm() / b.cpu().double().norm())


def metric_of(name, k):
    """The arguments that both operators take for a metric; the channels of asym4 are learnt on the host, for both sides."""
    return {"metric": name, "channels": adamas.ops.learn_channels(k.cpu()).to(k.device) if name == "asym4" else None}


def run(args, budget, by, **options):
    """(out, tokens) of a step behind an encoded prompt."""
    q, _, _, k, _, codes, length = args
    torch.ops.adamas.encode(k, codes, length - 1, THRESHOLDS, **by)
    rows = k.shape[1] if options.get("select") == "group" else q.shape[1]
    tokens = torch.full((len(q), rows, budget), -1, dtype=torch.int32, device=q.device)
    return torch.ops.adamas.step(*args, budget, THRESHOLDS, **options, **by, tokens=tokens), tokens


def refusal(args, budget, by, **options):
    """What the step says, or nothing if it runs."""
    try:
        run(args, budget, by, **options)
    except ValueError as error:
        return str(error)
    return ""


SHAPES = [  # batch, query heads, KV heads, capacity, d, dtype, lengths, budget, options
    (1, 9, 3, 4096, 64, BF16, [4000], 256, {}), (1, 32, 8, 32768, 128, F16, [32767], 256, {}),
    (1, 32, 8, 32768, 128, BF16, [20001], 1024, {"sinks": 4, "recent": 32}), (1, 32, 32, 8192, 128, BF16, [8192], 256, {}),
    (2, 28, 4, 16384, 128, BF16, [16000, 513], 64, {}), (1, 4, 1, 2048, 256, F16, [2047], 128, {}),
    (3, 8, 2, 1024, 128, BF16, [1024, 1, 300], 512, {}), (1, 8, 2, 256, 64, F16, [200], 256, {}),
    (1, 16, 4, 8192, 128, F16, [8000], 256, {"select": "group"}),
    (1, 32, 2, 4096, 128, BF16, [4096], 256, {"select": "group"}),  # a group of 16: no single launch
]


def equality(metric):
    for shape in SHAPES:
        *sizes, lengths, budget, options = shape
        host = tensors(*sizes, lengths)
        device, by = [x.cuda() for x in host], metric_of(metric, host[3])
        want, chosen = run(host, budget, by, **options)
        if by["channels"] is not None:
            by = {**by, "channels": by["channels"].cuda()}
        batch, n_q, n_kv, _, d, dtype = sizes
        name = (f"{metric} step {n_q}/{n_kv} d={d} {str(dtype)[6:]} batch {batch} length {lengths} budget {budget} "
                f"{options or ''}")
        if metric == "asym4" and options.get("select") == "group" and n_q > 8 * n_kv:
            check(name, refusal(device, budget, by, **options).startswith("top-k of distances up to"), "is refused: the sums "
                  "of a group this large have more values than a block has memory to count")
            continue
        got, tokens = run(device, budget, by, **options)
        error = error_of(got, want)
        check(name, torch.equal(tokens.cpu(), chosen) and error <= LIMIT[sizes[5]] and
              all(torch.equal(a.cpu(), b) for a, b in zip(device[3:5], host[3:5])), f"relative error {error:.2g}")


def in_graphs(compiled, metric):
    args = tensors(1, 9, 3, 4096, 64, BF16, [4000])
    host, device, by = args, [x.cuda() for x in args], metric_of(metric, args[3])
    channels = {"cpu": by["channels"], "cuda": by["channels"] if by["channels"] is None else by["channels"].cuda()}
    for side in (host, device):
        torch.ops.adamas.encode(side[3], side[5], side[6] - 1, THRESHOLDS, metric, channels[side[3].device.type])

    def step(*a):
        return torch.ops.adamas.step(*a, 256, THRESHOLDS, metric=metric, channels=channels[a[0].device.type])
    step(*device)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step(*device)
    worst = 0.0
    for i in range(20):  # other inputs and a length more for each token
        fresh = tensors(1, 9, 3, 32, 64, BF16, [1], seed=i + 2)[:3]
        for old, there, new in zip(host[:3], device[:3], fresh):
            old.copy_(new)
            there.copy_(new)
        graph.replay()
        worst = max(worst, error_of(out, step(*host)))
        host[6] += 1
        device[6] += 1
    check(f"{metric}: a CUDA graph, 20 tokens", worst <= LIMIT[BF16], f"relative error {worst:.2g}")
    if not compiled:
        return
    before, began = [x.clone() for x in device], time.perf_counter()
    got = torch.compile(lambda *a: step(2 * a[0], *a[1:]) + 1, fullgraph=True)(*device)
    seconds, want = time.perf_counter() - began, step(2 * before[0], *before[1:]) + 1
    check(f"{metric}: torch.compile(fullgraph=True)",
          torch.equal(got, want) and all(torch.equal(a, b) for a, b in zip(device, before)), f"{seconds:.1f} s to compile")


def graph_us(call, n=50):
    """Microseconds a call, median of 21 replays of a graph of n calls."""
    call()
    torch.cuda.synchronize()
    graph, times = torch.cuda.CUDAGraph(), []
    with torch.cuda.graph(graph):
        for _ in range(n):
            call()
    for _ in range(21):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        graph.replay()
        b.record()
        b.synchronize()
        times.append(1e3 * a.elapsed_time(b) / n)
    return sorted(times)[10]


def times():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention
    print("\nmicroseconds a call in a CUDA graph, warm L2, n = 21 replays of 50 calls, budget 256")
    for n_kv, capacity in ((8, 8192), (8, 32768), (32, 32768), (8, 131072)):
        args = [x.cuda() for x in tensors(1, 32, n_kv, 32, 128, F16, [32])]
        args[3:5] = [torch.randn(1, n_kv, capacity, 128, dtype=F16, device="cuda") for _ in "kv"]
        args[5] = torch.zeros(1, n_kv, capacity, 32, dtype=torch.uint8, device="cuda")
        args[6].fill_(capacity)
        tokens = torch.empty(1, 32, 256, dtype=torch.int32, device="cuda")
        ours = {}
        for metric in ("asym4", "l1"):
            by = metric_of(metric, args[3])
            torch.ops.adamas.encode(args[3], args[5], args[6], THRESHOLDS, **by)
            step = functools.partial(torch.ops.adamas.step, *args, 256, THRESHOLDS, **by, tokens=tokens)
            ours[metric] = graph_us(step)
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]):
            dense = graph_us(functools.partial(scaled_dot_product_attention, args[0][:, :, None], args[3], args[4],
                                               enable_gqa=n_kv < 32), 20)
        began = time.perf_counter()
        for _ in range(200):
            step()
        eager = (time.perf_counter() - began) / 200 * 1e6
        torch.cuda.synchronize()
        print(f"32/{n_kv} heads, {capacity:6} tokens: adamas::step {ours['l1']:6.1f}, by asym4 {ours['asym4']:6.1f}, "
              f"scaled_dot_product_attention {dense:6.1f}; "
              f"the call itself {eager:.0f} on the host")


@torch.inference_mode()
def model_decodes(compiled):
    """SmolLM2-135M's architecture with random weights, on the GPU in bfloat16."""
    import transformers
    config = transformers.LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                                      num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=16384)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval().to("cuda", BF16)
    prompt = torch.randint(0, 49152, (1, 8000), device="cuda")

    def decode(n_new, forward):
        cache = transformers.StaticCache(config=config, max_cache_len=8192)
        model(prompt, past_key_values=cache, logits_to_keep=1)
        logits, took = [], []
        for i in range(n_new):
            torch.cuda.synchronize()
            began = time.perf_counter()
            at = torch.tensor([[8000 + i]], device="cuda")
            logits.append(forward(prompt[:, i:i + 1], past_key_values=cache, position_ids=at).logits[0, -1].float().clone())
            torch.cuda.synchronize()
            took.append(time.perf_counter() - began)
        return torch.stack(logits), sorted(took)[len(took) // 2] * 1e3
    dense, dense_ms = decode(16, model)
    with adamas.attend(model, budget=8192):
        whole, _ = decode(16, model)
    with adamas.attend(model, budget=256):
        sparse, sparse_ms = decode(16, model)
        if compiled:
            forward = torch.compile(model, mode="reduce-overhead", fullgraph=True)
            fast, fast_ms = decode(16, forward)
            error = error_of(fast, sparse)
            check("the model compiled with CUDA graphs", error < 0.15, f"logits off by {error:.2g}, {fast_ms:.2f} ms per token")
    error = error_of(whole, dense)
    check("a model with the whole budget", error < 0.02, f"logits off by {error:.2g} (bfloat16)")
    check("a model with budget 256", bool(sparse.isfinite().all()),
          f"logits off by {error_of(sparse, dense):.2g}; {sparse_ms:.2f} ms per token, dense {dense_ms:.2f} ms (eager, "
          "8,000 tokens)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-model", action="store_true", help="without the model")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    for metric in ("l1", "asym4"):
        equality(metric)
        in_graphs(not options.no_compile, metric)
    times()
    if not options.no_model:
        model_decodes(not options.no_compile)
    print(f"{len(failures)} checks failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

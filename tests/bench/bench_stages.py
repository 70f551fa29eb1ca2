#!/usr/bin/env python3
"""The host's stages beside what else does such work on a CPU: one process, one thread, in turns, as ratios.

    distance   codes of 256 bits a token, L1 ........ FAISS IndexBinaryFlat, Hamming distance, nearest one
               the same, 4-bit query (asym4) ........ ours by L1
    topk       the 128 smallest of 32K .............. torch.topk, unsorted, a batch, on the fastest of three types
    hadamard   a key matrix [n, 128] ................ the same by matrix product (torch, NumPy), and a mere copy
    dense      one query against 32K keys, d = 128 .. torch scaled_dot_product_attention, the same type

Ours are first checked against the plain C reference, and torch's matrix product and attention against ours. Each
round runs every contender once, in random order; a time is the median over rounds, a ratio is the median of the rounds'
own ratios, with the range of their middle 80%. Ours are called through ctypes and peers from Python, so both include
the cost of such a call; the first lines say how much that is for ours.

Peers are optional: what is not installed is reported as absent. If build/deps/bench/bin/python exists (see
requirements-bench.txt), it is used.
"""
import argparse
import ctypes
import os
import random
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS_PYTHON = ROOT / "build" / "deps" / "bench" / "bin" / "python"
D = 128
F32, F16, BF16 = 0, 1, 2
TYPE_NAMES = {F32: "F32", F16: "F16", BF16: "BF16"}
LINE = 64  # bytes: buffers begin on a cache line, as the allocators of the peers do


# ---- the library ----

class SelectRule(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("budget", "n_sinks", "n_recent")]


def load_library(path):
    if not path.exists():
        sys.exit(f"bench_stages.py: {path} is not there; build it with ninja")
    lib = ctypes.CDLL(str(path))
    for name in ("adm_cpu_has_avx2", "adm_cpu_has_avx512"):
        getattr(lib, name).restype = ctypes.c_bool
    return lib


def fastest(lib, stem, plain="_reference"):
    """(name, function) of the fastest variant of a stage that the library has and this processor can run."""
    for suffix, condition in (("avx512", "adm_cpu_has_avx512"), ("avx2", "adm_cpu_has_avx2")):
        function = getattr(lib, f"{stem}_{suffix}", None)
        if function is not None and getattr(lib, condition)():
            return suffix, function
    if hasattr(lib, stem + "_neon"):
        return "neon", getattr(lib, stem + "_neon")
    return "plain C", getattr(lib, stem + plain)


def bound(function, *arguments):
    """A call with its arguments converted beforehand."""
    return lambda: function(*arguments)


def size(n):
    return ctypes.c_size_t(n)


class Buffer:
    """n bytes on a cache line, zeroed or filled by repeating some."""

    def __init__(self, n, repeat=None):
        self.raw = bytearray(n + LINE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.raw))
        self.offset, self.n = -address % LINE, n
        self.pointer = ctypes.c_void_p(address + self.offset)
        if repeat is not None:
            self.view[:] = (bytes(repeat) * (n // len(repeat) + 1))[:n]

    @property
    def view(self):
        return memoryview(self.raw)[self.offset:self.offset + self.n]

    def array(self, numpy, dtype):
        return numpy.frombuffer(self.view, dtype)


def normal_rows(lib, rng, n_rows, dtype):
    """[n_rows, D] of normal numbers, a few thousand different ones over and over."""
    n = 8192
    some = (ctypes.c_float * n)(*(rng.gauss(0, 1) for _ in range(n)))
    converted = Buffer(n * (4 if dtype == F32 else 2))
    lib.adm_from_f32(dtype, some, size(n), converted.pointer)
    return Buffer(n_rows * D * (4 if dtype == F32 else 2), converted.view)


# ---- measuring ----

def measure(contenders, rounds, rng):
    """{name: [ns of each round]}, every contender once a round in random order."""
    times = {name: [] for name in contenders}
    for run in contenders.values():  # pages touched, caches and thread pools warm
        run()
    for _ in range(rounds):
        for name in rng.sample(list(contenders), len(contenders)):
            start = time.perf_counter_ns()
            contenders[name]()
            times[name].append(time.perf_counter_ns() - start)
    return times


def show(title, times, ours, moved_bytes, peers):
    """One line for ours, one for each contender. peers: name -> (goal of ratio, or None)."""
    print(f"\n{title}")
    for name, samples in times.items():
        median = statistics.median(samples)
        line = f"  {name:34}{median / 1e3:11.1f} us{moved_bytes / median:8.1f} GB/s"
        if name != ours:
            ratios = sorted(theirs / own for theirs, own in zip(samples, times[ours]))
            edge = len(ratios) // 10
            ratio = statistics.median(ratios)
            line += f"   ours is {ratio:5.2f}x as fast ({ratios[edge]:.2f} to {ratios[-1 - edge]:.2f})"
            goal = peers.get(name)
            if goal is not None:
                line += f"   goal {goal}x: {'reached' if ratio >= goal else 'MISSED'}"
        print(line)


def check(holds, what):
    if not holds:
        sys.exit(f"bench_stages.py: {what}: wrong result, so nothing is timed")


def peer(name, setup):
    """An imported module ready for one thread, or None, said once."""
    try:
        module = __import__(name)
    except ImportError as error:
        print(f"absent: {name} ({error}); its rows are left out")
        return None
    setup(module)
    print(f"peer: {name} {module.__version__}")
    return module


# ---- the stages ----

def bench_distance(lib, peers, options, rng, n_tokens):
    numpy, faiss = peers["numpy"], peers["faiss"]
    variant, function = fastest(lib, "adm_distance_l1", plain="")
    codes, query = Buffer(n_tokens * D // 4, rng.randbytes(1 << 20)), Buffer(D // 4, rng.randbytes(D // 4))
    out, expected = Buffer(2 * n_tokens), Buffer(2 * n_tokens)
    common = (query.pointer, codes.pointer, size(n_tokens), D)
    function(*common, out.pointer)
    lib.adm_distance_reference(*common, expected.pointer)
    check(out.view == expected.view, f"distance {variant}")
    ours = f"l1, {variant}"
    contenders = {ours: bound(function, *common, out.pointer),
                  "l1, words of 64 bits (plain C)": bound(lib.adm_distance_l1, *common, out.pointer)}
    goals = {}
    if faiss and numpy:
        index = faiss.IndexBinaryFlat(2 * D)
        index.add(codes.array(numpy, numpy.uint8).reshape(n_tokens, D // 4))
        one = query.array(numpy, numpy.uint8).reshape(1, D // 4).copy()
        contenders["FAISS IndexBinaryFlat, Hamming"] = bound(index.search, one, 1)
        goals["FAISS IndexBinaryFlat, Hamming"] = 1.0
    times = measure(contenders, options.rounds, rng)
    show(f"distance: {n_tokens} tokens of 32 bytes; bytes are those of the codes", times, ours,
         n_tokens * D // 4, goals)


def bench_asym4(lib, options, rng, n_tokens):
    """What a query of 4 bits in place of 2 costs."""
    variant, function = fastest(lib, "adm_distance_asym4", plain="")
    l1_variant, l1 = fastest(lib, "adm_distance_l1", plain="")
    codes, planes = Buffer(n_tokens * D // 4, rng.randbytes(1 << 20)), Buffer(D // 2, rng.randbytes(D // 2))
    out, expected = Buffer(2 * n_tokens), Buffer(2 * n_tokens)
    common = (planes.pointer, codes.pointer, size(n_tokens), D)
    function(*common, out.pointer)
    lib.adm_distance_asym4_reference(*common, expected.pointer)
    check(out.view == expected.view, f"distance asym4-{variant}")
    ours = f"asym4, {variant}"
    contenders = {ours: bound(function, *common, out.pointer),
                  "asym4, words of 64 bits (plain C)": bound(lib.adm_distance_asym4, *common, out.pointer),
                  f"l1, {l1_variant}": bound(l1, *common, out.pointer)}
    times = measure(contenders, options.rounds, rng)
    show(f"distance by a 4-bit query: {n_tokens} tokens of 32 bytes; bytes are those of the codes", times, ours,
         n_tokens * D // 4, {})


def bench_topk(lib, peers, options, rng, n_heads, n_tokens, budget):
    """Many heads, for branches would be predicted by heart if the same distances came every time."""
    numpy, torch = peers["numpy"], peers["torch"]
    variant, function = fastest(lib, "adm_topk")
    rule, histogram = SelectRule(budget, 0, 0), Buffer(4 * (3 * D + 1))
    index, expected = Buffer(4 * budget), Buffer(4 * budget)
    n_code_bytes = n_heads * n_tokens * D // 4
    codes, query = Buffer(n_code_bytes, rng.randbytes(n_code_bytes)), rng.randbytes(D // 4)
    distances = Buffer(2 * n_heads * n_tokens)
    lib.adm_distance_l1(query, codes.pointer, size(n_heads * n_tokens), D, distances.pointer)

    def calls_of(f, out):
        return [bound(f, ctypes.c_void_p(distances.pointer.value + 2 * h * n_tokens), size(n_tokens), 3 * D,
                      ctypes.byref(rule), histogram.pointer, out.pointer, None) for h in range(n_heads)]

    own, plain = calls_of(function, index), calls_of(lib.adm_topk_reference, expected)
    for ours, theirs in zip(own, plain):
        check(ours() == theirs() == budget and index.view == expected.view, f"topk {variant}")
    contenders = {variant: lambda: [call() for call in own], "plain C": lambda: [call() for call in plain]}
    goals = {}
    if torch and numpy:
        values = torch.from_numpy(distances.array(numpy, numpy.uint16).astype(numpy.int32)).view(n_heads, n_tokens)
        typed = {name: values.to(getattr(torch, name)) for name in ("int16", "int32", "float32")}
        trial = measure({name: bound(lambda x: torch.topk(x, budget, largest=False, sorted=False), x)
                         for name, x in typed.items()}, 5, rng)
        best = min(trial, key=lambda name: statistics.median(trial[name]))
        contenders[f"torch.topk, {best}"] = lambda: torch.topk(typed[best], budget, largest=False, sorted=False)
        goals[f"torch.topk, {best}"] = 10.0 if budget == 128 else None
    times = measure(contenders, options.rounds, rng)
    show(f"topk: {budget} of {n_tokens}, {n_heads} heads; bytes are those of the distances", times, variant,
         2 * n_heads * n_tokens, goals)


def sylvester(torch):
    h = torch.ones(1, 1)
    while len(h) < D:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h / D ** 0.5


def bench_hadamard(lib, peers, options, rng, n_rows):
    numpy, torch = peers["numpy"], peers["torch"]
    variant, function = fastest(lib, "adm_hadamard")
    x, y, expected = normal_rows(lib, rng, n_rows, F32), Buffer(4 * n_rows * D), Buffer(4 * n_rows * D)
    function(F32, x.pointer, size(n_rows), D, y.pointer)
    lib.adm_hadamard_reference(F32, x.pointer, size(n_rows), D, expected.pointer)
    check(y.view == expected.view, f"hadamard {variant}")
    out_of_cache = n_rows * D * 4 > 32 << 20
    contenders = {variant: bound(function, F32, x.pointer, size(n_rows), D, y.pointer),
                  "plain C": bound(lib.adm_hadamard_reference, F32, x.pointer, size(n_rows), D, y.pointer),
                  "copy (memmove)": bound(ctypes.memmove, y.pointer, x.pointer, 4 * n_rows * D)}
    goals = {"copy (memmove)": 0.7} if out_of_cache else {}
    if torch:
        h = sylvester(torch)
        a, b = (torch.frombuffer(buffer.view, dtype=torch.float32).view(n_rows, D) for buffer in (x, y))
        product = torch.matmul(a, h)
        own = torch.frombuffer(expected.view, dtype=torch.float32).view(n_rows, D)
        check(float((product - own).norm() / own.norm()) < 1e-5, "torch.matmul with H")
        contenders["torch.matmul with H"] = lambda: torch.matmul(a, h, out=b)
        goals["torch.matmul with H"] = 3.0
        if numpy:
            an, bn, hn = a.numpy(), b.numpy(), h.numpy()
            contenders["numpy.matmul with H"] = lambda: numpy.matmul(an, hn, out=bn)
            goals["numpy.matmul with H"] = 3.0
    times = measure(contenders, options.rounds if not out_of_cache else options.slow_rounds, rng)
    show(f"hadamard: {n_rows} rows of {D} F32; bytes are read and written once", times, variant, 8 * n_rows * D, goals)


def bench_dense(lib, peers, options, rng, dtype, n_tokens, n_heads):
    torch = peers["torch"]
    variant, function = fastest(lib, "adm_attention")
    head_bytes = n_tokens * D * (4 if dtype == F32 else 2)
    q, k, v = (normal_rows(lib, rng, n * n_heads, dtype) for n in (1, n_tokens, n_tokens))
    score, out, expected = Buffer(8 * n_tokens), Buffer(4 * n_heads * D), Buffer(4 * n_heads * D)

    def every_head(attention, result):
        calls = [bound(attention, dtype, ctypes.c_void_p(q.pointer.value + h * D * head_bytes // (n_tokens * D)),
                       ctypes.c_void_p(k.pointer.value + h * head_bytes),
                       ctypes.c_void_p(v.pointer.value + h * head_bytes), None, size(n_tokens), D,
                       ctypes.c_double(D ** -0.5), score.pointer, ctypes.c_void_p(result.pointer.value + 4 * h * D))
                 for h in range(n_heads)]
        return lambda: [call() for call in calls]

    contenders = {variant: every_head(function, out), "plain C": every_head(lib.adm_attention_reference, expected)}
    for run in contenders.values():
        run()
    own, plain = (memoryview(b.view).cast("f").tolist() for b in (out, expected))
    check(max(abs(a - b) for a, b in zip(own, plain)) <= 2 ** -23 * max(map(abs, plain)), f"dense {variant}")
    goals = {}
    if torch:
        kind = {F32: torch.float32, F16: torch.float16, BF16: torch.bfloat16}[dtype]
        tq, tk, tv = (torch.frombuffer(b.view, dtype=kind).view(1, n_heads, -1, D) for b in (q, k, v))
        sdpa = torch.nn.functional.scaled_dot_product_attention
        theirs, mine = sdpa(tq, tk, tv).flatten().float(), torch.tensor(own)
        check(float((theirs - mine).norm() / mine.norm()) < 2e-2, "torch SDPA")
        contenders["torch SDPA"] = lambda: sdpa(tq, tk, tv)
        goals["torch SDPA"] = 1.0
    times = measure(contenders, options.slow_rounds, rng)
    show(f"dense: {n_heads} heads, {n_tokens} tokens, {TYPE_NAMES[dtype]}; bytes are those of K and V", times, variant,
         2 * n_heads * head_bytes, goals)


def one_thread(torch):
    torch.set_num_threads(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--lib", type=Path, default=ROOT / "build" / "release" / "libadamas.so")
    parser.add_argument("--rounds", type=int, default=201, help="rounds of the short cases (default %(default)s)")
    parser.add_argument("--slow-rounds", type=int, default=11, help="rounds of the long ones (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if PEERS_PYTHON.exists() and Path(sys.prefix) != PEERS_PYTHON.parent.parent:
        os.execv(PEERS_PYTHON, [str(PEERS_PYTHON), *sys.argv])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read when a peer is imported
    lib, rng = load_library(options.lib), random.Random(options.seed)
    peers = {"numpy": peer("numpy", lambda numpy: None), "torch": peer("torch", one_thread),
             "faiss": peer("faiss", lambda faiss: faiss.omp_set_num_threads(1))}
    nothing = Buffer(LINE)
    empty = bound(lib.adm_distance_l1, nothing.pointer, nothing.pointer, size(0), D, nothing.pointer)
    call_ns = statistics.median(measure({"call": empty}, 1000, rng)["call"])
    print(f"seed {options.seed}, one thread, {options.rounds} rounds ({options.slow_rounds} of the long cases); a call "
          f"through ctypes takes {call_ns / 1e3:.1f} us, which ours include")
    for n_tokens in (1 << 15, 1 << 20):
        bench_distance(lib, peers, options, rng, n_tokens)
        bench_asym4(lib, options, rng, n_tokens)
    for budget in (128, 1024):
        bench_topk(lib, peers, options, rng, 16, 1 << 15, budget)
    for n_rows in (1 << 12, 1 << 17):
        bench_hadamard(lib, peers, options, rng, n_rows)
    for dtype in (F32, F16, BF16):
        bench_dense(lib, peers, options, rng, dtype, 1 << 15, 4)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nbench_stages.py: interrupted")

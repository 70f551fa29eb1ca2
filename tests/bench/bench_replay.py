#!/usr/bin/env python3
"""A whole replay beside the same sweep written plainly in PyTorch: one session, the same processors, in turns.

    ours    build/release/adamas replay, the process from start to end: reading and checking the file, calibration, codes,
            every metric of every step and head, distributions, the database. Without stage times, which the peer has not.
    peer    read the file, transform and code the keys; per step, all heads at once: scores in float64, softmax, one sorted
            top-k for all budgets, gathers, products. A sum over all budgets where it is one (the mass), one product a budget
            where not (the output). Starting Python and importing torch are not counted.

Policies dense, oracle and adamas (l1, calibrated), every metric, the default budgets. Both run on the same number of threads.
The peer is timed on --peer-steps of the steps and its figure scaled to all of them: it does the same at each. Before any
ratio is printed, the means of both on those steps are compared.

    --tokens --steps --heads --kv-heads --head-dim      the session, made by `adamas trace gen`
    --scaling                                           also: ours on one thread, for the gain of the others

Wall time is what the goal is about; processor seconds stand beside it, since what else runs on the machine moves them less.

PyTorch is optional: where it is not installed only ours is timed. If build/deps/bench/bin/python exists (see
requirements-bench.txt), it is used.
"""
import argparse
import contextlib
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS_PYTHON = ROOT / "build" / "deps" / "bench" / "bin" / "python"
BUDGETS = [64, 128, 256, 512, 1024, 2048, 4096, 8192]
EPS = 0.05


def processors():
    return len(os.sched_getaffinity(0))


# ---- ours ----

def adamas(*arguments):
    subprocess.run([ROOT / "build/release/adamas", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def children_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def replay(trace, database, threads, *more):
    """(seconds, processor seconds) of one replay."""
    start, cpu = time.perf_counter(), children_cpu()
    adamas("replay", trace, "--budgets", ",".join(map(str, BUDGETS)), "--thresholds", "calibrated", "--dense-layers", 0,
           "--threads", threads, "--db", database, "--quiet", *more)
    return time.perf_counter() - start, children_cpu() - cpu


def stored_means(database):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {tuple(key): mean for *key, mean in connection.execute(
            "SELECT policy, budget, metric, mean FROM quality_summary WHERE run_id = (SELECT max(run_id) FROM run) "
            "AND metric NOT LIKE 'bucket%'")}


def stored_thresholds(database):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT t0, t1, t2 FROM calibration").fetchone()


# ---- the peer ----

def read_session(torch, path, dtype):
    """q [steps, heads, d], k and v [KV heads, tokens, d] of the one layer, as dtype."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        base, tensors = file.tell(), {}
        for name, entry in header.items():
            if name.startswith("layers."):
                begin, end = entry["data_offsets"]
                file.seek(base + begin)
                raw = torch.frombuffer(bytearray(file.read(end - begin)), dtype=torch.float16)
                tensors[name[-1]] = raw.view(entry["shape"])
    return tensors["q"].to(dtype), tensors["k"].to(dtype), tensors["v"].to(dtype)


def sylvester(torch, d):
    h = torch.ones(1, 1)
    while len(h) < d:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h / d ** 0.5


def codes_of(torch, x, h, thresholds):
    y = x.float() @ h
    return sum((y > t).to(torch.int8) for t in thresholds)


def l1_by_difference(torch, q_codes, k_codes):
    return (k_codes[:, None] - q_codes[:, :, None]).abs().sum(-1, dtype=torch.int32)


def l1_by_cdist(torch, q_codes, k_codes):
    return torch.cdist(q_codes, k_codes, p=1).to(torch.int32)


class Peer:
    """The sweep in PyTorch. Values go to self.values[policy, budget, metric], a list of tensors."""

    def __init__(self, torch, path, thresholds, n_steps, dtype, distance):
        self.torch, self.distance = torch, distance
        q, self.k, self.v = read_session(torch, path, dtype)
        h = sylvester(torch, q.shape[-1])
        kind = torch.float32 if distance is l1_by_cdist else torch.int8
        self.k_codes = codes_of(torch, self.k, h, thresholds).to(kind)
        self.q_codes = codes_of(torch, q, h, thresholds).to(kind)
        self.q, self.first = q, len(q) - n_steps
        self.values = {}

    def keep(self, policy, budget, **metrics):
        for name, value in metrics.items():
            self.values.setdefault((policy, budget, name), []).append(value)

    def judge(self, policy, budget, out, dense, mass, recall, **more):
        torch = self.torch
        out = out.float().to(dense.dtype)  # as a kernel writes it
        error = (out - dense).norm(dim=-1) / dense.norm(dim=-1)
        self.keep(policy, budget, recall=recall, mass=mass, kl=-torch.log(mass), tv=1 - mass, output_rel_l2=error,
                  output_cosine=torch.nn.functional.cosine_similarity(out, dense, dim=-1),
                  eps_exceed=(error > EPS).to(error.dtype), **more)
        return error

    def sweep(self, policy, order, p, dense, exact, oracle_errors, distance=None):
        """order [kv, group, widest]: tokens in the order of the policy. exact: the oracle's order."""
        torch = self.torch
        kv, group, n = p.shape
        weights = p.gather(-1, order)
        masses, errors = weights.cumsum(-1), []
        rows = torch.arange(kv)[:, None, None]
        for i, budget in enumerate(b for b in BUDGETS if b < n):
            w = weights[..., :budget]
            selected = self.v[rows, order[..., :budget]]                     # [kv, group, budget, d]
            out = (w / w.sum(-1, keepdim=True)).unsqueeze(-2) @ selected
            mask = torch.zeros(kv, group, n, dtype=torch.bool).scatter_(-1, exact[..., :budget], True)
            recall = mask.gather(-1, order[..., :budget]).to(p.dtype).mean(-1)
            more = {}
            if distance is not None:
                edge = distance.gather(-1, order[..., budget - 1:budget])
                more["ties"] = (distance[..., :-1] == edge).sum(-1).to(p.dtype)
            errors.append(self.judge(policy, budget, out.squeeze(-2), dense, masses[..., budget - 1], recall, **more))
            if oracle_errors is not None:
                self.keep(policy, budget, oracle_gap=errors[-1] - oracle_errors[i])
        return errors

    def step(self, s):
        torch = self.torch
        steps, tokens = len(self.q), self.k.shape[1]
        n = tokens - steps + s + 1
        kv, d = self.k.shape[0], self.k.shape[2]
        q, k, v = self.q[s].view(kv, -1, d), self.k[:, :n], self.v[:, :n]
        scores = q @ k.transpose(1, 2) * d ** -0.5
        p = torch.softmax(scores, -1)
        dense = p @ v
        ones = torch.ones(p.shape[:2], dtype=p.dtype)
        self.judge("dense", None, dense, dense, ones, ones)
        widest = min(BUDGETS[-1], n)
        exact = torch.topk(scores, widest, dim=-1).indices
        oracle_errors = self.sweep("oracle", exact, p, dense, exact, None)
        distance = self.distance(torch, self.q_codes[s].view(kv, -1, d), self.k_codes[:, :n])
        key = distance.long() * n + torch.arange(n - 1, -1, -1)              # ties to the most recent
        key[..., -1] = -1                                                    # the newest is always in
        order = torch.topk(key, widest, dim=-1, largest=False).indices
        self.sweep("adamas", order, p, dense, exact, oracle_errors, distance)

    def means(self):
        return {key: float(self.torch.cat([v.flatten() for v in values]).double().mean())
                for key, values in self.values.items()}

    def distributions(self):
        q = self.torch.tensor([.01, .05, .1, .5, .9, .95, .99], dtype=self.torch.float64)
        for values in self.values.values():
            pooled = self.torch.stack(values, -1).double()
            self.torch.quantile(pooled, q, dim=-1)
            self.torch.quantile(pooled.flatten(), q)


def time_peer(torch, path, thresholds, n_steps, dtype, distance, between=lambda: None):
    """(seconds once a session, seconds a step, processor seconds a step, the peer). between(): called before each step."""
    start = time.perf_counter()
    peer = Peer(torch, path, thresholds, n_steps, dtype, distance)
    once = time.perf_counter() - start
    times, cpu = [], 0
    for s in range(peer.first, len(peer.q)):
        between()
        start, cpu_start = time.perf_counter(), time.process_time()
        peer.step(s)
        times.append(time.perf_counter() - start)
        cpu += time.process_time() - cpu_start
    cpu /= len(times)
    start = time.perf_counter()
    peer.distributions()
    return once + time.perf_counter() - start, statistics.median(times), cpu, peer


def compare(ours, theirs, tolerance):
    """Ends the program unless the means agree: to rounding, and to the few codes in 1e8 that a matrix product with H, which
    rounds otherwise than butterflies, puts on the other side of a threshold."""
    common = [key for key in theirs if key in ours]
    if len(common) < 100:
        sys.exit(f"bench_replay.py: only {len(common)} figures in common, so nothing is compared")
    worst = max(common, key=lambda key: abs(ours[key] - theirs[key]) / (abs(ours[key]) + 1e-3))
    print(f"{len(common)} means agree with PyTorch's; farthest {' '.join(map(str, worst))}: {ours[worst]:.9g} and "
          f"{theirs[worst]:.9g}")
    if abs(ours[worst] - theirs[worst]) > tolerance * (abs(ours[worst]) + 1e-3):
        sys.exit("bench_replay.py: that is too far, so nothing is timed")


def bench_peer(torch, options, path, folder, threads):
    """The peer's steps and whole replays of ours in turns, so that what else the machine does falls on both."""
    torch.set_num_threads(threads)
    few = folder / "few.safetensors"
    database = folder / "few.db"
    make_session(options, few, options.peer_steps)
    replay(few, database, threads, "--timed-steps", 0)
    thresholds = stored_thresholds(database)
    trials = {f.__name__: time_peer(torch, few, thresholds, 1, torch.float32, f)[1] for f in (l1_by_difference, l1_by_cdist)}
    distance = globals()[min(trials, key=trials.get)]
    print(f"peer: torch {torch.__version__}, {threads} threads, {distance.__name__} (a step: "
          + ", ".join(f"{name} {s * 1e3:.0f} ms" for name, s in trials.items()) + ")")
    for name, tolerance in (("float64", 1e-3), ("float32", 2e-3)):
        runs = []
        once, step, cpu, peer = time_peer(torch, few, thresholds, options.peer_steps, getattr(torch, name), distance,
                                          lambda runs=runs: runs.append(replay(path, folder / "turns.db", threads,
                                                                               "--timed-steps", 0)))
        compare(stored_means(database), peer.means(), tolerance)
        seconds, cpu_seconds = (statistics.median(column) for column in zip(*runs))
        total = once + options.steps * step
        goal = "   goal 25x: " + ("reached" if total / seconds >= 25 else "MISSED") if name == "float64" else ""
        print(f"  PyTorch, {name}: {once:.1f} s once and {step * 1e3:.0f} ms a step, so {total:.1f} s for {options.steps} "
              f"steps; ours in turns {seconds:.2f} s, {total / seconds:.1f}x as fast (n = {len(runs)}){goal}")
        print(f"    processor seconds of the steps alone: {options.steps * cpu:.1f}, ours with everything {cpu_seconds:.1f}: "
              f"{options.steps * cpu / cpu_seconds:.1f}x")


def make_session(options, path, steps):
    adamas("trace", "gen", "-o", path, "--tokens", options.tokens, "--steps", steps, "--heads", options.heads, "--kv-heads",
           options.kv_heads, "--head-dim", options.head_dim, "--quiet")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    for name, value in (("tokens", 131072), ("steps", 64), ("heads", 8), ("kv-heads", 2), ("head-dim", 128),
                        ("rounds", 3), ("peer-steps", 8), ("threads", processors())):
        parser.add_argument(f"--{name}", type=int, default=value, help="(default %(default)s)")
    parser.add_argument("--scaling", action="store_true", help="time ours on one thread too")
    options = parser.parse_args()
    if PEERS_PYTHON.exists() and Path(sys.prefix) != PEERS_PYTHON.parent.parent:
        os.execv(PEERS_PYTHON, [str(PEERS_PYTHON), *sys.argv])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path, database = folder / "session.safetensors", folder / "bench.db"
        make_session(options, path, options.steps)
        print(f"replay: {options.tokens} tokens, {options.steps} steps, {options.heads} query heads over {options.kv_heads} KV "
              f"heads, d = {options.head_dim}, {len(BUDGETS)} budgets; {options.threads} threads")
        runs = [replay(path, database, options.threads, "--timed-steps", 0) for _ in range(options.rounds)]
        seconds, cpu_seconds = (statistics.median(column) for column in zip(*runs))
        print(f"  ours, all metrics, no stage times: {seconds:.2f} s, median of {options.rounds} ({min(runs)[0]:.2f} to "
              f"{max(runs)[0]:.2f}); {cpu_seconds:.2f} processor seconds")
        timed = replay(path, database, options.threads)[0]
        is_the_goals = (options.tokens, options.steps, options.heads, options.threads) == (131072, 64, 8, 2)
        print(f"  ours, with stage times of every step (one thread): {timed:.2f} s"
              + (f"   goal 60 s: {'reached' if timed < 60 else 'MISSED'}" if is_the_goals else ""))
        if options.scaling and options.threads > 1:
            alone = statistics.median(replay(path, database, 1, "--timed-steps", 0)[0] for _ in range(options.rounds))
            print(f"  ours on one thread: {alone:.2f} s, so {options.threads} threads gain {alone / seconds:.2f}x")
        try:
            import torch
        except ImportError as error:
            print(f"absent: torch ({error}); its rows are left out")
            return
        bench_peer(torch, options, path, folder, options.threads)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nbench_replay.py: interrupted")
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench_replay.py: {error}")

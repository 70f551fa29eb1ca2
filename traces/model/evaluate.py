#!/usr/bin/env python3
"""What a selection policy costs a real model: perplexity on long texts and retrieval of a passkey, with SmolLM2 in the loop.

    texts    --dense--> prompt --policy--> blocks of tokens, scored   nll, perplexity: bootstrap by blocks
    haystack --dense--> prompt --policy--> question and answer        passkey_accuracy: Wilson
                                                    |
                                                    +--> the database, a run of its own beside the replays

The prompt attends densely, as DESIGN.md says of prefill, and so do the first two layers. Everything behind it (of a passkey the
question, too) is decoded under the policy by the host library, sparse_lm.py. Every policy scores the same tokens, so
differences from dense attention are taken token by token. See README.md for texts, weights and what came out.
"""
import argparse
import contextlib
import json
import math
import os
import platform
import random
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import namedtuple
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread leaves its core to others
import numpy as np

from capture import BadInput, pretrained_args, quiet_transformers, weights_sha256

VERSION = "evaluate.py 1.0"
ROOT = Path(__file__).resolve().parent.parent
POLICIES = ("dense;oracle;adamas;adamas:metric=dot;adamas:thresholds=fixed:-10,0,10;adamas:hadamard=off;"
            "adamas:hadamard=off,thresholds=fixed:-10,0,10;quest;streaming;h2o;random")
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
RESAMPLES = 10000
ROOM_FOR_ANSWER = 128  # tokens of the haystack's last filler, the question and the answer

# The passkey task of Mohtashami and Jaggi (arXiv 2305.16300), as Quest and Adamas use it.
TASK = ("There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about "
        "the important information there.")
FILLER = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = " The pass key is {0}. Remember it. {0} is the pass key."
QUESTION = "\nWhat is the pass key? The pass key is"

METRICS = {
    "nll": ("nats", "lower", "Negative log-likelihood of a token of the text under the model, a value a token"),
    "perplexity": ("1", "lower", "exp of the mean nll of the scored tokens"),
    "perplexity_ci95_low": ("1", "none", "Lower end of the 95% interval of perplexity: bootstrap over blocks of tokens"),
    "perplexity_ci95_high": ("1", "none", "Upper end of the 95% interval of perplexity: bootstrap over blocks of tokens"),
    "perplexity_ratio": ("ratio", "lower", "Perplexity over that of dense attention on the same tokens"),
    "perplexity_ratio_ci95_low": ("ratio", "none", "Lower end of the 95% interval of perplexity_ratio: paired bootstrap"),
    "perplexity_ratio_ci95_high": ("ratio", "none", "Upper end of the 95% interval of perplexity_ratio: paired bootstrap"),
    "passkey_accuracy": ("ratio", "higher", "Share of passkeys answered in every digit; read the mean"),
    "passkey_accuracy_ci95_low": ("ratio", "none", "Lower end of Wilson's 95% interval of passkey_accuracy"),
    "passkey_accuracy_ci95_high": ("ratio", "none", "Upper end of Wilson's 95% interval of passkey_accuracy"),
}

# One policy at one budget (None: dense) in one place; values: {metric: numbers whose distribution is stored}
Row = namedtuple("Row", "task policy budget values")


# ---------------------------------------------------------------- statistics

def wilson(n_right, n, z=1.959964):
    """95% interval of a share of n_right in n."""
    p, w = n_right / n, z * z / n
    half = z / (1 + w) * math.sqrt(p * (1 - p) / n + w / (4 * n))
    middle = (p + w / 2) / (1 + w)
    return middle - half if n_right > 0 else 0.0, middle + half if n_right < n else 1.0


def bootstrap_means(blocks_by_text, n_resamples, seed):
    """Means over resampled blocks, [n_resamples]: each text gives as many of its blocks (numbers) as it has."""
    rng = np.random.default_rng(seed)
    total = np.zeros(n_resamples)
    for blocks in blocks_by_text:
        blocks = np.asarray(blocks)
        total += blocks[rng.integers(0, len(blocks), (n_resamples, len(blocks)))].sum(1)
    return total / sum(map(len, blocks_by_text))


def perplexity_metrics(nll, dense_nll, n_resamples, seed):
    """nll, dense_nll: a list of texts of [n_blocks, n_tokens]. The same seed resamples the same blocks everywhere."""
    tokens = np.concatenate([t.ravel() for t in nll])
    means = bootstrap_means([t.mean(1) for t in nll], n_resamples, seed)
    gains = bootstrap_means([(t - d).mean(1) for t, d in zip(nll, dense_nll)], n_resamples, seed)
    dense_mean = np.concatenate([t.ravel() for t in dense_nll]).mean()
    values = {"nll": tokens, "perplexity": math.exp(tokens.mean()), "perplexity_ratio": math.exp(tokens.mean() - dense_mean)}
    for name, resampled in (("perplexity", means), ("perplexity_ratio", gains)):
        low, high = np.exp(np.quantile(resampled, [0.025, 0.975]))
        values |= {f"{name}_ci95_low": low, f"{name}_ci95_high": high}
    return values


def passkey_metrics(right):
    low, high = wilson(sum(right), len(right))
    return {"passkey_accuracy": np.array(right, float), "passkey_accuracy_ci95_low": low, "passkey_accuracy_ci95_high": high}


# ---------------------------------------------------------------- tasks

def budgets_of(policy, budgets):
    return [1] if policy == "dense" else budgets  # dense attends to all whatever the budget


def score_text(model, library, ids, args, note):
    """{(policy, budget): nll [n_blocks, n_tokens]} of one text."""
    import torch
    from torch.nn.functional import cross_entropy
    size, starts = args.block_tokens, [args.context + i * args.stride for i in range(args.blocks)]
    ids = torch.tensor(ids)
    cache = model.new_cache(len(ids))
    note("the prompt, densely")
    with_h2o = any(p.startswith("h2o") for p in args.policies)
    model.prefill(ids, cache, keep_drawn_at=starts if with_h2o else ())
    nll = {}
    for start in starts:
        for policy in args.policies:
            note(f"{policy} from token {start}")
            budgets = budgets_of(policy, args.budgets)
            logits = model.decode(library, policy, budgets, cache, start, ids[start:start + size], args.seed)
            for budget, l in zip(budgets, logits):
                lost = cross_entropy(l, ids[start + 1:start + size + 1], reduction="none").double().numpy()
                nll.setdefault((policy, None if policy == "dense" else budget), []).append(lost)
    return {arm: np.array(blocks) for arm, blocks in nll.items()}


def ask_passkeys(model, library, tokenise, args, note):
    """{(depth, policy, budget): [right or not, ...]}"""
    import torch
    task, filler, question = (tokenise(text) for text in (TASK, FILLER, QUESTION))
    n_fillers = (args.passkey_context - len(task) - len(tokenise(NEEDLE.format(12345)))) // len(filler)
    before = {depth: round(n_fillers * depth) for depth in DEPTHS}
    prefix = {depth: len(task) + n * len(filler) for depth, n in before.items()}
    cache = model.new_cache(args.passkey_context + ROOM_FOR_ANSWER)
    with_h2o = any(p.startswith("h2o") for p in args.policies)
    note("passkey: the haystack, densely")
    model.prefill(torch.tensor(task + filler * max(before.values())), cache,
                  keep_drawn_at=sorted(set(prefix.values())) if with_h2o else ())
    rng, right = random.Random(args.seed), {}
    for depth in sorted(DEPTHS, reverse=True):  # what stands before a needle is still there from the deeper ones
        for trial in range(args.passkeys):
            key = rng.randrange(10000, 100000)
            rest = tokenise(NEEDLE.format(key)) + filler * (n_fillers - before[depth])
            cache.n, n_prompt = prefix[depth], prefix[depth] + len(rest)
            model.prefill(torch.tensor(rest), cache, keep_drawn_at=(n_prompt,) if with_h2o else ())
            answer = torch.tensor(tokenise(f" {key}"))
            steps = torch.cat([torch.tensor(question), answer[:-1]])
            for policy in args.policies:
                note(f"passkey {trial + 1} at {depth:.0%}, {policy}")
                budgets = budgets_of(policy, args.passkey_budgets)
                logits = model.decode(library, policy, budgets, cache, n_prompt, steps, args.seed)
                for budget, l in zip(budgets, logits):
                    arm = depth, policy, None if policy == "dense" else budget
                    right.setdefault(arm, []).append(bool((l[len(question) - 1:].argmax(-1) == answer).all()))
            cache.drawn.pop(n_prompt, None)
    return right


# ---------------------------------------------------------------- the database

def distribution(values):
    values = np.atleast_1d(np.asarray(values, float))
    quantiles = {"min": 0, "p01": .01, "p05": .05, "p10": .1, "median": .5, "p90": .9, "p95": .95, "p99": .99, "max": 1}
    return {"n": values.size, "mean": values.mean(), **{name: float(np.quantile(values, q)) for name, q in quantiles.items()}}


def text_of(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def utc(t):
    return datetime.fromtimestamp(t, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_row(args, argv):
    """The run as it begins."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor() or "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import torch
    return {"run_uuid": str(uuid.uuid4()), "label": args.label, "command": "evaluate", "status": "running", "started_utc": utc(time.time()),
            "tool_version": VERSION, "git_commit": text_of(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or "unknown",
            "git_dirty": int(bool(text_of(["git", "-C", str(ROOT), "status", "--porcelain"]))),
            "argv": json.dumps(["traces/model/evaluate.py", *argv]), "seed": args.seed, "host_name": platform.node(),
            "os": f"{platform.system()} {platform.release()} {platform.machine()}", "cpu_model": cpu,
            "n_cpus": len(os.sched_getaffinity(0)), "memory_bytes": memory,
            "compiler": f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads", "gpu_name": None,
            "gpu_reason": "the model runs on the host"}


def trace_row(m, sha256, name, kind, data, n_tokens, n_steps, **metadata):
    import xxhash
    return {"xxh128": xxhash.xxh3_128_hexdigest(data), "name": name, "kind": kind, "model": m.name, "file_bytes": len(data),
            "n_tokens": n_tokens, "n_steps": n_steps, "n_layers": m.n_layers, "n_q_heads": m.n_q_heads,
            "n_kv_heads": m.n_kv_heads, "head_dim": m.d, "softmax_scale": m.softmax_scale,
            "metadata": json.dumps(metadata | {"weights_sha256": sha256, "created_by": VERSION})}


def insert(db, table, row):
    columns = ", ".join(row)
    return db.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", [*row.values()]).lastrowid


def find_or_insert(db, table, key, row):
    """The id of the row that has the same values in the columns `key`, added if there is none."""
    same = " AND ".join(f"{column} IS ?" for column in key)
    found = db.execute(f"SELECT {table}_id FROM {table} WHERE {same}", [row[column] for column in key]).fetchone()
    return found[0] if found else insert(db, table, row)


def make_database(args):
    """The program knows the schema, and creates the file or brings it up to date."""
    done = subprocess.run([args.adamas, "db", "create", "--quiet", "--db", args.db], capture_output=True, text=True)
    if done.returncode:
        raise BadInput(f"--db: {done.stderr.strip().removeprefix('adamas: ')}")


class Recorder:
    """The run in the database: visible from its beginning, with what each task found as soon as it is found."""

    def __init__(self, args, run, m, variants):
        self.path, self.m, self.variants, self.clock = args.db, m, variants, time.monotonic()
        with self._transaction() as db:
            self.run_id = insert(db, "run", run)

    @contextlib.contextmanager
    def _transaction(self):
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as db, db:
            db.execute("PRAGMA foreign_keys = ON")
            yield db

    def write(self, trace, seq_len, rows):
        with self._transaction() as db:
            trace_id = find_or_insert(db, "trace", ["xxh128"], trace)
            for row in rows:
                config = self._config(row, trace_id, seq_len)
                config_id = find_or_insert(db, "config", list(config), config)
                for name, values in row.values.items():
                    unit, better, description = METRICS[name]
                    metric = {"name": name, "unit": unit, "better": better, "description": description}
                    insert(db, "measurement", {
                        "run_id": self.run_id, "config_id": config_id, "source": "host",
                        "metric_id": find_or_insert(db, "metric", ["name"], metric), "status": "ok", **distribution(values)})

    def _config(self, row, trace_id, seq_len):
        policy, selection = row.policy.partition(":")[0], "group" if "select=group" in row.policy else "head"
        return {"trace_id": trace_id, "policy": policy, "variant": self.variants[row.policy], "n_q_heads": self.m.n_q_heads,
                "n_kv_heads": self.m.n_kv_heads, "head_dim": self.m.d, "dtype": "F32", "seq_len": seq_len,
                "budget": row.budget, "batch": 1, "selection": selection if policy == "adamas" else None, "cache": None,
                "launch": "host"}

    def end(self, status, reason=None):
        with self._transaction() as db:
            db.execute("UPDATE run SET status = ?, reason = ?, finished_utc = ?, elapsed_ns = ? WHERE run_id = ?",
                       [status, reason, utc(time.time()), int((time.monotonic() - self.clock) * 1e9), self.run_id])


# ---------------------------------------------------------------- command line

def parse_args(argv):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise BadInput(message)

    def numbers(text):
        return sorted({int(word) for word in text.split(",")})

    numbers.__name__ = "list of whole numbers"
    p = Parser(prog="evaluate.py", allow_abbrev=False, description="Perplexity and passkey retrieval of a local language "
               "model whose decode steps attend as a policy selects; rows go to a database beside those of `adamas replay`.")
    add = p.add_argument
    add("--model", required=True, metavar="PATH", help="GGUF file, or folder of config.json and *.safetensors (llama)")
    add("--text", action="append", default=[], metavar="FILE", help="UTF-8 text; three or more for a sound figure")
    add("--text-source", action="append", default=[], metavar="S", help="of each text in turn, with its licence")
    add("--policies", type=lambda t: t.split(";"), metavar="LIST", help="as items of `adamas replay --policies`, one variant "
        f"each, separated by semicolons (default: {POLICIES}); dense is always there")
    add("--budgets", type=numbers, metavar="LIST", help="tokens to attend to in texts (default 64,128,256,512)")
    add("--passkey-budgets", type=numbers, metavar="LIST", help="and in the passkey task (default 64,256)")
    add("--context", type=int, metavar="N", help="tokens before the first block of a text (default 4096)")
    add("--blocks", type=int, metavar="N", help="of each text, 256 tokens apart (default 8)")
    add("--block-tokens", type=int, metavar="N", help="scored in each block (default 64)")
    add("--passkeys", type=int, metavar="N", help="at each of the depths 10, 30, 50, 70, 90%% (default 6; 0: none)")
    add("--passkey-context", type=int, metavar="N", help="tokens of the haystack (default 2048)")
    add("--quick", action="store_true", help="a fraction of all that, to see that it works: intervals are wide")
    add("--seed", type=int, default=1, metavar="N", help="of the keys, of random and of the bootstrap (default 1)")
    add("--db", default="adamas.db", metavar="FILE", help="database to add the run to (default adamas.db)")
    add("--label", default="", metavar="TEXT", help="a name for the run")
    add("--adamas", default=str(ROOT / "build/release/adamas"), metavar="FILE", help="the program")
    add("--library", default=str(ROOT / "build/release/libadamas.so"), metavar="FILE", help="the host library")
    add("--version", action="version", version=VERSION)
    args = p.parse_args(argv)
    small = dict(budgets=[64, 256], passkey_budgets=[64], context=1024, blocks=2, block_tokens=32, passkeys=1,
                 passkey_context=1024)
    full = dict(budgets=[64, 128, 256, 512], passkey_budgets=[64, 256], context=4096, blocks=8, block_tokens=64, passkeys=6,
                passkey_context=2048)
    for name, value in (small if args.quick else full).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.policies = list(dict.fromkeys(["dense", *(args.policies or POLICIES.split(";"))]))
    args.stride = max(256, args.block_tokens)
    check_args(args)
    return args


def check_args(args):
    for name, least in (("context", 64), ("blocks", 1), ("block_tokens", 1), ("passkeys", 0), ("passkey_context", 256)):
        if getattr(args, name) < least:
            raise BadInput(f"--{name.replace('_', '-')} {getattr(args, name)}: at least {least}")
    if min(args.budgets + args.passkey_budgets) < 16:
        raise BadInput("a budget below 16 tokens: quest selects pages of 16")
    if not args.text and not args.passkeys:
        raise BadInput("nothing to do: no --text, and --passkeys 0")
    if len(args.text_source) > len(args.text):
        raise BadInput("more --text-source than --text")
    if not Path(args.adamas).is_file():
        raise BadInput(f"--adamas {args.adamas}: no such program; `ninja` builds it")


def tokens_of_text(args):
    return args.context + (args.blocks - 1) * args.stride + args.block_tokens + 1


def read_text(path, tokenise, n_tokens):
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{path}: not a readable UTF-8 text: {e}") from e
    ids = tokenise(text)
    if len(ids) < n_tokens:
        raise BadInput(f"{path}: has {len(ids)} tokens, and {n_tokens} are needed")
    return text.encode(), ids[:n_tokens]


def print_table(args, rows):
    ppl = {(r.policy, r.budget): r.values for r in rows if r.task == "texts"}
    keys = {(r.policy, r.budget): r.values for r in rows if r.task == "passkey"}
    if ppl:
        print(f"\nperplexity of {next(iter(ppl.values()))['nll'].size} tokens, [95% interval of its ratio to dense]")
        for policy in args.policies:
            for budget in [None] if policy == "dense" else args.budgets:
                v = ppl[policy, budget]
                print(f"  {policy:46s} {budget or 'all':>5}  {v['perplexity']:8.2f}   x {v['perplexity_ratio']:.3f} "
                      f"[{v['perplexity_ratio_ci95_low']:.3f}, {v['perplexity_ratio_ci95_high']:.3f}]")
    if keys:
        print(f"\npasskeys found of {next(iter(keys.values()))['passkey_accuracy'].size}, [95% interval]")
        for policy in args.policies:
            for budget in [None] if policy == "dense" else args.passkey_budgets:
                v = keys[policy, budget]
                print(f"  {policy:46s} {budget or 'all':>5}  {v['passkey_accuracy'].mean():8.3f}   "
                      f"[{v['passkey_accuracy_ci95_low']:.3f}, {v['passkey_accuracy_ci95_high']:.3f}]")


def text_rows(args, task, texts):
    """Rows of a list of texts together, each {arm: nll}."""
    dense = [nll["dense", None] for nll in texts]
    return [Row(task, policy, budget, perplexity_metrics([nll[policy, budget] for nll in texts], dense, RESAMPLES, args.seed))
            for policy, budget in texts[0]]


def passkey_rows(right):
    rows = [Row(f"passkey at {depth:.0%}", policy, budget, passkey_metrics(v)) for (depth, policy, budget), v in right.items()]
    for arm in dict.fromkeys((policy, budget) for _, policy, budget in right):
        rows.append(Row("passkey", *arm, passkey_metrics([x for (_, *a), v in right.items() if tuple(a) == arm for x in v])))
    return rows


def run_texts(args, model, library, read, sha256, recorder, note):
    """Scores every text, writes its rows and those of all together; returns the latter."""
    n_tokens, n_scored, all_nll = tokens_of_text(args), args.blocks * args.block_tokens, []
    for i, (name, (data, ids)) in enumerate(read.items()):
        nll = score_text(model, library, ids, args, lambda text, name=name: note(f"{name}: {text}"))
        source = args.text_source[i] if i < len(args.text_source) else name
        recorder.write(trace_row(model.m, sha256, name, "real", data, n_tokens, n_scored, task="perplexity",
                                 text_source=source), args.context, text_rows(args, name, [nll]))
        all_nll.append(nll)
    rows = text_rows(args, "texts", all_nll)
    recorder.write(trace_row(model.m, sha256, f"{len(read)} texts", "real", b"".join(data for data, _ in read.values()),
                             n_tokens, len(read) * n_scored, task="perplexity", texts=list(read)), args.context, rows)
    return rows


def run_passkeys(args, model, library, tokenise, sha256, recorder, note):
    """Asks for every passkey, writes the rows of each depth and of all together; returns them."""
    rows = passkey_rows(ask_passkeys(model, library, tokenise, args, note))
    for task in dict.fromkeys(r.task for r in rows):
        data = f"{task}\n{args.passkey_context}\n{TASK}\n{FILLER}\n{NEEDLE}\n{QUESTION}".encode()
        recorder.write(trace_row(model.m, sha256, task, "synthetic", data, args.passkey_context, args.passkeys,
                                 task="passkey"), args.passkey_context, [r for r in rows if r.task == task])
    return rows


def run_tasks(args, argv, model, library, tokenise):
    m, sha256 = model.m, weights_sha256(model.m.weights.files)
    variants = {p: library.variant(p, m.n_q_heads, m.n_kv_heads, m.d, args.seed) for p in args.policies}
    read = {Path(path).name: read_text(path, tokenise, tokens_of_text(args)) for path in args.text}
    if len({data for data, _ in read.values()}) < len(args.text):
        raise BadInput("two texts have one name or one content")
    for n in [tokens_of_text(args)] * bool(read) + [args.passkey_context + ROOM_FOR_ANSWER] * bool(args.passkeys):
        model.check_context(n)
    recorder = Recorder(args, run_row(args, argv), m, variants)

    def note(text):
        if sys.stderr.isatty():
            print(f"\r\033[K{time.monotonic() - recorder.clock:5.0f} s  {text}", end="", file=sys.stderr, flush=True)

    rows = []
    try:
        if read:
            rows += run_texts(args, model, library, read, sha256, recorder, note)
        if args.passkeys:
            rows += run_passkeys(args, model, library, tokenise, sha256, recorder, note)
        recorder.end("complete")
    except BaseException as e:
        recorder.end("interrupted" if isinstance(e, KeyboardInterrupt) else "failed", f"{type(e).__name__}: {e}")
        raise
    finally:
        note("")
    print(f"{m.name}, {args.context} tokens and more, {time.monotonic() - recorder.clock:.0f} s; rows in {args.db}")
    return rows


def run(argv):
    args = parse_args(argv)
    make_database(args)
    import torch
    import xxhash  # noqa: F401  (needed later: better to miss it now)

    import sparse_lm
    torch.set_grad_enabled(False)
    library, model = sparse_lm.Library(args.library), sparse_lm.Model(args.model)
    tokeniser = quiet_transformers().AutoTokenizer.from_pretrained(**pretrained_args(model.m.path))
    print_table(args, run_tasks(args, argv, model, library, lambda text: tokeniser(text, add_special_tokens=False).input_ids))


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    try:
        run(argv)
    except BadInput as e:
        print(f"evaluate.py: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate.py: interrupted; what was finished is in the database", file=sys.stderr)
        return 130
    except (ImportError, OSError, RuntimeError, sqlite3.Error) as e:
        hint = "; `pip install -r traces/model/requirements.txt` brings it" if isinstance(e, ImportError) else ""
        print(f"evaluate.py: {e}{hint}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())

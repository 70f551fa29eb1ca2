#!/usr/bin/env python3
"""What a selection policy costs a real model: perplexity on long texts and retrieval of a passkey, with the model in the loop.

    texts    --dense--> prompt --policy--> blocks of tokens, scored   nll, perplexity: bootstrap by blocks
    haystack --dense--> prompt --policy--> question and answer        passkey_accuracy: Wilson
                                                    |
                                                    +--> the database, as a run of its own

The prompt attends densely, as DESIGN.md says of prefill, and so do the first two layers. Everything after it (of a passkey the
question, too) is decoded under the policy by the host library, sparse_lm.py. Every policy scores the same tokens, so
differences from dense attention are taken token by token. README.md has texts, weights and results.

Exit codes: 0 done; 2 bad usage or input; 4 the machine lacks something (a package, space); 130 interrupted.
"""
import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread leaves its core to others
from bad_input import BadInput
from calibration import Calibration
from library import Library, Store
from model_files import weights_sha256
from recorder import Recorder, run_row, trace_row
from sweep import Sweep
from tasks import (
    FILLER,
    NEEDLE,
    QUESTION,
    ROOM_FOR_ANSWER,
    TASK,
    arms_of,
    ask_passkeys,
    over_depths,
    passkey_rows,
    passkey_task,
    score_text,
    text_rows,
)
from tokens import load_tokeniser, read_text, take_tokens

VERSION = "evaluate.py 1.3"
ROOT = Path(__file__).resolve().parents[2]
POLICIES = ("dense;oracle;adamas;adamas:metric=dot;adamas:thresholds=fixed:-10,0,10;adamas:hadamard=off;"
            "adamas:hadamard=off,thresholds=fixed:-10,0,10;quest;streaming;h2o;random")


def parse_args(argv):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise BadInput(message)

    def numbers(text):
        return sorted({int(word) for word in text.split(",")})

    numbers.__name__ = "list of whole numbers"
    p = Parser(prog="evaluate.py", allow_abbrev=False, description="Perplexity and passkey retrieval of a local language "
               "model whose decode steps attend as a policy selects; rows go to the database that `adamas replay` uses.")
    add = p.add_argument
    add("--model", required=True, metavar="PATH", help="GGUF file, or folder of config.json and model.safetensors")
    add("--text", action="append", default=[], metavar="FILE", help="UTF-8 text; three or more for a sound figure")
    add("--text-source", action="append", default=[], metavar="S", help="of each text in turn, with its licence")
    add("--policies", type=lambda t: t.split(";"), metavar="LIST", help="as items of `adamas replay --policies`, one variant "
        f"each, separated by semicolons (default: {POLICIES}); dense is always there")
    add("--calibration", metavar="FILE", help="also adamas as `adamas calibrate` found it best for each layer")
    add("--budgets", type=numbers, metavar="LIST", help="tokens to attend to in texts (default 64,128,256,512)")
    add("--passkey-budgets", type=numbers, metavar="LIST", help="and in the passkey task (default 64,256)")
    add("--context", type=int, metavar="N", help="tokens before the first block of a text (default 4096)")
    add("--blocks", type=int, metavar="N", help="of each text, 256 tokens apart (default 8)")
    add("--block-tokens", type=int, metavar="N", help="scored in each block (default 64)")
    add("--passkeys", type=int, metavar="N", help="at each of the depths 10, 30, 50, 70, 90%% (default 6; 0: none)")
    add("--passkey-context", type=int, metavar="N", help="tokens of the haystack (default 2048)")
    add("--quick", action="store_true", help="a fraction of all that, to see that it works: intervals are wide")
    add("--shard", metavar="I/N", help="only part i of n of the policies, the same on every machine; `adamas db merge` joins "
        "the parts' databases, and a part that was cut short goes on (docs/fleet.md)")
    add("--dry-run", action="store_true", help="print how the shards share the policies; do nothing")
    add("--seed", type=int, default=1, metavar="N", help="of the keys, of random and of the bootstrap (default 1)")
    add("--db", default="adamas.db", metavar="FILE", help="database to add the run to (default adamas.db)")
    add("--label", default="", metavar="TEXT", help="a name for the run")
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
    if args.calibration is not None:
        args.policies.append(Calibration(args.calibration))
    args.stride = max(256, args.block_tokens)
    check_args(args)
    return args


def check_args(args):
    for name, minimum in (("context", 64), ("blocks", 1), ("block_tokens", 1), ("passkeys", 0), ("passkey_context", 256)):
        if getattr(args, name) < minimum:
            raise BadInput(f"--{name.replace('_', '-')} {getattr(args, name)}: at least {minimum}")
    if min(args.budgets + args.passkey_budgets) < 16:
        raise BadInput("a budget below 16 tokens: quest selects pages of 16")
    if not args.text and not args.passkeys:
        raise BadInput("nothing to do: no --text, and --passkeys 0")
    if len(args.text_source) > len(args.text):
        raise BadInput("more --text-source than --text")


def tokens_of_text(args):
    return args.context + (args.blocks - 1) * args.stride + args.block_tokens + 1


def read_texts(args, model, tokenise):
    """{name: (the text's bytes, its tokens)}"""
    read = {}
    for path in args.text:
        text = read_text(path)
        read[Path(path).name] = text.encode(), take_tokens(model.m, path, tokenise(text), tokens_of_text(args))
    if len({data for data, _ in read.values()}) < len(args.text):
        raise BadInput("two texts have one name or one content")
    return read


def print_table(texts, passkeys):
    ppl = {(r.policy, r.budget): r.values for r in texts}
    keys = {(r.policy, r.budget): r.values for r in passkeys if r.task == "passkey"}
    if ppl:
        print(f"\nperplexity of {next(iter(ppl.values()))['nll'].size} tokens, [95% interval of its ratio to dense]")
        for (policy, budget), v in ppl.items():
            print(f"  {policy:46s} {budget or 'all':>5}  {v['perplexity']:8.2f}   x {v['perplexity_ratio']:.3f} "
                  f"[{v['perplexity_ratio_ci95_low']:.3f}, {v['perplexity_ratio_ci95_high']:.3f}]")
    if keys:
        print(f"\npasskeys found of {next(iter(keys.values()))['passkey_accuracy'].size}, [95% interval]")
        for (policy, budget), v in keys.items():
            print(f"  {policy:46s} {budget or 'all':>5}  {v['passkey_accuracy'].mean():8.3f}   "
                  f"[{v['passkey_accuracy_ci95_low']:.3f}, {v['passkey_accuracy_ci95_high']:.3f}]")


def run_texts(args, model, read, sha256, recorder, policies, score):
    """Scores every text, writes its rows and, of several, those of all together; returns the latter."""
    n_tokens, n_scored, all_nll = tokens_of_text(args), args.blocks * args.block_tokens, []
    arms = arms_of(policies, args.budgets)
    for i, (name, (data, ids)) in enumerate(read.items()):
        source = args.text_source[i] if i < len(args.text_source) else name
        trace = trace_row(model.m, sha256, VERSION, name, "real", data, n_tokens, n_scored, task="perplexity",
                          text_source=source)
        known = recorder.known(trace, args.context, arms, "nll")
        nll = score(name, ids) if known is None else {arm: v.reshape(args.blocks, -1) for arm, v in known.items()}
        rows = text_rows(args, name, [nll])
        if known is None:
            recorder.write(trace, args.context, rows)
        all_nll.append(nll)
    if len(read) > 1:
        rows = text_rows(args, "texts", all_nll)
        trace = trace_row(model.m, sha256, VERSION, f"{len(read)} texts", "real", b"".join(data for data, _ in read.values()),
                          n_tokens, len(read) * n_scored, task="perplexity", texts=list(read))
        if recorder.known(trace, args.context, arms, "nll") is None:
            recorder.write(trace, args.context, rows)
    return rows


def run_passkeys(args, model, sha256, recorder, policies, ask):
    """Writes the rows of each depth as they come, and of all together; returns the latter."""
    arms = arms_of(policies, args.passkey_budgets)

    def trace(task):
        data = f"{task}\n{args.passkey_context}\n{TASK}\n{FILLER}\n{NEEDLE}\n{QUESTION}".encode()
        return trace_row(model.m, sha256, VERSION, task, "synthetic", data, args.passkey_context, args.passkeys, task="passkey")

    def known(task):
        answers = recorder.known(trace(task), args.passkey_context, arms, "passkey_accuracy")
        return answers and {arm: v.astype(bool).tolist() for arm, v in answers.items()}

    def write(task, answers):
        rows = passkey_rows(task, answers)
        recorder.write(trace(task), args.passkey_context, rows)
        return rows

    answers = over_depths(ask(lambda depth: known(passkey_task(depth)),
                              lambda depth, answers: write(passkey_task(depth), answers)))
    return passkey_rows("passkey", answers) if known("passkey") else write("passkey", answers)


def run_tasks(args, argv, model, library, sweep, tokenise):
    """Runs what was asked for. Returns the rows to print, of texts and of passkeys."""
    m, sha256, start = model.m, weights_sha256(model.m.weights.files), time.monotonic()
    for policy in args.policies:
        if isinstance(policy, Calibration):
            policy.check(m, sha256)
    variants = {p: library.variant(p, m.n_q_heads, m.n_kv_heads, m.d, args.seed) for p in args.policies}
    read = read_texts(args, model, tokenise)
    for n in [tokens_of_text(args)] * bool(read) + [args.passkey_context + ROOM_FOR_ANSWER] * bool(args.passkeys):
        model.check_context(n)
        if m.remark(n):
            print(m.remark(n), flush=True)
    recorder = Recorder(library, args.db, run_row(args, argv, VERSION), m, variants, sweep.identity(sha256, read))
    of_texts, of_passkeys = sweep.policies("texts"), sweep.policies("passkeys")

    def note(text):
        if sys.stderr.isatty():
            print(f"\r\033[K{time.monotonic() - start:5.0f} s  {text}", end="", file=sys.stderr, flush=True)

    def score(name, ids):
        return score_text(model, library, ids, args, of_texts, lambda text: note(f"{name}: {text}"))

    def ask(known, done):
        return ask_passkeys(model, library, tokenise, args, of_passkeys, note, known, done)

    texts = passkeys = ()
    try:
        if of_texts:
            texts = run_texts(args, model, read, sha256, recorder, of_texts, score)
        if of_passkeys:
            passkeys = run_passkeys(args, model, sha256, recorder, of_passkeys, ask)
    except BaseException as e:
        recorder.end("interrupted" if isinstance(e, KeyboardInterrupt) else "failed", f"{type(e).__name__}: {e}")
        raise
    finally:
        note("")
    recorder.end("complete")
    print(f"{m.name}, {args.context} tokens and more, {time.monotonic() - start:.0f} s; rows in {args.db}")
    return texts, passkeys


def run(argv):
    args = parse_args(argv)
    library = Library(args.library)
    sweep = Sweep(library, args)
    if args.dry_run:
        sweep.print()
        return
    Store(library, args.db).close()  # a file that is no database is refused now, not after the model is read
    import torch
    import xxhash  # noqa: F401  (needed later: better to miss it now)

    import sparse_lm
    torch.set_grad_enabled(False)
    model = sparse_lm.Model(args.model)
    tokeniser = load_tokeniser(model.m)
    print_table(*run_tasks(args, argv, model, library, sweep,
                           lambda text: tokeniser(text, add_special_tokens=False).input_ids))


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
    except (ImportError, OSError, RuntimeError) as e:
        hint = "; `pip install -r traces/model/requirements.txt` brings it" if isinstance(e, ImportError) else ""
        print(f"evaluate.py: {e}{hint}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())

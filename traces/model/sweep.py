"""`evaluate.py --shard i/n`: the policies that one of several machines evaluates, and what makes their runs one sweep.

    texts      prompt and dense steps | adamas | quest | streaming | ...      a shard has neighbours of a row, and
    passkeys   haystack and needles   | adamas | quest | streaming | ...      does what stands before them itself

A policy is not divided: its budgets are decoded together, and its rows over all texts need every text. So a row is the same to
the last bit in a shard and in one piece. docs/fleet.md says how to run and to join shards.
"""
import hashlib
import json
import re
from pathlib import Path

from bad_input import BadInput
from tasks import DEPTHS

STEPS_OF_PASSKEY = 24  # tokens of the question and the answer, about
APART = {"shard", "dry_run", "db", "label", "library", "model", "text", "calibration", "policies", "text_source"}


class Sweep:
    """Which policies are ours: all of them without --shard."""

    def __init__(self, library, args):
        self.args, self.items, costs, groups, group_costs = args, [], [], [], []
        self.index, self.count = parse_shard(args.shard)
        for task, prepare, each in tasks_of(args):
            for policy in args.policies:
                self.items.append((task, policy))
                costs.append(0.0 if policy == "dense" else each)  # it is part of what is prepared
                groups.append(len(group_costs))
            group_costs.append(prepare)
        self.part, self.load = library.split(costs, groups, group_costs, self.count or 1)

    def policies(self, task):
        """Of a task, dense first; none where the task is another shard's."""
        ours = [policy for (t, policy), part in zip(self.items, self.part) if t == task and part == (self.index or 1)]
        return list(dict.fromkeys(["dense", *ours])) if ours else []

    def identity(self, weights_sha256, texts):
        """What adm_db_begin_shard() asks for; None without --shard."""
        if not self.count:
            return None
        grid = {name: value for name, value in vars(self.args).items() if name not in APART}
        grid |= {"model": Path(self.args.model).name, "text": list(texts), "text_source": self.args.text_source,
                 "policies": [re.sub(r"calibration=.*", "calibration", policy) for policy in self.args.policies]}
        inputs = [weights_sha256, *(hashlib.sha256(data).hexdigest() for data, _ in texts.values())]
        if self.args.calibration:
            inputs.append(hash_of(self.args.calibration))
        return {"shard": self.args.shard, "grid": json.dumps(grid, sort_keys=True), "inputs": " ".join(inputs),
                "program": hash_of(self.args.library, *sorted(Path(__file__).parent.glob("*.py"))), "part": self.part}

    def print(self):
        for (task, policy), part in zip(self.items, self.part):
            if policy != "dense" or len(self.args.policies) == 1:
                print(f"{'*' if part == (self.index or 1) else ' '} shard {part:4}  {task:8} {policy}")
        mean = sum(self.load) / len(self.load)
        print(f"of {len(self.load)} shards the largest decodes {max(self.load) / mean if mean else 1:.2f} times the mean")


def parse_shard(text):
    if text is None:
        return 0, 0
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]) <= 65536:
        raise BadInput(f"--shard: '{text}' is not i/n with 1 <= i <= n <= 65536, such as 3/16")
    return int(match[1]), int(match[2])


def tasks_of(args):
    """(task, tokens that a shard reads before it evaluates a policy, tokens that a policy takes)"""
    scored = len(args.text) * args.blocks * args.block_tokens
    if args.text:
        yield "texts", len(args.text) * args.context + 2 * scored, scored * len(args.budgets)
    if args.passkeys:
        asked = len(DEPTHS) * args.passkeys * STEPS_OF_PASSKEY
        read = args.passkey_context * (max(DEPTHS) + args.passkeys * sum(1 - depth for depth in DEPTHS))
        yield "passkeys", read + asked, asked * len(args.passkey_budgets)


def hash_of(*paths):
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:32]

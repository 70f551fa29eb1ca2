"""The tasks that a policy is measured by: the next tokens of a text, and a passkey in a haystack."""
import random
from collections import namedtuple

import numpy as np

from intervals import RESAMPLES, passkey_metrics, perplexity_metrics

DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
ROOM_FOR_ANSWER = 128  # tokens of the haystack's last filler, the question and the answer

# The passkey task of Mohtashami and Jaggi (arXiv 2305.16300), as Quest and Adamas use it.
TASK = ("There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about "
        "the important information there.")
FILLER = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = " The pass key is {0}. Remember it. {0} is the pass key."
QUESTION = "\nWhat is the pass key? The pass key is"

# One policy at one budget (None: dense) on one task; values: {metric: numbers whose distribution is stored}
Row = namedtuple("Row", "task policy budget values")


def budgets_of(policy, budgets):
    return [1] if policy == "dense" else budgets  # dense attends to all whatever the budget


def arms_of(policies, budgets):
    return [(policy, budget) for policy in policies for budget in ([None] if policy == "dense" else budgets)]


def score_text(model, library, ids, args, policies, note):
    """{(policy, budget): nll [n_blocks, n_tokens]} of one text, under some of the policies."""
    import torch
    from torch.nn.functional import cross_entropy
    size, starts = args.block_tokens, [args.context + i * args.stride for i in range(args.blocks)]
    ids = torch.tensor(ids)
    cache = model.new_cache(len(ids))
    note("the prompt, densely")
    with_drawn = any(library.looks_back(p) for p in args.policies)  # of all: the dense prompt is the same in every shard
    model.prefill(ids, cache, keep_drawn_at=starts if with_drawn else ())
    nll = {}
    for start in starts:
        for policy in policies:
            note(f"{policy} from token {start}")
            budgets = budgets_of(policy, args.budgets)
            logits = model.decode(library, policy, budgets, cache, start, ids[start:start + size], args.seed)
            for budget, l in zip(budgets, logits):
                lost = cross_entropy(l, ids[start + 1:start + size + 1], reduction="none").double().numpy()
                nll.setdefault((policy, None if policy == "dense" else budget), []).append(lost)
    return {arm: np.array(blocks) for arm, blocks in nll.items()}


def ask_passkeys(model, library, tokenise, args, policies, note, known, done):
    """{(depth, policy, budget): [right or not, ...]}; done(depth, its arms' answers) as they come. What is known of a depth is
    not asked again: known(depth) is its arms' answers, or None."""
    import torch
    task, filler, question = (tokenise(text) for text in (TASK, FILLER, QUESTION))
    n_fillers = (args.passkey_context - len(task) - len(tokenise(NEEDLE.format(12345)))) // len(filler)
    before = {depth: round(n_fillers * depth) for depth in DEPTHS}
    prefix = {depth: len(task) + n * len(filler) for depth, n in before.items()}
    rng, right, asked = random.Random(args.seed), {}, {}
    for depth in DEPTHS:
        asked[depth] = known(depth)
    if all(answers is not None for answers in asked.values()):
        return {(depth, *arm): answers[arm] for depth, answers in asked.items() for arm in answers}
    cache = model.new_cache(args.passkey_context + ROOM_FOR_ANSWER)
    with_drawn = any(library.looks_back(p) for p in args.policies)
    note("passkey: the haystack, densely")
    model.prefill(torch.tensor(task + filler * max(before.values())), cache,
                  keep_drawn_at=sorted(set(prefix.values())) if with_drawn else ())
    for depth in sorted(DEPTHS, reverse=True):  # what stands before a needle is still there from the deeper ones
        keys = [rng.randrange(10000, 100000) for _ in range(args.passkeys)]
        if asked[depth] is not None:
            right |= {(depth, *arm): answers for arm, answers in asked[depth].items()}
            continue
        for trial, key in enumerate(keys):
            rest = tokenise(NEEDLE.format(key)) + filler * (n_fillers - before[depth])
            cache.n, n_prompt = prefix[depth], prefix[depth] + len(rest)
            model.prefill(torch.tensor(rest), cache, keep_drawn_at=(n_prompt,) if with_drawn else ())
            answer = torch.tensor(tokenise(f" {key}"))
            steps = torch.cat([torch.tensor(question), answer[:-1]])
            for policy in policies:
                note(f"passkey {trial + 1} at {depth:.0%}, {policy}")
                budgets = budgets_of(policy, args.passkey_budgets)
                logits = model.decode(library, policy, budgets, cache, n_prompt, steps, args.seed)
                for budget, l in zip(budgets, logits):
                    arm = depth, policy, None if policy == "dense" else budget
                    right.setdefault(arm, []).append(bool((l[len(question) - 1:].argmax(-1) == answer).all()))
            cache.drawn.pop(n_prompt, None)
        done(depth, {tuple(arm): answers for (d, *arm), answers in right.items() if d == depth})
    return right


def text_rows(args, task, texts):
    """Rows of a list of texts together, each {arm: nll}."""
    dense = [nll["dense", None] for nll in texts]
    return [Row(task, policy, budget, perplexity_metrics([nll[policy, budget] for nll in texts], dense, RESAMPLES, args.seed))
            for policy, budget in texts[0]]


def passkey_task(depth):
    return f"passkey at {depth:.0%}"


def passkey_rows(task, answers):
    """Of {(policy, budget): [right or not, ...]}."""
    return [Row(task, policy, budget, passkey_metrics(v)) for (policy, budget), v in answers.items()]


def over_depths(right):
    """{(policy, budget): answers}, the deepest first, as they were asked."""
    arms = dict.fromkeys((policy, budget) for _, policy, budget in right)
    return {arm: [x for depth in sorted(DEPTHS, reverse=True) for x in right[depth, *arm]] for arm in arms}

"""The policies that Adamas is compared with, in `adamas replay`, against NumPy written from their authors' papers and code and
not from the C: Quest by both of its authors' rules, on the bundled real trace, and recall as the share of the budget.

    K -> pages of 16: smallest and largest value of each channel -> bound on q.k -> pages by bound -> selection
    selection, exact top-k -> recall, mass; the smallest budget that keeps a mass

All sums are of doubles here and there, in another order: tokens and pages tie nowhere by chance, so that selections are the
same and means agree to 1e-9.
"""
import numpy as np
import pytest

from conftest import Adamas, query, read_safetensors

PAGE, N_STEPS, LAYER = 16, 64, 24
SEQ_LENS, BUDGETS, TARGET = (1024, 4096), (16, 47, 48, 64, 256), 0.8
RULES = {"kernel": "pages of 16", "evaluation": "pages of 16, evaluation's rule"}


@pytest.fixture(scope="module")
def layer(bundled):
    tensors, metadata = read_safetensors(bundled)
    k, q = (tensors[f"layers.{LAYER}.{role}"].astype(np.float64) for role in "kq")
    return k, q, tensors["positions"], float(metadata["softmax_scale"])


@pytest.fixture(scope="module")
def stored(program, bundled, tmp_path_factory):
    """{(seq_len, variant, budget, metric): (status, mean)} over steps and heads of the layer."""
    folder = tmp_path_factory.mktemp("peers")
    result = Adamas(folder)("replay", bundled, "--seq-lens", ",".join(map(str, SEQ_LENS)), "--budgets",
                            ",".join(map(str, BUDGETS)), "--layers", LAYER, "--policies",
                            "quest:rule=kernel+evaluation,select=head+group", "--target", f"mass={TARGET}", "--timed-steps", 0,
                            "--db", "p.db", "--quiet")
    assert result.code == 0, result.err
    return {tuple(row[:4]): row[4:] for row in query(
        folder / "p.db", "SELECT c.seq_len, c.variant, c.budget, k.name, m.status, m.mean FROM measurement m JOIN config c "
        "USING (config_id) JOIN metric k USING (metric_id) WHERE m.layer IS NULL AND m.stage IS NULL")}


def pages_in_order(k, queries, rule):
    """The pages in the order in which a budget takes them; k [n, d], queries [n_q, d] that share a selection."""
    n, d = k.shape
    low, high = (np.concatenate([k, np.full((-n % PAGE, d), fill)]).reshape(-1, PAGE, d) for fill in (np.inf, -np.inf))
    low, high = low.min(1), high.max(1)
    bound = sum(np.maximum(q * low, q * high).sum(1) for q in queries)
    if rule == "kernel":
        bound[-1] = np.inf
    return np.lexsort((-np.arange(len(bound)), -bound))


def selected(order, n, budget):
    pages = order if budget >= n else order[:budget // PAGE]
    tokens = (pages[:, None] * PAGE + np.arange(PAGE)).ravel()
    return tokens[tokens < n]


def budget_for_mass(order, p, n, smallest):
    """The smallest budget that selects, page by page and in a page the newest first, tokens with enough mass."""
    tokens = np.concatenate([np.arange(min(n, page * PAGE + PAGE) - 1, page * PAGE - 1, -1) for page in order])
    needed = np.searchsorted(p[tokens].cumsum(), TARGET) + 1
    pages = 1
    while len(selected(order, n, pages * PAGE)) < needed:
        pages += 1
    return min(max(pages * PAGE, smallest), n)


@pytest.fixture(scope="module")
def computed(layer):
    k, q, positions, scale = layer
    group = q.shape[1] // len(k)
    found = {}
    for seq_len in SEQ_LENS:
        first = int(np.searchsorted(positions, seq_len))
        for s in range(first, first + N_STEPS):
            n = positions[s] + 1
            for head in range(q.shape[1]):
                keys, kv = k[head // group, :n], head // group
                scores = scale * (keys @ q[s, head])
                p = np.exp(scores - scores.max())
                p /= p.sum()
                best = np.argsort(scores)[::-1]
                for rule, per_group in ((rule, per_group) for rule in RULES for per_group in (False, True)):
                    sharing = q[s, kv * group:(kv + 1) * group] if per_group else q[s, head:head + 1]
                    order = pages_in_order(keys, sharing, rule)
                    variant = RULES[rule] + ", per group" * per_group
                    smallest = PAGE if rule == "kernel" else 3 * PAGE

                    def keep(budget, metric, value, seq_len=seq_len, variant=variant):
                        found.setdefault((seq_len, variant, budget, metric), []).append(value)

                    keep(None, f"budget_for_mass_{TARGET}", budget_for_mass(order, p, n, smallest))
                    for budget in (b for b in BUDGETS if b >= smallest):
                        chosen = selected(order, n, budget)
                        keep(budget, "recall", np.isin(chosen, best[:budget]).sum() / min(budget, n))
                        keep(budget, "mass", p[chosen].sum())
    return {key: np.mean(values) for key, values in found.items()}


def test_quest_is_what_numpy_makes_of_its_authors_rules(stored, computed):
    for key, mean in computed.items():
        status, value = stored[key]
        assert status == "ok" and value == pytest.approx(mean, abs=1e-9), key
    assert len(computed) == len(SEQ_LENS) * (2 * (2 * 5 + 1) + 2 * (2 * 3 + 1))


def test_below_three_pages_the_evaluations_rule_has_no_values(stored):
    for (_, variant, budget, metric), (status, _) in stored.items():
        if not metric.startswith(("recall", "mass")):
            continue
        assert status == ("skipped" if "evaluation" in variant and budget < 48 else "ok"), (variant, budget)


def test_recall_is_a_share_of_the_budget_and_not_of_what_was_selected(layer, stored):
    """A partial page costs a page: of a budget of 16 there are 8.5 tokens on average, and recall cannot exceed their share."""
    _, _, positions, _ = layer
    first = int(np.searchsorted(positions, 1024))
    share = np.mean([(positions[s] % PAGE + 1) / PAGE for s in range(first, first + N_STEPS)])
    assert share == pytest.approx(8.5 / 16)
    assert 0 < stored[1024, "pages of 16", 16, "recall"][1] < share


def test_no_adaptive_budget_is_beyond_the_context(program, write_trace, tmp_path):
    """Contexts shorter than three pages, and a mass that takes all of it."""
    trace = write_trace("short.safetensors", n_tokens=60, n_steps=50)
    result = Adamas(tmp_path)("replay", trace, "--budgets", "16,64", "--dense-layers", 0, "--policies",
                              "quest:rule=kernel+evaluation,oracle,adamas:thresholds=fixed:-1,0,1,recent=16", "--target",
                              "mass=1", "--target", "output_rel_l2=0.000001", "--timed-steps", 0, "--db", "s.db", "--quiet")
    assert result.code == 0, result.err
    rows = query(tmp_path / "s.db", "SELECT c.policy, c.seq_len, m.min, m.max, m.n FROM measurement m JOIN config c USING "
                                    "(config_id) JOIN metric k USING (metric_id) WHERE k.name LIKE 'budget_for%'")
    assert {policy for policy, *_ in rows} == {"quest", "oracle", "adamas"}
    assert all(1 <= low <= high <= 60 for _, _, low, high, _ in rows)
    assert min(low for policy, _, low, _, _ in rows if policy == "quest") < 16  # the first step has 11 tokens

"""The policies that Adamas is compared with, in `adamas replay`, against NumPy written from their authors' papers and code and
not from the C: Quest by both of its authors' rules, on the bundled real trace, recall as the share of the budget, and H2O on a
session that holds the query of every token.

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


# ---------------------------------------------------------------- H2O

H2O_TOKENS, H2O_PROMPT, H2O_STEPS, H2O_BUDGETS = 280, 150, 64, (9, 32, 100, 160, 300)


def softmax(scores):
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


class Cache:
    """H2OKVCache_LayerWise: a cache of hh_size + recent_size tokens between steps; scores are sums of attention."""

    def __init__(self, hh_size, recent_size):
        self.hh_size, self.recent_size, self.tokens, self.scores = hh_size, recent_size, np.arange(0), np.zeros(0)

    def join(self, tokens):
        self.tokens = np.append(self.tokens, tokens)
        self.scores = np.append(self.scores, np.zeros(len(np.atleast_1d(tokens))))

    def update(self, attention):
        self.scores = self.scores + attention
        n = len(self.tokens)
        if n <= self.hh_size + self.recent_size:
            return
        older = self.scores[:n - self.recent_size]
        heavy = np.lexsort((-np.arange(len(older)), -older))[:self.hh_size]
        kept = np.append(np.sort(heavy), np.arange(n - self.recent_size, n)).astype(int)
        self.tokens, self.scores = self.tokens[kept], self.scores[kept]


def decode(k, q, scale, budget):
    """[step][head] tokens attended to, by heads q [T, n_q, d] that share one cache of the keys k [T, d]."""
    cache = Cache(budget // 2, (budget + 1) // 2 - 1)
    scores = np.where(np.tri(H2O_PROMPT, dtype=bool)[None], np.einsum("qhd,td->hqt", q[:H2O_PROMPT], k[:H2O_PROMPT]) * scale,
                      -np.inf)
    cache.join(np.arange(H2O_PROMPT))
    cache.update(softmax(scores).sum((0, 1)))
    chosen = []
    for t in range(H2O_PROMPT, H2O_PROMPT + H2O_STEPS):
        cache.join(t)
        chosen.append(cache.tokens.copy())
        cache.update(sum(softmax(scale * (k[cache.tokens] @ head)) for head in q[t]))
    return chosen


def test_h2o_is_what_numpy_makes_of_its_authors_cache(program, write_trace, tmp_path):
    path = write_trace("whole.safetensors", n_tokens=H2O_TOKENS, n_steps=H2O_TOKENS, dtype="F32", layers=(3,))
    result = Adamas(tmp_path)("replay", path, "--seq-lens", H2O_PROMPT, "--budgets", ",".join(map(str, H2O_BUDGETS)),
                              "--policies", "h2o:select=head+group,streaming", "--timed-steps", 0, "--db", "h.db", "--quiet")
    assert result.code == 0, result.err
    stored = {tuple(row[:4]): row[4] for row in query(
        tmp_path / "h.db", "SELECT c.variant, c.budget, k.name, m.head, m.mean FROM measurement m JOIN config c USING "
        "(config_id) JOIN metric k USING (metric_id) WHERE c.policy = 'h2o' AND m.head IS NOT NULL AND m.n = 64")}
    tensors, metadata = read_safetensors(path)
    k, q = (tensors[f"layers.3.{role}"].astype(np.float64) for role in "kq")
    n_q, n_kv, scale = q.shape[1], len(k), float(metadata.get("softmax_scale", q.shape[2] ** -0.5))
    group, n_compared = n_q // n_kv, 0
    for per_group in (False, True):
        variant = "half recent, evicting" + ", per group" * per_group
        for head in range(n_q):
            kv = head // group
            sharing = slice(kv * group, (kv + 1) * group) if per_group else slice(head, head + 1)
            for budget in H2O_BUDGETS:
                mass, recall = [], []
                for t, tokens in enumerate(decode(k[kv], q[:, sharing], scale, budget), H2O_PROMPT):
                    scores = scale * (k[kv, :t + 1] @ q[t, head])
                    p, top = softmax(scores), min(budget, t + 1)
                    assert len(tokens) == top and tokens[-1] == t
                    mass.append(p[tokens].sum())
                    recall.append(np.isin(tokens, np.argsort(scores)[-top:]).sum() / top)
                assert stored[variant, budget, "mass", head] == pytest.approx(np.mean(mass), abs=1e-9)
                assert stored[variant, budget, "recall", head] == pytest.approx(np.mean(recall), abs=1e-9)
                n_compared += 1
    assert n_compared == 2 * n_q * len(H2O_BUDGETS)


def test_h2o_has_no_values_without_the_prompts_queries(program, bundled, tmp_path):
    adamas = Adamas(tmp_path)
    result = adamas("replay", bundled, "--seq-lens", 2048, "--budgets", 64, "--policies", "h2o,accumulated", "--timed-steps", 0,
                    "--target", "mass=0.9", "--db", "n.db")
    assert result.code == 0 and "h2o needs the query of every token" in result.out
    assert query(tmp_path / "n.db", "SELECT DISTINCT policy FROM quality_summary") == [("accumulated",)]
    reasons = {r[0] for r in query(tmp_path / "n.db", "SELECT reason FROM measurement WHERE status = 'skipped'")}
    assert reasons == {"h2o needs the query of every token, the prompt's too: of 2112 the trace holds 128",
                       "a cache of h2o depends on the budget of every step before: there is no smallest budget"}

"""The quality figures of `adamas replay` on the bundled real trace against NumPy in float64, written from DESIGN's and
the paper's definitions and not from the C.

    K, V, Q of a layer -> scores -> softmax p, dense output o                 what sparse attention is measured against
    K, Q -> Hadamard -> codes -> L1 distance -> selection S                   policy adamas
    scores ---------------------------------> selection S                     policy oracle
    S -> recall, mass, kl, tv, output_rel_l2, ... -> mean, p50, p95, p99, worst head, as the views give them

How near the two must be. Both sum doubles, in different orders. The magnitudes of a score's 64 terms sum to at most
1e3, so it is off by at most 64 * 2^-53 * 1e3 = 7e-12, and so, relatively, are weight, mass and output: 1e-11 holds for
shares, mass and tv, and for kl, here computed from the two distributions. (Seen: 4e-15.) An output has one more step:
it is rounded to float32, by the program and here, and a sum within 1e-15 of a rounding boundary may fall either way.
It happens to a few in 1e8 elements, and moves a relative error by at most 2^-23 |out| / |o|, hence a mean of 64 by at
most 1.5e-8, |out| / |o| being below 8 (asserted); to change a percentile it would have to befall the very value that
is it. Of dense attention it only swaps half an ulp up for half an ulp down.
"""
from itertools import product

import numpy as np
import pytest

from conftest import query, read_safetensors

SEQ_LENS, BUDGETS = (1024, 4096), (64, 1024)
N_STEPS = 64
SUM_TOLERANCE, OUTPUT_TOLERANCE = 1e-11, 1.5e-8
EPS = 0.05  # the default of --eps


def tolerance_of(policy, metric):
    is_output = metric in ("output_rel_l2", "output_cosine", "oracle_gap")
    return OUTPUT_TOLERANCE if is_output and policy != "dense" else SUM_TOLERANCE


# ---------------------------------------------------------------- the trace, and what the program stored

@pytest.fixture(scope="module")
def trace(bundled):
    tensors, metadata = read_safetensors(bundled)
    layers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")})
    return {"layers": layers, "scale": float(metadata["softmax_scale"]), "positions": tensors["positions"],
            **{(i, role): tensors[f"layers.{i}.{role}"] for i in layers for role in "kvq"}}


@pytest.fixture(scope="module")
def stored_thresholds(bundled_run):
    return {(variant, layer): np.array(t, np.float64) for variant, layer, *t in query(
        bundled_run[0], "SELECT variant, layer, t0, t1, t2 FROM calibration")}


# ---------------------------------------------------------------- the stages

def hadamard(x):
    """H x / sqrt(d) in float32, in the order of operations that the contract of the stage fixes."""
    y = np.array(x, np.float32)
    d, stride = y.shape[-1], 1
    while stride < d:
        pairs = y.reshape(*y.shape[:-1], d // (2 * stride), 2, stride)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        y = np.stack([a + b, a - b], axis=-2).reshape(y.shape)
        stride *= 2
    return y * np.float32(1 / np.sqrt(d))


def codes(y, thresholds):
    return (y[..., None] > thresholds.astype(np.float32)).sum(-1, dtype=np.int16)


def nearest(distance, budget):
    """The `budget` smallest, the newest always in, ties to the most recent; (tokens ascending, tied at the edge)."""
    n = len(distance)
    if budget >= n:
        return np.arange(n), 0
    ranked = np.lexsort((-np.arange(n - 1), distance[:n - 1]))[:budget - 1]
    tied = np.count_nonzero(distance[:n - 1] == distance[ranked[-1]])
    return np.sort(np.append(ranked, n - 1)), tied


# ---------------------------------------------------------------- the metrics

def expected_recall(scores, selected):
    """Share of an exact top-k selected; of tokens tied at its edge, as many count as have places in it."""
    edge = np.sort(scores)[-len(selected)]
    places = len(selected) - np.count_nonzero(scores > edge)
    chosen = scores[selected]
    return (np.count_nonzero(chosen > edge) + min(places, np.count_nonzero(chosen == edge))) / len(selected)


class Dense:
    """Dense attention of one query in float64."""

    def __init__(self, q, k, v, scale):
        self.scores = scale * (k @ q)
        weight = np.exp(self.scores - self.scores.max())
        self.p, self.v = weight / weight.sum(), v
        self.out = self.p @ v

    def metrics(self, selected):
        kept = self.p[selected]
        mass = kept.sum()
        sparse = np.zeros_like(self.p)
        sparse[selected] = kept / mass  # the distribution that sparse attention uses
        out = (sparse[selected] @ self.v[selected]).astype(np.float32).astype(np.float64)
        norm = np.linalg.norm(self.out)
        assert np.linalg.norm(out) < 8 * norm
        support = sparse > 0
        error = np.linalg.norm(out - self.out) / norm
        return {"recall": expected_recall(self.scores, selected), "mass": mass,
                "kl": np.sum(sparse[support] * np.log(sparse[support] / self.p[support])),
                "tv": np.abs(sparse - self.p).sum() / 2, "output_rel_l2": error,
                "output_cosine": out @ self.out / (np.linalg.norm(out) * norm), "eps_exceed": float(error > EPS)}


@pytest.fixture(scope="module")
def computed(trace, stored_thresholds):
    """{(seq_len, policy, variant, budget, metric): [layer, head, step]}, adamas with the thresholds in the database."""
    variants = sorted({variant for variant, _ in stored_thresholds})
    n_heads, n_kv = trace[trace["layers"][0], "q"].shape[1], trace[trace["layers"][0], "k"].shape[0]
    values = {}

    def keep(key, at, metrics):
        for metric, value in metrics.items():
            values.setdefault((*key, metric), np.full((len(trace["layers"]), n_heads, N_STEPS), np.nan))[at] = value

    for i, layer in enumerate(trace["layers"]):
        keys, queries = hadamard(trace[layer, "k"]), hadamard(trace[layer, "q"])
        k, v, q = (trace[layer, role].astype(np.float64) for role in "kvq")
        key_codes = {variant: codes(keys, stored_thresholds[variant, layer]) for variant in variants}
        query_codes = {variant: codes(queries, stored_thresholds[variant, layer]) for variant in variants}
        for seq_len, s in product(SEQ_LENS, range(N_STEPS)):
            step = int(np.searchsorted(trace["positions"], seq_len)) + s
            n = trace["positions"][step] + 1
            for head in range(n_heads):
                kv, at = head * n_kv // n_heads, (i, head, s)
                dense = Dense(q[step, head], k[kv, :n], v[kv, :n], trace["scale"])
                keep((seq_len, "dense", "exact", None), at, dense.metrics(np.arange(n)))
                best = np.lexsort((-np.arange(n), -dense.scores))
                distance = {variant: np.abs(key_codes[variant][kv, :n] - query_codes[variant][step, head]).sum(1)
                            for variant in variants}
                for budget in BUDGETS:
                    oracle = dense.metrics(np.sort(best[:budget]))
                    keep((seq_len, "oracle", "exact", budget), at, oracle)
                    for variant in variants:
                        selected, tied = nearest(distance[variant], budget)
                        metrics = dense.metrics(selected)
                        metrics |= {"ties": tied, "oracle_gap": metrics["output_rel_l2"] - oracle["output_rel_l2"]}
                        keep((seq_len, "adamas", f"l1 {variant}", budget), at, metrics)
    return values


# ---------------------------------------------------------------- the tests

def test_thresholds_are_quantiles_of_the_transformed_keys_before_the_first_step(trace, stored_thresholds):
    calibrated = {layer: t for (variant, layer), t in stored_thresholds.items() if variant == "calibrated"}
    assert sorted(calibrated) == trace["layers"]
    for layer, stored in calibrated.items():
        y = hadamard(trace[layer, "k"][:, :SEQ_LENS[0]]).astype(np.float64)
        wanted = np.quantile(y, np.float32([1 / 3, 0.5, 2 / 3]).astype(np.float64))  # ADM_CALIBRATED_QUANTILES
        # one float32 rounding of an interpolation in float64
        np.testing.assert_allclose(stored, wanted, rtol=2.0 ** -24, atol=0)
        assert stored[0] < stored[1] < stored[2]


def test_fixed_thresholds_are_stored_as_given(trace, stored_thresholds):
    for layer in trace["layers"]:
        np.testing.assert_array_equal(stored_thresholds["fixed:-10,0,10", layer], [-10, 0, 10])


def test_the_program_and_numpy_measured_the_same_things(bundled_run, computed):
    stored = {tuple(row) for row in query(
        bundled_run[0], "SELECT seq_len, policy, variant, budget, metric FROM quality_summary "
        "WHERE metric NOT LIKE 'bucket%'")}
    assert stored == set(computed)


def worst_of(metric, of_heads):
    return of_heads.min() if metric in ("recall", "mass", "output_cosine") else of_heads.max()


@pytest.mark.parametrize("policy", ["dense", "oracle", "adamas"])
def test_summaries_are_those_of_numpy(bundled_run, computed, policy):
    n_compared = 0
    for seq_len, variant, budget, metric, n, *stored in query(
            bundled_run[0], "SELECT seq_len, variant, budget, metric, n, mean, p50, p95, p99, worst "
            "FROM quality_summary WHERE policy = ? AND metric NOT LIKE 'bucket%'", policy):
        values = computed[seq_len, policy, variant, budget, metric]
        wanted = [values.mean(), *np.quantile(values, [0.5, 0.95, 0.99]), worst_of(metric, values.mean(axis=2))]
        assert n == values.size
        np.testing.assert_array_less(np.abs(np.array(stored) - wanted), tolerance_of(policy, metric),
                                     err_msg=f"{policy} {variant}, {seq_len} tokens, budget {budget}: {metric}")
        n_compared += 1
    assert n_compared > 10


def test_every_head_of_every_layer_is_that_of_numpy(bundled_run, computed, trace):
    rows = query(bundled_run[0],
                 "SELECT c.seq_len, c.policy, c.variant, c.budget, k.name, m.layer, m.head, m.n, m.mean "
                 "FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
                 "WHERE m.stage IS NULL AND m.head IS NOT NULL AND k.name NOT LIKE 'bucket%'")
    assert len(rows) == len(computed) * 2 * 9
    for *key, layer, head, n, mean in rows:
        values = computed[tuple(key)][trace["layers"].index(layer), head]
        assert n == N_STEPS
        assert abs(mean - values.mean()) < tolerance_of(key[1], key[-1]), (key, layer, head)


def test_identities_hold_between_numpys_definitions(computed):
    for (*key, metric), mass in computed.items():
        if metric == "mass":
            np.testing.assert_allclose(computed[*key, "tv"], 1 - mass, atol=1e-12)
            np.testing.assert_allclose(computed[*key, "kl"], -np.log(mass), atol=1e-12)


def test_the_comparison_would_notice_another_rule(computed, trace, stored_thresholds):
    """Ties to the oldest token, say, change the figures by far more than the tolerances: the test can fail."""
    layer, kv, head = trace["layers"][0], 0, 0
    step = int(np.searchsorted(trace["positions"], SEQ_LENS[1]))
    n, t = trace["positions"][step] + 1, stored_thresholds["calibrated", layer]
    key_codes, query_codes = (codes(hadamard(x), t) for x in (trace[layer, "k"][kv, :n], trace[layer, "q"][step, head]))
    distance = np.abs(key_codes - query_codes).sum(1)
    dense = Dense(trace[layer, "q"][step, head].astype(float), trace[layer, "k"][kv, :n].astype(float),
                  trace[layer, "v"][kv, :n].astype(float), trace["scale"])
    oldest = np.sort(np.lexsort((np.arange(n), distance))[:64])
    wanted = computed[SEQ_LENS[1], "adamas", "l1 calibrated", 64, "mass"][0, head, 0]
    assert dense.metrics(nearest(distance, 64)[0])["mass"] == wanted
    assert abs(dense.metrics(oldest)["mass"] - wanted) > 1e4 * SUM_TOLERANCE

"""The variants of adamas in `adamas replay` on the bundled real trace against NumPy, written from DESIGN's definitions and
those in core/policy/thresholds.h and core/contract/stage.h, and not from the C.

    keys before the first step --> thresholds of the layer, the head, the channel;  levels: bucket means
    K, Q -> Hadamard or not -> codes of 1, 2, 3 bits -> metric, per head or summed over a group -> selection -> recall, mass

Codes are compared by integers, so recall agrees to the last digit unless a threshold lies within a rounding of a key: the
thresholds themselves are taken in float64 here and rounded once, as there. `asymmetric` compares floats there rounded to
16 bits; here the float sums decide, and a token at the boundary may fall either way: hence its tolerance.
"""

import numpy as np
import pytest

from conftest import Adamas, query, read_safetensors

SEQ_LEN, BUDGET, N_STEPS, LAYER = 1024, 64, 64, 24

# Item of --policies: the variant's name, bits, metric, Hadamard, kind of thresholds, quantiles, per group; sinks, recent
LOW, WIDE = (1 / 3, .5, 2 / 3), (.2, .5, .8)
EIGHTHS = tuple(i / 8 for i in range(1, 8))
VARIANTS = {
    "metric=xor": ("xor calibrated", 2, "xor", True, "layer", LOW, False),
    "metric=l2": ("l2 calibrated", 2, "l2", True, "layer", LOW, False),
    "metric=dot": ("dot calibrated", 2, "dot", True, "layer", WIDE, False),
    "metric=sign,bits=3": ("sign calibrated, 3 bits", 3, "sign", True, "layer", tuple(i / 10 for i in range(2, 9)), False),
    "bits=1,hadamard=off": ("l1 calibrated, 1 bit, no Hadamard", 1, "l1", False, "layer", (.5,), False),
    "metric=dot,bits=3,thresholds=channel": ("dot channel, 3 bits", 3, "dot", True, "channel", EIGHTHS, False),
    "thresholds=centred:.1,.5,.9": ("l1 centred:.1,.5,.9", 2, "l1", True, "centred", (.1, .5, .9), False),
    "select=group": ("l1 calibrated, per group", 2, "l1", True, "layer", LOW, True),
    "metric=dot,thresholds=centred,select=group": ("dot centred, per group", 2, "dot", True, "centred", WIDE, True),
    "metric=asymmetric": ("asymmetric calibrated", 2, "asymmetric", True, "layer", WIDE, False),
    "metric=asymmetric,thresholds=channel,select=group": ("asymmetric channel, per group", 2, "asymmetric", True, "channel",
                                                          WIDE, True),
    "metric=asym4": ("asym4 calibrated", 2, "asym4", True, "scaled", (-1, 0, 1), False),
    "metric=asym4,thresholds=scaled:0.7": ("asym4 scaled:0.7", 2, "asym4", True, "scaled", (-.7, 0, .7), False),
    "metric=asym4,hadamard=off,sinks=2": ("asym4 calibrated, no Hadamard, 2 sinks", 2, "asym4", False, "scaled", (-1, 0, 1),
                                          False, 2, 1),
    "metric=asym4,select=group": ("asym4 calibrated, per group", 2, "asym4", True, "scaled", (-1, 0, 1), True),
    "metric=dot,thresholds=scaled": ("dot scaled", 2, "dot", True, "scaled", (-1, 0, 1), False),
    "metric=asymmetric,thresholds=scaled:-1,0,1.5": ("asymmetric scaled:-1,0,1.5", 2, "asymmetric", True, "scaled",
                                                     (-1, 0, 1.5), False),
    "sinks=4": ("l1 calibrated, 4 sinks", 2, "l1", True, "layer", LOW, False, 4, 1),
    "sinks=1,recent=40": ("l1 calibrated, 1 sink, 40 recent", 2, "l1", True, "layer", LOW, False, 1, 40),
    "metric=dot,recent=64,select=group": ("dot calibrated, 64 recent, per group", 2, "dot", True, "layer", WIDE, True, 0, 64),
}


@pytest.fixture(scope="module")
def stored(program, bundled, tmp_path_factory):
    """{variant: (recall, mass)}, means over steps and heads of the layer."""
    folder = tmp_path_factory.mktemp("variants")
    policies = ",".join(f"adamas:{settings}" for settings in VARIANTS)
    result = Adamas(folder)("replay", bundled, "--seq-lens", SEQ_LEN, "--budgets", BUDGET, "--layers", LAYER, "--policies",
                            policies, "--db", "v.db", "--quiet")
    assert result.code == 0, result.err
    rows = query(folder / "v.db", "SELECT variant, metric, mean FROM quality_summary WHERE metric IN ('recall', 'mass')")
    return {v: tuple(mean for w, metric, mean in sorted(rows, key=lambda r: r[1], reverse=True) if w == v)
            for v in {r[0] for r in rows}}


@pytest.fixture(scope="module")
def layer(bundled):
    tensors, metadata = read_safetensors(bundled)
    k, q = (tensors[f"layers.{LAYER}.{role}"].astype(np.float32) for role in "kq")
    steps = np.flatnonzero(tensors["positions"] >= SEQ_LEN)[:N_STEPS]
    return k, q[steps], tensors["positions"][steps], float(metadata["softmax_scale"])


def hadamard(x):
    """H x / sqrt(d) in float32, in the order of operations that the contract of the stage fixes."""
    y, d, stride = np.array(x, np.float32), x.shape[-1], 1
    while stride < d:
        pairs = y.reshape(*y.shape[:-1], d // (2 * stride), 2, stride)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        y = np.stack([a + b, a - b], axis=-2).reshape(y.shape)
        stride *= 2
    return y * np.float32(1 / np.sqrt(d))


def thresholds(prompt, kind, quantiles):
    """(of keys, of queries), each [n_kv_heads, n_thresholds, d] in float32, from prompt [n_kv_heads, n, d]."""
    n_kv, _, d = prompt.shape
    quantiles = np.float32(quantiles).astype(np.float64)
    mean = prompt.mean(1, keepdims=True, dtype=np.float64).astype(np.float32) * (kind != "layer")
    rest = (prompt - mean).astype(np.float64)
    if kind == "scaled":
        z, scale = np.float32(quantiles).astype(np.float64), deviation(prompt).astype(np.float64)
        return tuple((z[:, None] * scale[:, None] + m).astype(np.float32) for m in (mean.astype(np.float64), 0))
    if kind == "channel":
        of_queries = np.quantile(rest, quantiles, axis=1).transpose(1, 0, 2)
    else:
        of_queries = np.broadcast_to(np.quantile(rest, quantiles)[None, :, None], (n_kv, len(quantiles), d))
    of_queries = of_queries.astype(np.float32)
    return of_queries + mean, of_queries


def deviation(prompt):
    """Of each channel, [n_kv_heads, d]."""
    return prompt.astype(np.float64).std(1).astype(np.float32)


def quantise(w):
    """w [d] in float32 to whole numbers from -8 to 7: of six steps the one with the least squared error, in 2048ths of the
    largest element."""
    x = w * (np.float32(2048) / abs(w).max())
    tried = [(step, np.clip(np.rint(x * np.float32(1 / step)), -8, 7).astype(np.int64))
             for step in (292, 272, 252, 232, 212, 192)]
    return min(tried, key=lambda t: ((np.rint(x).astype(np.int64) - t[0] * t[1])**2).sum())[1]


def code(y, t):
    """y [..., n, d] under t [..., n_thresholds, d]"""
    return (y[..., :, None, :] > t[..., None, :, :]).sum(-2, dtype=np.int64)


def levels(prompt, codes, kind, n_codes):
    """What a code stands for, [n_kv_heads, d, n_codes]: the mean of the keys in the bucket, less the channel's mean."""
    mean = prompt.mean(1, keepdims=True, dtype=np.float64) * (kind != "layer")
    rest = prompt - mean
    out = np.zeros((*prompt.shape[::2], n_codes))
    for c in range(n_codes):
        inside = codes == c
        by_channel = (rest * inside).sum(1) / inside.sum(1)
        out[..., c] = by_channel if kind in ("channel", "scaled") else (rest * inside).sum() / inside.sum()
    return out


def distance(metric, top, query, keys):
    if metric == "l1":
        return abs(query - keys).sum(1)
    if metric == "xor":
        return (query ^ keys).sum(1)
    if metric == "l2":
        return ((query - keys) ** 2).sum(1)
    if metric == "sign":
        return ((2 * query > top) != (2 * keys > top)).sum(1)
    return -((2 * query - top) * (2 * keys - top)).sum(1)


def nearest(distances, sinks=0, recent=1):
    """BUDGET tokens: the first `sinks` and the last `recent`, then those of the smallest distance, ties to the most recent."""
    token = np.arange(len(distances))
    is_free = (token >= sinks) & (token < len(token) - recent)
    return np.lexsort((-token, distances, is_free))[:BUDGET]


@pytest.mark.parametrize("settings", VARIANTS)
def test_a_variant_is_what_numpy_makes_of_its_definition(stored, layer, settings):
    name, bits, metric, with_hadamard, kind, quantiles, per_group, *forced = VARIANTS[settings]
    k, q, positions, scale = layer
    n_kv, (n_steps, n_q, _) = len(k), q.shape
    group, top = n_q // n_kv, 2**bits - 1
    yk, yq = (hadamard(x) if with_hadamard else x for x in (k, q))
    prompt = yk[:, :positions[0]]
    t_key, t_query = thresholds(prompt, kind, quantiles)
    key_codes = code(yk, t_key)
    assert len(np.unique(key_codes)) == 2**bits
    values = np.take_along_axis(levels(prompt, key_codes[:, :positions[0]], kind, top + 1)[:, None], key_codes[..., None],
                                -1)[..., 0] if metric == "asymmetric" else None
    recall, mass = [], []
    for s, head in np.ndindex(n_steps, n_q):
        n, kv = positions[s] + 1, head // group
        sharing = range(kv * group, (kv + 1) * group) if per_group else [head]
        if metric == "asym4":
            distances = -sum(key_codes[kv, :n] @ quantise(yq[s, h] * deviation(prompt)[kv]) for h in sharing)
        elif metric == "asymmetric":
            distances = -(values[kv, :n] @ yq[s, list(sharing)].astype(np.float64).sum(0))
        else:
            distances = sum(distance(metric, top, code(yq[s, None, h], t_query[kv])[0], key_codes[kv, :n]) for h in sharing)
        chosen = nearest(distances, *forced)
        scores = scale * (k[kv, :n].astype(np.float64) @ q[s, head].astype(np.float64))
        p = np.exp(scores - scores.max())
        recall.append(np.isin(chosen, np.argsort(scores)[-BUDGET:]).mean())
        mass.append(p[chosen].sum() / p.sum())
    limit = 2e-3 if metric == "asymmetric" else 1e-9
    assert stored[name] == (pytest.approx(np.mean(recall), abs=limit), pytest.approx(np.mean(mass), abs=limit))

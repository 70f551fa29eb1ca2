"""The stages of libadamas.so against NumPy, written from the paper's definitions and not from the C.

    x -> H x / sqrt(d) -> codes -> packed -> distances -> selection -> attention
         bit for bit (float32) ..........................  exactly     to a tolerance

The library is the one named by ADAMAS_LIB, else build/release/libadamas.so; its absence is an error, not a skip.
Inputs are random, from ADAMAS_TEST_SEED or a new seed, and the keys of a real model where the trace is at hand.
"""
import ctypes
import json
import os
import secrets
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT / "traces" / "smollm2-135m-kjv.safetensors"
LIBRARY = Path(os.environ.get("ADAMAS_LIB") or ROOT / "build" / "release" / "libadamas.so")
SEED = int(os.environ.get("ADAMAS_TEST_SEED") or secrets.randbits(63))

DTYPES = {"F32": 0, "F16": 1, "BF16": 2}  # adm_dtype
HEAD_DIMS = [64, 128, 256]
THRESHOLDS = {"paper": (-10, 0, 10), "quantile": None}


# ---- the library ----

class SelectRule(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("budget", "n_sinks", "n_recent")]


class SelectInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("boundary", "n_tied", "n_tied_in")]


POINTER, SIZE, U32, INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_int
FUNCTIONS = {
    "adm_to_f32": (None, [INT, POINTER, SIZE, POINTER]),
    "adm_from_f32": (None, [INT, POINTER, SIZE, POINTER]),
    "adm_hadamard_reference": (None, [INT, POINTER, SIZE, U32, POINTER]),
    "adm_hadamard_exact": (None, [INT, POINTER, SIZE, U32, POINTER]),
    "adm_bucket_reference": (None, [POINTER, SIZE, POINTER, POINTER]),
    "adm_pack_reference": (None, [POINTER, SIZE, U32, POINTER]),
    "adm_unpack_reference": (None, [POINTER, SIZE, U32, POINTER]),
    "adm_append_reference": (None, [POINTER, U32, U32, SIZE, SIZE, POINTER]),
    "adm_distance_reference": (None, [POINTER, POINTER, SIZE, U32, POINTER]),
    "adm_distance_l1": (None, [POINTER, POINTER, SIZE, U32, POINTER]),
    "adm_distance_xor": (None, [POINTER, POINTER, SIZE, U32, POINTER]),
    **{f"adm_distance_{metric}": (None, [POINTER, POINTER, SIZE, U32, POINTER]) for metric in ("l2", "sign", "dot", "hamming")},
    "adm_asym4_learn": (None, [POINTER, SIZE, U32, POINTER, POINTER]),
    "adm_asym4_thresholds": (None, [POINTER, POINTER, U32, POINTER, POINTER]),
    "adm_asym4_query": (None, [POINTER, POINTER, U32, POINTER]),
    "adm_distance_asym4": (None, [POINTER, POINTER, SIZE, U32, POINTER]),
    "adm_encode_rows": (None, [POINTER, SIZE, U32, POINTER, U32, POINTER]),
    "adm_scan_bytes": (None, [POINTER, POINTER, SIZE, U32, U32, POINTER, POINTER]),
    "adm_topk_reference": (U32, [POINTER, SIZE, U32, POINTER, POINTER, POINTER, POINTER]),
    "adm_attention_reference": (None, [INT, POINTER, POINTER, POINTER, POINTER, SIZE, U32, ctypes.c_double, POINTER,
                                       POINTER]),
}


@pytest.fixture(scope="session")
def lib():
    if not LIBRARY.exists():
        pytest.fail(f"{LIBRARY} is not there: build it with ninja, or name the library in ADAMAS_LIB")
    library = ctypes.CDLL(str(LIBRARY))
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def address(array):
    """The array's memory, which must be contiguous and stay alive through the call."""
    assert array.flags["C_CONTIGUOUS"]
    return array.ctypes.data


# ---- inputs: stored arrays of a dtype, as the library takes them, with their float32 values ----

def store(values, dtype):
    """float32 values rounded to dtype: (the bytes as an array, the rounded values as float32)."""
    values = np.ascontiguousarray(values, np.float32)
    if dtype == "F32":
        return values, values
    if dtype == "F16":
        stored = values.astype(np.float16)
        return stored, stored.astype(np.float32)
    bits = values.view(np.uint32).astype(np.uint64)
    stored = (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)
    return stored, widen_bf16(stored)


def widen_bf16(stored):
    return (stored.astype(np.uint32) << 16).view(np.float32)


def random_keys(rng, n, d):
    """Normal keys with a few outlier channels, as RoPE models have them, at the scale of the paper's thresholds."""
    x = 10 * rng.standard_normal((n, d))
    x[:, rng.choice(d, 3, replace=False)] *= 12
    x[0] = 0
    x[1] = 3.25
    return x.astype(np.float32)


def read_safetensors(path):
    """{name: float32 array} of a trace, and the stored arrays and dtypes beside them."""
    data = path.read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + header_bytes])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in DTYPES:
            continue
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        kind = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[entry["dtype"]]
        stored = np.frombuffer(data[begin:end], kind).reshape(entry["shape"])
        wide = widen_bf16(stored) if entry["dtype"] == "BF16" else stored.astype(np.float32)
        tensors[name] = (stored, wide, entry["dtype"])
    return tensors, header.get("__metadata__", {})


@pytest.fixture(scope="session")
def trace():
    if not TRACE.exists():
        pytest.skip(f"{TRACE.relative_to(ROOT)} is not there")
    return read_safetensors(TRACE)


@pytest.fixture
def rng(request):
    """A stream for each test, so that one repeats alone as well as among the others."""
    print(f"ADAMAS_TEST_SEED={SEED}")
    return np.random.default_rng([SEED, *request.node.name.encode()])


# ---- the definitions, in NumPy ----

def sylvester(d):
    h = np.ones((1, 1))
    while len(h) < d:
        h = np.block([[h, h], [h, -h]])
    return h


def hadamard_float32(x):
    """Rows of x by float32 butterflies of stride 1, 2, ... d/2, then one multiplication."""
    n, d = x.shape
    y, stride = x.astype(np.float32), 1
    while stride < d:
        pairs = y.reshape(n, d // (2 * stride), 2, stride)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        y = np.stack([a + b, a - b], axis=2).reshape(n, d)
        stride *= 2
    return y * np.float32(1 / np.sqrt(d))


def bucket(y, thresholds):
    return sum((y > np.float32(t)).astype(np.uint8) for t in thresholds)


def pack(codes):
    """Element i at bits 2i, 2i+1 of the row read as one little-endian number."""
    bits = np.stack([codes & 1, codes >> 1], axis=-1).reshape(len(codes), -1)
    return np.packbits(bits, axis=1, bitorder="little")


def l1(query_codes, key_codes):
    return np.abs(query_codes.astype(int) - key_codes.astype(int)).sum(axis=1)


def released_xor(query_packed, key_packed):
    """popc(x & 0x5555...) + 2 popc(x & 0xAAAA...), the metric of the authors' released CUDA kernel."""
    x = query_packed ^ key_packed
    return np.bitwise_count(x & 0x55).sum(axis=1, dtype=int) + 2 * np.bitwise_count(x & 0xAA).sum(axis=1, dtype=int)


def select(distance, budget, n_sinks, n_recent):
    """Forced tokens, then the nearest, of equal ones the most recent."""
    n = len(distance)
    token = np.arange(n)
    forced = (token < n_sinks) | (token >= n - max(n_recent, 1))
    order = np.lexsort((-token, distance, ~forced))  # the last key decides first
    return np.sort(order[:max(min(budget, n), 0)])


def attention(q, k, v, scale):
    scores = scale * (k.astype(np.float64) @ q.astype(np.float64))
    weights = np.exp(scores - scores.max())
    return (weights / weights.sum()) @ v.astype(np.float64)


def attention_allowance(q, k, v, scale, expected):
    """How far two double-precision evaluations may lie apart (derived in test_attention.c, here once for each side)."""
    d, n = k.shape[1], len(k)
    largest = scale * (np.abs(k.astype(np.float64)) @ np.abs(q.astype(np.float64))).max()
    relative = np.expm1(2 * ((d + 2) * 2.0**-53 * largest + 2.0**-52)) + (2 * n + 3) * 2.0**-53
    return 2 * relative * np.abs(v).max() + 2.0**-24 * np.abs(expected) + 2.0**-150


# ---- the stages of the library on rows ----

def c_hadamard(lib, stored, dtype):
    y = np.empty(stored.shape, np.float32)
    lib.adm_hadamard_reference(DTYPES[dtype], address(stored), len(stored), stored.shape[1], address(y))
    return y


def c_codes(lib, y, thresholds):
    codes, t = np.empty(y.shape, np.uint8), np.array(thresholds, np.float32)
    lib.adm_bucket_reference(address(y), y.size, address(t), address(codes))
    return codes


def c_packed(lib, codes):
    packed = np.empty((len(codes), codes.shape[1] // 4), np.uint8)
    lib.adm_pack_reference(address(codes), len(codes), codes.shape[1], address(packed))
    return packed


def c_distance(lib, name, q, k, d=None):
    distance = np.empty(len(k), np.uint16)
    getattr(lib, name)(address(q), address(k), len(k), d or 4 * len(q), address(distance))
    return distance


def c_select(lib, distance, max_distance, budget, n_sinks, n_recent):
    index = np.empty(min(budget, len(distance)), np.uint32)
    histogram = np.empty(max_distance + 1, np.uint32)
    rule, info = SelectRule(budget, n_sinks, n_recent), SelectInfo()
    n = lib.adm_topk_reference(address(distance), len(distance), max_distance, ctypes.addressof(rule),
                               address(histogram), address(index), ctypes.addressof(info))
    assert n == len(index)
    return index, info


def c_attention(lib, dtype, q, k, v, index, n, scale):
    out, score = np.empty(len(q), np.float32), np.empty(n)
    lib.adm_attention_reference(DTYPES[dtype], address(q), address(k), address(v),
                                None if index is None else address(index), n, len(q), scale, address(score),
                                address(out))
    return out


def check_encoding(lib, stored, wide, dtype, thresholds):
    """Hadamard, codes and packed rows of the library and of NumPy agree to the last bit; returns codes and rows."""
    y = c_hadamard(lib, stored, dtype)
    expected = hadamard_float32(wide)
    assert np.array_equal(y.view(np.uint32), expected.view(np.uint32))
    d = y.shape[1]
    exact = wide.astype(np.float64) @ sylvester(d).T / np.sqrt(d)
    # test_hadamard.c derives this bound on the error of a row
    allowed = (np.log2(d) + 3) * 2.0**-24 * np.linalg.norm(exact, axis=1) + np.sqrt(d) * 2.0**-150
    assert (np.linalg.norm(y - exact, axis=1) <= allowed).all()

    codes = c_codes(lib, y, thresholds)
    assert np.array_equal(codes, bucket(expected, thresholds))
    packed = c_packed(lib, codes)
    assert np.array_equal(packed, pack(codes))
    back = np.empty_like(codes)
    lib.adm_unpack_reference(address(packed), len(packed), d, address(back))
    assert np.array_equal(back, codes)
    return codes, packed


def check_selection(lib, q_codes, q_packed, k_codes, k_packed, rules):
    """Distances to the last bit, then for each rule the selected tokens; yields the selections."""
    distance = l1(q_codes, k_codes)
    for name in ("adm_distance_reference", "adm_distance_l1"):
        assert np.array_equal(c_distance(lib, name, q_packed, k_packed), distance)
    assert np.array_equal(c_distance(lib, "adm_distance_xor", q_packed, k_packed),
                          released_xor(q_packed, k_packed))
    for rule in rules:
        index, info = c_select(lib, distance.astype(np.uint16), 3 * len(q_codes), *rule)
        assert np.array_equal(index, select(distance, *rule))
        if rule == (rule[0], 0, 0) and 1 < rule[0] < len(distance):  # all but the newest token compete
            ranked = np.sort(distance[:-1])
            assert info.boundary == ranked[rule[0] - 2]
            assert info.n_tied == (ranked == info.boundary).sum()
            assert info.n_tied_in == (ranked[:rule[0] - 1] == info.boundary).sum()
        yield index


def check_attention(lib, dtype, q, k, v, index, scale):
    """q, k, v are pairs (stored, float32 values); index None is dense."""
    chosen = slice(None) if index is None else index
    n = len(k[0]) if index is None else len(index)
    out = c_attention(lib, dtype, q[0], k[0], v[0], index, n, scale)
    expected = attention(q[1], k[1][chosen], v[1][chosen], scale)
    allowed = attention_allowance(q[1], k[1][chosen], v[1][chosen], scale, expected)
    assert (np.abs(out - expected) <= allowed).all()


RULES = [(1, 0, 0), (2, 0, 0), (16, 4, 8), (64, 0, 0), (64, 4, 16), (256, 4, 64), (100000, 4, 16)]


# ---- tests ----

@pytest.mark.parametrize("d", HEAD_DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_random_inputs_through_every_stage(lib, rng, d, dtype, thresholds):
    n = 300
    k, v = store(random_keys(rng, n, d), dtype), store(rng.standard_normal((n, d)), dtype)
    q = store(random_keys(rng, 3, d)[2:], dtype)
    t = THRESHOLDS[thresholds] or np.quantile(hadamard_float32(k[1]), [0.25, 0.5, 0.75]).astype(np.float32)
    k_codes, k_packed = check_encoding(lib, *k, dtype, t)
    q_codes, q_packed = check_encoding(lib, *q, dtype, t)
    assert len(np.unique(k_codes)) == 4  # else the inputs miss the thresholds and nothing was tested
    query, scale = (q[0][0], q[1][0]), 1 / np.sqrt(d)
    for index in check_selection(lib, q_codes[0], q_packed[0], k_codes, k_packed, RULES):
        check_attention(lib, dtype, query, k, v, index, scale)
    check_attention(lib, dtype, query, k, v, None, scale)
    everything = np.arange(n, dtype=np.uint32)
    assert np.array_equal(c_attention(lib, dtype, *(x[0] for x in (query, k, v)), everything, n, scale),
                          c_attention(lib, dtype, *(x[0] for x in (query, k, v)), None, n, scale))


@pytest.mark.parametrize("dtype", DTYPES)
def test_real_keys_through_every_stage(lib, trace, dtype):
    """The trace as it is stored, or rounded to another type: the thresholds of the paper and the layer's quartiles."""
    tensors, metadata = trace
    layers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")})
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        k, v, q = (tensors[f"layers.{layer}.{name}"] for name in "kvq")
        n_kv_heads, length, d = k[1].shape
        scale = float(metadata.get("softmax_scale") or 1 / np.sqrt(d))
        for q_head in (0, q[1].shape[1] - 1):
            head = q_head // (q[1].shape[1] // n_kv_heads)
            pairs = [(np.ascontiguousarray(stored), wide) if stored_dtype == dtype else store(wide, dtype)
                     for stored, wide, stored_dtype in ((k[0][head], k[1][head], k[2]), (v[0][head], v[1][head], v[2]),
                                                        (q[0][-1:, q_head], q[1][-1:, q_head], q[2]))]
            for t in ((-10, 0, 10), np.quantile(hadamard_float32(pairs[0][1]), [0.25, 0.5, 0.75])):
                k_codes, k_packed = check_encoding(lib, *pairs[0], dtype, t)
                q_codes, q_packed = check_encoding(lib, *pairs[2], dtype, t)
                query = tuple(x[0] for x in pairs[2])
                for index in check_selection(lib, q_codes[0], q_packed[0], k_codes, k_packed, RULES):
                    check_attention(lib, dtype, query, pairs[0], pairs[1], index, scale)
            check_attention(lib, dtype, query, pairs[0], pairs[1], None, scale)


@pytest.mark.parametrize("d", HEAD_DIMS)
def test_the_exact_transform_is_the_sylvester_matrix(lib, rng, d):
    x = random_keys(rng, 40, d)
    y = np.empty(x.shape)
    lib.adm_hadamard_exact(DTYPES["F32"], address(x), len(x), d, address(y))
    exact = x.astype(np.float64) @ sylvester(d).T / np.sqrt(d)
    # d additions, two roundings for the scale: each side within (d + 2) 2^-53 of sum |x| / sqrt(d)
    allowed = 2 * (d + 2) * 2.0**-53 * np.abs(x).sum(axis=1, keepdims=True) / np.sqrt(d)
    assert (np.abs(y - exact) <= allowed).all()
    assert np.allclose(sylvester(d) @ sylvester(d), d * np.eye(d))


def test_the_released_metric_is_not_l1(lib):
    q, k = np.full(16, 0x55, np.uint8), np.full((1, 16), 0xAA, np.uint8)  # codes 1 against codes 2
    assert c_distance(lib, "adm_distance_l1", q, k) == [64]
    assert c_distance(lib, "adm_distance_xor", q, k) == [192]


def code_distances(metric, bits, a, b):
    """The metrics' definitions on codes a [d] and b [n, d], or on anything that broadcasts; not summed."""
    a, b, top = a.astype(int), b.astype(int), 2**bits - 1
    if metric == "dot":
        return (top**2 - (2 * a - top) * (2 * b - top)) // 2
    return {"l1": abs(a - b), "xor": a ^ b, "l2": (a - b) ** 2, "sign": (2 * a > top) ^ (2 * b > top)}[metric]


@pytest.mark.parametrize("d", HEAD_DIMS)
@pytest.mark.parametrize("bits", [1, 2, 3])
def test_codes_of_any_width_under_thresholds_of_each_channel(lib, rng, d, bits):
    n = 200
    y = (rng.standard_normal((n, d)) * rng.uniform(0.5, 4, d) + rng.standard_normal(d)).astype(np.float32)
    thresholds = np.ascontiguousarray(np.quantile(y, np.arange(1, 2**bits) / 2**bits, axis=0).astype(np.float32))
    codes = (y[:, None] > thresholds).sum(1, dtype=np.uint8)
    assert (np.bincount(codes.ravel(), minlength=2**bits) > 0).all()
    packed = np.empty((n, bits * d // 8), np.uint8)
    lib.adm_encode_rows(address(y), n, d, address(thresholds), bits, address(packed))
    bit = np.unpackbits(codes[..., None], axis=-1, bitorder="little")[..., :bits]
    assert np.array_equal(packed, np.packbits(bit.reshape(n, -1), axis=1, bitorder="little"))

    distance, scratch = np.empty(n, np.uint16), np.empty(d // 4 * 256, np.uint16)
    for metric in ("l1", "xor", "l2", "sign", "dot"):
        expected = code_distances(metric, bits, codes[7], codes).sum(1)
        table = code_distances(metric, bits, codes[7][:, None], np.arange(2**bits)[None]).astype(np.uint16)
        lib.adm_scan_bytes(address(table), address(packed), n, d, bits, address(scratch), address(distance))
        assert np.array_equal(distance, expected)
        if bits < 3:
            name = "hamming" if bits == 1 else metric
            assert np.array_equal(c_distance(lib, f"adm_distance_{name}", packed[7], packed, d), expected)


def quantise_to_4_bits(w):
    """DESIGN: round(w / delta) held within -8 and 7, delta the best of six by squared error, in 2048ths of the largest |w|."""
    x = w * (np.float32(2048) / np.abs(w).max())
    tried = []
    for step in (292, 272, 252, 232, 212, 192):
        q = np.rint(x * np.float32(1 / step)).clip(-8, 7).astype(int)
        tried.append((((np.rint(x).astype(int) - step * q)**2).sum(), q))
    return min(tried, key=lambda t: t[0])[1]


@pytest.mark.parametrize("d", HEAD_DIMS)
@pytest.mark.parametrize("tau", [0.7, 1.0])
def test_asym4_from_floats_to_distances(lib, rng, d, tau):
    n = 300
    y = (rng.standard_normal((n, d)) * rng.uniform(0.5, 40, d) + 20 * rng.standard_normal(d)).astype(np.float32)
    queries = (rng.standard_normal((20, d)) ** 3).astype(np.float32)
    centre, scale, thresholds = np.empty(d, np.float32), np.empty(d, np.float32), np.empty((3, d), np.float32)
    lib.adm_asym4_learn(address(y), n, d, address(centre), address(scale))
    lib.adm_asym4_thresholds(address(centre), address(scale), d, address(np.float32([-tau, 0, tau])), address(thresholds))
    mean, sigma = y.mean(0, dtype=np.float64), y.std(0, dtype=np.float64)
    assert np.allclose(centre, mean, rtol=1e-6, atol=1e-6) and np.allclose(scale, sigma, rtol=1e-6)
    z = (y - mean) / sigma
    codes = (z > -tau).astype(int) + (z > 0) + (z > tau)
    packed, planes, distance = np.empty((n, d // 4), np.uint8), np.empty(d // 2, np.uint8), np.empty(n, np.uint16)
    lib.adm_encode_rows(address(y), n, d, address(thresholds), 2, address(packed))
    near_a_threshold = np.abs(np.abs(z) - tau).min(1) < 1e-6
    near_a_threshold |= np.abs(z).min(1) < 1e-6
    assert (packed == pack(codes.astype(np.uint8)))[~near_a_threshold].all() and near_a_threshold.sum() < 10
    for query in queries:
        q = quantise_to_4_bits(query * scale)
        lib.adm_asym4_query(address(query), address(scale), d, address(planes))
        bits = np.unpackbits(planes.reshape(4, d // 8), axis=1, bitorder="little").astype(int)
        assert (np.array([1, 2, 4, -8]) @ bits == q).all()
        lib.adm_distance_asym4(address(planes), address(packed), n, d, address(distance))
        assert (distance == 3 * q[q > 0].sum() - codes @ q)[~near_a_threshold].all()


def test_selection_with_few_tokens_and_many_ties(lib, rng):
    for _ in range(300):
        n, budget = int(rng.integers(0, 40)), int(rng.integers(1, 50))
        n_sinks = int(rng.integers(0, budget))
        n_recent = int(rng.integers(0, budget - n_sinks + 1))
        distance = rng.integers(0, 5, n).astype(np.uint16)
        index, _ = c_select(lib, distance, 4, budget, n_sinks, n_recent)
        assert np.array_equal(index, select(distance, budget, n_sinks, n_recent))


def test_append_writes_one_row_a_head(lib, rng):
    rows = rng.integers(0, 256, (3, 16), np.uint8)
    cache = rng.integers(0, 256, (3, 7, 16), np.uint8)
    expected = cache.copy()
    expected[:, 5] = rows
    lib.adm_append_reference(address(rows), 3, 64, 5, 7, address(cache))
    assert np.array_equal(cache, expected)


def test_float16_conversions_are_numpys(lib, rng):
    every = np.arange(65536, dtype=np.uint16)
    for dtype, expected in (("F16", every.view(np.float16).astype(np.float32)), ("BF16", widen_bf16(every))):
        wide = np.empty(65536, np.float32)
        lib.adm_to_f32(DTYPES[dtype], address(every), every.size, address(wide))
        assert np.array_equal(wide, expected, equal_nan=True)
    bits = rng.integers(0, 2**32, 100000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    for dtype in ("F16", "BF16"):
        narrow = np.empty(values.size, np.uint16)
        lib.adm_from_f32(DTYPES[dtype], address(values), values.size, address(narrow))
        with np.errstate(over="ignore"):
            assert np.array_equal(narrow, store(values, dtype)[0].view(np.uint16))

"""What `adamas` says to bad traces and bad values: one sentence with the file, the value and the limit, exit code 2,
nothing on standard output, and no row written: a database that was not there is not created, one that was there does
not change by a byte.
"""
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from conftest import files_of, header_of, query, random_tensors, refuse


@pytest.fixture
def refuse_replay(adamas, small_run, tmp_path):
    """Replays with a new and with an existing database, and checks that neither is touched."""
    def check(*arguments, says, code=2):
        new, old = tmp_path / "new.db", tmp_path / "old.db"
        sentence = refuse(adamas, "replay", *arguments, "--db", new, code=code, says=says)
        assert files_of(new) == {}
        shutil.copy(small_run[1], old)
        before = files_of(old)
        assert refuse(adamas, "replay", *arguments, "--db", old, code=code) == sentence
        assert files_of(old) == before
        return sentence
    return check


@pytest.fixture
def refuse_trace(adamas, refuse_replay):
    """As refuse_replay, and the trace commands refuse the file in the same words."""
    def check(path, says, verified=True):
        sentence = refuse_replay(path, says=[os.fspath(path), *says])
        if verified:
            assert refuse(adamas, "trace", "verify", path) == sentence
        return sentence
    return check


# ---------------------------------------------------------------- files that are no trace

def test_missing_file(refuse_trace, tmp_path):
    refuse_trace(tmp_path / "none.safetensors", ["No such file"])


def test_directory(refuse_trace, tmp_path):
    refuse_trace(tmp_path, ["is a directory"])


def test_pipe_is_refused_and_not_waited_for(refuse_trace, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refuse_trace(tmp_path / "pipe", ["is a pipe"])


def test_device(refuse_trace):
    refuse_trace(Path("/dev/zero"), ["is a device"])


def test_name_with_control_characters_stays_one_line(refuse_trace, adamas, tmp_path):
    sentence = refuse(adamas, "replay", tmp_path / "a\n\033[2J.safetensors")
    assert "\033" not in sentence and "a??[2J.safetensors" in sentence


def test_second_of_two_traces_is_bad(refuse_replay, write_trace, tmp_path):
    refuse_replay(write_trace(), tmp_path / "none.safetensors", says=["none.safetensors", "No such file"])


def test_same_trace_twice(refuse_replay, write_trace, tmp_path):
    trace = write_trace()
    shutil.copy(trace, tmp_path / "copy.safetensors")
    refuse_replay(trace, trace, says=["trace.safetensors", "given twice"])
    refuse_replay(trace, tmp_path / "copy.safetensors", says=["copy.safetensors"])


# ---------------------------------------------------------------- headers

@pytest.mark.parametrize("n_kept", [0, 5, 8, 100, -1, -20000])
def test_truncated(refuse_trace, write_trace, n_kept):
    path = write_trace()
    data = path.read_bytes()
    path.write_bytes(data[:n_kept])
    if 0 <= n_kept < 8:
        refuse_trace(path, [f"{n_kept} bytes", "8 bytes"])
    elif n_kept >= 8:
        refuse_trace(path, [f"header has {struct.unpack_from('<Q', data)[0]} bytes", f"only {n_kept - 8} bytes"])
    else:
        refuse_trace(path, ["is it truncated?"])


@pytest.mark.parametrize("length, limit", [(10**6, "only 10 bytes follow"), (100_000_001, "the limit is 100000000"),
                                           (2**64 - 1, "the limit is 100000000"), (2**63, "the limit is 100000000")])
def test_header_longer_than_the_file_or_than_100_mb(refuse_trace, tmp_path, length, limit):
    path = tmp_path / "long.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 8 + b"}")
    refuse_trace(path, [f"{length} bytes", limit])


def test_header_over_100_mb_in_a_file_that_has_them(refuse_trace, tmp_path):
    path = tmp_path / "sparse.safetensors"
    path.write_bytes(struct.pack("<Q", 100_000_001))
    os.truncate(path, 200_000_000)  # sparse: takes no room
    refuse_trace(path, ["100000001 bytes", "the limit is 100000000"])


@pytest.mark.parametrize("header, why", [
    (b"", "not valid JSON"), (b"\0" * 64, "not valid JSON"), (b"safetensors?", "not valid JSON"),
    (b'{"a": ', "not valid JSON"), (b'{"\xff": 1}', "not valid JSON"), (b"{} {}", "not valid JSON"),
    (b'{"a": 1, "a": 1}', "not valid JSON"), (b"[" * 100000, "not valid JSON"), (b"[]", "must be an object"),
    (b"{}", "not an attention trace"), (b'{"__metadata__": {"format": 1}}', "is not a string"),
    (b'{"x": 3}', "tensor 'x' is not described by a JSON object"),
])
def test_header_that_is_not_json_or_not_a_header(refuse_trace, tmp_path, header, why):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refuse_trace(path, [why])


# ---------------------------------------------------------------- tensors; each spoils a valid file in one place

def offsets(name, begin=0, end=0):
    def spoil(header, tensors):
        header[name]["data_offsets"][0] += begin
        header[name]["data_offsets"][1] += end
    return spoil


def field(name, key, value):
    def spoil(header, tensors):
        header[name][key] = value
    return spoil


def replaced(name, dtype, array, also=()):
    """Another tensor in the place of `name` and of the names in `also`."""
    def spoil(header, tensors):
        for each in (name, *also):
            tensors[each] = (dtype, array)
        metadata = header["__metadata__"]
        header.clear()
        header.update(header_of(tensors), __metadata__=metadata)
    return spoil


def without(name):
    def spoil(header, tensors):
        del tensors[name]
        header.clear()
        header.update(header_of(tensors))
    return spoil


def metadata(key, value):
    return lambda header, tensors: header["__metadata__"].update({key: value})


def value(name, index, number):
    return lambda header, tensors: tensors[name][1].__setitem__(index, number)


def zeros(*shape, kind=np.float16):
    return np.zeros(shape, kind)


BAD_TENSORS = {
    "overlap": (offsets("layers.2.v", -2, -2), ["layers.2.v", "overlaps tensor 'layers.2.k'"]),
    "same place": (field("layers.2.v", "data_offsets", [0, 81920]), ["overlaps"]),
    "overrun": (offsets("layers.5.q", 2, 2), ["layers.5.q", "ends at byte", "has only"]),
    "overrun by 2^62": (field("layers.5.q", "data_offsets", [0, 2**62]), ["layers.5.q", str(2**62)]),
    "offset beyond 2^63": (field("layers.5.q", "data_offsets", [2**64, 2**65]), ["not valid JSON", "too big"]),
    "end before begin": (field("layers.5.q", "data_offsets", [16, 8]), ["layers.5.q", "before its begin at 16"]),
    "negative offset": (field("layers.2.k", "data_offsets", [-8, 81912]), ["layers.2.k", "data_offsets"]),
    "range smaller than shape": (offsets("layers.5.q", 0, -2), ["layers.5.q", "call for 8192"]),
    "shape that overflows": (field("layers.2.k", "shape", [2**32, 2**32, 2**32]), ["layers.2.k", "overflows"]),
    "hole": (lambda header, tensors: header.pop("layers.2.k"), ["belong to no tensor"]),
    "dtype of integers": (replaced("layers.5.k", "I16", zeros(2, 320, 64, kind=np.int16)),
                          ["layers.5.k", "dtype I16", "F16, BF16 or F32"]),
    "dtype that is unknown": (field("layers.5.k", "dtype", "F12"), ["layers.5.k", "'F12'"]),
    "dtype of doubles": (replaced("layers.2.v", "F64", zeros(2, 320, 64, kind=np.float64)), ["layers.2.v", "F64"]),
    "V of other length": (replaced("layers.2.v", "F16", zeros(2, 319, 64)), ["[2, 319, 64]", "[2, 320, 64]"]),
    "second layer of other shape": (replaced("layers.5.k", "F16", zeros(4, 320, 64)), ["layers.5.k", "[4, 320, 64]"]),
    "K with two axes": (replaced("layers.2.k", "F16", zeros(320, 64)), ["layers.2.k", "[320, 64]", "[n_kv_heads"]),
    "K without tokens": (replaced("layers.2.k", "F16", zeros(2, 0, 64)), ["layers.2.k", "[2, 0, 64]"]),
    "head dimension 96": (replaced("layers.2.k", "F16", zeros(2, 320, 96)), ["96", "64, 128 or 256"]),
    "more steps than tokens": (replaced("layers.2.q", "F16", zeros(400, 4, 64), also=["layers.5.q"]),
                               ["400 steps", "320 tokens"]),
    "head counts that do not divide": (replaced("layers.2.q", "F16", zeros(16, 5, 64), also=["layers.5.q"]),
                                      ["5 query heads cannot share 2 KV heads"]),
    "more KV heads than query heads": (replaced("layers.2.q", "F16", zeros(16, 1, 64), also=["layers.5.q"]),
                                   ["1 query heads cannot share 2 KV heads"]),
    "missing tensor": (without("layers.5.v"), ["'layers.5.v' is missing"]),
    "positions beyond the end": (replaced("positions", "I64", np.arange(305, 321)),
                                 ["positions[15] is 320", "0 to 319"]),
    "negative position": (replaced("positions", "I32", np.arange(-1, 15, dtype=np.int32)), ["positions[0] is -1"]),
    "positions that stay": (replaced("positions", "I64", np.arange(16) // 2), ["positions[1] is 0 after 0"]),
    "too few positions": (replaced("positions", "I64", np.arange(15)), ["positions", "[15]", "[16]"]),
    "positions as floats": (replaced("positions", "F32", np.arange(16, dtype=np.float32)), ["positions", "F32"]),
    "tokens of other length": (replaced("tokens", "I64", np.arange(5)), ["tokens", "[5]", "[320]"]),
    "format of the future": (metadata("format", "adamas-trace/2"), ["adamas-trace/2", "adamas-trace/1"]),
    "unknown kind": (metadata("kind", "fake"), ["fake", "real or synthetic"]),
    "scale of zero": (metadata("softmax_scale", "0"), ["softmax_scale '0'", "1e-6 to 1e6"]),
    "scale that is NaN": (metadata("softmax_scale", "nan"), ["softmax_scale 'nan'", "1e-6 to 1e6"]),
    "NaN in the middle of K": (value("layers.5.k", (1, 160, 33), np.nan),
                               ["'layers.5.k' holds NaN", "KV head 1", "token 160", "element 33"]),
    "infinity in K": (value("layers.2.k", (0, 7, 63), np.inf),
                      ["'layers.2.k' holds infinity", "KV head 0", "token 7", "element 63"]),
    "negative infinity in V": (value("layers.2.v", (1, 319, 0), -np.inf),
                               ["'layers.2.v' holds -infinity", "KV head 1", "token 319", "element 0"]),
    "NaN in Q": (value("layers.2.q", (15, 3, 63), np.nan), ["'layers.2.q' holds NaN", "step 15", "query head 3"]),
}


@pytest.mark.parametrize("spoil, says", BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bad_tensors(refuse_trace, write_trace, spoil, says):
    refuse_trace(write_trace(spoil=spoil), says)


def test_the_unspoilt_file_is_accepted(adamas, write_trace):
    """Else every case above could be refused for a reason of its own making."""
    assert adamas("trace", "verify", write_trace()).code == 0
    positions = replaced("positions", "I64", np.arange(300, 316))
    assert adamas("replay", write_trace(spoil=positions), "--quiet").code == 0


def test_q_k_v_of_different_types(refuse_trace, write_trace):
    q = random_tensors(dtype="F32")["layers.5.q"]
    refuse_trace(write_trace(spoil=replaced("layers.5.q", *q)), ["layer 5", "F32, F16, F16"], verified=False)


# ---------------------------------------------------------------- values

BAD_NUMBERS = ["0", "-1", "-64", "many", "64.5", "1e", "1.5", "1e-3", "K", "1KK", "17M", "0x40", "+64", " 64", "", "64x",
               "16777217", "9" * 20, "1" * 400, "0" * 22 + "64x"]
BAD_LISTS = [",", "64,", ",64", "64,,128", "64 128", "64;128", "64,0", "64,abc", "64-", "64-32", "64-128:", "64-128:2",
             "64-128:x1", "0-64:x2", "64-128:+0", "64-128-256", "1-16777216"]


@pytest.mark.parametrize("option", ["--budgets", "--seq-lens"])
@pytest.mark.parametrize("text", BAD_NUMBERS + BAD_LISTS)
def test_bad_lists_of_numbers(refuse_replay, small_run, option, text):
    sentence = refuse_replay(small_run[0], option, text, says=[option])
    limits = ["empty item", "1 to 16777216", "ends before it begins", "more than 65536 numbers"]
    assert any(limit in sentence for limit in limits), "it does not name the limit"


@pytest.mark.parametrize("option", ["--sinks", "--recent", "--dense-layers"])
@pytest.mark.parametrize("text", ["-1", "x", "1.5", "99999999999999999999"])
def test_bad_numbers_from_zero(refuse_replay, small_run, option, text):
    refuse_replay(small_run[0], option, text, says=[option, "0 to "])


@pytest.mark.parametrize("option", ["--sinks", "--recent"])
@pytest.mark.parametrize("text, says", [("", "empty item"), ("4,", "empty item"), ("0,x", "0 to "),
                                        (",".join(map(str, range(17))), "17 values")])
def test_bad_lists_from_zero(refuse_replay, small_run, option, text, says):
    refuse_replay(small_run[0], option, text, says=[option, says])


@pytest.mark.parametrize("arguments, says", [
    (["--seq-lens", "5000"], ["5000", "304-319"]),
    (["--seq-lens", "304,320"], ["320", "304-319"]),
    (["--layers", "3"], ["no layer 3", "trace info"]),
    (["--layers", "x"], ["--layers", "'x'"]),
    (["--layers", ""], ["--layers"]),
    (["--policies", "snapkv"], ["--policies", "'snapkv'", "dense, oracle, adamas"]),
    (["--policies", ""], ["--policies"]),
    (["--policies", ","], ["--policies"]),
    (["--policies", "dense,"], ["--policies"]),
    (["--policies", "dense,,oracle"], ["--policies"]),
    (["--policies", "Dense"], ["--policies", "'Dense'"]),
    (["--thresholds", "magic"], ["'magic'", "calibrated, fixed:a,b,c, quantile:p,q,r"]),
    (["--thresholds", "fixed:1,2"], ["'fixed:1,2'", "one, three or seven numbers"]),
    (["--thresholds", "fixed:1,2,3,4"], ["one, three or seven numbers"]),
    (["--thresholds", "fixed:3,2,1"], ["must ascend"]),
    (["--thresholds", "fixed:0,nan,1"], ["not finite"]),
    (["--thresholds", "fixed:0,1,1e39"], ["not finite"]),
    (["--thresholds", "quantile:0,0.5,1.5"], ["between 0 and 1"]),
    (["--thresholds", "calibrated", "--thresholds", "calibrated"], ["given twice"]),
    (["--thresholds", "fixed:" + "1" * 100 + ",2,3"], ["63 characters"]),
    (["--budgets", "16", "--sinks", "10", "--recent", "8"], ["16", "10", "8"]),
    (["--budgets", "16,64", "--sinks", "0,10", "--recent", "1,8"], ["16", "10", "8"]),
    (["--policies", "adamas:sinks=x"], ["--policies", "'x'", "sinks"]),
    (["--dense-layers", "6"], ["first 6", "--dense-layers"]),
    (["--layers", "2", "--dense-layers", "3"], ["first 3"]),
    (["--eps", "-1"], ["--eps", "'-1'", "at least 0"]),
    (["--threads", "0"], ["--threads", "1 to 1024"]),
    (["--threads", "two"], ["--threads", "'two'"]),
    (["--timed-steps", "-1"], ["--timed-steps", "'-1'"]),
    (["--target", "recall=0.5"], ["--target", "'recall=0.5'", "mass=X"]),
    (["--target", "mass=1.5"], ["--target", "'mass=1.5'", "at most 1"]),
    (["--target", "mass=0.5", "--target", "mass=0.50"], ["--target", "'mass=0.50'", "twice"]),
    (["--resume", "x"], ["--resume", "'x'"]),
    (["--resume", "0"], ["--resume", "0", "1 to"]),
    (["--eps", "nan"], ["--eps", "'nan'"]),
    (["--eps", "1x"], ["--eps", "'1x'"]),
])
def test_bad_values(refuse_replay, small_run, arguments, says):
    refuse_replay(small_run[0], *arguments, says=says)


def test_calibration_without_a_prompt(refuse_trace, write_trace):
    refuse_trace(write_trace(n_tokens=64, n_steps=64), ["calibrated", "before the first step"], verified=False)


@pytest.mark.parametrize("budget", [320, 321, 5000, 16777216])
def test_a_budget_at_or_above_the_context_is_dense_attention(adamas, small_run, tmp_path, budget):
    result = adamas("replay", small_run[0], "--budgets", budget, "--quiet")
    assert (result.code, result.err) == (0, "")
    rows = query(tmp_path / "adamas.db", "SELECT policy, metric, mean, p50, p95, p99, worst FROM quality_summary "
                 "WHERE metric IN ('output_rel_l2', 'mass', 'recall', 'kl', 'tv')")
    dense = {metric: figures for policy, metric, *figures in rows if policy == "dense"}
    assert len(dense) == 5 and len(rows) == 5 * 4  # dense, oracle, adamas calibrated and fixed
    for _, metric, *figures in rows:
        if metric == "output_rel_l2":  # the same sums rounded to float32 once
            np.testing.assert_allclose(figures, dense[metric], rtol=0, atol=2.0 ** -24)
            assert max(figures) < 2.0 ** -23
        else:
            assert figures == [{"mass": 1, "recall": 1, "kl": 0, "tv": 0}[metric]] * 5

"""`adamas trace import`: request traces of every format, against Python's own reading of them, and files made to do harm."""
import csv
import gzip
import json
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, refuse

SHARED = ROOT.parent / "shared/request-traces"
AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST_HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
GOOD = '{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1]}\n'


@pytest.fixture
def summary(adamas, tmp_path):
    """summary(text or path) -> the JSON summary of one file."""
    def of(what):
        path = what
        if not isinstance(what, Path):
            path = tmp_path / "made"
            path.write_bytes(what if isinstance(what, bytes) else what.encode())
        result = adamas("trace", "import", path, "--json")
        assert (result.code, result.err) == (0, ""), result
        (said,) = json.loads(result.out)
        return said
    return of


def check_lengths(said, values):
    for name, q in (("min", 0), ("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99), ("max", 100)):
        assert said[name] == pytest.approx(np.percentile(values, q), rel=1e-12), name
    assert said["mean"] == pytest.approx(np.mean(values), rel=1e-12)


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"the public trace {name} is not on this machine: {SHARED} has none")
    return SHARED / name


# ---------------------------------------------------------------- the public traces

def test_azure(summary):
    path = shared("azure2023_conv.csv")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    # datetime holds microseconds; the seventh digit is added by hand.
    times = [round((datetime.fromisoformat(row["TIMESTAMP"][:19]) - datetime(2023, 1, 1)).total_seconds()) * 10 ** 7
             + int(row["TIMESTAMP"][20:]) for row in rows]
    said = summary(path)
    assert (said["format"], said["n"]) == ("azure", len(rows)) == ("azure", 5000)
    check_lengths(said["input_tokens"], [int(row["ContextTokens"]) for row in rows])
    check_lengths(said["output_tokens"], [int(row["GeneratedTokens"]) for row in rows])
    assert said["span_s"] == pytest.approx((max(times) - min(times)) / 1e7, abs=1e-9)
    assert said["n_distinct_arrivals"] == len(set(times))
    assert said["n_out_of_order"] == sum(a < max(times[:i]) for i, a in enumerate(times) if i)


def test_mooncake(summary):
    path = shared("mooncake_conversation.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    said = summary(path)
    assert (said["format"], said["n"]) == ("mooncake", len(rows)) == ("mooncake", 5000)
    check_lengths(said["input_tokens"], [row["input_length"] for row in rows])
    check_lengths(said["output_tokens"], [row["output_length"] for row in rows])
    times = [row["timestamp"] for row in rows]
    assert said["span_s"] == (max(times) - min(times)) / 1e3
    assert said["n_distinct_arrivals"] == len(set(times)) < len(times) / 5, "these time stamps are quantised"


# ---------------------------------------------------------------- made files

def test_line_ends_and_a_missing_last_one_change_nothing(summary):
    rows = ["2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:47.6805901,0,0"]
    wanted = None
    for text in (AZURE_HEADER + "\n".join(rows), "\r\n".join([AZURE_HEADER.strip(), *rows, ""]),
                 "\ufeff" + AZURE_HEADER + "\n".join(rows) + "\n\n"):
        said = summary(text)
        assert said["n"] == 2 and said["span_s"] == pytest.approx(1.0000001, abs=1e-12)
        assert wanted in (None, said)
        wanted = said
    assert wanted["n_without_output"] == 1


def test_columns_are_found_by_name(summary):
    said = summary("Log Type,Total tokens,Response tokens,Session ID,Request tokens,Timestamp\n"
                   "API log,10,4,x,6,0.5\nAPI log,7.0,0,y,7,1.25\n")
    assert (said["format"], said["n"], said["span_s"]) == ("burstgpt", 2, 0.75)
    assert said["input_tokens"]["max"] == 7 and said["output_tokens"]["max"] == 4


def test_a_day_is_as_long_as_the_calendar_says(summary):
    for first, second in (("2024-02-28", "2024-02-29"), ("2023-02-28", "2023-03-01"), ("2000-02-29", "2000-03-01"),
                          ("1999-12-31", "2000-01-01"), ("1970-01-01", "2099-12-31")):
        said = summary(AZURE_HEADER + f"{first} 00:00:00,1,1\n{second}T00:00:00.5Z,1,1\n")
        days = (datetime.fromisoformat(second) - datetime.fromisoformat(first)).days
        assert said["span_s"] == pytest.approx(days * 86400 + 0.5, rel=1e-15)


def test_rows_out_of_order_are_put_in_order_and_counted(summary, adamas, tmp_path):
    said = summary(BURST_HEADER + "".join(f"{t},m,1,1,2,l\n" for t in (9, 3, 9, 1, 12)))
    assert (said["n"], said["n_out_of_order"], said["span_s"], said["n_distinct_arrivals"]) == (5, 2, 11.0, 4)
    assert "2 rows were out of order" in adamas("trace", "import", "made").out


def test_many_rows_and_a_line_across_the_buffer(summary):
    rows = "".join(f"{i},{'m' * (i % 1000)},{i},1,{i + 1},log\n" for i in range(1, 6000))
    said = summary(BURST_HEADER + rows)
    assert len(rows) > 3e6 and (said["n"], said["input_tokens"]["max"], said["span_s"]) == (5999, 5999, 5998)
    long = "m" * (2 ** 20 - len("1,,1,1,2,l"))
    assert summary(f"{BURST_HEADER}1,{long},1,1,2,l\n")["n"] == 1
    assert summary(f"{BURST_HEADER}1,{long * 15},1,1,2,l\n")["n"] == 1, "a session of an agent is one long line"


def mooncake(**change):
    return json.dumps({"timestamp": 0, "input_length": 513, "output_length": 1, "hash_ids": [1, 2], **change}) + "\n"


@pytest.mark.parametrize("text, says", [
    ("", ["is empty"]), ("\n", ["line 1", "''", "known request traces"]),
    ("a,b\n1,2\n", ["line 1", "'a,b'", "Azure", "BurstGPT", "Mooncake"]),
    (AZURE_HEADER, ["no requests"]), (BURST_HEADER + "\n\n", ["no requests"]), ("[]\n", ["line 1", "'[]'"]),
    ("," * 99 + "\n", ["line 1", "100 columns", "32"]),
    (AZURE_HEADER + "2023-11-16 18:15:46,1\n", ["line 2", "2 columns", "3"]),
    (AZURE_HEADER + "2023-11-16 18:15:46,1,1\n" * 2 + "2023-11-16 18:15:46,1,1,1\n", ["line 4", "4 columns", "3"]),
    *[(AZURE_HEADER + f"{time},1,1\n", ["line 2", f"'{time}'", "1970 to 2099"]) for time in (
        "2023-02-29 00:00:00", "2023-13-01 00:00:00", "2023-00-01 00:00:00", "2023-01-00 00:00:00", "2100-01-01 00:00:00",
        "1969-12-31 23:59:59", "2023-01-01 24:00:00", "2023-01-01 00:60:00", "2023-01-01 00:00:61", "2023-01-01 00:00:00.",
        "2023-01-01 00:00:00+02:00", "2023-1-1 00:00:00", "nan", "", "-2023-01-01 00:00:00")],
    *[(AZURE_HEADER + f"2023-11-16 18:15:46,{value},1\n", ["line 2", "ContextTokens", f"'{value}'", "1073741824"])
      for value in (
        "-1", "nan", "inf", "1e3", "1.5", "1.", "", " 1", "0x10", "1073741825", "18446744073709551617", "9" * 40, "+1")],
    (AZURE_HEADER + "2023-11-16 18:15:46,1,-5\n", ["GeneratedTokens", "'-5'"]),
    (AZURE_HEADER + "2023-11-16 18:15:46,1,\x1b[31m\n", ["GeneratedTokens", "'?[31m'"]),
    *[(BURST_HEADER + f"{value},m,1,1,2,l\n", ["line 2", "Timestamp", f"'{value}'", "4102444800"]) for value in (
        "-1", "nan", "1e9", "4102444801", "1.", "99999999999", "1e-", "1e-5x")],
    (BURST_HEADER + "1,m,1,1,3,l\n", ["line 2", "Total tokens is 3", "1 and 1"]),
    (mooncake() + mooncake(hash_ids=[1]), ["line 2", "1 hash_ids", "513", "blocks of 512 tokens, which makes 2"]),
    (GOOD + mooncake() + mooncake(hash_ids=[1, 2, 3]), ["line 3", "3 hash_ids"]),
    (mooncake(input_length=1), ["line 1", "2 hash_ids", "more than its 1 input tokens"]),
    (mooncake(hash_ids=5), ["not an array"]), (mooncake(hash_ids=[1, 2.5]), ["hash_ids", "whole numbers"]),
    ('{"input_length": 0}', ['no "timestamp"']), (GOOD + '{"turns": []}\n', ["line 2", "copilot", "mooncake"]),
    ('{"chat_id": 1, "timestamp": 4102444801, "input_length": 1, "output_length": 1}', ['"timestamp" is', "130 years"]),
    ('{"session_id": {}, "timestamp": 0, "input_length": 1, "output_length": 1}', ["session_id", "neither"]),
    ('{"session_id": "a", "input_length": 1, "output_length": 1}', ['no "timestamp"']),
    ('{"arrival_time_ns": 0, "input_toks": 2, "output_toks": 1, "input_tok_ids": [1]}', ["1 input_tok_ids", "2"]),
    ('{"turns": 5}', ["turns", "not an array"]), ('{"x": 1}', ["line 1", "none of the keys"]),
    ('{"turns": [{"llm_calls": [{"timestamp": "x", "tokens": {"prompt": 1, "completion": 1}}]}]}', ["line 1", "'x'"]),
    ('{"turns": [{"llm_calls": [{"timestamp": "2026-06-01T00:00:00Z", "tokens": {"prompt": -1, "completion": 1}}]}]}',
     ["line 1", '"prompt" is -1']), (mooncake(timestamp=-1), ['"timestamp" is -1']),
    (mooncake(timestamp="0"), ['"timestamp" is not a number']),
    (mooncake(input_length=2 ** 30 + 1), ["1073741825", "1073741824"]),
    (mooncake(output_length=1.5), ["output_length", "whole number"]),
    (mooncake(output_length="1"), ["output_length", "whole number"]),
    (mooncake(timestamp=2 ** 70), ["line 1", "not valid JSON"]),
    (mooncake(output_length=float("nan")), ["not valid JSON"]), (GOOD + "{\n", ["line 2", "not valid JSON"]),
    (GOOD + "[1]\n", ["line 2", "not an object"]), (GOOD + '{"a":1,"a":2}\n', ["line 2", "duplicate"]),
    (GOOD + '{"timestamp": ' + "[" * 5000, ["line 2", "not valid JSON"]),
    (b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1\x002,3\n", ["line 2", "NUL at byte 22"]),
    (b"\0" * 100, ["line 1", "NUL at byte 1"]), (b"\xff\xfe\n", ["line 1", "'??'"]),
    (AZURE_HEADER + "x" * (2 ** 24 + 1) + "\n", ["line 2", "longer than 16777216 bytes"]),
    ("x" * 3 * 2 ** 23, ["line 1", "longer than 16777216 bytes"]),
], ids=lambda value: repr(value)[:40])  # pytest hands the name on in the environment, where megabytes do not fit
def test_what_is_wrong_is_said_in_one_sentence(adamas, tmp_path, text, says):
    (tmp_path / "bad").write_bytes(text if isinstance(text, bytes) else text.encode())
    refuse(adamas, "trace", "import", "bad", says=["bad: ", *says])


def test_files_that_are_none(adamas, tmp_path):
    refuse(adamas, "trace", "import", "absent", says=["absent", "No such file"])
    refuse(adamas, "trace", "import", tmp_path, says=["a directory"])
    refuse(adamas, "trace", "import", "/dev/zero", says=["/dev/zero", "a device"])
    assert adamas("trace", "import").code == 2


def test_several_files_and_one_that_fails(adamas, tmp_path):
    (tmp_path / "good").write_text(GOOD)
    (tmp_path / "bad").write_text("x\n")
    result = adamas("trace", "import", "bad", "good", "--json")
    first, second = json.loads(result.out)
    assert result.code == 2 and "error" in first and second["n"] == 1
    result = adamas("trace", "import", "good")
    assert result.code == 0 and "1 distinct arrival times" in result.out and "p50 5" in result.out
    assert adamas("trace", "import", "good", "--quiet").out == ""


@pytest.mark.parametrize("content, says", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:56193aa9\nsize 142376815\n", "git lfs pull"),
    (b"\x28\xb5\x2f\xfd\0\0\0\0", "is Zstandard-compressed"),
])
def test_a_file_in_place_of_the_trace_is_named(adamas, tmp_path, content, says):
    (tmp_path / "bad").write_bytes(content)
    refuse(adamas, "trace", "import", "bad", says=["bad: is ", says])


# ---------------------------------------------------------------- gzip

def raw_deflate(data, level, strategy=zlib.Z_DEFAULT_STRATEGY):
    packer = zlib.compressobj(level, zlib.DEFLATED, 31, 9, strategy)
    return packer.compress(data) + packer.flush()


def test_gzip_reads_as_what_it_holds(summary, tmp_path):
    rows = "".join(f"{i},{'model' * (i % 40)},{i * 7919 % 30011},1,{i * 7919 % 30011 + 1},log\n" for i in range(1, 4000))
    plain = (BURST_HEADER + rows).encode()
    wanted = summary(plain)
    for packed in (raw_deflate(plain, 0), raw_deflate(plain, 1), raw_deflate(plain, 9), raw_deflate(plain, 9, zlib.Z_FIXED),
                   raw_deflate(plain, 9, zlib.Z_HUFFMAN_ONLY), raw_deflate(plain, 9, zlib.Z_RLE),
                   gzip.compress(plain[:5000]) + gzip.compress(plain[5000:])):
        assert summary(packed) == wanted
    with gzip.GzipFile(tmp_path / "named.gz", "wb") as file:  # a header with a name
        file.write(plain)
    assert summary((tmp_path / "named.gz").read_bytes()) == wanted


def test_damaged_gzip_is_refused(adamas, tmp_path):
    plain = (AZURE_HEADER + "2023-11-16 18:15:46,1,1\n" * 500).encode()
    good = gzip.compress(plain, mtime=0)
    for bad in (good[:10], good[:-1], good[:-9], good[:len(good) // 2], good[:-8] + bytes(8), good + b"x",
                good[:20] + bytes([good[20] ^ 0xff]) + good[21:]):
        (tmp_path / "bad").write_bytes(bad)
        refuse(adamas, "trace", "import", "bad", says=["bad: "])


# ---------------------------------------------------------------- other formats

def test_azure_of_2024_and_2025(summary):
    said = summary("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:00.1234567+00:00,2,300,5\n"
                   "2024-10-15 00:00:01.1234567+00:00,0,10000000,7\n")
    assert (said["format"], said["n"], said["span_s"], said["input_tokens"]["max"]) == ("azure", 2, 1.0, 10_000_000)


def test_vidur(summary):
    said = summary("num_prefill_tokens,num_decode_tokens,arrived_at\n12.0,3,1.25e-05\n7,2,0.020134228187919462\n")
    assert (said["format"], said["n"]) == ("vidur", 2) and said["span_s"] == pytest.approx(0.020134228 - 12.5e-6, abs=1e-12)


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("block", [16, 64, 512, 24])
def test_mooncake_with_blocks_of_any_size(summary, block):
    rows = [{"timestamp": i * 0.5, "input_length": length, "output_length": 3, "hash_ids": list(range(-(-length // block)))}
            for i, length in enumerate((block * 3 + 1, block * 40 - 1, 5))]
    said = summary(lines(*rows))
    assert (said["block_tokens"], said["span_s"]) == (block, 0.001), "fractional milliseconds"
    whole = [{**row, "hash_ids": row["hash_ids"][:row["input_length"] // block]} for row in rows]
    if block & (block - 1) == 0:  # with another size, 24 and 25 tokens are equally likely
        assert summary(lines(*whole))["block_tokens"] == block, "blocks that are not full may be left out"
    bare = [{key: value for key, value in row.items() if key != "hash_ids"} for row in rows]
    assert summary(lines(*bare))["block_tokens"] == 0


def test_bailian_counts_seconds(summary):
    said = summary(lines({"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 33, "output_length": 5,
                          "turn": 1, "hash_ids": [1, 2, 3]},
                         {"chat_id": 2, "timestamp": 2.75, "input_length": 17, "output_length": 5, "hash_ids": [1, 4]}))
    assert (said["format"], said["span_s"], said["block_tokens"], said["n_distinct_blocks"]) == ("bailian", 2.25, 16, 4)


def test_sessions_of_aiperf_grow_and_wait(summary):
    said = summary(lines({"session_id": "a", "timestamp": 0, "input_length": 100, "output_length": 20},
                         {"session_id": "b", "timestamp": 1000, "input_length": 5, "output_length": 1},
                         {"session_id": "a", "delay": 500, "input_length": 30, "output_length": 10}))
    assert (said["format"], said["n"], said["n_chained"], said["block_tokens"]) == ("aiperf", 3, 1, 16)
    assert said["input_tokens"]["max"] == 150 and said["n_distinct_blocks"] == 100 // 16 + (150 // 16 - 100 // 16)


def test_servingsim_hashes_tokens(summary):
    said = summary(lines({"arrival_time_ns": 5, "input_toks": 40, "output_toks": 2, "input_tok_ids": list(range(40))},
                         {"arrival_time_ns": 105, "input_toks": 32, "output_toks": 2,
                          "input_tok_ids": [*range(16), *range(100, 116)]},
                         {"arrival_time_ns": 205, "input_toks": 16, "output_toks": 2, "input_tok_ids": list(range(16, 32))}))
    assert (said["format"], said["n_distinct_blocks"]) == ("llmservingsim", 4), "a block's name includes what is before it"
    assert said["span_s"] == pytest.approx(200e-9)


def call(second, duration_ms, prompt, completion, cached=0):
    return {"timestamp": f"2026-06-01T00:00:{second:05.2f}Z", "duration_ms": duration_ms, "result": "Success",
            "tokens": {"prompt": prompt, "completion": completion, "cached": cached, "total": prompt + completion}}


def test_copilot_chains_calls(summary):
    session = {"session_id": "s", "date": "2026-06-01", "turns": [
        {"turn_id": "0", "llm_calls": [call(0, 1000, 1280, 50), call(1.5, 500, 1500, 20, 1280)], "tool_batches": []},
        {"turn_id": "1", "llm_calls": [call(1.75, 100, 256, 5), {"timestamp": "2026-06-01T00:00:03Z", "tokens": None}]}]}
    said = summary(gzip.compress(lines(session, {"session_id": "t", "turns": []}).encode()))
    assert (said["format"], said["n"], said["n_chained"], said["n_skipped"]) == ("copilot", 3, 2, 1)
    assert (said["block_tokens"], said["n_distinct_blocks"]) == (128, 10 + 1 + 2)


def test_clients_are_sampled_the_same_everywhere(summary):
    client = {"rate": 20, "duration": 200, "input_tokens": {"100": 1, "5000": 3}, "output_tokens": {"mean": 300, "cv": 0.5}}
    for pattern, cv in (("poisson", 1), ("gamma", 2.5), ("gamma", 0.5), ("weibull", 2), ("bursty", 1)):
        said = summary(lines({**client, "pattern": pattern, "cv": cv}))
        assert said["format"] == "clients" and said["n"] == pytest.approx(4000, rel=0.25), pattern
        assert said["input_tokens"]["mean"] == pytest.approx(100 / 4 + 5000 * 3 / 4, rel=0.05)
        assert said["output_tokens"]["mean"] == pytest.approx(300, rel=0.05)
        assert said == summary(lines({**client, "pattern": pattern, "cv": cv}))
    said = summary(lines(client, {**client, "start": 1000}))
    assert said["span_s"] > 1000 and said["n"] == pytest.approx(8000, rel=0.1)


@pytest.mark.parametrize("change, says", [
    ({"rate": 0}, ['"rate" is 0']), ({"rate": "x"}, ["rate", "not a number"]), ({"rate": 1e6, "duration": 1e6}, ["the limit"]),
    ({"pattern": "zipf"}, ["'zipf'", "poisson"]), ({"input_tokens": {}}, ["0 lengths"]), ({"input_tokens": {"x": 1}}, ["'x'"]),
    ({"input_tokens": {"5": 0}}, ["weight above 0"]), ({"output_tokens": {"mean": -1}}, ["mean"]),
    ({"output_tokens": None}, ["no"]),
])
def test_bad_clients_are_refused(adamas, tmp_path, change, says):
    client = {"rate": 20, "duration": 20, "input_tokens": 10, "output_tokens": 10, **change}
    (tmp_path / "bad").write_text(lines(client))
    refuse(adamas, "trace", "import", "bad", says=["bad: line 1", *says])

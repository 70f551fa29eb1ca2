"""`adamas trace import`: request traces of three formats, against Python's own reading of them, and files made to do harm."""
import csv
import json
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
        "2023-01-01 00:00:00.1234567890", "2023-01-01 00:00:00+02:00", "2023-1-1 00:00:00", "nan", "", "-2023-01-01 00:00:00")],
    *[(AZURE_HEADER + f"2023-11-16 18:15:46,{value},1\n", ["line 2", "ContextTokens", f"'{value}'", "1073741824"])
      for value in (
        "-1", "nan", "inf", "1e3", "1.5", "1.", "", " 1", "0x10", "1073741825", "18446744073709551617", "9" * 40, "+1")],
    (AZURE_HEADER + "2023-11-16 18:15:46,1,-5\n", ["GeneratedTokens", "'-5'"]),
    (AZURE_HEADER + "2023-11-16 18:15:46,1,\x1b[31m\n", ["GeneratedTokens", "'?[31m'"]),
    *[(BURST_HEADER + f"{value},m,1,1,2,l\n", ["line 2", "Timestamp", f"'{value}'", "4102444800"]) for value in (
        "-1", "nan", "1e9", "4102444801", "1.1234567891", "1.", "99999999999")],
    (BURST_HEADER + "1,m,1,1,3,l\n", ["line 2", "Total tokens is 3", "1 and 1"]),
    (mooncake(hash_ids=[1]), ["line 1", "1 hash_ids", "513", "2"]),
    (GOOD + mooncake(hash_ids=[1, 2, 3]), ["line 2", "3 hash_ids"]),
    (mooncake(hash_ids=5), ["not an array"]), ('{"timestamp": 0, "input_length": 0, "output_length": 1}', ['no "hash_ids"']),
    ('{"input_length": 0}', ['no "timestamp"']), (mooncake(timestamp=-1), ['"timestamp" is -1']),
    (mooncake(input_length=2 ** 30 + 1), ["1073741825", "1073741824"]),
    (mooncake(output_length=1.5), ["output_length", "whole number"]),
    (mooncake(output_length="1"), ["output_length", "whole number"]),
    (mooncake(timestamp=2 ** 70), ["line 1", "not valid JSON"]),
    (mooncake(output_length=float("nan")), ["not valid JSON"]), (GOOD + "{\n", ["line 2", "not valid JSON"]),
    (GOOD + "[1]\n", ["line 2", "not an object"]), (GOOD + '{"a":1,"a":2}\n', ["line 2", "duplicate"]),
    (GOOD + '{"timestamp": ' + "[" * 5000, ["line 2", "not valid JSON"]),
    (b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1\x002,3\n", ["line 2", "NUL at byte 22"]),
    (b"\0" * 100, ["line 1", "NUL at byte 1"]), (b"\xff\xfe\n", ["line 1", "'??'"]),
    (AZURE_HEADER + "x" * (2 ** 20 + 1) + "\n", ["line 2", "longer than 1048576 bytes"]),
    ("x" * 3 * 2 ** 20, ["line 1", "longer than 1048576 bytes"]),
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
    (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "is gzip-compressed"),
])
def test_a_file_in_place_of_the_trace_is_named(adamas, tmp_path, content, says):
    (tmp_path / "bad").write_bytes(content)
    refuse(adamas, "trace", "import", "bad", says=["bad: is ", says])

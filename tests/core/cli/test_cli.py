"""The command line as a user meets it: help, typing errors, what goes to standard output and to the terminal, and what
a replay of the bundled real trace leaves in the database. Bad input is in test_cli_input.py, what can go wrong with a
database in test_cli_database.py, the quality figures themselves in test_quality_numpy.py.
"""
import json
import math
import os
import pty
import re
import resource
import subprocess
from datetime import datetime

import pytest

from conftest import BUNDLED_RUN, PROGRAM, Adamas, Result, check_sound, files_of, query, refuse

COMMANDS = [[], ["replay"], ["profile"], ["report"], ["trace"], ["trace", "info"], ["trace", "verify"], ["trace", "gen"],
            ["trace", "import"], ["db"], ["db", "export"], ["doctor"]]
STAGES = {"hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step", "dense"}


# ---------------------------------------------------------------- help, version, typing errors

@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(adamas, command):
    result = adamas(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: adamas") and max(map(len, result.out.splitlines())) < 120


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_version(adamas, command):
    result = adamas(*command, "--version")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"adamas \d+\.\d+\.\d+ \((unknown|[0-9a-f]{40})(, modified)?\)\n", result.out)


def test_help_lists_every_command(adamas):
    out = adamas("--help").out
    assert all(re.search(rf"^  {command[0]} ", out, re.M) for command in COMMANDS if command)
    assert adamas("help") == adamas("--help")


def test_help_of_replay_names_every_default(adamas):
    out = " ".join(adamas("replay", "--help").out.split())
    for text in ("--budgets=LIST", "64,128,256,512,1024", "--db=FILE", "default adamas.db", "--seq-lens=LIST",
                 "--policies=LIST", "--layers=LIST", "--quiet", "--json", "fixed:-10,0,10"):
        assert text in out


@pytest.mark.parametrize("arguments", [[], ["trace"], ["replay"], ["trace", "info"], ["trace", "verify"]])
def test_nothing_to_do_is_bad_usage_with_a_hint(adamas, arguments):
    result = adamas(*arguments)
    assert (result.code, result.out) == (2, "") and "adamas" in result.err and "--help" in result.err


@pytest.mark.parametrize("typed, meant", [
    ("repaly", "replay"), ("reprot", "report"), ("repor", "report"), ("docter", "doctor"), ("traces", "trace"),
    ("Replay", "replay"), ("--quiet", None), ("", None), ("x" * 10000, None)])
def test_unknown_command(adamas, typed, meant):
    result = adamas(typed)
    assert (result.code, result.out) == (2, "") and result.err.count("\n") == 1
    assert "is not a command" in result.err and "adamas --help" in result.err
    assert ("did you mean" in result.err) == (meant is not None) and f"'{meant or typed[:40]}" in result.err


def test_unknown_command_of_trace(adamas):
    refuse(adamas, "trace", "verfy", "x",
           says=["'verfy' is not a command of `adamas trace`", "'verify'", "adamas trace --help"])


@pytest.mark.parametrize("arguments, wrong", [
    (["replay", "--bugdets", "64", "x"], "--bugdets"), (["replay", "x", "--budgets"], "--budgets"),
    (["replay", "--quiet=yes", "x"], "--quiet"), (["report", "--out-put"], "--out-put"), (["report", "extra"], "extra"),
    (["trace", "verify", "--step", "x", "y"], "'x'"), (["trace", "verify", "--steps", "0", "x"], "--steps: 0"),
    (["trace", "info", "--db", "x"], "--db"), (["doctor", "-z"], "'-z'"), (["doctor", "extra"], "extra")])
def test_typo_in_an_option(adamas, tmp_path, arguments, wrong):
    result = adamas(*arguments)
    assert (result.code, result.out) == (2, "") and result.err.startswith("adamas")
    assert wrong in result.err and ("--help" in result.err or "1 to 4294967295" in result.err)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- standard output

def test_json_of_replay_is_what_the_database_says(adamas, write_trace, tmp_path):
    result = adamas("replay", write_trace(), "--budgets", "16,500", "--json")
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    assert (document["run_id"], document["db"]) == (1, "adamas.db") and 0 < document["elapsed_s"] < 60
    stored = query(tmp_path / "adamas.db", "SELECT trace, seq_len, policy, variant, budget, metric, p50, n "
                   "FROM quality_summary WHERE metric IN ('recall', 'mass', 'output_rel_l2')")
    said = [(row["trace"], row["seq_len"], row["policy"], row["variant"], row["budget"], metric, row[f"{metric}_p50"],
             row["n"]) for row in document["quality"] for metric in ("recall", "mass", "output_rel_l2")]
    assert len(said) == 7 * 3
    # a dense row has no budget: null here as it is NULL there, and not 0
    assert sorted(said, key=str) == sorted(stored, key=str)


def test_text_of_replay_is_what_the_database_says(bundled_run):
    database, result = bundled_run
    err = re.sub(r"^adamas: \S+: \d+ (s|min)\n", "", result.err)  # a line tells what took half a minute
    assert err == "" and re.match(r"run 1 in run\.db, [\d.]+ s; medians", result.out)
    quality, times = result.out.split("\n\n")[1:3]
    said = [line.split() for line in quality.splitlines()[1:]]
    stored = query(database, "SELECT seq_len, policy, variant, ifnull(budget, 'all'), "
                   "max(CASE metric WHEN 'recall' THEN p50 END), max(CASE metric WHEN 'mass' THEN p50 END), "
                   "max(CASE metric WHEN 'output_rel_l2' THEN p50 END), max(n) FROM quality_summary "
                   "WHERE metric IN ('recall', 'mass', 'output_rel_l2') GROUP BY seq_len, policy, variant, budget")
    wanted = [f"{s} {p} {v} {b} {r:.3f} {m:.3f} {e:.2e} {n}".split() for s, p, v, b, r, m, e, n in stored]
    assert sorted(said) == sorted(wanted) and len(said) == 14
    stored = query(database, "SELECT seq_len, stage, variant, ifnull(budget, '-'), median * 1e-3, n FROM stage_summary "
                   "WHERE source = 'host' AND metric = 'time_ns' AND status = 'ok'")
    wanted = [f"{s} {g} {v} {b} {t:.2f} {n}".split() for s, g, v, b, t, n in stored]
    said = [line.split() for line in times.splitlines()[1:]]
    assert sorted(said) == sorted(wanted) and len(said) == 2 * (6 + 3 * 2)


def test_json_of_trace_and_doctor(adamas, bundled, tmp_path):
    (info,) = json.loads(adamas("trace", "info", bundled, "--json").out)
    assert (info["n_q_heads"], info["n_kv_heads"], info["head_dim"], info["n_tokens"]) == (9, 3, 64, 4160)
    assert info["file_bytes"] == bundled.stat().st_size and info["path"] == str(bundled)
    (verified,) = json.loads(adamas("trace", "verify", bundled, "--steps", "4", "--json").out)
    assert verified["ok"] is True and verified["n_checked"] == 4 * 9 * 2 and verified["n_outside"] == 0
    findings = json.loads(adamas("doctor", "--json").out)
    assert {"program", "host", "database", "GPU"} <= {finding["what"] for finding in findings}
    assert all(finding["ok"] or finding["needed_for"] for finding in findings)
    assert list(tmp_path.iterdir()) == [], "the doctor left its trial database behind"


def test_trace_commands_go_on_after_a_bad_file(adamas, write_trace):
    result = adamas("trace", "verify", "none.safetensors", write_trace(), "--json")
    assert result.code == 2 and result.err.count("\n") == 1
    bad, good = json.loads(result.out)
    assert bad["path"] == "none.safetensors" and "No such file" in bad["error"] and good["ok"] is True


def test_names_that_are_not_utf8(adamas, write_trace, tmp_path):
    trace = os.fsencode(tmp_path) + b"/\xff.safetensors"
    os.rename(write_trace(), trace)
    result = adamas("replay", trace, "--db", b"\xfe.db", "--label", b"\xfd", "--json", "--budgets", "16")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["quality"][0]["trace"] == "\ufffd.safetensors"
    (info,) = json.loads(adamas("trace", "info", trace, "--json").out)
    assert info["n_tokens"] == 320
    os.rename(os.fsencode(tmp_path) + b"/\xfe.db", tmp_path / "x.db")
    (label, argv), = query(tmp_path / "x.db", "SELECT label, argv FROM run")
    assert label == "\ufffd" and len(json.loads(argv)) == 9


@pytest.mark.parametrize("arguments", [["replay", "{trace}"], ["trace", "verify", "{trace}"], ["doctor"],
                                       ["report", "--db", "{db}"]], ids=lambda arguments: arguments[0])
def test_quiet_prints_nothing(adamas, small_run, arguments):
    trace, db = small_run
    assert adamas(*(a.format(trace=trace, db=db) for a in arguments), "--quiet") == Result(0, "", "")


SPEAKERS = [["--help"], ["replay", "{trace}"], ["replay", "{trace}", "--json"], ["trace", "info", "{trace}"],
            ["trace", "verify", "{trace}", "--json"], ["doctor"], ["doctor", "--json"], ["report", "--db", "{db}"],
            ["report", "--db", "{db}", "--json"]]


@pytest.mark.parametrize("arguments", SPEAKERS, ids=" ".join)
def test_a_reader_that_leaves_early_does_no_harm(adamas, small_run, tmp_path, arguments):
    trace, db = small_run
    read_end, write_end = os.pipe()
    os.close(read_end)  # as `| head` does when it has seen enough
    result = adamas(*(a.format(trace=trace, db=db) for a in arguments), stdout=write_end)
    os.close(write_end)
    assert result.code in (0, 4), "a signal ended it"
    assert result.err == ""
    if arguments[0] == "replay":
        check_sound(tmp_path / "adamas.db")
        assert query(tmp_path / "adamas.db", "SELECT status FROM run") == [("complete",)]


@pytest.mark.parametrize("arguments", SPEAKERS[1:], ids=" ".join)
def test_output_that_cannot_be_written_is_an_error(adamas, small_run, arguments):
    """Or a script takes half a JSON document for success."""
    trace, db = small_run
    with open("/dev/full", "w") as full:
        refuse(adamas, *(a.format(trace=trace, db=db) for a in arguments), code=4,
               says=["could not be written", "No space left on device"], stdout=full)


def test_a_file_that_cannot_be_written_says_why(adamas, small_run):
    """The reason of the first write that failed, though stdio has forgotten it by the end of a long report."""
    refuse(adamas, "report", "--db", small_run[1], "-o", "/dev/full", code=4, says=["/dev/full", "No space left on device"])


# ---------------------------------------------------------------- the terminal

def on_a_terminal(adamas, *arguments, stream="stderr"):
    """(exit code, what the terminal showed, what went to the other stream)"""
    ours, theirs = pty.openpty()
    other = "stdout" if stream == "stderr" else "stderr"
    with adamas.start(*arguments, **{stream: theirs, other: subprocess.PIPE}) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says EIO when the last writer is gone
                break
            if not chunk:
                break
            shown += chunk
        rest = getattr(process, other).read()
    os.close(ours)
    return process.returncode, shown.decode(), rest.decode()


def test_progress_is_shown_on_a_terminal_and_wiped(adamas, write_trace):
    trace = write_trace(n_tokens=700, n_steps=200)
    code, shown, out = on_a_terminal(adamas, "replay", trace, "--budgets", "64,512")
    assert code == 0 and out.startswith("run 1 in")
    percents = [int(p) for p in re.findall(r"trace\.safetensors +(\d+)%", shown)]
    assert len(percents) >= 2 and percents == sorted(percents) and percents[0] == 0 and percents[-1] <= 100
    assert shown.endswith("\r\033[K") and "\n" not in shown


def test_progress_is_shown_nowhere_else(adamas, write_trace):
    trace = write_trace()
    assert on_a_terminal(adamas, "replay", trace, "--quiet") == (0, "", "")
    code, _, err = on_a_terminal(adamas, "replay", trace, stream="stdout")
    assert (code, err) == (0, "")


def test_a_trace_cannot_drive_the_terminal(adamas, write_trace):
    evil = "\033]0;owned\007\033[2J\u202e"
    trace = write_trace(metadata={"model": evil, "note": evil, evil: "x"})
    for arguments in (["trace", "info"], ["trace", "info", "--json"], ["replay"], ["replay", "--json"]):
        result = adamas(*arguments, trace)
        assert result.code == 0 and not set("\033\007\u202e") & set(result.out + result.err)


# ---------------------------------------------------------------- what a replay leaves

def test_the_query_of_the_documentation_answers(bundled_run):
    rows = query(bundled_run[0], "SELECT policy, seq_len, budget, p50 FROM quality_summary WHERE metric='recall'")
    assert {(p, s, b) for p, s, b, _ in rows} == {(p, s, b) for s in (1024, 4096) for p, b in (
        ("dense", None), ("oracle", 64), ("oracle", 1024), ("adamas", 64), ("adamas", 1024))}
    assert all(0 < p50 <= 1 for *_, p50 in rows)


def test_oracle_recalls_everything(bundled_run):
    rows = query(bundled_run[0], "SELECT c.policy, m.mean, m.min, m.median, m.max FROM measurement m JOIN config c "
                 "USING (config_id) JOIN metric k USING (metric_id) WHERE k.name = 'recall' AND c.policy <> 'adamas'")
    assert len(rows) == (2 + 4) * (2 * 9 + 1) and all(figures == [1, 1, 1, 1] for _, *figures in rows)


def test_identities_of_mass_tv_and_kl(bundled_run):
    values = {}
    for config, layer, head, metric, _, mean in query(
            bundled_run[0], "SELECT config_id, layer, head, k.name, n, mean FROM measurement "
            "JOIN metric k USING (metric_id) WHERE k.name IN ('mass', 'tv', 'kl')"):
        values.setdefault((config, layer, head), {})[metric] = mean
    assert len(values) == (2 + 4 + 8) * (2 * 9 + 1)
    for mean in values.values():
        assert abs(mean["tv"] - (1 - mean["mass"])) < 1e-12  # a mean of 1152 values summed in another order
        assert mean["kl"] >= -math.log(mean["mass"]) - 1e-12  # Jensen; with equality for one value, see below


def test_identities_hold_value_by_value(adamas, write_trace, tmp_path):
    """With one step a measurement of one head is one value."""
    assert adamas("replay", write_trace(n_steps=1), "--budgets", "8,64", "--quiet").code == 0
    values = {}
    for key, layer, head, metric, value in query(
            tmp_path / "adamas.db", "SELECT config_id, layer, head, k.name, mean FROM measurement "
            "JOIN metric k USING (metric_id) WHERE head IS NOT NULL AND n = 1 AND k.name IN ('mass', 'tv', 'kl')"):
        values.setdefault((key, layer, head), {})[metric] = value
    assert len(values) == 7 * 2 * 4 and any(value["mass"] < 0.99 for value in values.values())
    for value in values.values():
        assert value["tv"] == 1 - value["mass"]
        assert value["kl"] == pytest.approx(-math.log(value["mass"]), rel=1e-15, abs=0)


def test_every_stage_is_timed(bundled_run):
    rows = query(bundled_run[0], "SELECT seq_len, stage, budget, source, unit, status, reason, n, p10, median, p90 "
                 "FROM stage_summary WHERE metric = 'time_ns'")
    assert {row[1] for row in rows} == STAGES
    for seq_len in (1024, 4096):
        assert {(stage, budget) for s, stage, budget, *_ in rows if s == seq_len} == {
            *((stage, None) for stage in STAGES - {"topk", "attention", "step"}),
            *((stage, budget) for stage in ("topk", "attention", "step") for budget in (64, 1024))}
    for *_, source, unit, status, reason, n, p10, median, p90 in rows:
        assert (source, unit, status, reason, n) == ("host", "ns", "ok", None, 64 * 2)  # a value a step and layer
        assert 0 < p10 <= median <= p90 < 1e9
    samples = query(bundled_run[0], "SELECT count(*) = m.n AND min(i) = 0 AND max(i) = m.n - 1 AND min(value) = m.min "
                    "AND max(value) = m.max FROM measurement m JOIN sample USING (measurement_id) "
                    "GROUP BY measurement_id")
    assert len(samples) >= len(rows) and set(samples) == {(1,)}


def test_a_step_takes_as_long_as_its_parts(bundled_run):
    times = {(s, stage, b): mean for s, stage, b, mean in query(
        bundled_run[0], "SELECT seq_len, stage, budget, mean FROM measurement JOIN config USING (config_id) "
        "JOIN metric k USING (metric_id) WHERE k.name = 'time_ns' AND layer IS NULL")}
    for seq_len in (1024, 4096):
        shared = sum(times[seq_len, stage, None] for stage in ("hadamard", "bucket", "pack", "append", "distance"))
        for budget in (64, 1024):
            parts = shared + times[seq_len, "topk", budget] + times[seq_len, "attention", budget]
            assert times[seq_len, "step", budget] == pytest.approx(parts, rel=1e-9)  # means of the same sums


def test_provenance(bundled_run, bundled, program):
    columns = [row[1] for row in query(bundled_run[0], "PRAGMA table_info(run)")]
    (row,) = query(bundled_run[0], "SELECT * FROM run")
    run = dict(zip(columns, row))
    gpu = {"gpu_name", "gpu_uuid", "driver_version", "cuda_version", "sm_clock_hz", "memory_clock_hz"}
    settings = {"machine", "cpu_governor", "cpu_turbo", "cpu_smt"}  # not every machine says them
    sweep = {name for name in columns if name.startswith("sweep_")} | {"shard", "n_shards", "together_uuid", "n_together"}
    absent = {name for name, value in run.items() if value is None}
    assert sweep <= absent <= gpu | {"reason", "git_dirty", "commit_utc", "only_times"} | settings | sweep
    assert all(value != "" for value in run.values())
    assert (run["command"], run["status"], run["label"]) == ("replay", "complete", "bundled")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", run["run_uuid"])
    assert set(json.loads(run["argv"])) >= {str(bundled), *BUNDLED_RUN}
    started, finished = (datetime.fromisoformat(run[f"{when}_utc"]) for when in ("started", "finished"))
    elapsed_s = run["elapsed_ns"] * 1e-9
    assert 0 < elapsed_s < 600 and abs((finished - started).total_seconds() - elapsed_s) < 2
    assert run["host_name"] == os.uname().nodename and run["n_cpus"] == len(os.sched_getaffinity(0))
    assert run["memory_bytes"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    version = Adamas(".")("--version").out
    assert version == f"adamas {run['tool_version']} ({run['git_commit']}{', modified' if run['git_dirty'] else ''})\n"


def test_trace_and_configurations(bundled_run, bundled):
    database, _ = bundled_run
    (trace,) = query(database, "SELECT name, kind, file_bytes, n_tokens, n_steps, n_layers, n_q_heads, n_kv_heads, "
                     "head_dim, softmax_scale, length(xxh128) FROM trace")
    assert trace == (bundled.name, "real", bundled.stat().st_size, 4160, 192, 2, 9, 3, 64, 0.125, 32)
    (info,) = json.loads(Adamas(".")("trace", "info", bundled, "--json").out)
    (stored,) = query(database, "SELECT xxh128, model, metadata FROM trace")
    assert stored[:2] == (info["xxh128"], info["model"]) and json.loads(stored[2]) == info["metadata"]
    assert query(database, "SELECT DISTINCT n_q_heads, n_kv_heads, head_dim, dtype, batch, launch FROM config") == [
        (9, 3, 64, "F16", 1, "host")]
    configs = set(query(database, "SELECT c.policy, c.variant, c.budget, c.n_sinks, c.n_recent, c.selection, c.cache "
                        "FROM config c JOIN measurement USING (config_id) WHERE stage IS NULL AND layer IS NULL"))
    assert {row for row in configs if row[0] != "adamas"} == {
        (policy, "exact", budget, None, None, None, None)
        for policy, budget in (("dense", None), ("oracle", 64), ("oracle", 1024))}
    # the newest token is always in, so n_recent is 1 where nobody asked for more, as --help says
    assert {row for row in configs if row[0] == "adamas" and row[2]} == {
        ("adamas", f"l1 {t}", b, 0, 1, "head", None) for t in ("calibrated", "fixed:-10,0,10") for b in (64, 1024)}


def test_forced_tokens_are_swept_in_one_pass(adamas, small_run, tmp_path):
    """Each combination of --sinks and --recent is a configuration of its own, in the summary and in every line of the report,
    and has the values that it has alone."""
    options = [small_run[0], "--budgets", "64,128", "--policies", "adamas,streaming", "--thresholds", "calibrated", "--quiet",
               "--timed-steps", "0", "--db"]
    result = adamas("replay", "--sinks", "4,0,4", "--recent", "0,32", "--json", *options, "swept.db")
    assert result.code == 0, result.err
    names = {(0, 1): "l1 calibrated", (0, 32): "l1 calibrated, 32 recent", (4, 1): "l1 calibrated, 4 sinks",
             (4, 32): "l1 calibrated, 4 sinks, 32 recent"}
    database = tmp_path / "swept.db"
    assert set(query(database, "SELECT n_sinks, n_recent, variant FROM config WHERE policy = 'adamas'")) == {
        (*forced, name) for forced, name in names.items()}
    rows = json.loads(result.out)["quality"]
    assert sorted((row["variant"], row["budget"]) for row in rows if row["policy"] == "adamas") == sorted(
        (name, budget) for name in names.values() for budget in (64, 128))
    report = json.loads(adamas("report", "--json", "--db", "swept.db").out)
    series = [row["series"] for row in report["quality"] if row["policy"] == "adamas" and row["metric"] == "mass"]
    assert sorted(set(series)) == sorted(f"adamas {name}" for name in names.values()) and len(series) == 2 * len(names)
    values = "SELECT budget, metric, n, mean, p50, p95, worst FROM quality_summary WHERE variant = '{}' ORDER BY 1, 2"
    for forced, name in names.items():
        alone = adamas("replay", "--sinks", forced[0], "--recent", forced[1], *options, "alone.db")
        assert alone.code == 0, alone.err
        assert query(database, values.format(name)) == query(tmp_path / "alone.db", values.format(name)) != []
    (calibrations,) = query(database, "SELECT count(*), count(DISTINCT layer) FROM calibration")
    assert calibrations[0] == calibrations[1]


def test_calibration_and_codes(bundled_run):
    database, _ = bundled_run
    rows = query(database, "SELECT variant, layer, t0, t1, t2, xxh128 FROM calibration")
    assert {row[:2] for row in rows} == {(v, layer) for v in ("calibrated", "fixed:-10,0,10") for layer in (14, 24)}
    assert all(t0 < t1 < t2 and re.fullmatch("[0-9a-f]{32}", digest) for _, _, t0, t1, t2, digest in rows)
    codes = {}
    for *key, metric, mean in query(database, "SELECT seq_len, variant, metric, mean FROM quality_summary "
                                    "WHERE metric LIKE 'bucket%'"):
        codes.setdefault(tuple(key), {})[metric] = mean
    assert len(codes) == 2 * 2
    for means in codes.values():
        share = [means[f"bucket_occupancy_{code}"] for code in range(4)]
        assert sum(share) == pytest.approx(1, rel=1e-12) and 0 < means["bucket_entropy_bits"] <= 2
    calibrated = [codes[1024, "l1 calibrated"][f"bucket_occupancy_{code}"] for code in range(4)]
    # thresholds at a third, the half and two thirds of 1,024 of the 1,088 keys counted
    assert calibrated == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 3], abs=0.02)


def test_the_file_is_sound_and_alone(bundled_run):
    database, _ = bundled_run
    check_sound(database)
    assert set(files_of(database)) == {database.name}, "a journal was left behind"
    assert query(database, "SELECT count(*) FROM event") == [(0,)]  # no --timeline
    orphans = query(database, "SELECT count(*) FROM config WHERE config_id NOT IN (SELECT config_id FROM measurement)")
    assert orphans == [(0,)]


QUALITY = ("SELECT t.name, c.policy, c.variant, c.seq_len, c.budget, m.layer, m.head, k.name, m.n, m.mean, m.min, "
           "m.p01, m.p05, m.p10, m.median, m.p90, m.p95, m.p99, m.max FROM measurement m "
           "JOIN config c USING (config_id) JOIN metric k USING (metric_id) JOIN trace t USING (trace_id) "
           "WHERE m.stage IS NULL AND m.run_id = ? "
           "ORDER BY 1, 2, 3, 4, 5, 6, 7, 8")


def test_twice_the_same_is_twice_the_same(adamas, write_trace, tmp_path):
    database = tmp_path / "adamas.db"
    trace = write_trace()
    shared = "SELECT (SELECT count(*) FROM config), (SELECT count(*) FROM trace), (SELECT count(*) FROM metric)"
    assert adamas("replay", trace, "--quiet").code == 0
    before = query(database, shared)
    assert adamas("replay", trace, "--quiet").code == 0
    assert query(database, "SELECT run_id, status FROM run") == [(1, "complete"), (2, "complete")]
    assert query(database, "SELECT count(DISTINCT run_uuid) FROM run") == [(2,)]
    first, second = query(database, QUALITY, 1), query(database, QUALITY, 2)
    assert first == second and len(first) > 500
    assert query(database, shared) == before
    thresholds = "SELECT variant, layer, t0, t1, t2, xxh128 FROM calibration WHERE run_id = ? ORDER BY 1, 2"
    assert query(database, thresholds, 1) == query(database, thresholds, 2)


def test_two_traces_in_one_run_are_as_two_runs(adamas, write_trace, tmp_path):
    a, b = write_trace("a.safetensors"), write_trace("b.safetensors", seed=2, dtype="F32")
    assert adamas("replay", a, b, "--quiet").code == 0
    assert adamas("replay", a, "--quiet").code == 0
    assert adamas("replay", b, "--quiet").code == 0
    both = query(tmp_path / "adamas.db", QUALITY, 1)
    assert both == query(tmp_path / "adamas.db", QUALITY, 2) + query(tmp_path / "adamas.db", QUALITY, 3)


def test_policies_and_layers_choose_and_change_nothing_else(adamas, write_trace, tmp_path):
    trace = write_trace()
    assert adamas("replay", trace, "--quiet", "--budgets", "16,64").code == 0
    assert adamas("replay", trace, "--quiet", "--budgets", "64,16,64", "--policies", "adamas,dense",
                  "--layers", "5").code == 0
    full, part = (query(tmp_path / "adamas.db", QUALITY, run) for run in (1, 2))
    of_heads = [row for row in full if row[1] != "oracle" and row[5] == 5]
    assert [row for row in part if row[6] is not None] == of_heads
    assert {row[1] for row in part} == {"adamas", "dense"}


def test_the_first_layers_stay_dense(adamas, write_trace, tmp_path):
    trace = write_trace(layers=(0, 1, 2))
    assert adamas("replay", trace, "--quiet").code == 0
    assert adamas("replay", trace, "--quiet", "--dense-layers", "0").code == 0
    replayed = "SELECT DISTINCT layer FROM measurement WHERE run_id = ? AND layer IS NOT NULL ORDER BY 1"
    assert query(tmp_path / "adamas.db", replayed, 1) == [(2,)]
    assert query(tmp_path / "adamas.db", replayed, 2) == [(0,), (1,), (2,)]


def test_timeline(adamas, write_trace, tmp_path):
    database = tmp_path / "adamas.db"
    assert adamas("replay", write_trace(), "--quiet", "--timeline", "--budgets", "16", "-t", "calibrated").code == 0
    counts = dict(query(database, "SELECT kind, count(*) FROM event GROUP BY kind"))
    assert (counts["session"], counts["step"], counts["layer"]) == (1, 16, 16 * 2)
    per_layer = query(database, "SELECT name, count(*) FROM event WHERE kind = 'stage' AND step >= 0 GROUP BY name")
    assert dict(per_layer) == {stage: 16 * 2 for stage in STAGES - {"step"}}
    assert query(database, "SELECT count(*) FROM event a JOIN event b ON a.kind = 'stage' AND b.kind = 'layer' "
                 "AND a.step = b.step AND a.layer = b.layer "
                 "AND (a.start_ns < b.start_ns OR a.end_ns > b.end_ns)") == [(0,)]


def test_memory_stays_within_reason(adamas, bundled):
    """The trace is mapped and 8 MB; a leak or a needless copy of everything would show."""
    if PROGRAM.parent.name == "asan":
        pytest.skip("AddressSanitizer's own memory is beyond the limit")

    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, 64 << 20))

    result = adamas("replay", bundled, "--quiet", "--seq-lens", "1024", preexec_fn=limit)
    assert result == Result(0, "", "")

"""`--candidate`, `--tuned` and `--implementation` outside of tune: in `adamas profile` on a GPU that is host memory
(tests/support/fake_gpu.c), in `replay`, `compare` and `check` on the host. Right candidates have times next to the registry's
rows; wrong ones a reason and never a time."""
import json
import os
import re

import pytest
from test_tune_gpu import FAULTS, build, fake  # noqa: F401
from tune_faults import RIGHT, wrong_source

from conftest import BUNDLED, check_sound, query, refuse

GRID = ["--seq-lens", "300,500", "--budgets", "16,64", "--heads", "4", "--kv-heads", "2", "--stages", "topk", "--cap-ms", "10"]
TIE = [FAULTS["tie_to_the_older"][:2]]
TIMES = ("SELECT variant, seq_len, batch, budget, launch, status, reason FROM stage_summary WHERE metric = 'time_ns'"
         " ORDER BY 1, 2, 3, 4, 5")


def profile(adamas, *arguments, code=0):
    result = adamas("profile", *arguments, "--db", "x.db", env={**os.environ, "ADAMAS_FAKE_GPU": "honest"})
    assert result.code == code, result
    return result


def test_a_candidate_is_timed_in_every_configuration_of_the_grid(fake, tmp_path):  # noqa: F811
    out = profile(fake, *GRID, "--batch", "1,2", "--launch", "graph,stream", "--candidate", build(tmp_path, "mine")).out
    rows = [row for row in query(tmp_path / "x.db", TIMES) if row[0] == "mine.so:mine"]
    assert [row[1:5] for row in rows] == [(n, batch, budget, launch) for n in (300, 500) for batch in (1, 2)
                                          for budget in (16, 64) for launch in ("graph", "stream")]
    assert {row[5:] for row in rows} == {("ok", None)} and out.count("mine.so:mine") == 16
    # in the configurations of the registry's rows but for the variant
    configurations = query(tmp_path / "x.db", "SELECT variant, count(*) FROM config WHERE variant IN ('fake', 'mine.so:mine') "
                                              "GROUP BY policy, n_q_heads, n_kv_heads, head_dim, dtype, seq_len, budget, "
                                              "batch, n_sinks, n_recent, selection, cache, launch, page_size")
    assert len(configurations) == 16 and all(n == 2 for _, n in configurations)
    metrics = {name for name, in query(tmp_path / "x.db", "SELECT metric FROM stage_summary WHERE variant = 'mine.so:mine'")}
    assert {"time_ns", "floor_ns", "limit_ratio", "model_bytes", "median_ci_ratio"} <= metrics
    assert query(tmp_path / "x.db", "SELECT DISTINCT verdict, stage FROM candidate") == [("right", "topk")]
    check_sound(tmp_path / "x.db")


def test_a_wrong_candidate_is_a_reason_and_the_grid_goes_on(fake, tmp_path):  # noqa: F811
    result = profile(fake, *GRID, "--candidate", f"topk={build(tmp_path, 'tie', TIE)}", "--candidate", build(tmp_path, "mine"),
                     code=4)
    assert "4 units failed their check" in result.err
    rows = query(tmp_path / "x.db", TIMES)
    assert {row[5] for row in rows if row[0] == "tie.so:mine"} == {"failed"}
    assert all("a tie given to the older token" in row[6] for row in rows if row[0] == "tie.so:mine")
    assert [row[5] for row in rows if row[0] in ("mine.so:mine", "fake")] == ["ok"] * 8


@pytest.mark.parametrize("text, says", [("{", "line 1 of the manifest"), ('{"stage": "topk"}', "the manifest needs")])
def test_a_candidate_that_cannot_be_loaded_is_a_users_mistake(fake, tmp_path, text, says):  # noqa: F811
    name = "m.json"
    (tmp_path / name).write_text(text)
    result = profile(fake, *GRID, "--candidate", f"topk={name}", code=2)
    assert re.search(rf"^adamas: {name}: {says}", result.err, re.M), result
    rows = query(tmp_path / "x.db", TIMES)
    assert {row[5] for row in rows if row[0] == name} == {"failed"} and {row[5] for row in rows if row[0] == "fake"} == {"ok"}
    result = profile(fake, *GRID, "--candidate", f"topk={name}", "--candidate", f"topk={build(tmp_path, 'tie', TIE)}", code=4)
    assert "8 units failed their check or could not run" in result.err  # a wrong answer weighs more


def test_a_batch_of_unlike_lengths_pages_and_a_group(fake, tmp_path):  # noqa: F811
    profile(fake, "--batch-lens", "100,0,33", "--budgets", "16", "--heads", "4", "--kv-heads", "2", "--stages", "topk",
            "--candidate", build(tmp_path, "mine"), "--page-size", "0,16", "--cap-ms", "10")
    rows = query(tmp_path / "x.db", "SELECT page_size, batch_lens, batch, status, reason FROM stage_summary WHERE "
                                    "variant = 'mine.so:mine' AND metric = 'time_ns' ORDER BY 1")
    assert rows == [(None, "100,0,33", 3, "ok", None), (16, "100,0,33", 3, "skipped", "does not take this shape")]


def test_what_was_tuned_is_used_and_what_was_not_is_said(fake, tmp_path):  # noqa: F811
    env = {**os.environ, "ADAMAS_FAKE_GPU": "honest"}
    refuse(fake, "profile", *GRID, "--tuned", "--db", "x.db", env=env, says=["--tuned: the database x.db is not there"])
    tuned = ["tune", "--stage", "topk", "--heads", "4", "--kv-heads", "2", "--cap-ms", "10", "--db", "x.db"]
    source = build(tmp_path, "mine")
    assert fake(*tuned, "--seq-len", "300", "--budget", "16", "--implementation", "fake", source, env=env).code == 0
    [(path,)] = query(tmp_path / "x.db", "SELECT ifnull(path, '') FROM tuned")
    result = profile(fake, *GRID, "--tuned")
    used = query(tmp_path / "x.db", TIMES.replace("WHERE", "WHERE run_id = 2 AND variant = 'mine.so:mine' AND"))
    if path:
        assert "tuned: topk, 4/2 heads, 300 tokens, budget 16: mine.so, run 1" in result.err
        assert [row[1:4] for row in used] == [(300, 1, 16)]
    else:  # times of a fake GPU are noise: its own row may have been the faster
        assert "300 tokens, budget 16: the registry's 'fake' is the fastest" in result.err and not used
    assert "tuned: topk, 4/2 heads, 500 tokens, budget 64: nothing is stored for this device and shape" in result.err


@pytest.mark.parametrize("only, expected", [
    (["fake"], {("topk", "fake"), ("attention", "fake"), ("bucket", "fake")}),
    (["topk=choosy"], {("topk", "choosy"), ("attention", "fake"), ("bucket", "fake")}),
    (["topk=choosy,topk=fake", "attention=fake"], {("topk", "choosy"), ("topk", "fake"), ("attention", "fake"),
                                                   ("bucket", "fake")}),
])
def test_rows_are_picked_by_name(fake, only, expected):  # noqa: F811
    options = [word for names in only for word in ("--implementation", names)]
    plan = json.loads(profile(fake, "--stages", "topk,attention,bucket", "--budgets", "16", *options, "--dry-run",
                              "--json").out)
    assert {(unit["stage"], unit["variant"]) for unit in plan["units"]} == expected


def test_the_plan_as_json_is_that_of_the_text(fake):  # noqa: F811
    arguments = ["--dry-run", "--seq-lens", "300,500", "--kv-heads", "2,4", "--heads", "4", "--budgets", "16"]
    text, document = profile(fake, *arguments).out, json.loads(profile(fake, *arguments, "--json").out)
    assert len(document["configurations"]) == 4 and text.startswith(f"4 configurations of {len(document['units'])} units\n")
    first = document["configurations"][0]
    assert (first["seq_len"], first["kv_heads"], first["batch"]) == (300, 2, 1)
    assert first["kv_bytes"] == 2 * 2 * 320 * 128 * 2 and first["bytes"] >= first["least_bytes"] > first["kv_bytes"]
    assert document["setting"]["q_heads"] == 4 and document["device"] == "fake GPU of the tests"


@pytest.mark.parametrize("arguments, says", [
    (["--candidate", "gone.so"], ["gone.so"]), (["--candidate", "a.txt"], ["a.txt: is no candidate: a .c or .cu file"]),
    (["--candidate", "two.c"], ["two.c has functions of several stages", "--candidate topk=FILE"]),
    (["--candidate", "topk=two.c"], ["two.c is for the host", "adamas replay"]),
    (["--set", "A=1"], ["--set is about a candidate"]),
    (["--implementation", "nobody"], ["no stage that is to run has a row for 'nobody'"]),
    (["--implementation", "fkae"], ["no stage that is to run has a row for 'fkae'; did you mean 'fake'?"]),
    (["--implementation", "tokp=fake"], ["--implementation: 'tokp' is not known; did you mean 'topk'?"]),
])
def test_bad_input_is_refused_before_a_run_begins(fake, tmp_path, arguments, says):  # noqa: F811
    (tmp_path / "two.c").write_text("void adamas_topk (void);\nvoid adamas_pack(void);\n")
    (tmp_path / "a.txt").write_text("x")
    refuse(fake, "profile", *GRID, *arguments, "--db", "x.db", env={**os.environ, "ADAMAS_FAKE_GPU": "honest"}, says=says)
    assert not (tmp_path / "x.db").exists()


# ---- replay ----

REPLAY = ["replay", BUNDLED, "--seq-lens", "1024", "--budgets", "64", "--policies", "adamas", "--timed-steps", "2", "--db",
          "x.db"]
OWN_PROCESS = ("SELECT s.variant, s.stage, s.budget, s.status, s.reason, s.median FROM stage_summary s JOIN candidate c"
               " ON c.run_id = s.run_id AND c.config_id = s.config_id AND c.stage = s.stage WHERE s.metric = 'time_ns'"
               " ORDER BY 2, 3, 1")


def write(folder, name, text):
    (folder / name).write_text(text)
    return name


@pytest.mark.parametrize("stage", RIGHT)
def test_a_replay_times_a_right_candidate_on_the_sessions_own_inputs(adamas, tmp_path, stage):
    result = adamas(*REPLAY, "--candidate", write(tmp_path, "mine.c", RIGHT[stage]), "--json")
    assert result.code == 0, result
    rows = query(tmp_path / "x.db", OWN_PROCESS)
    assert len(rows) == 2 and {row[1] for row in rows} == {stage} and all(row[3] == "ok" and row[5] > 0 for row in rows), rows
    assert {row[0] for row in rows} > {"mine.c"}
    assert query(tmp_path / "x.db", "SELECT DISTINCT t.name, c.seq_len, c.n_q_heads, c.head_dim FROM candidate d JOIN config c"
                                    " USING (config_id) JOIN trace t USING (trace_id)") == [(BUNDLED.name, 1024, 9, 64)]
    shown = [row for row in json.loads(result.out)["times"] if row["own_process"]]
    assert {row["variant"] for row in shown} == {row[0] for row in rows}
    check_sound(tmp_path / "x.db")


@pytest.mark.parametrize("fault", ["tie_to_the_older", "wrong_at_odd_lengths"])
def test_a_replay_gives_a_wrong_candidate_a_reason_and_no_time(adamas, tmp_path, fault):
    result = adamas(*REPLAY, "--candidate", write(tmp_path, "bad.c", wrong_source("topk", fault)), "--candidate",
                    write(tmp_path, "good.c", RIGHT["topk"]))
    assert result.code == 4 and "candidates failed at 1 of their lengths and budgets; the" in result.err, result
    rows = {row[0]: row for row in query(tmp_path / "x.db", OWN_PROCESS)}
    assert rows["bad.c"][3] == "failed" and rows["bad.c"][4] and rows["bad.c"][5] is None
    assert rows["good.c"][3] == "ok" and rows["good.c"][5] > 0 and len(rows) == 3
    assert re.search(r"bad\.c +64 +failed: ", result.out) and "?" not in result.out, result.out
    assert query(tmp_path / "x.db", "SELECT status FROM run") == [("complete",)]


# Files that no process can load, and what is said of them.
BROKEN = {"garbage.so": ("no shared object", "cannot be loaded"), "syntax.c": ("int adamas_topk(", "does not compile"),
          "other.c": ("int x;", "defines no function adamas_topk")}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_candidate_is_a_users_mistake_in_every_command(adamas, tmp_path, name):
    text, says = BROKEN[name]
    write(tmp_path, name, text)
    result = adamas(*REPLAY, "--candidate", f"topk={name}")
    assert result.code == 2 and re.search(rf"^adamas: {name}: .*{says}", result.err, re.M), result
    assert query(tmp_path / "x.db", OWN_PROCESS)[-1][3] == "failed"
    assert adamas("tune", "--stage", "topk", name, "--check-only", "--seq-len", "64", "--db", "x.db").code == 2
    wrong = write(tmp_path, "bad.c", wrong_source("topk", "tie_to_the_older"))  # a wrong answer weighs more
    assert adamas(*REPLAY, "--candidate", f"topk={name}", "--candidate", wrong).code == 4


def test_two_rows_run_beside_each_other_in_one_call(adamas, tmp_path):
    result = adamas(*REPLAY, "--implementation", "reference", "--implementation", "reference,topk=avx2")
    assert result.code in (0, 77), result
    if result.code == 77:
        pytest.skip(result.err)
    rows = query(tmp_path / "x.db", OWN_PROCESS)
    assert [row[:4] for row in rows] == [("avx2", "topk", 64, "ok"), ("reference", "topk", 64, "ok")]
    assert rows[0][5] < rows[1][5]


@pytest.mark.parametrize("arguments, says", [
    (["--candidate", "k.cu"], ["k.cu is for a GPU", "adamas profile"]),
    (["--candidate", "append=mine.c"], ["the stage append has no function of its own on the host"]),
    (["--candidate", "mine.c", "--set", "B=1"], ["no candidate has the parameter"]),
    (["--candidate", "block.c", "--set", "BLOKC=1"], ["no candidate has the parameter of 'BLOKC=1'; did you mean 'BLOCK'?"]),
    (["--candidate", "mine.c", "--resume", "1"], ["--resume"]),
])
def test_a_replay_refuses_what_it_cannot_judge(adamas, tmp_path, arguments, says):
    write(tmp_path, "mine.c", RIGHT["topk"])
    write(tmp_path, "k.cu", "int adamas_gpu_topk(a, b, c);\n")
    write(tmp_path, "block.c", "// adamas: BLOCK = 1, 2\n" + RIGHT["topk"])
    refuse(adamas, *REPLAY, *arguments, says=says)


# ---- compare and check ----

def test_a_candidates_runs_are_compared_as_variants(adamas, tmp_path):
    write(tmp_path, "mine.c", RIGHT["topk"])
    result = adamas("check", "--candidate", "mine.c", "--runs", "8", "--max-runs", "32", "--json", "--all", "--db", "x.db",
                    "--", *REPLAY[:-2])
    document = json.loads(result.out)
    [row] = document["rows"]
    assert row["stage"] == "topk" and row["metric"] == "time_ns" and row["verdict"] == "regressed" and result.code == 1, row
    assert row["candidate"] > row["baseline"] > 0 and document["candidate"] == "mine.c", document
    # the same runs on both sides, against another row of theirs
    [(variant,)] = query(tmp_path / "x.db", "SELECT DISTINCT c.variant FROM candidate d JOIN config c USING (config_id)"
                                            " WHERE d.kind = 'row'")
    again = adamas("compare", "all", "all", "--candidate", "mine.c", "--against", variant, "--db", "x.db", "--json", "--all")
    assert [row["verdict"] for row in json.loads(again.out)["rows"]] == ["regressed"], again
    refuse(adamas, "compare", "all", "all", "--candidate", "other.c", "--db", "x.db", says=["no times of other.c"])
    refuse(adamas, "compare", "all", "all", "--candidate", "mine.c", "--against", "nobody", "--db", "x.db", says=["nobody"])
    refuse(adamas, "compare", "all", "all", "--candidate", "mine.c", "--against", variant + "x", "--db", "x.db",
           says=[f"no times of {variant}x; did you mean '{variant}'?"])
    refuse(adamas, "compare", "all", "all", "--against", variant, "--db", "x.db", says=["--candidate"])


def test_a_check_refuses_a_wrong_candidate(adamas, tmp_path):
    write(tmp_path, "bad.c", wrong_source("topk", "tie_to_the_older"))
    result = adamas("check", "--candidate", "bad.c", "--runs", "2", "--max-runs", "2", "--db", "x.db", "--", *REPLAY[:-2])
    assert result.code == 4 and "candidates failed at 1 of their lengths and budgets; the" in result.err, result

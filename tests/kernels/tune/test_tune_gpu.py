"""`adamas tune` for GPU candidates, on a GPU that is host memory (tests/support/fake_gpu.c): launchers of shared objects are
judged as on a device. tests/bench/tune_gpu.py judges real kernels on one, with the faults that only a device can show."""
import json
import os
import re
import shutil
import sqlite3
import subprocess

import pytest

from conftest import PROGRAM, ROOT, Adamas, query, refuse

SHAPE = ["--seq-len", "700", "--heads", "4", "--kv-heads", "2", "--budget", "64", "--limit-s", "2", "--cap-ms", "50"]

TOPK = r"""
#include "adamas_plugin.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/*GLOBAL*/
static void row(const adamas_gpu_shape *s, const adamas_gpu_buffers *b, uint32_t r) {
    uint32_t n = b->length[r / s->n_q_heads], budget = s->rule.budget, k = 0;
    uint16_t *d = b->distance + (size_t)r * s->capacity;
    uint32_t *index = b->index + (size_t)r * budget;
    uint32_t recent = s->rule.n_recent > 1 ? s->rule.n_recent : 1, last = n > recent ? n - recent : 0;
    uint32_t first = s->rule.n_sinks < last ? s->rule.n_sinks : last, histogram[1024] = {0}, boundary = 0, below = 0, skip = 0;
    /*START*/
    uint32_t left = budget > first + (n - last) ? budget - first - (n - last) : 0;
    if (left > last - first) left = last - first;
    for (uint32_t t = first; t < last; t++) histogram[d[t]]++;
    if (left > 0) {
        while (below + histogram[boundary] < left) below += histogram[boundary++];
        skip = histogram[boundary] - (left - below);
    }
    uint32_t older = left - below;
    (void)older;
    for (uint32_t t = 0; t < n; t++) {
        int in = t < first || t >= last;
        if (!in && left > 0) in = d[t] < boundary || (d[t] == boundary && (skip > 0 ? (skip--, 0) : 1)); /*TIE*/
        if (in) index[k++] = t;
    }
    /*END*/
    b->n_selected[r] = k;
}
static int run(const adamas_gpu_shape *s, const adamas_gpu_buffers *b, adamas_stream stream) {
    if (s->group || s->page_size) return ADAMAS_UNSUPPORTED;
    (void)stream;
    /*LAUNCH*/
    for (uint32_t r = 0; r < s->batch * s->n_q_heads; r++) row(s, b, r); /*ROWS*/
    return 0;
}
static size_t bytes(const adamas_gpu_shape *s) { return s->batch * 64; }
static const adamas_implementation rows[] = {
    {.stage = "topk", .name = "mine", .summary = "", .on_gpu = 1, .run = (void (*)(void))run, .workspace_bytes = bytes}};
const adamas_plugin adamas_plugin_table = {ADAMAS_PLUGIN_VERSION, sizeof *rows, 1, rows};
"""

# name: (what is replaced, by what, what the verdict says)
FAULTS = {
    "tie_to_the_older": ("(skip > 0 ? (skip--, 0) : 1)", "(older > 0 ? (older--, 1) : 0)", "a tie given to the older token"),
    "budget_short_by_one": ("/*START*/", "if (budget > 2) budget--;", "tokens were selected|never written"),
    "sinks_ignored": ("/*START*/", "first = 0;", "a sink|tokens were selected|missing"),
    "newest_missing": ("t >= last;", "(t >= last && t + 1 < n);", "tokens were selected|never written"),
    "last_row_missing": ("r < s->batch * s->n_q_heads; r++) row(s, b, r); /*ROWS*/",
                         "r + 1 < s->batch * s->n_q_heads; r++) row(s, b, r);", "never written"),
    "one_head_between_wrong": ("/*END*/", "if (s->n_q_heads == 8 && r == 2) index[0] = 1;", "index|missing"),
    "empty_sequence_forgotten": ("/*START*/", "if (n == 0) return;", "tokens were selected|never written"),
    "budget_above_the_length": ("/*START*/", "if (budget > n) { b->n_selected[r] = budget; return; }",
                                "tokens were selected|never written"),
    "wrong_at_odd_lengths": ("t < n; t++) {\n        int in", "t < n - (n % 2 && n > 500); t++) {\n        int in",
                             "tokens were selected|token|never written"),
    "writes_into_its_input": ("/*END*/", "if (n > 9) d[3] ^= 1;", "`distance`, which is not the stage's output|token"),
    "writes_behind_the_index": ("/*END*/", "if (r + 1 == s->batch * s->n_q_heads) b->index[(size_t)(r + 1) * budget] = 7;",
                                "which is not the stage's output"),
    "writes_in_front_of_the_index": ("/*END*/", "if (r == 0) b->index[-1] = 7;", "which is not the stage's output"),
    "writes_into_the_keys": ("/*END*/", "if (r == 0) ((char *)b->k)[0] ^= 1;", "`k`, which is not the stage's output"),
    "changes_a_length": ("/*END*/", "if (r == 0 && n == 90) ((uint32_t *)(uintptr_t)b->length)[0] = 89;",
                         "`length`|tokens were selected|missing"),
    "cached_by_address": ("/*GLOBAL*/", "static const void *seen; static uint32_t kept[1 << 16];", "."),
    "fast_after_some_calls": ("/*LAUNCH*/", "static int calls; if (s->capacity == 704 && calls++ > 12) return 0;", "."),
    "works_only_the_first_time": ("/*LAUNCH*/", "static int done; if (done++) return 0;", "."),
    "needs_a_zeroed_output": ("b->n_selected[r] = k;", "if (b->n_selected[r] == 0) b->n_selected[r] = k;",
                              "tokens were selected|never written"),
    "unfinished_when_it_returns": ("/*GLOBAL*/", "static struct { adamas_gpu_shape s; adamas_gpu_buffers b; } later;", "."),
    "sleeps_out_the_limit": ("/*LAUNCH*/", "sleep(100);", "did not return within 2 s"),
    "crashes": ("/*LAUNCH*/", "*(volatile char *)8 = 1;", "crashed"),
    "exits": ("/*LAUNCH*/", "_exit(0);", "ended with status 0"),
    "returns_an_error": ("/*LAUNCH*/", "return 700;", "error 700: an illegal address"),
    "overflows_its_workspace": ("/*LAUNCH*/", "memset(b->workspace, 1, 1 << 28);", "crashed"),
    "uses_a_dirty_workspace": ("/*END*/", "if (r == 0) { uint32_t *w = b->workspace; if (w[0]++ > 2) k = 0; }", "."),
}
ALSO = {
    "cached_by_address": ("/*LAUNCH*/", "if (s->capacity == 704) { size_t n = s->n_q_heads * s->rule.budget; if (seen == "
                          "b->index) { memcpy(b->index, kept, n * 4); return 0; } }",
                          "return 0;\n}\nstatic size_t", "if (s->capacity == 704) { seen = b->index; memcpy(kept, b->index, "
                          "s->n_q_heads * s->rule.budget * 4); }\n    return 0;\n}\nstatic size_t"),
    "unfinished_when_it_returns": (
        "/*LAUNCH*/", "later.s = *s; later.b = *b; pthread_t id; pthread_create(&id, 0, work, 0); return 0;",
        "static int run(", "static void *work(void *x) { usleep(20000); for (uint32_t r = 0; r < "
        "later.s.batch * later.s.n_q_heads; r++) row(&later.s, &later.b, r); return x; }\nstatic int run("),
}


@pytest.fixture
def fake(tmp_path):
    adamas = Adamas(tmp_path)
    adamas.path = PROGRAM.parent / "tests/adamas-fake-gpu"
    if not adamas.path.exists():
        pytest.fail(f"{adamas.path} is not there: build it with ninja")
    return adamas


def build(folder, name, pairs=()):
    text = TOPK
    for what, by in pairs:
        assert what in text, (name, what)
        text = text.replace(what, by)
    (folder / f"{name}.c").write_text(text)
    include = f"-I{ROOT}/kernels/tune/candidate"
    subprocess.run(["cc", "-std=gnu11", "-shared", "-fPIC", "-O1", include, f"{name}.c", "-o", f"{name}.so",
                    "-lpthread"], cwd=folder, check=True)
    return f"{name}.so"


def tune(adamas, *arguments, code=0):
    result = adamas("tune", *arguments, "--json", "--db", "tune.db", env={**os.environ, "ADAMAS_FAKE_GPU": "honest"})
    assert result.code == code, result
    return {row["name"]: row for row in json.loads(result.out)["candidates"]}


@pytest.mark.parametrize("stage", ["hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step", "dense"])
def test_the_rows_of_every_stage_are_right(fake, stage):
    rows = tune(fake, "--stage", stage, "--gpu", *SHAPE, code=77 if stage == "topk" else 0)
    assert rows and all(row["verdict"] == ("skipped" if name == "choosy" else "right") for name, row in rows.items()), rows


def test_a_right_launcher_is_accepted_and_timed(fake, tmp_path):
    row = tune(fake, "--stage", "topk", "--implementation", "fake", *SHAPE, build(tmp_path, "mine"))["mine.so:mine"]
    assert row["verdict"] == "right" and row["median_ns"] > 0 and row["registers"] == 32 and row["limiter"] == "threads", row
    stored = query(tmp_path / "tune.db", "SELECT verdict, registers, occupancy_ratio FROM candidate WHERE kind = 'shared'")
    assert stored == [("right", 32, 1.0)]


def test_every_planted_fault_of_a_launcher_is_refused_and_none_is_timed(fake, tmp_path):
    files = []
    for name, (what, by, _) in FAULTS.items():
        files.append(build(tmp_path, name, [(what, by), *zip(*[iter(ALSO.get(name, ()))] * 2)]))
    rows = tune(fake, "--stage", "topk", "--implementation", "fake", *SHAPE, *files, code=1)
    assert rows.pop("fake")["verdict"] == "right"
    missed = {name: row for name, row in rows.items() if row["verdict"] != "wrong" or row["median_ns"] is not None}
    assert not missed and len(rows) == len(FAULTS) >= 25, missed
    for name, (_, _, says) in FAULTS.items():
        assert re.search(says, rows[f"{name}.so:mine"]["reason"], re.S), (name, rows[f"{name}.so:mine"]["reason"])
    assert not query(tmp_path / "tune.db", "SELECT * FROM stage_summary WHERE metric = 'time_ns' AND status = 'ok'"
                                                " AND variant <> 'fake'")


def test_without_a_gpu_a_candidate_is_skipped_with_the_reason(adamas, tmp_path):
    if any(finding["what"] == "GPU" and finding["ok"] for finding in json.loads(adamas("doctor", "--json").out)):
        pytest.skip("this machine has a GPU")
    result = adamas("tune", "--stage", "topk", build(tmp_path, "mine"), "--json")
    row = {row["name"]: row for row in json.loads(result.out)["candidates"]}["mine.so:mine"]
    assert result.code == 77 and row["verdict"] == "skipped" and "compiled, not judged: " in row["reason"], row


# ---- counters ----

def test_counters_of_a_candidate_are_in_its_row_and_in_the_database(fake, tmp_path):
    """Counted by the fake CUPTI of tests/support/fake_cupti.c."""
    cupti = PROGRAM.parent / "tests/fake_cupti.so"
    if not cupti.exists():
        pytest.skip("this build has no CUPTI headers, so there is no fake CUPTI either: configure it with a CUDA toolkit")
    (tmp_path / "lib").mkdir()
    shutil.copy(cupti, tmp_path / "lib/libcuda.so.1")
    env = {**os.environ, "ADAMAS_FAKE_GPU": "honest", "ADAMAS_CUPTI": str(cupti), "LD_LIBRARY_PATH": str(tmp_path / "lib")}
    arguments = ["tune", "--stage", "topk", "--implementation", "fake", *SHAPE, build(tmp_path, "mine"), "--counters", "full",
                 "--db", "tune.db"]
    result = fake(*arguments, "--json", env=env)
    rows = {row["name"]: row for row in json.loads(result.out)["candidates"]}
    counted = {name: value for name, value in rows["mine.so:mine"]["counters"].items() if value is not None}
    assert "dram__bytes_read.sum" in counted and rows["fake"]["counters"].keys() == rows["mine.so:mine"]["counters"].keys()
    stored = dict(query(tmp_path / "tune.db", "SELECT metric, median FROM stage_summary WHERE variant = 'mine.so:mine'"
                                              " AND launch = 'stream' AND status = 'ok'"))
    assert stored == pytest.approx(counted)
    assert "    counters: " in fake(*arguments, env=env).out
    # and what was counted explains the candidate
    found = fake("explain", "--stage", "topk", "--implementation", "mine.so:mine", "--json", "--db", "tune.db")
    assert found.code == 0 and json.loads(found.out)["has_counters"], found


def test_what_cannot_be_counted_is_a_reason_and_the_times_stand(fake, tmp_path):
    env = {**os.environ, "ADAMAS_FAKE_GPU": "honest", "ADAMAS_CUPTI": str(tmp_path / "gone.so")}
    result = fake("tune", "--stage", "topk", "--implementation", "fake", *SHAPE, build(tmp_path, "mine"), "--counters", "basic",
                  "--db", "tune.db", env=env)
    assert result.code == 0 and result.out.count("    not counted: ") == 2, result
    timed = query(tmp_path / "tune.db", "SELECT count(*) FROM stage_summary WHERE metric = 'time_ns' AND status = 'ok'")
    assert timed == [(2,)]


@pytest.mark.parametrize("arguments, says", [
    (["--gpu", "--counters", "nope"], ["nope"]),
    (["--counters", "basic"], ["--counters counts on a GPU", "adamas replay"]),
])
def test_counters_that_cannot_be_are_refused(fake, arguments, says):
    refuse(fake, "tune", "--stage", "topk", *SHAPE, *arguments, says=says)


# ---- search ----

PARAMETER = (".run = (void (*)(void))run,",
             ".n_parameters = 1, .parameters = parameters, .set = set, .run = (void (*)(void))run,")
SETTINGS = """static int64_t chosen;
static const int64_t some[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
static const adamas_parameter parameters[] = {{"SPIN", some, 10}};
static int set(const int64_t *values) { chosen = values[0]; return 0; }
"""


def test_a_search_goes_on_past_settings_that_are_wrong_or_crash(fake, tmp_path):
    """Setting 3 is wrong, setting 5 crashes, and the others take the longer the higher they are."""
    source = build(tmp_path, "mine", [
        PARAMETER, ("/*GLOBAL*/", SETTINGS), ("/*END*/", "if (chosen == 3 && n > 600) index[0]++;"),
        ("/*LAUNCH*/", "if (chosen == 5) *(volatile char *)8 = 1; for (volatile int64_t i = 0; i < chosen * 100000; i++) {}")])
    result = fake("tune", "--stage", "topk", "--implementation", "fake", *SHAPE, source, "--db", "tune.db",
                  env={**os.environ, "ADAMAS_FAKE_GPU": "honest"})
    assert result.code == 0 and "searched 10 settings of mine.so:mine" in result.out, result
    finalists = [row for row, in query(tmp_path / "tune.db", "SELECT parameters FROM candidate WHERE kind = 'shared'")]
    assert 1 <= len(finalists) <= 3 and "SPIN=0" in finalists and not {"SPIN=3", "SPIN=5", "SPIN=9"} & {*finalists}, finalists


def test_parameters_of_the_registrys_rows_are_searched_and_what_was_chosen_is_used(fake, tmp_path):
    """WORK=1 and 2 do the work of the fake row two and three times; 3 takes no shape, and 4 is wrong."""
    env = {**os.environ, "ADAMAS_FAKE_GPU": "honest"}
    result = fake("tune", "--stage", "topk", "--search-rows", "--implementation", "fake", *SHAPE, "--db", "tune.db", env=env)
    assert result.code == 0 and "searched 5 settings of fake" in result.out, result
    rows = query(tmp_path / "tune.db", "SELECT kind, parameters, verdict FROM candidate ORDER BY version")
    assert rows[0] == ("row", None, "right") and {row[1] for row in rows[1:]} == {"WORK=0", "WORK=1", "WORK=2"}, rows
    # noise between the row and WORK=0, which are the same, chooses neither: the choice is stored by hand
    assert query(tmp_path / "tune.db", "SELECT count(*) FROM tuned") == [(1,)]
    with sqlite3.connect(tmp_path / "tune.db") as db:
        db.execute("UPDATE tuned SET parameters = 'WORK=1', config_id ="
                   " (SELECT config_id FROM config WHERE variant = 'fake WORK=1')")
    shown = fake("tune", "--show", "--db", "tune.db", env=env)
    assert re.search(r"fake WORK=1$", shown.out, re.M), shown
    used = fake("profile", "--tuned", "--stages", "topk", "--seq-lens", "700", "--heads", "4", "--kv-heads", "2", "--budgets",
                "64", "--db", "tune.db", env=env)
    assert "budget 64: fake WORK=1, run 1" in used.err, used
    assert query(tmp_path / "tune.db", "SELECT status FROM stage_summary WHERE run_id = 2 AND variant = 'fake WORK=1'"
                                       " AND metric = 'time_ns'") == [("ok",)]


def test_a_setting_that_is_not_faster_beyond_its_interval_is_no_choice(fake, tmp_path):
    env = {**os.environ, "ADAMAS_FAKE_GPU": "honest"}
    spin = build(tmp_path, "mine", [("/*LAUNCH*/", "for (volatile int i = 0; i < 10000000; i++) {}")])
    fake("tune", "--stage", "topk", "--implementation", "fake", *SHAPE, spin, "--db", "tune.db", env=env)
    assert query(tmp_path / "tune.db", "SELECT variant, path FROM tuned JOIN config USING (config_id)") == [("fake", None)]


def test_a_batch_is_for_a_gpu(fake, tmp_path):
    rows = tune(fake, "--stage", "topk", "--implementation", "fake", *SHAPE, "--batch", 3, build(tmp_path, "mine"))
    row = rows["mine.so:mine"]
    assert row["verdict"] == "right", row
    assert query(tmp_path / "tune.db", "SELECT DISTINCT batch FROM config") == [(3,)]
    refuse(fake, "tune", "--stage", "topk", *SHAPE, "--batch", 2, says=["--batch: the host's stages take one sequence"])


# ---- manifests ----

MANIFEST = {"stage": "topk", "module": "k_{BLOCK}.ptx", "kernel": "topk", "grid": ["select_rows", 1, 1],
            "block": ["BLOCK", 1, 1],
            "arguments": ["distance", "index", "i32: cdiv(capacity, BLOCK)", "f32: scale", "pointer: 0"],
            "parameters": {"BLOCK": [128, 256]}}


@pytest.mark.parametrize("change, says", [
    ({}, "a fake GPU runs no module"),
    ({"stage": "dense"}, "for the stage 'dense'"), ({"grid": [1]}, "\"grid\" is no list of three"),
    ({"module": "gone.ptx"}, "gone.ptx is not there"), ({"arguments": []}, "\"arguments\" is no list"),
    ({"parameters": {"BLOCK": []}}, "needs a list of 1 to"), ({"head_dim": [96]}, "head_dim is no list"),
    ({"kernel": 7}, "\"module\" and \"kernel\", both strings"),
])
def test_a_manifest(fake, tmp_path, change, says):
    for block in (128, 256):
        (tmp_path / f"k_{block}.ptx").write_text(".version 8.0\n")
    (tmp_path / "k.json").write_text(json.dumps({**MANIFEST, **change}))
    row = tune(fake, "--stage", "topk", "--implementation", "fake", *SHAPE, "k.json", code=2)["k.json"]
    assert row["verdict"] == "invalid" and says in row["reason"], row


def test_a_manifest_that_is_no_json(fake, tmp_path):
    (tmp_path / "k.json").write_text("{")
    assert "line 1 of the manifest" in tune(fake, "--stage", "topk", *SHAPE, "k.json", code=2)["k.json"]["reason"]

"""`adamas tune` on the host: right candidates are accepted and timed, planted faults are refused and never timed, and the
session goes on whatever a candidate does."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from tune_faults import FAULTS, RIGHT, wrong_source

from conftest import ROOT, check_sound, query, refuse

SMALL = ["--seq-len", "2048", "--heads", "4", "--kv-heads", "2", "--budget", "128"]


def write(folder, name, text):
    (folder / name).write_text(text)
    return name


def tune(adamas, *arguments, code=0):
    """The candidates of a session, by name."""
    result = adamas("tune", *arguments, "--json", "--db", "tune.db")
    assert result.code == code, result
    document = json.loads(result.out)
    return {row["name"]: row for row in document["candidates"]}


@pytest.mark.parametrize("stage", RIGHT)
def test_a_right_candidate_is_accepted_and_timed(adamas, tmp_path, stage):
    rows = tune(adamas, "--stage", stage, *SMALL, "--cap-ms", 100, write(tmp_path, "mine.c", RIGHT[stage]))
    mine = rows.pop("mine.c")
    assert mine["verdict"] == "right" and mine["median_ns"] > 0 and mine["reason"] == "" and mine["n"] >= 1, mine
    assert rows and all(row["verdict"] == "right" and row["kind"] == "row" for row in rows.values()), rows
    assert mine["gain_ratio"] is not None and mine["floor_ns"] > 0
    stored = query(tmp_path / "tune.db",
                   "SELECT status, median FROM stage_summary WHERE variant = 'mine.c' AND metric = 'time_ns'")
    assert stored == [("ok", mine["median_ns"])]
    check_sound(tmp_path / "tune.db")


@pytest.mark.parametrize("stage", FAULTS)
def test_every_planted_fault_is_refused_and_none_is_timed(adamas, tmp_path, stage):
    files = [write(tmp_path, f"{name}.c", wrong_source(stage, name)) for name in FAULTS[stage]]
    limit_s = 1 if stage == "topk" else 20  # some top-ks hang; the slow references of others need time on a busy machine
    rows = tune(adamas, "--stage", stage, "--limit-s", limit_s, "--cap-ms", 60, "--heads", 8, "--kv-heads", 2,
                "--implementation", "reference", *files, code=1)
    assert rows.pop("reference")["verdict"] == "right"
    missed = {name: row for name, row in rows.items() if row["verdict"] != "wrong" or row["median_ns"] is not None}
    assert not missed, missed
    for name, (_, _, says) in FAULTS[stage].items():
        assert re.search(says, rows[f"{name}.c"]["reason"], re.S), (name, rows[f"{name}.c"]["reason"])
    times = query(tmp_path / "tune.db", "SELECT variant, status, reason FROM stage_summary WHERE metric = 'time_ns'"
                                        " AND variant != 'reference'")
    assert len(times) == len(files) and all(status == "failed" and reason for _, status, reason in times), times
    assert not query(tmp_path / "tune.db", "SELECT * FROM candidate WHERE verdict = 'right' AND kind != 'row'")


def test_there_are_enough_faults():
    assert sum(len(faults) for faults in FAULTS.values()) >= 45


def test_a_seed_repeats_a_verdict(adamas, tmp_path):
    name = write(tmp_path, "tie.c", wrong_source("topk", "tie_to_the_older"))
    arguments = ["--stage", "topk", *SMALL, "--check-only", "--seed", 77, name]
    first, again = (tune(adamas, *arguments, code=1)["tie.c"]["reason"] for _ in range(2))
    assert first == again and "a tie given to the older token" in first


@pytest.mark.parametrize("text, says", [
    ("int x = ;\n", "does not compile: .*error"),
    ("int other;\n", "defines no function adamas_topk"),
    ("#include \"adamas_plugin.h\"\nint adamas_topk(void) { return 0; }\n", "does not compile: .*conflicting types"),
    ("// adamas: head_dim = 96\n", "line 1: head_dim is a list"),
    ("// adamas: dtype = f8\n", "line 1: dtype is a list"),
    ("// adamas: BLOCK = many\n", "line 1: .*many.* is no list"),
])
def test_source_that_is_no_candidate(adamas, tmp_path, text, says):
    name = write(tmp_path, "mine.c", text)
    result = adamas("tune", "--stage", "topk", *SMALL, "--check-only", name, "--json", "--db", "tune.db")
    assert result.code == 2, result
    if result.out:
        mine = {row["name"]: row for row in json.loads(result.out)["candidates"]}["mine.c"]
        assert mine["verdict"] == "invalid" and re.search(says, mine["reason"]), mine
        if "does not compile" in says:
            assert "error" in result.err, "the compiler's own words are missing"
    else:
        assert re.search(says, result.err), result


PLUGIN = r"""
#include "adamas_plugin.h"
#define VERSION ADAMAS_PLUGIN_VERSION
TOPK
static int64_t chosen[2];
static int set(const int64_t *value) { chosen[0] = value[0]; chosen[1] = value[1]; return value[0] == 99; }
static const int64_t blocks[] = {64, 128}, depths[] = {1, 2, 3};
static const adamas_parameter parameters[] = {{"BLOCK", blocks, 2}, {"DEPTH", depths, 3}};
static const adamas_implementation rows[] = {
    {.stage = "topk", .name = "plain", .summary = "", .run = (void (*)(void))adamas_topk},
    {.stage = "topk", .name = "small", .summary = "", .head_dims = 64, .run = (void (*)(void))adamas_topk},
    {.stage = "topk", .name = "set", .summary = "", .n_parameters = 2, .parameters = parameters, .set = set,
     .run = (void (*)(void))adamas_topk},
    {.stage = "pack", .name = "other", .summary = "", .run = (void (*)(void))adamas_topk}};
const adamas_plugin adamas_plugin_table = {VERSION, sizeof *rows, 4, rows};
"""


def build(folder, name, text):
    (folder / "plugin.c").write_text(text.replace("TOPK", RIGHT["topk"]))
    subprocess.run(["cc", "-std=gnu11", "-shared", "-fPIC", "-O2", f"-I{ROOT}/kernels/tune/candidate", "plugin.c", "-o", name],
                   cwd=folder, check=True)
    return name


def test_a_shared_object_brings_its_own_table(adamas, tmp_path):
    rows = tune(adamas, "--stage", "topk", *SMALL, "--cap-ms", 60, "--implementation", "reference", "--set", "BLOCK=128",
                "--set", "DEPTH=2", build(tmp_path, "mine.so", PLUGIN), code=77)
    assert set(rows) == {"reference", "mine.so:plain", "mine.so:small", "mine.so:set"}
    assert rows["mine.so:plain"]["verdict"] == "right" and rows["mine.so:set"]["parameters"] == "BLOCK=128,DEPTH=2"
    assert rows["mine.so:small"]["verdict"] == "skipped" and "head_dim 128" in rows["mine.so:small"]["reason"]


@pytest.mark.parametrize("what, by, says", [
    ("VERSION ADAMAS_PLUGIN_VERSION", "VERSION 9", "version 9 of adamas_plugin.h"),
    ("adamas_plugin_table = ", "another_table = ", "exports no adamas_plugin_table"),
    ("\"plain\"", "\"no name\"", "is not of letters"),
    (".run = (void (*)(void))adamas_topk},\n    {.stage = \"topk\", .name = \"small\"",
     "},\n    {.stage = \"topk\", .name = \"small\"", "has no function"),
    ("static int64_t chosen",
     "__attribute__((constructor)) static void boom(void) { __builtin_trap(); }\nstatic int64_t chosen",
     "while it was loaded it crashed"),
    ("\"topk\"", "\"dense\"", "no implementation of the stage topk"),
    ("blocks, 2}", "blocks, 0}", "needs a name and 1 to"),
])
def test_a_broken_table_is_a_sentence(adamas, tmp_path, what, by, says):
    assert what in PLUGIN
    name = build(tmp_path, "mine.so", PLUGIN.replace(what, by))
    row = tune(adamas, "--stage", "topk", *SMALL, "--check-only", name, code=2)["mine.so"]
    assert row["verdict"] == "invalid" and says in row["reason"], row


def test_a_file_that_is_no_shared_object(adamas, tmp_path):
    row = tune(adamas, "--stage", "topk", *SMALL, "--check-only", write(tmp_path, "text.so", "hello"), code=2)["text.so"]
    assert "cannot be loaded" in row["reason"]


def test_a_candidate_says_of_which_stage_it_is(adamas, tmp_path):
    document = json.loads(adamas("tune", *SMALL, "--check-only", "--implementation", "reference",
                                 write(tmp_path, "mine.c", RIGHT["pack"]), "--json", "--db", "tune.db").out)
    assert document["stage"] == "pack" and [row["verdict"] for row in document["candidates"]] == ["right", "right"], document
    refuse(adamas, "tune", write(tmp_path, "none.c", "int x;\n"), says=["--stage is needed", "none.c"])
    (tmp_path / "folder.c").mkdir()
    refuse(adamas, "tune", "folder.c", says=["folder.c: is a folder"])
    refuse(adamas, "tune", write(tmp_path, "mine.txt", RIGHT["pack"]), says=["mine.txt: is no candidate", ".c or .cu"])
    result = adamas("tune")
    assert result.code == 2 and "--stage is needed: which stage" in result.err, result


@pytest.mark.parametrize("arguments, says", [
    (["--stage", "topkk"], ["--stage", "'topkk'"]), (["--stage", "topk,pack"], ["one stage"]),
    (["--stage", "topk", "gone.c"], ["gone.c", "No such file"]), (["--stage", "topk", "--implementation", "x"], ["no row 'x'"]),
    (["--stage", "topk", "--kv-heads", "3"], ["32 query heads cannot share 3"]), (["--stage", "append"], ["append"]),
    (["--stage", "topk", "--set", "X=1"], ["no candidate has the parameter"]),
    (["--stage", "topk", "--limit-s", "0"], ["--limit-s"]),
])
def test_bad_values(adamas, tmp_path, arguments, says):
    refuse(adamas, "tune", *arguments, "--db", tmp_path / "x.db", says=says)
    assert not (tmp_path / "x.db").exists()


def test_what_was_tuned_is_shown(adamas, tmp_path):
    tune(adamas, "--stage", "pack", *SMALL, "--cap-ms", 60)
    shown = json.loads(adamas("tune", "--show", "--json", "--db", "tune.db").out)["tuned"]
    assert len(shown) == 1 and shown[0]["stage"] == "pack" and shown[0]["default_ns"] >= shown[0]["median_ns"] > 0
    assert "pack" in adamas("tune", "--show", "--db", "tune.db").out


# ---- watch, kernel ----

def test_watch_judges_every_version_of_a_file(adamas, tmp_path):
    name = write(tmp_path, "mine.c", RIGHT["topk"])
    with adamas.start("tune", "--stage", "topk", *SMALL, "--cap-ms", 50, "--watch=3", name, "--db", "tune.db") as process:
        lines = [process.stdout.readline().decode()]
        write(tmp_path, "mine.c", wrong_source("topk", "tie_to_the_older"))
        lines += [process.stdout.readline().decode() for _ in range(2)]
        write(tmp_path, "mine.c", "int x")
        lines += process.communicate(timeout=60)[0].decode().splitlines()
    assert process.returncode == 0
    assert re.match(r"#1 +\w{8}  right +[\d.]+ us  default [+-]", lines[0]), lines
    assert lines[1].startswith("#2 ") and "WRONG" in lines[1] and "a tie given to the older" in lines[2], lines
    assert lines[3].startswith("#3 ") and "not judged" in lines[3] and "does not compile" in lines[4], lines
    stored = query(tmp_path / "tune.db",
                   "SELECT variant, verdict, count(DISTINCT run_id) FROM candidate JOIN config USING (config_id)"
                   " WHERE kind = 'source' GROUP BY version ORDER BY version")
    assert stored == [("mine.c #1", "right", 1), ("mine.c #2", "wrong", 1), ("mine.c #3", "invalid", 1)]
    assert len({*query(tmp_path / "tune.db", "SELECT xxh128 FROM candidate WHERE kind = 'source'")}) == 3


def test_watch_in_json_is_a_line_per_version_and_set_holds_for_all(adamas, tmp_path):
    source = "// adamas: N = 3, 4\n" + RIGHT["topk"].replace("/*START*/", "if (N != 7) return 0;")
    name = write(tmp_path, "mine.c", source)
    with adamas.start("tune", "--stage", "topk", *SMALL, "--cap-ms", 50, "--watch=3", "--json", "--set", "N=7",
                      "--implementation", "reference", name, "--db", "tune.db") as process:
        lines = [process.stdout.readline()]
        write(tmp_path, "mine.c", RIGHT["topk"])
        lines.append(process.stdout.readline())
        write(tmp_path, "mine.c", source + "\n")
        out, err = process.communicate(timeout=60)
    first, second, third = map(json.loads, [*lines, out])
    assert process.returncode == 0 and "watching mine.c" in err.decode()
    assert [row["version"] for row in (first, second, third)] == [1, 2, 3] and first["parameters"] == "N=7"
    assert first["verdict"] == "right" and first["default_ns"] > 0 and first["last_ns"] is None and first["best_ns"] is None
    assert second["verdict"] == "invalid" and "no parameter for --set N=7" in second["reason"], second
    assert third["last_ns"] == third["best_ns"] == first["median_ns"] and third["hash"] != first["hash"]
    assert [*query(tmp_path / "tune.db", "SELECT variant FROM config WHERE variant NOT LIKE 'mine.c%'")] == [("reference",)]


def test_watch_of_cuda_without_a_gpu_compiles_and_says_what_it_could_not_do(adamas, tmp_path):
    if not shutil.which(os.environ.get("NVCC", "nvcc")):
        pytest.skip("no nvcc")
    if any(finding["what"] == "GPU" and finding["ok"] for finding in json.loads(adamas("doctor", "--json").out)):
        pytest.skip("this machine has a GPU")
    result = adamas("tune", "--stage", "topk", "--watch=1", ROOT / "docs/tuning/naive_topk.cu", "--db", "tune.db")
    assert result.code == 77, result
    assert re.search(r"#1 +\w{8}  not judged  \d+ registers, \d+ bytes of local memory", result.out), result
    assert "compiled, not judged: no GPU" in result.out


def test_a_search_leaves_three_finalists(adamas, tmp_path):
    """The two that are out take a hundred times as long, which no load can hide."""
    source = "// adamas: SPIN = 40000, 0, 30000, 200, 100\n" + RIGHT["topk"].replace(
        "/*START*/", "for (volatile size_t i = 0; i < n * SPIN / 100; i++) {}")
    rows = json.loads(adamas("tune", "--stage", "topk", *SMALL, "--cap-ms", 60, "--implementation", "reference",
                             write(tmp_path, "mine.c", source), "--json", "--db", "tune.db").out)["candidates"]
    mine = [row for row in rows if row["kind"] == "source"]
    assert len(mine) == 3 and all(row["verdict"] == "right" for row in mine), rows
    assert {row["parameters"] for row in mine} == {"SPIN=0", "SPIN=100", "SPIN=200"}


def test_the_header_is_printed_as_it_is(adamas):
    result = adamas("kernel", "header")
    assert (result.code, result.out) == (0, (ROOT / "kernels/tune/candidate/adamas_plugin.h").read_text())


SASS = r"""
        Function : _Z5firstPf
    .headerflags    @"EF_CUDA_TEXMODE_UNIFIED"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                          /* 0x00000a00ff017b82 */
                                                                                   /* 0x000fe20000000800 */
        /*0010*/                   LDG.E.128 R4, [R2.64] ;                         /* 0x0000000402047981 */
        /*0020*/              @P0  BRA 0x120 ;                                     /* 0x0000000000007947 */
        /*0030*/                   LDGSTS.E [R1], [R2.64] ;                        /* 0x0000000000007947 */
        Function : _Z6secondPf
        /*0000*/                   POPC R1, R2 ;                                   /* 0x0000000000007947 */
        /*0010*/                   IADD3 R1, R2, R3, RZ ;                          /* 0x0000000000007947 */
"""


def test_sass_is_counted_by_kind(adamas, tmp_path):
    (tmp_path / "cuobjdump").write_text(f"#!/bin/sh\ncat <<'E'\n{SASS}\nE\n")
    (tmp_path / "cuobjdump").chmod(0o755)
    environment = {**os.environ, "CUOBJDUMP": str(tmp_path / "cuobjdump")}
    mix = json.loads(adamas("kernel", "sass", "--json", env=environment).out)["mix"]
    assert (mix["kernels"], mix["instructions"]) == (2, 6)
    assert {kind: n for kind, n in mix["counts"].items() if n} == {
        "global": 1, "copy": 1, "constant": 1, "special": 1, "control": 1, "integer": 1}
    both = json.loads(adamas("kernel", "sass", "--kernel", "first", "--against", "second", "--json", env=environment).out)
    assert both["mix"]["instructions"] == 4 and both["against"]["instructions"] == 2
    refuse(adamas, "kernel", "sass", "--stage", "topk", tmp_path / "cuobjdump", env=environment, says=["--stage is about"])
    refuse(adamas, "kernel", "sass", "--stage", "topkk", env=environment, says=["'topkk'"])
    refuse(adamas, "kernel", "sass", "--kernel", "third", env=environment, says=["a name like third"])
    nowhere = {**os.environ, "CUOBJDUMP": str(tmp_path / "gone")}
    refuse(adamas, "kernel", "sass", env=nowhere, code=77, says=["no cuobjdump", "CUOBJDUMP"])
    (tmp_path / "cuobjdump").write_text("#!/bin/sh\nexit 1\n")  # as where it finds no nvdisasm
    refuse(adamas, "kernel", "sass", env=environment, code=77, says=["ended with 1", "nvdisasm"])


def test_sass_of_a_stage_is_that_of_its_kernels(adamas, tmp_path):
    kernels = adamas("kernel", "resources", "--stage", "topk", "--json")
    if kernels.code == 77:
        pytest.skip("this build has no CUDA kernels")
    name = re.match(r"\w+", json.loads(kernels.out)["kernels"][0]["kernel"])[0]
    text = SASS.replace("_Z5firstPf", f"_ZN1a{len(name)}{name}ILb1EEvPf")
    (tmp_path / "cuobjdump").write_text(f"#!/bin/sh\ncat <<'E'\n{text}\nE\n")
    (tmp_path / "cuobjdump").chmod(0o755)
    result = adamas("kernel", "sass", "--stage", "topk", "--json", env={**os.environ, "CUOBJDUMP": str(tmp_path / "cuobjdump")})
    assert (json.loads(result.out)["mix"]["kernels"], json.loads(result.out)["mix"]["instructions"]) == (1, 4), result


def test_the_examples_of_the_documents_are_right(adamas):
    rows = tune(adamas, "--stage", "topk", *SMALL, "--check-only", ROOT / "docs/tuning/naive_topk.c")
    assert rows["naive_topk.c"]["verdict"] == "right", rows


def test_what_the_documents_have_one_type_does_what_they_say(adamas, tmp_path):
    text = (ROOT / "docs/tuning.md").read_text()
    shutil.copy(ROOT / "docs/tuning/naive_topk.c", tmp_path / "my_topk.c")
    subprocess.run(re.search(r"^\$ (sed .* > first_try.c)$", text, re.M)[1], shell=True, cwd=tmp_path, check=True)
    row = tune(adamas, "--stage", "topk", *SMALL, "--check-only", "first_try.c", code=1)["first_try.c"]
    assert "a tie given to the older token" in row["reason"], row
    (tmp_path / "my_table.c").write_text(re.search(r"^\$ cat my_table.c\n(.*?)^\$", text, re.M | re.S)[1])
    (tmp_path / "adamas_plugin.h").write_text(adamas("kernel", "header").out)
    subprocess.run(re.search(r"&& (cc .* -o my_table.so)$", text, re.M)[1], shell=True, cwd=tmp_path, check=True)
    rows = tune(adamas, "--stage", "topk", *SMALL, "--check-only", "my_table.so")
    assert rows["my_table.so:plain"]["verdict"] == "right", rows


def test_the_documents_name_all_that_a_manifest_may_say():
    text = (ROOT / "docs/tuning.md").read_text()
    source = (ROOT / "kernels/tune/candidate/module.c").read_text()
    fields = {*re.findall(r'json_object_get\((?:m->)?manifest, "(\w+)"\)', source)} | {"grid", "block"}
    names = re.findall(r'\{"(\w+)"', source[source.index("names_of("):source.index("A number, or a formula")])
    assert {"stage", "requires", "workspace_bytes"} <= fields and len(names) == 12
    assert fields <= {*re.findall(r"`(\w+)`", text[text.index("| field |"):text.index("A formula is")])}
    assert " ".join(names) in " ".join(text.split())


def test_the_cuda_examples_compile(adamas):
    if not shutil.which(os.environ.get("NVCC", "nvcc")):
        pytest.skip("no nvcc")
    result = adamas("tune", "--stage", "topk", *SMALL, "--check-only", "--no-search", ROOT / "docs/tuning/naive_topk.cu",
                    ROOT / "docs/tuning/faster_topk.cu", "--json", "--db", "tune.db")
    assert result.code in (0, 77), result
    rows = [row for row in json.loads(result.out)["candidates"] if row["kind"] == "source"]
    assert len(rows) == 2 and all(row["registers"] > 0 and row["verdict"] in ("right", "skipped") for row in rows), rows


def test_cuda_without_the_function_is_refused_without_a_gpu_too(adamas, tmp_path):
    if not shutil.which(os.environ.get("NVCC", "nvcc")):
        pytest.skip("no nvcc")
    text = (ROOT / "docs/tuning/naive_topk.cu").read_text().replace("adamas_gpu_topk", "adamas_gpu_topkk")
    result = adamas("tune", "--stage", "topk", *SMALL, "--check-only", write(tmp_path, "mine.cu", text), "--json")
    row = {row["name"]: row for row in json.loads(result.out)["candidates"]}["mine.cu"]
    assert (result.code, row["verdict"], row["reason"]) == (2, "invalid", "defines no function adamas_gpu_topk"), row


def test_the_triton_example_compiles(tmp_path):
    python = os.environ.get("ADAMAS_TRITON_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import triton"], capture_output=True).returncode:
        pytest.skip("no triton in this Python; ADAMAS_TRITON_PYTHON names another")
    subprocess.run([python, ROOT / "docs/tuning/triton_bucket.py", "--out", tmp_path], check=True)
    manifest = json.loads((tmp_path / "triton_bucket.json").read_text())
    assert manifest["stage"] == "bucket" and len([*tmp_path.glob("*.cubin")]) == len(manifest["parameters"]["BLOCK"]) == 3


def test_the_documents_table_has_every_planted_fault():
    from test_tune_gpu import FAULTS as LAUNCHERS
    bench = (ROOT / "tests/bench/tune_gpu.py").read_text()
    kernels = re.findall(r'^    "(\w+)": \[\(', bench[bench.index("FAULTS = {"):bench.index("SHAPE = ")], re.M)
    text = (ROOT / "docs/tuning-faults.md").read_text()
    sections = re.split(r"^## .*$", text, flags=re.M)[1:]
    rows = [[name.replace(" ", "_") for name in re.findall(r"^\| (?:\*\*\w+\*\*: )?([\w ]+) \|", section, re.M)[1:]]
            for section in sections]
    assert rows == [[name for faults in FAULTS.values() for name in faults], [*LAUNCHERS], kernels]
    assert [int(n) for n in re.findall(r"^- \*\*\w+\*\*: (\d+) ", text, re.M)] == [len(part) for part in rows]

"""`adamas profile` as far as it goes without a GPU: the plan, the refusals, and the static figures of the kernels."""
import json
import re

import pytest

from conftest import ROOT, query, refuse

RESOURCES = ROOT / "build/gen/kernel_resources.tsv"
FIGURES = ("registers", "static_shared_bytes", "stack_bytes", "spill_store_bytes", "spill_load_bytes")


@pytest.fixture
def resources():
    """(stage's file, kernel, arch, five figures) a line, as the assembler stated them; skips without CUDA."""
    lines = [line.split("\t") for line in RESOURCES.read_text().splitlines()]
    if not lines:
        pytest.skip("this build has no CUDA kernels")
    return lines


def test_the_plan_names_every_configuration(adamas):
    result = adamas("profile", "--dry-run", "--seq-lens", "8192,32768", "--budgets", "64,256", "--kv-heads", "8,32",
                    "--batch", "1,8")
    assert (result.code, result.err) == (0, "")
    assert re.match(r"8 configurations of \d+ units\n32 query heads, d = 128, cold L2, selection per head; inputs: random, "
                    r"seed 1\n", result.out)
    for tokens in (8192, 32768):
        for kv_heads in (8, 32):
            for batch in (1, 8):
                gib = 2 * batch * kv_heads * tokens * 128 * 2 / 2 ** 30
                assert f"F16, {tokens} tokens, {kv_heads} KV heads, batch {batch}: K and V {gib:.2f} GiB" in result.out


def test_the_plan_has_the_six_stages_and_the_fused_step(adamas, resources):
    plan = adamas("profile", "--dry-run", "--budgets", "256").out
    for unit in ("hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "dense"):
        assert re.search(rf"^  {unit} ", plan, re.M), unit
    assert re.search(r"^  step +six +budget 256$", plan, re.M) and re.search(r"^  step +fused +budget 256$", plan, re.M)
    assert not re.search(r"^  (?!step|dense)",
                         adamas("profile", "--dry-run", "--stages", "step,dense").out.split("units of each:\n")[1], re.M)


@pytest.mark.parametrize("arguments, says", [
    (["--seq-lens", "0"], ["--seq-lens", "1 to 1048576"]), (["--budgets", "x"], ["--budgets", "'x'"]),
    (["--kv-heads", "3"], ["32 query heads cannot share 3 KV heads"]), (["--head-dim", "96"], ["96", "64, 128 or 256"]),
    (["--batch", "65"], ["--batch", "1 to 64"]), (["--dtype", "f32"], ["--dtype", "'f32'", "f16, bf16"]),
    (["--page-size", "65"], ["--page-size", "0 to 64"]), (["--launch", "graphs"], ["--launch", "'graphs'", "graph, stream"]),
    (["--cache", "cold,warm"], ["--cache", "one state"]), (["--stages", "topk,"], ["--stages", "''"]),
    (["--budgets", "4", "--sinks", "4"], ["do not fit a budget of 4"]),
])
def test_bad_values(adamas, tmp_path, arguments, says):
    refuse(adamas, "profile", *arguments, "--db", tmp_path / "x.db", says=says)
    assert not (tmp_path / "x.db").exists()


def test_without_a_gpu_it_says_why(adamas, tmp_path):
    if any(finding["what"] == "GPU" and finding["ok"] for finding in json.loads(adamas("doctor", "--json").out)):
        pytest.skip("this machine has a GPU")
    result = adamas("profile", "--db", tmp_path / "x.db")
    assert result.code == 77 and re.fullmatch(r"adamas: [^\n]+\n", result.err) and result.out == ""
    assert not (tmp_path / "x.db").exists()


def test_static_figures_are_the_assemblers(adamas, resources, tmp_path):
    database = tmp_path / "x.db"
    assert adamas("profile", "--static", "--quiet", "--db", database).code == 0
    stored = {}
    for variant, metric, value in query(database, "SELECT variant, metric, median FROM stage_summary WHERE source = 'model'"):
        stored.setdefault(variant, {})[metric] = value
    served = [row for row in resources if row[0].removesuffix(".cu") in
              ("encode", "distance", "topk", "attention", "fused", "grouped", "dense")]
    assert len(served) > 12 and len(stored) == len({(row[1], row[2]) for row in served})
    for _, kernel, arch, *figures in served:
        assert stored[f"{kernel} {arch}"] == dict(zip(FIGURES, map(float, figures)))
    assert {row[0] for row in query(database, "SELECT DISTINCT stage FROM stage_summary")} == {
        "hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step", "dense"}


def test_static_figures_as_json(adamas, resources):
    document = json.loads(adamas("profile", "--static", "--json", "--db", "x.db").out)
    shown = json.loads(adamas("kernel", "resources", "--json").out)["kernels"]
    assert {(k["stage"], k["kernel"], k["registers"]) for k in document["kernels"]} == {
        (k["stage"], f"{k['kernel']} {k['arch']}", k["registers"]) for k in shown}


def test_static_without_cuda_is_skipped_with_the_reason(adamas, tmp_path):
    if RESOURCES.read_text():
        pytest.skip("this build has CUDA kernels")
    result = adamas("profile", "--static", "--db", tmp_path / "x.db")
    assert result.code == 77 and "no CUDA kernels" in result.err


@pytest.mark.parametrize("words, says", [
    ([ROOT / "docs/tuning/naive_topk.c"], ["naive_topk.c is for the host", "`adamas replay` and `adamas tune` take it"]),
    (["topk=folder.c"], ["folder.c: is a folder"]), (["folder.c"], ["folder.c: is a folder"]),
    (["nobody.cu"], ["nobody.cu: No such file"]), (["notes.txt"], ["notes.txt: is no candidate"]),
    ([ROOT / "docs/tuning/naive_topk.cu", "--metric", "dot"], ["by the metric l1"]),
    ([ROOT / "docs/tuning/naive_topk.cu", "--set", "NOBODY=1"], ["no candidate has the parameter"])])
def test_a_dry_run_refuses_a_candidate_that_the_run_would(adamas, tmp_path, words, says):
    (tmp_path / "folder.c").mkdir()
    (tmp_path / "notes.txt").write_text("topk(")
    refuse(adamas, "profile", "--dry-run", "--candidate", *words, says=says)


def test_a_dry_run_lists_its_candidates(adamas):
    file = ROOT / "docs/tuning/naive_topk.cu"
    text = adamas("profile", "--dry-run", "--candidate", file).out
    assert re.search(rf"candidates, judged in each configuration:\n  topk +naive_topk.cu +{re.escape(str(file))}\n", text), text
    document = json.loads(adamas("profile", "--dry-run", "--candidate", f"topk={file}", "--json").out)
    assert [(row["stage"], row["file"]) for row in document["candidates"]] == [("topk", str(file))]

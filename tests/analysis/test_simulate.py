"""`adamas simulate`: request traffic on a recorded profile, from the command line to the database.

Figures stand on tests/support/recorded-fixture.json, part of an H200's profile that never changes. The profile that ships with
the program is tried as the default calibration, and against the goals of the cost model."""
import json
import sqlite3

import pytest

from conftest import ROOT, query, refuse

GOLDEN = [138269937601, 137861207607, 128224978439, 127975946666,
          129138131453, 128889169644, 132032629761, 131784660169]
FIXTURE = ROOT / "tests/support/recorded-fixture.json"
TRAFFIC = "rate=2,pattern=gamma,cv=2,duration=120,input_tokens=12000,input_cv=1,output_tokens=200,output_cv=0.7"


@pytest.fixture
def simulate(adamas):
    """simulate(options...) -> the JSON document; model, traffic and calibration unless given."""
    assert adamas("db", "import", FIXTURE, "--db", "s.db").code == 0

    def run(*options):
        given = [*options]
        if "--calibration" not in given:
            given += ["--calibration", "recorded:fixture"]
        if "--model" not in given:
            given += ["--model", "llama-3.1-8b"]
        if "--requests" not in given and "--generate" not in given:
            given += ["--generate", TRAFFIC]
        result = adamas("simulate", *given, "--db", "s.db", "--json", "--quiet")
        assert (result.code, result.err) == (0, ""), result
        return json.loads(result.out)
    return run


def by_budget(said):
    return {case["budget"]: case for case in said["cases"]}


def test_the_same_nanoseconds_on_any_number_of_threads(simulate):
    """The totals are literal: another machine, compiler or thread count must give the same."""
    totals = []
    for threads in ("1", "2", "5"):
        said = simulate("--threads", threads, "--budgets", "64,256,1024", "--memory", "both")
        totals.append([case["end_ns"] for case in said["cases"]])
    assert totals[0] == totals[1] == totals[2]
    assert totals[0] == GOLDEN


def test_every_prediction_says_its_rule(simulate):
    said = simulate("--budgets", "256")
    for case in said["cases"]:
        parts = {(use["part"], use["rule"]) for use in case["predictions"]}
        assert {part for part, _ in parts} >= {"dense", "linear", "prompt_attention"}
        assert {rule for part, rule in parts if part == "linear"} <= {"bytes", "flops"}, "nothing has measured them"
        assert all(use["reach"] >= 1 for use in case["predictions"])
    case = by_budget(said)[256]
    assert case["variant"] in ("fused", "six", "fused, six", "six, fused")
    assert {use["part"] for use in case["predictions"]} >= {"step", "encode"}


def test_what_is_stored_is_what_is_shown(simulate, adamas):
    said = simulate("--budgets", "256,1024", "--label", "night")
    rows = query(adamas.folder / "s.db", """SELECT policy, budget, metric, p50, p95, p99, n, source, label, gpu
                                            FROM frontier_summary WHERE model = 'llama-3.1-8b'""")
    shown = {(case["policy"], case["budget"], name): value for case in said["cases"] for name, value in case["metrics"].items()}
    assert len(rows) == len(shown) > 50
    for policy, budget, metric, p50, p95, p99, n, source, label, gpu in rows:
        value = shown[policy, budget, metric]
        assert (value.get("p50"), value.get("p95"), value.get("p99"), value["n"]) == (p50, p95, p99, n), metric
        assert (source, label, gpu) == ("simulated", "night", "NVIDIA H200")
    times = query(adamas.folder / "s.db", """SELECT sum(p.time_ns), s.settings FROM prediction p JOIN simulation s
                                             USING (simulation_id) GROUP BY simulation_id ORDER BY simulation_id""")
    for (total, settings), case in zip(times, said["cases"], strict=True):
        metrics = case["metrics"]
        assert total == pytest.approx(metrics["mean_step_ns"]["p50"] * metrics["n_steps"]["p50"], rel=1e-6)
        assert json.loads(settings)["max_batch"] == 256
    (run,) = query(adamas.folder / "s.db", "SELECT command, status, gpu_reason FROM run WHERE label = 'night'")
    assert run == ("simulate", "complete", "a simulation runs on the host")


def test_quality_of_the_replay_joins_its_budgets(simulate, adamas):
    trace = ROOT / "traces/smollm2-135m-kjv.safetensors"
    assert adamas("replay", trace, "--seq-lens", "1024", "-b", "64,256", "-p", "dense,adamas", "--db", "s.db").code == 0
    said = simulate("--budgets", "64,512", "--model", "smollm2-135m")
    cases = by_budget(said)
    assert said["quality"]["seq_len"] == 1024 and cases[512]["output_rel_l2"] is None and cases[None]["output_rel_l2"] is None
    rows = query(adamas.folder / "s.db", """SELECT budget, policy, metric, p50, quality_model, quality_seq_len
                                            FROM frontier_summary WHERE source = 'replayed'""")
    values = {(budget, policy, metric): p50 for budget, policy, metric, p50, _, _ in rows}
    assert values[64, "adamas", "output_rel_l2"] == cases[64]["output_rel_l2"] > 0
    assert values[None, "dense", "recall"] == 1 and {row[4] for row in rows} == {"SmolLM2-135M-Instruct.Q4_1"}
    assert not any(budget == 512 for budget, *_ in values)
    refuse(adamas, "simulate", "--generate", TRAFFIC, "--model", "smollm2-135m", "--db", "s.db", "--quality", "1",
           says=["run 1", "no replay"])


def test_long_contexts_gain_and_short_ones_do_not(simulate):
    long = "rate=0.3,duration=300,input_tokens=60000,output_tokens=300"
    cases = by_budget(simulate("--budgets", "256", "--generate", long, "--model", "llama-2-7b"))
    tpot = {budget: case["metrics"]["tpot_ns"]["p50"] for budget, case in cases.items()}
    assert tpot[256] < 0.7 * tpot[None]
    short = "rate=1,duration=300,input_tokens=500,output_tokens=300"
    cases = by_budget(simulate("--budgets", "256", "--generate", short, "--model", "llama-3.1-8b"))
    tpot = {budget: case["metrics"]["tpot_ns"]["p50"] for budget, case in cases.items()}
    assert tpot[256] >= tpot[None]
    assert cases[256]["metrics"]["code_peak_bytes"]["p50"] > 0 == cases[None]["metrics"]["code_peak_bytes"]["p50"]


def test_another_gpu(simulate, adamas):
    base = by_budget(simulate("--budgets", "256"))
    slow = simulate("--budgets", "256", "--gpu", "name=half,bandwidth=2284.5,memory=80,flops=495")
    for budget, case in by_budget(slow).items():
        assert case["metrics"]["tpot_ns"]["p50"] > 1.1 * base[budget]["metrics"]["tpot_ns"]["p50"]
        assert case["cache_bytes"] < 60e9
    assert slow["gpu"] == "half" and simulate("--gpu", "memory=100")["gpu"] == "what-if of NVIDIA H200"
    for words, says in (("x=1", "'x'"), ("memory=x", "'x'"), ("memory=1", "less than one page"), ("bandwidth", "'bandwidth'")):
        refuse(adamas, "simulate", "--generate", TRAFFIC, "--model", "llama-3.1-8b", "--db", "s.db", "--gpu", words,
               says=[says])


def test_a_budget_per_layer_lies_between_its_budgets(simulate):
    said = simulate("--budgets", "64,4096", "--layer-budgets", "0-1:dense,2-16:64,17-31:4096")
    tpot = [case["metrics"]["tpot_ns"]["p50"] for case in said["cases"]]
    assert tpot[1] < tpot[3] < tpot[2] and said["cases"][3]["layer_budgets"].startswith("0-1:dense")
    assert said["cases"][3]["budget"] is None


def test_paged_memory_serves_more_than_contiguous(simulate):
    crowd = "rate=40,duration=30,input_tokens=3000,output_tokens=1500,output_cv=1,prefix_tokens=2048"
    said = simulate("--generate", crowd, "--budgets", "256", "--memory", "both", "--gpu", "memory=30", "--max-batch", "512")
    for paged, contiguous in ((said["cases"][0], said["cases"][1]), (said["cases"][2], said["cases"][3])):
        assert (paged["memory"], contiguous["memory"]) == ("paged", "contiguous")
        assert paged["metrics"]["output_tokens_per_s"]["p50"] > contiguous["metrics"]["output_tokens_per_s"]["p50"]
        assert paged["metrics"]["prefix_hit_ratio"]["p50"] > 0.3 > 0 == contiguous["metrics"]["prefix_hit_ratio"]["p50"]
        assert contiguous["metrics"]["n_preempted"]["p50"] == 0


def test_prefixes_and_scaling(simulate, adamas):
    rows = [{"timestamp": 3000 * i, "input_length": 512 * 8 + 10, "output_length": 20, "hash_ids": [*range(8), 100 + i]}
            for i in range(50)]
    (adamas.folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = simulate("--requests", "m.jsonl", "--budgets", "256")["cases"][0]["metrics"]
    assert base["prefix_hit_ratio"]["p50"] == pytest.approx(49 * 8 * 512 / (50 * (512 * 8 + 10)))
    none = simulate("--requests", "m.jsonl", "--budgets", "256", "--no-prefix-cache")["cases"][0]["metrics"]
    assert none["prefix_hit_ratio"]["p50"] == 0 and none["ttft_ns"]["p50"] > 5 * base["ttft_ns"]["p50"]
    fast = simulate("--requests", "m.jsonl", "--budgets", "256", "--rate", "100")["cases"][0]["metrics"]
    assert fast["span_ns"]["p50"] < base["span_ns"]["p50"] / 50
    assert simulate("--requests", "m.jsonl", "--limit", "7")["n_requests"] == 7


def test_goodput_counts_what_is_within_the_targets(simulate):
    all_good = simulate("--ttft", "1e9", "--tpot", "1e9")["cases"][0]["metrics"]
    none_good = simulate("--ttft", "0", "--tpot", "0")["cases"][0]["metrics"]
    assert all_good["goodput_ratio"]["p50"] == 1 and none_good["goodput_ratio"]["p50"] == 0
    assert all_good["goodput_requests_per_s"] == all_good["requests_per_s"]


def test_a_request_that_never_fits_is_reported(adamas):
    (adamas.folder / "big.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,100,5\n"
                                           "2023-11-16 18:15:47,10000000,5\n2023-11-16 18:15:48,200,5\n")
    result = adamas("simulate", "--requests", "big.csv", "--model", "llama-3.1-8b", "--db", "s.db")
    assert result.code == 0
    assert "1 of 3 requests can never fit: the first in line 3, the largest of 10000005 tokens" in result.out


def test_a_model_from_its_config(simulate, adamas):
    config = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
              "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False}
    (adamas.folder / "config.json").write_text(json.dumps(config))
    known, own = simulate(), simulate("--model", "config.json")
    assert [c["end_ns"] for c in known["cases"]] == [c["end_ns"] for c in own["cases"]] and own["model"] == "config.json"
    for change, says in (({"num_attention_heads": 0}, "num_attention_heads"), ({"head_dim": 96}, "head dimension 96"),
                         ({"ranks": 3}, "3 ranks"), ({"vocab_size": None}, "vocab_size")):
        (adamas.folder / "bad.json").write_text(json.dumps({**config, **change}))
        refuse(adamas, "simulate", "--generate", TRAFFIC, "--model", "bad.json", "--db", "s.db", says=[says])
    (adamas.folder / "bad.json").write_text("{")
    refuse(adamas, "simulate", "--generate", TRAFFIC, "--model", "bad.json", "--db", "s.db", says=["no JSON"])


@pytest.mark.parametrize("model", ["llama-2-7b", "llama-3.1-8b", "llama-3-70b-tp4", "qwen-2.5-7b", "smollm2-135m",
                                   "smollm2-1.7b"])
def test_every_known_model_is_served(simulate, model):
    said = simulate("--model", model, "--generate", "rate=1,duration=60,input_tokens=20000,output_tokens=100")
    rules = {use["rule"] for use in said["cases"][1]["predictions"] if use["part"] == "step"}
    assert rules == {"other shape"} if model not in ("llama-2-7b", "llama-3.1-8b") else "other shape" not in rules
    parts = {use["part"] for use in said["cases"][0]["predictions"]}
    assert ("exchange" in parts) == (model == "llama-3-70b-tp4")


def test_without_an_anchor_there_is_no_figure(simulate, adamas):
    simulate("--label", "mine too")
    base = ["simulate", "--generate", TRAFFIC, "--model", "llama-3.1-8b", "--db", "s.db", "--calibration"]
    refuse(adamas, *base, "recorded:fixture", "--variant", "grouped",
           says=["no anchor for stage step, variant grouped", "adamas profile"])
    refuse(adamas, *base, "99", says=["no run 99"])
    refuse(adamas, *base, "mine", says=["'mine'", "adamas db list"])
    refuse(adamas, *base, "mine too", says=["run 2", "no profile"])
    database = sqlite3.connect(adamas.folder / "s.db")
    assert database.execute("SELECT count(*) FROM run WHERE command = 'simulate'").fetchone() == (1,), "no failed run is left"


def test_the_model_predicts_what_is_held_out(adamas):
    """The goals of the recorded H200, and that its profile tells the H100's."""
    assert adamas("db", "import", ROOT / "analysis/recorded/h100.json", "--db", "s.db").code == 0
    result = adamas("simulate", "--validate", "--against", "recorded:h100", "--db", "s.db", "--json")
    assert (result.code, result.err) == (0, "")
    said = json.loads(result.out)
    rows = {(row["held_out"], row["stage"], row["variant"]): row for row in said["rows"]}
    assert {what for what, *_ in rows} == {"interior", "row", "frontier", "batch", "shape", "other gpu"}
    assert rows["interior", "all", ""]["mape"] <= 0.03 and rows["row", "all", ""]["mape"] <= 0.03
    assert rows["frontier", "all", ""]["mape"] <= 0.08
    for what in ("interior", "row"):
        for variant in ("fused", "six"):
            row = rows[what, "step", variant]
            assert row["mape"] <= 0.04 and abs(row["bias"]) < 0.01 and row["n"] >= 8, row
            assert row["p50"] <= row["p95"] <= row["max"] and abs(row["bias"]) <= row["mape"]
    assert rows["other gpu", "dense", "split"]["mape"] < 0.02
    whole = said["whole_models"]
    errors = [row["predicted_ns"] / row["measured_ns"] - 1 for row in whole]
    assert len(whole) >= 12 and len({row["model"] for row in whole}) >= 4
    assert sum(map(abs, errors)) / len(errors) <= 0.05, "decode steps of whole models"
    picks = said["picks"]
    assert picks["n_right_variants"] >= 0.9 * picks["n_variants"] > 90
    assert 16 == picks["n_budgets"] == picks["n_right_budgets"] + picks["n_near_budgets"] and picks["n_right_budgets"] >= 14
    stored = query(adamas.folder / "s.db", "SELECT held_out, stage, variant, n, mape_ratio FROM validation")
    assert sorted(stored) == sorted((*key, row["n"], row["mape"]) for key, row in rows.items())
    shown = adamas("simulate", "--validate", "--db", "s.db").out
    assert "at most 3: reached" in shown and "at most 8: reached" in shown and "other gpu" not in shown
    refuse(adamas, "simulate", "--validate", "--against", "nobody", "--db", "s.db", says=["--against"])
    assert adamas("simulate", "--against", "1").code == 2


def test_the_report_shows_servings_validations_and_claims(simulate, adamas):
    evil = '<b>&"x.csv'
    (adamas.folder / evil).write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,100,5\n"
                                      "2023-11-16 18:15:47,90,4\n")
    simulate("--requests", evil, "--budgets", "256", "--label", "</script><i>")
    first = simulate("--model", "llama-2-7b", "--generate", "rate=0.1,duration=200,input_tokens=32768,output_tokens=50")
    simulate("--model", "llama-2-7b", "--generate", "rate=0.1,duration=200,input_tokens=32768,output_tokens=50",
             "--threads", "1")
    assert adamas("simulate", "--validate", "--calibration", "recorded:fixture", "--db", "s.db").code == 0
    assert adamas("report", "--db", "s.db", "-o", "r.html").code == 0
    said = json.loads(adamas("report", "--db", "s.db", "--json").out)
    assert [(row["model"], row["trace"], row["n_requests"]) for row in said["servings"]] == [
        ("llama-2-7b", "rate=0.1,duration=200,input_tokens=32768,output_tokens=50", first["n_requests"]),
        ("llama-3.1-8b", evil, 2)]
    cases = [row for row in said["served"] if row["serving"] == 0]
    assert [row["budget"] for row in cases] == [None, 256, 1024]
    for row, case in zip(cases, first["cases"], strict=True):
        assert row["metric"]["tpot_ns"]["p99"] == case["metrics"]["tpot_ns"]["p99"] and row["quality"] == {}
        assert sum(use["time_ns"] for use in row["uses"]) == sum(use["time_ns"] for use in case["predictions"])
    assert {row["stage"] for row in said["validations"]} == {"all", "step", "dense"}
    claims = {row["claim"]: row for row in said["claims"]}
    assert len(claims) == 6 and all(row["command"] for row in claims.values())
    attention = next(row for name, row in claims.items() if name.startswith("4.4"))["found"]
    assert attention[0]["value"] == pytest.approx(6.88, abs=0.01) and "recorded" in attention[0]["place"]
    whole = next(row for name, row in claims.items() if name.startswith("1.5"))["found"]
    tpot = [case["metrics"]["tpot_ns"]["p50"] for case in first["cases"]]
    assert whole[0]["value"] == pytest.approx(tpot[0] / tpot[1]) and whole[0]["what"].startswith("simulated")
    page = (adamas.folder / "r.html").read_text()
    markup = page[:page.index("application/json")]
    assert "&lt;b&gt;&amp;&quot;x.csv" in markup and "<b>&" not in markup and "<i>" not in markup
    assert markup.count('data-plot=serving') == 2 and "Errors on held-out timings" in markup and "not measured" in markup
    only = json.loads(adamas("report", "--db", "s.db", "--json", "--run", str(said["servings"][1]["run_id"])).out)
    assert len(only["servings"]) == 1 and only["servings"][0]["trace"] == evil


def other_profile(adamas, **more):
    """The fixture with more rows: {stage: [(variant, budget, batch, batch_lens, length, metric, ns)]}."""
    document = json.loads(FIXTURE.read_text())
    (run,) = document["runs"]
    run["run"].update(run_uuid="00000000-0000-4000-8000-000000000001", label="recorded:mine")
    document["metrics"] += [{"name": name, "unit": "ns", "better": "lower", "description": "of a whole model"}
                            for name in ("linear_layers_ns", "rest_of_step_ns", "token_time_ns")]
    for stage, rows in more.items():
        for variant, budget, batch, lens, length, metric, ns in rows:
            policy = "dense" if budget is None else "adamas"
            config = [None, policy, variant, 32, 8, 128, "F16", length, budget, batch, None, None, None, "cold", "graph", None,
                      lens]
            run["configs"].append({"config": config, "measurements": [["gpu", stage, {metric: [20, ns]}]]})
    (adamas.folder / "mine.json").write_text(json.dumps(document))
    assert adamas("db", "import", "mine.json", "--db", "s.db").code == 0


def test_a_measured_model_lends_its_share_to_others(simulate, adamas):
    """By what ships with the program: a model that decode measured, and one that it did not."""
    said = simulate("--calibration", "recorded:h200", "--model", "llama-2-7b")
    rules = {use["rule"] for case in said["cases"] for use in case["predictions"] if use["part"] in ("linear", "rest")}
    assert "interpolated" in rules or "measured" in rules or "held" in rules
    config = {"name": "other", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
              "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "vocab_size": 32000}
    (adamas.folder / "other.json").write_text(json.dumps(config))
    said = simulate("--calibration", "recorded:h200", "--model", "other.json", "--gpu", "memory=200")
    assert {use["rule"] for case in said["cases"] for use in case["predictions"] if use["part"] == "rest"} == {"other shape"}
    assert query(adamas.folder / "s.db", "SELECT count(*) FROM run WHERE label = 'recorded:h200-decode' AND command = 'decode'"
                 )[0][0] >= 1


def test_mixed_lengths_are_fitted_to_ragged_batches(simulate, adamas):
    """Dense attention of 8 sequences takes a fifth longer than at their mean, per mean by which the longest is above it."""
    document = json.loads(FIXTURE.read_text())
    dense = {config["config"][7]: config["measurements"][0][2]["time_ns"][1] for config in document["runs"][0]["configs"]
             if config["config"][4] == 8 and config["config"][7] in (16384, 32768) and config["config"][9] == 8
             and config["measurements"][0][1] == "dense"}
    rows = [("split", None, 8, ",".join(["65536"] + [str((8 * mean - 65536) // 7)] * 7), 65536, "time_ns",
             ns * (1 + 0.2 * (65536 / mean - 1))) for mean, ns in dense.items()]
    other_profile(adamas, dense=rows)
    base, mixed = simulate(), simulate("--calibration", "recorded:mine")
    assert (base["n_ragged"], base["skew"]) == (0, 0) and mixed["n_ragged"] == 2
    assert mixed["skew"] == pytest.approx(0.2, abs=0.01)
    for a, b in zip(base["cases"], mixed["cases"], strict=True):
        assert b["metrics"]["tpot_ns"]["mean"] > a["metrics"]["tpot_ns"]["mean"]


def test_whole_models_that_were_measured_are_the_anchors(simulate, adamas):
    steps = [("llama-3.1-8b", None, batch, None, 32768, metric, ns) for batch in (1, 8, 32)
             for metric, ns in (("linear_layers_ns", 4e6 + 1e4 * batch), ("rest_of_step_ns", 3e5))]
    steps += [("llama-3.1-8b", budget, 8, None, 32768, "token_time_ns", ns) for budget, ns in ((None, 15e6), (256, 7e6))]
    other_profile(adamas, step=steps)
    said = simulate("--calibration", "recorded:mine", "--generate", "rate=1,duration=100,input_tokens=2000,output_tokens=100")
    rules = {(use["part"], use["rule"]) for case in said["cases"] for use in case["predictions"]}
    assert ("linear", "bytes") not in rules and ("linear", "measured") in rules and ("rest", "measured") in rules
    result = adamas("simulate", "--validate", "--calibration", "recorded:mine", "--db", "s.db", "--json")
    dense, sparse = json.loads(result.out)["whole_models"]
    attention = dict(query(adamas.folder / "s.db", """
        SELECT stage, min(median) FROM stage_summary WHERE label = 'recorded:mine' AND metric = 'time_ns' AND kv_heads = 8
        AND batch = 8 AND seq_len = 32768 AND stage IN ('dense', 'step') AND (budget = 256 OR budget IS NULL)
        AND batch_lens IS NULL GROUP BY stage"""))
    assert dense["predicted_ns"] == pytest.approx(4.08e6 + 3e5 + 32 * attention["dense"], rel=1e-6)
    assert sparse["predicted_ns"] == pytest.approx(4.08e6 + 3e5 + 2 * attention["dense"] + 30 * attention["step"], rel=1e-6)
    assert (dense["measured_ns"], sparse["budget"]) == (15e6, 256)
    stored = query(adamas.folder / "s.db", "SELECT model, batch, seq_len, budget, measured_ns, predicted_ns "
                                           "FROM whole_validation")
    assert stored == [(row["model"], row["batch"], row["len"], row["budget"], row["measured_ns"], row["predicted_ns"])
                      for row in json.loads(result.out)["whole_models"]]
    shown = adamas("simulate", "--validate", "--calibration", "recorded:mine", "--db", "s.db").out
    assert "over 2 steps; the goal is 5%" in shown
    without = adamas("simulate", "--validate", "--calibration", "recorded:fixture", "--db", "s.db").out
    assert "no decode step of a whole model" in without


def test_the_report_shows_whole_models(adamas):
    """The recorded decode steps: times by part, the gain over dense attention, and predictions where there was a validation."""
    recorded = [ROOT / "analysis/recorded" / name for name in ("h200.json", "h200-decode.json")]
    assert adamas("db", "import", *recorded, "--db", "w.db").code == 0
    before = json.loads(adamas("report", "--db", "w.db", "--json").out)
    assert before["decodings"] == [{"gpu": "NVIDIA H200", "is_recorded": 1}]
    assert len(before["decoded"]) > 30 and all(row["predicted_ns"] is None for row in before["decoded"])
    assert {row["run_id"] for row in before["decoded"]} <= {run["run_id"] for run in before["runs"]}, "their runs are shown"
    assert adamas("simulate", "--validate", "--db", "w.db").code == 0
    said = json.loads(adamas("report", "--db", "w.db", "--json").out)
    step = {(row["model"], row["batch"], row["seq_len"], row["budget"]): row for row in said["decoded"]}
    assert len(step) == len(said["decoded"]), "each step once"
    dense, sparse = step["llama-2-7b", 1, 32768, None], step["llama-2-7b", 1, 32768, 256]
    assert dense["gain"] == 1 and sparse["gain"] == pytest.approx(dense["median"] / sparse["median"]) and sparse["gain"] > 1.7
    for row in (dense, sparse):
        assert row["attention_ns"] + row["linear_ns"] + row["rest_ns"] == pytest.approx(row["median"], rel=0.01)
        assert abs(row["predicted_ns"] / row["median"] - 1) < 0.1 and row["tokens_per_s"] == pytest.approx(1e9 / row["median"])
    claim, = (row for row in said["claims"] if "end to end" in row["claim"])
    assert claim["found"][0]["value"] == pytest.approx(sparse["gain"]) and claim["found"][0]["n"] >= 20
    assert adamas("report", "--db", "w.db", "-o", "w.html").code == 0
    markup = (adamas.folder / "w.html").read_text()
    assert "Decode steps of whole models" in markup and "data-plot=decode" in markup
    assert f"<strong>{step['llama-2-7b', 1, 131072, 256]['gain']:.2f} times</strong>" in markup
    only = json.loads(adamas("report", "--db", "w.db", "--json", "--run", str(sparse["run_id"])).out)
    assert {row["run_id"] for row in only["decoded"]} == {sparse["run_id"]}


def test_simulations_are_merged_and_pruned_whole(simulate, adamas):
    for label in ("one", "two", "three"):
        simulate("--label", label, "--generate", "rate=1,duration=20,input_tokens=100,output_tokens=10")
    assert adamas("simulate", "--validate", "--db", "s.db").code == 0
    both = "SELECT label, budget, metric, n, p50, p99 FROM frontier_summary ORDER BY label, budget, metric"
    uses = "SELECT part, rule, n, time_ns FROM prediction ORDER BY 1, 2, 3, 4"
    rows, parts = query(adamas.folder / "s.db", both), query(adamas.folder / "s.db", uses)
    simulate_other = adamas("simulate", "--generate", TRAFFIC, "--model", "llama-2-7b", "--db", "o.db", "--label", "zero")
    assert simulate_other.code == 0 and adamas("db", "merge", "s.db", "--db", "o.db").code == 0
    assert [row for row in query(adamas.folder / "o.db", both) if row[0] != "zero"] == rows
    for table in ("validation", "whole_validation"):
        (n,), = query(adamas.folder / "s.db", f"SELECT count(*) FROM {table}")
        assert n > 0 and query(adamas.folder / "o.db", f"SELECT count(*) FROM {table}") == [(n,)]
    assert adamas("db", "gc", "--keep", "1", "--db", "o.db").code == 0
    assert adamas("db", "gc", "--keep-label", "two", "--keep", "0", "--yes", "--db", "s.db").code == 0
    assert query(adamas.folder / "s.db", both) == [row for row in rows if row[0] == "two"]
    assert len(query(adamas.folder / "s.db", uses)) == len(parts) / 3
    for name in ("s.db", "o.db"):
        assert query(adamas.folder / name, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize("words, says", [
    ("rate=x", "rate=x"), ("rate=2,foo=3", "'foo=3'"), ("rate=2", "input_tokens"),
    ("rate=2,pattern=zipf,input_tokens=1,output_tokens=1", "zipf"),
    ("rate=0.001,duration=1,input_tokens=5,output_tokens=5", "no request"),
])
def test_bad_words_are_refused(adamas, words, says):
    refuse(adamas, "simulate", "--generate", words, "--model", "llama-3.1-8b", "--db", "s.db", says=[says])


def test_bad_options_are_refused(adamas):
    base = ["simulate", "--generate", TRAFFIC, "--model", "llama-3.1-8b", "--db", "s.db"]
    for option, value in (("--max-batch", "0"), ("--memory", "heap"), ("--rate", "0"), ("--page-size", "2000"), ("--ttft", "x"),
                          ("--layer-budgets", "0-5:64"), ("--budgets", "0"), ("--compute-share", "2"), ("--quality", "nobody")):
        refuse(adamas, *base, option, value, says=[option])
    refuse(adamas, "simulate", "--generate", TRAFFIC, "--model", "gpt", "--db", "s.db", says=["'gpt'", "llama-2-7b"])
    assert adamas("simulate", "--model", "llama-2-7b").code == 2 and adamas("simulate", "--generate", TRAFFIC).code == 2
    assert adamas("simulate", "--requests", "x", "--generate", TRAFFIC, "--model", "llama-2-7b").code == 2

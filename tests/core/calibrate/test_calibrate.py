"""`adamas calibrate`: what it chooses, checked by replays of the very steps that it fitted to and held out, and its file, as
`replay` and evaluate.py take it.

    trace --split here--> steps to fit to --replay of every candidate--> the best by layer        == the file's choice
                      --> held-out steps  --replay of the choice-->      mass                     == the file's figures
"""
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import Adamas, files_of, header_of, query, read_safetensors, refuse, safetensors_bytes

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "traces/model"))

from bad_input import BadInput
from calibration import Calibration

GOOD = {"format": "adamas-calibration/1", "shape": {"n_q_heads": 4, "n_kv_heads": 2, "head_dim": 64},
        "default": {"metric": "dot", "thresholds": "centred"},
        "layers": [{"layer": 2, "metric": "asym4", "thresholds": "scaled:0.8"}]}
MASS = ("SELECT m.layer, sum(m.mean * m.n) / sum(m.n) FROM measurement m JOIN config c USING (config_id) JOIN metric k USING "
        "(metric_id) WHERE k.name = 'mass' AND m.layer >= 0 AND c.policy = ? AND c.variant = ? GROUP BY 1 ORDER BY 1")
SKETCHES = "SELECT DISTINCT variant FROM quality_summary WHERE policy = 'adamas'"
SCALED = {"l1": (.5, .75, 1), "dot": (.75, 1, 1.25), "asym4": [round(.5 + i / 10, 1) for i in range(11)]}


def candidates():
    """Every sketch that is tried by default, in order."""
    by_channel = ["calibrated", "centred", "channel"]
    return [(metric, t) for metric in SCALED
            for t in (by_channel if metric != "asym4" else []) + [f"scaled:{x:g}" for x in SCALED[metric]]]


def write_steps(path, source, keep):
    """The trace with these steps alone."""
    tensors, metadata = read_safetensors(source)
    n_steps = next(t for name, t in tensors.items() if name.endswith(".q")).shape[0]
    n_tokens = next(t for name, t in tensors.items() if name.endswith(".k")).shape[1]
    positions = tensors.get("positions", np.arange(n_tokens - n_steps, n_tokens))
    kept = {name: t[keep] if name.endswith((".q", ".o")) else t for name, t in tensors.items()}
    kept["positions"] = positions[keep].astype(np.int64)
    kinds = {"float16": "F16", "float32": "F32", "int64": "I64"}
    named = {name: (kinds[str(t.dtype)], t) for name, t in kept.items() if name != "tokens"}
    path.write_bytes(safetensors_bytes(header_of(named, metadata), named))
    return path


def mass(database, sketch, policy="adamas"):
    """{layer: mean mass}"""
    return dict(query(database, MASS, policy, sketch))


def halves(lengths):
    """Of lengths with so many steps each: the steps to fit to, and those held out."""
    fit, held_out, first = [], [], 0
    for n in lengths:
        fit += range(first, first + (n + 1) // 2)
        held_out += range(first + (n + 1) // 2, first + n)
        first += n
    return fit, held_out


@pytest.fixture(scope="module")
def calibrated(program, bundled, tmp_path_factory):
    """(folder, the file's document, what was printed) of the bundled trace, with budgets 64 and 256."""
    folder = tmp_path_factory.mktemp("calibrated")
    result = Adamas(folder)("calibrate", bundled, "--budgets", "64,256", "-o", "c.json", "--db", "c.db")
    assert result.code == 0, result.err
    return folder, json.loads((folder / "c.json").read_text()), result.out


# ---------------------------------------------------------------- the choice

def test_the_choice_of_a_real_model_is_the_best_on_the_fitted_steps(calibrated, bundled):
    folder, document, _ = calibrated
    fit, held_out = halves([64, 64, 64])
    write_steps(folder / "fit.safetensors", bundled, fit)
    write_steps(folder / "held.safetensors", bundled, held_out)
    policies = ",".join(f"adamas:metric={m},thresholds={t}" for m, t in candidates())
    run = Adamas(folder)
    lengths = "1024,2048,4096"
    assert run("replay", "fit.safetensors", "-p", policies, "-b", "64,256", "--seq-lens", lengths, "--db", "fit.db", "--quiet",
               "--timed-steps", 0).code == 0
    chosen = {layer["layer"]: layer for layer in document["layers"]}
    assert list(chosen) == [14, 24] and document["n_candidates"] == len(candidates())
    assert (document["n_fit_steps"], document["n_held_out_steps"]) == (96, 96)
    kept = {sketch: mass(folder / "fit.db", " ".join(sketch)) for sketch in candidates()}
    for layer, choice in chosen.items():
        best = max(candidates(), key=lambda sketch: kept[sketch][layer])
        assert (choice["metric"], choice["thresholds"]) == best
        assert choice["fitted_mass"] == pytest.approx(kept[best][layer], rel=1e-5)
    over_all = max(candidates(), key=lambda sketch: np.mean(list(kept[sketch].values())))
    assert (document["default"]["metric"], document["default"]["thresholds"]) == over_all

    sketches = ",".join({f"adamas:metric={c['metric']},thresholds={c['thresholds']}" for c in chosen.values()})
    assert run("replay", "held.safetensors", "-p", f"oracle,adamas:metric=l1,{sketches}", "-b", "64,256", "--seq-lens", lengths,
               "--db", "held.db", "--quiet", "--timed-steps", 0).code == 0
    for layer, choice in chosen.items():
        for name, policy, sketch in (("held_out_mass", "adamas", f"{choice['metric']} {choice['thresholds']}"),
                                     ("held_out_exact_mass", "oracle", "exact"),
                                     ("held_out_l1_mass", "adamas", "l1 calibrated")):
            assert choice[name] == pytest.approx(mass(folder / "held.db", sketch, policy)[layer], abs=2e-4), name
        assert choice["held_out_l1_mass"] < choice["held_out_mass"] < choice["held_out_exact_mass"]


def test_what_is_printed_is_what_is_written(calibrated):
    folder, document, out = calibrated
    assert "written to c.json" in out and "23 sketches tried on 96 steps, measured on 96 others" in out
    for layer in document["layers"]:
        row = next(line.split() for line in out.splitlines() if line.split()[:1] == [str(layer["layer"])])
        assert row[1:3] == [layer["metric"], layer["thresholds"]]
        assert [float(x) for x in row[3:]] == [pytest.approx(layer[k], abs=6e-4) for k in (
            "fitted_mass", "held_out_mass", "held_out_exact_mass", "held_out_l1_mass")]


def test_held_out_quality_is_stored_as_a_replays(calibrated):
    folder, document, _ = calibrated
    assert query(folder / "c.db", "SELECT command, status FROM run") == [("calibrate", "complete")]
    assert query(folder / "c.db", "SELECT n_steps FROM trace") == [(192,)]  # the whole trace's row
    rows = query(folder / "c.db", "SELECT DISTINCT policy, variant, seq_len, budget FROM quality_summary "
                 "WHERE metric = 'recall'")
    sketches = {variant for policy, variant, *_ in rows if policy == "adamas"}
    assert "l1 calibrated" in sketches and any(", calibration " in s for s in sketches)
    assert {row[2:] for row in rows} == {(n, b) for n in (1024, 2048, 4096) for b in (64, 256)}
    own = mass(folder / "c.db", next(s for s in sketches if ", calibration " in s))
    assert own == {layer["layer"]: pytest.approx(layer["held_out_mass"], abs=1e-6) for layer in document["layers"]}


def test_a_generated_trace_of_its_own_metrics(adamas, tmp_path):
    assert adamas("trace", "gen", "-o", "made.safetensors", "--tokens", 1500, "--seed", 3).code == 0
    result = adamas("calibrate", "made.safetensors", "--metrics", "dot", "-b", 48, "--json", "--dense-layers", 0)
    assert result.code == 0, result.err
    document = json.loads(result.out, parse_float=lambda x: round(float(x), 6))
    assert {layer["metric"] for layer in document["layers"]} == {"dot"} and document["n_candidates"] == 6
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert document == {**written, "run_id": document["run_id"]}
    again = adamas("calibrate", "made.safetensors", "--metrics", "dot", "-b", 48, "--threads", 1, "-o", "b.json", "--quiet",
                   "--dense-layers", 0)
    assert (again.code, again.out) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"made.safetensors", "calibration.json", "b.json", "adamas.db"}
    assert json.loads((tmp_path / "b.json").read_text()) == written


# ---------------------------------------------------------------- the file in use

def test_each_layer_is_coded_as_the_file_says(adamas, write_trace, tmp_path):
    write_trace()
    (tmp_path / "c.json").write_text(json.dumps(GOOD))
    result = adamas("replay", "trace.safetensors", "--calibration", "c.json", "-b", "16,64", "-p",
                    "oracle,adamas:metric=dot,thresholds=centred,adamas:metric=asym4,thresholds=scaled:0.8", "--quiet")
    assert result.code == 0, result.err
    database = tmp_path / "adamas.db"
    own, = query(database, "SELECT DISTINCT variant FROM quality_summary WHERE variant LIKE '%calibration%'")
    assert own[0] == Calibration(tmp_path / "c.json").variant  # evaluate.py calls it the same
    for layer, same in ((2, "asym4 scaled:0.8"), (5, "dot centred")):
        values = [query(database, "SELECT c.budget, k.name, m.head, m.mean, m.p99 FROM measurement m JOIN config c USING "
                        "(config_id) JOIN metric k USING (metric_id) WHERE c.variant = ? AND m.layer = ? ORDER BY 1, 2, 3",
                        variant, layer) for variant in (own[0], same)]
        assert values[0] == values[1] and len(values[0]) > 50


def test_where_layers_differ_the_name_has_the_metrics(adamas, write_trace, tmp_path):
    write_trace()
    layers = [{"layer": 5, "metric": "asym4", "thresholds": "calibrated"},
              {"layer": 2, "metric": "l1", "thresholds": "channel"}]
    (tmp_path / "c.json").write_text(json.dumps({**GOOD, "layers": layers}))
    assert adamas("replay", "trace.safetensors", "--calibration", "c.json", "-b", "32", "-p", "oracle", "--quiet").code == 0
    (variant,), = query(tmp_path / "adamas.db", SKETCHES)
    assert variant == Calibration(tmp_path / "c.json").variant and variant.startswith("l1+asym4, calibration ")


def test_a_shared_selection_of_a_calibration(adamas, write_trace, tmp_path):
    write_trace()
    (tmp_path / "c.json").write_text(json.dumps(GOOD))
    assert adamas("replay", "trace.safetensors", "--calibration", "c.json", "--select", "head+group", "--sinks", "2", "-b",
                  "32", "-p", "oracle", "--quiet").code == 0
    variants = {v for v, in query(tmp_path / "adamas.db", SKETCHES)}
    name = Calibration(tmp_path / "c.json").variant
    assert name.startswith("asym4 scaled:0.8, calibration ")
    assert variants == {f"{name}, 2 sinks", f"{name}, 2 sinks, per group"}


def test_metrics_of_an_option(adamas, write_trace, tmp_path):
    write_trace()
    assert adamas("replay", "trace.safetensors", "--metric", "l1,dot,asym4", "-b", "32", "--quiet").code == 0
    variants = [v for v, in query(tmp_path / "adamas.db", SKETCHES)]
    assert sorted(variants) == ["asym4 calibrated", "dot calibrated", "l1 calibrated"]
    refuse(adamas, "replay", "trace.safetensors", "--metric", "l1,cosine", says=["--metric", "'cosine'", "asym4"])
    refuse(adamas, "replay", "trace.safetensors", "--metric", "asym4", "-t", "centred", says=["asym4", "'centred'", "scaled"])


def test_the_model_in_the_loop_takes_each_layer_from_the_file(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(GOOD))
    calibration = Calibration(tmp_path / "c.json")
    assert calibration.at(2) == "adamas:metric=asym4,thresholds=scaled:0.8"
    assert calibration.at(3) == "adamas:metric=dot,thresholds=centred"
    assert calibration.partition(":")[0] == "adamas"  # the policy's name in the database
    model = type("Model", (), {"name": "m", "n_q_heads": 4, "n_kv_heads": 2, "d": 128})
    with pytest.raises(BadInput, match="made for layers"):
        calibration.check(model, "")
    model.d = 64
    calibration.check(model, "ab")
    (tmp_path / "d.json").write_text(json.dumps({**GOOD, "weights_sha256": "cd"}))
    with pytest.raises(BadInput, match="weights"):
        Calibration(tmp_path / "d.json").check(model, "ab")


# ---------------------------------------------------------------- refusals

def spoilt(**changes):
    return json.dumps({**GOOD, **changes})


BAD = {
    "nothing": ("", ["no JSON"]),
    "no JSON": ("{\n\n'a': 1}", ["no JSON", "line 3"]),
    "a list": ("[1]", ["\"format\" is missing"]),
    "a trace": (json.dumps({"format": "adamas-trace/1"}), ["adamas-trace/1", "adamas-calibration/1"]),
    "a later version": (spoilt(format="adamas-calibration/2"), ["adamas-calibration/2"]),
    "no shape": (spoilt(shape=None), ["\"shape\"", "\"n_q_heads\""]),
    "negative heads": (spoilt(shape={"n_q_heads": -4, "n_kv_heads": 2, "head_dim": 64}), ["\"n_q_heads\""]),
    "odd heads": (spoilt(shape={"n_q_heads": 3, "n_kv_heads": 2, "head_dim": 64}), ["\"shape\"", "3 query heads"]),
    "other heads": (spoilt(shape={"n_q_heads": 4, "n_kv_heads": 4, "head_dim": 64}), ["4 KV heads", "calibrate on a trace"]),
    "no default": (spoilt(default=7), ["\"default\"", "\"metric\""]),
    "unknown metric": (spoilt(default={"metric": "cosine", "thresholds": "centred"}), ["\"default\"", "'cosine'", "asym4"]),
    "no thresholds": (spoilt(default={"metric": "l1"}), ["\"default\"", "\"thresholds\""]),
    "bad thresholds": (spoilt(layers=[{"layer": 2, "metric": "l1", "thresholds": "scaled:-1"}]),
                       ["\"layers\"[0]", "scaled:-1"]),
    "asym4 without scale": (spoilt(layers=[{"layer": 2, "metric": "asym4", "thresholds": "channel"}]), ["asym4", "channel"]),
    "no layers": (spoilt(layers={}), ["\"layers\""]),
    "a layer that is none": (spoilt(layers=[{"layer": 70000, "metric": "l1", "thresholds": "centred"}]),
                             ["\"layer\"", "65535"]),
    "a layer twice": (spoilt(layers=2 * GOOD["layers"]), ["layer 2 twice"]),
    "a member twice": ('{"format": "a", "format": "b"}', ["no JSON"]),
    "not UTF-8": ("\udc80", ["no JSON"]),
}


# What evaluate.py's reader leaves to the library or to the check against the model.
NOT_OF_THE_FILE = {"negative heads", "odd heads", "other heads", "unknown metric", "bad thresholds", "asym4 without scale",
                   "a layer that is none", "a layer twice"}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_a_sentence(adamas, write_trace, tmp_path, case):
    text, says = BAD[case]
    write_trace()
    (tmp_path / "bad.json").write_bytes(text.encode(errors="surrogateescape"))
    refuse(adamas, "replay", "trace.safetensors", "--calibration", "bad.json", says=["bad.json", *says])
    assert files_of(tmp_path / "adamas.db") == {}
    if case not in NOT_OF_THE_FILE:
        with pytest.raises(BadInput, match="no calibration"):
            Calibration(tmp_path / "bad.json")


def test_files_that_cannot_be_read(adamas, write_trace, tmp_path):
    write_trace()
    refuse(adamas, "replay", "trace.safetensors", "--calibration", "none.json", says=["none.json", "No such file"])
    refuse(adamas, "replay", "trace.safetensors", "--calibration", tmp_path, says=["directory"])
    (tmp_path / "large.json").write_text(json.dumps(GOOD) + " " * (1 << 20))
    refuse(adamas, "replay", "trace.safetensors", "--calibration", "large.json", says=["large.json", "1048576 bytes"])


def test_a_calibration_needs_steps_to_hold_out(adamas, write_trace, tmp_path):
    write_trace(n_steps=1)
    refuse(adamas, "calibrate", "trace.safetensors", says=["trace.safetensors", "1 step", "two steps"])
    assert files_of(tmp_path / "adamas.db") == {} and not (tmp_path / "calibration.json").exists()
    write_trace(n_steps=2)
    result = adamas("calibrate", "trace.safetensors", "--json", "-b", "8")
    assert result.code == 0 and json.loads(result.out)["n_held_out_steps"] == 1


def test_bad_command_lines(adamas, write_trace, tmp_path):
    write_trace()
    refuse(adamas, "calibrate", "trace.safetensors", "--metrics", "l1,cosine", says=["--metrics", "'cosine'", "asym4"])
    refuse(adamas, "calibrate", "trace.safetensors", "--layers", "3", says=["3"])
    refuse(adamas, "calibrate", "none.safetensors", says=["none.safetensors"])
    refuse(adamas, "calibrate", "trace.safetensors", "-b", "0", says=["--budgets"])
    assert adamas("calibrate").code == 2
    assert adamas("calibrate", "trace.safetensors", "trace.safetensors").code == 2
    refuse(adamas, "calibrate", "trace.safetensors", "-o", "nowhere/c.json", says=["nowhere/c.json"])

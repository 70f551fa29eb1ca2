"""`adamas decode` from end to end, on build/release/tests/adamas-fake-gpu: a device of host memory whose kernels are the host's
references, and whose times are made up; everything else is the program's own. The kernels are test_gpu_decode.c's business."""
import json
import os
import sys

import numpy as np
import pytest

from conftest import PROGRAM, ROOT, Adamas, query, refuse

sys.path.append(str(ROOT / "traces/model"))

TINY = {"name": "tiny", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 500}
LINEAR_BYTES = 2 * (4 * ((4 + 2 * 2) * 64 * 128 + 128 * 256 + 2 * 256 * 128 + 128 * 256) + 500 * 128)


class FakeGpu(Adamas):
    def __init__(self, folder):
        super().__init__(folder)
        self.path = PROGRAM.parent / "tests/adamas-fake-gpu"

    def decode(self, *arguments, faults="", code=0):
        """The document of a run with the tiny model into d.db."""
        (self.folder / "tiny.json").write_text(json.dumps(TINY))
        result = self("decode", "--model", "tiny.json", "--db", "d.db", "--json", *arguments,
                      env={**os.environ, "ADAMAS_FAKE_GPU": faults})
        assert result.code == code, result
        return json.loads(result.out) if code == 0 else result


@pytest.fixture
def fake(tmp_path):
    return FakeGpu(tmp_path)


def test_every_step_of_the_grid_is_checked_timed_and_stored(fake):
    said = fake.decode("--seq-lens", "100,200", "--budgets", "32,64", "--batch", "1,2", "--page-size", "16", "--label",
                       "night")
    assert [(row["batch"], row["seq_len"], row["budget"]) for row in said["steps"]] == [
        (batch, length, budget) for batch in (1, 2) for length in (100, 200) for budget in (None, 32, 64)]
    assert said["checks"]["n"] == 6, "dense, a budget and all tokens, per batch"
    assert said["checks"]["n_selections"] == (1 + 2) * 2 * 2 * 4, "batches, budgets, sparse layers and query heads"
    for row in said["steps"]:
        assert row["linear_ns"] == pytest.approx(LINEAR_BYTES / 1e12 * 1e9), "the fake's products take 1 TB/s"
        assert row["others_ns"] == 1000 * (1 + 3 * 4 + 2), "embedding, two norms and RoPE per layer, a norm and sampling"
        n_dense = 4 if row["budget"] is None else 2
        assert row["attention_ns"] == n_dense * 20000 + (4 - n_dense) * 5000, "the first two layers are dense"
        assert row["token_ns"] == pytest.approx(row["linear_ns"] + row["others_ns"] + row["attention_ns"])
        assert row["rest_ns"] == pytest.approx(row["others_ns"]), "the fake has no gaps"
        assert row["step"] == ("dense" if row["budget"] is None else "fused") and row["linear"] == "own"
    stored = query(fake.folder / "d.db", """SELECT batch, seq_len, budget, median, n, page_size, policy, launch FROM measurement
        JOIN metric USING (metric_id) JOIN config USING (config_id) JOIN run USING (run_id)
        WHERE name = 'token_time_ns' AND variant = 'tiny' AND label = 'night' AND command = 'decode' AND run.status = 'complete'
        ORDER BY batch, seq_len, budget""")
    assert [row[:4] for row in stored] == [(row["batch"], row["seq_len"], row["budget"], row["token_ns"])
                                           for row in said["steps"]]
    assert all(n >= 20 and page == 16 and launch == "graph" for _, _, _, _, n, page, _, launch in stored)
    assert {(row[2] is None, row[6]) for row in stored} == {(True, "dense"), (False, "adamas")}
    per_batch = query(fake.folder / "d.db", """SELECT name, count(*) FROM measurement JOIN metric USING (metric_id)
        WHERE name IN ('linear_layers_ns', 'rest_of_step_ns', 'linear_limit_ratio', 'other_kernels_ns')
        GROUP BY name ORDER BY name""")
    assert per_batch == [("linear_layers_ns", 2), ("linear_limit_ratio", 2), ("other_kernels_ns", 2), ("rest_of_step_ns", 12)]


@pytest.mark.parametrize("fault, says", [
    ("embed", "the queries of layer 0"), ("norm", "the queries of layer 0"), ("rope", "the queries of layer 0"),
    ("product", "the queries of layer 0"), ("argmax", "the largest logit is"),
    ("step", "the attention's results of layer"), ("dense", "the attention's results of layer 0")])
def test_a_kernel_that_is_wrong_is_found_and_nothing_is_timed(fake, fault, says):
    result = fake.decode("--seq-lens", "100", "--budgets", "32", faults=f"wrong={fault}", code=4)
    assert says in result.err
    assert query(fake.folder / "d.db", "SELECT status FROM run") == [("failed",)]
    assert query(fake.folder / "d.db", "SELECT count(*) FROM measurement JOIN metric USING (metric_id) "
                                       "WHERE name = 'token_time_ns'") == [(0,)]


def test_check_only_times_nothing(fake):
    said = fake.decode("--check-only", "--seq-lens", "100", "--budgets", "0")
    assert said["steps"] == [] and said["checks"]["n"] == 1 and said["checks"]["n_selections"] == 0


def test_without_cublas_a_large_batch_is_skipped_with_the_cure(fake):
    result = fake.decode("--batch", "16", "--seq-lens", "100", code=77)
    assert "nvidia-cublas" in result.err and "ADAMAS_CUBLAS" in result.err
    result = fake("decode", "--model", "tiny.json", "--db", "d.db", "--linear", "cublas",
                  env={**os.environ, "ADAMAS_CUBLAS": "/nowhere/libcublas.so.13"})
    assert result.code == 77 and "ADAMAS_CUBLAS=/nowhere/libcublas.so.13" in result.err


def test_variants_and_dense_layers(fake):
    said = fake.decode("--variant", "fused", "--dense-layers", "0", "--seq-lens", "64", "--budgets", "8")
    assert said["steps"][1]["attention_ns"] == 4 * 5000
    said = fake.decode("--dense-layers", "4", "--seq-lens", "64", "--budgets", "8")
    assert said["steps"][1]["attention_ns"] == 4 * 20000 and said["steps"][1]["step"] == "dense"
    assert "'split'" in fake.decode("--variant", "split", "--seq-lens", "64", code=2).err


def test_what_does_not_fit_is_a_row_with_the_reason_unless_nothing_fits(fake):
    few = fake.decode("--seq-lens", "100,200000", "--budgets", "32", faults="memory=400000000")
    assert [bool(row.get("reason")) for row in few["steps"]] == [False, False, True, True], few["steps"]
    none = fake.decode("--seq-lens", "200000", "--budgets", "32", faults="memory=400000000", code=4)
    assert none.err.startswith("adamas: no step was measured: ") and "memory" in none.err
    assert all(row["reason"] for row in json.loads(none.out)["steps"])


def test_the_report_has_measured_steps_among_the_paper_s_claims(fake, tmp_path):
    (fake.folder / "long.json").write_text(json.dumps({**TINY, "num_hidden_layers": 3, "num_attention_heads": 1,
                                                       "num_key_value_heads": 1}))
    database = ["--db", "d.db"]
    assert fake("decode", "--model", "long.json", "--seq-lens", "32768", "--budgets", "64", "--dense-layers", "1", *database,
                env={**os.environ, "ADAMAS_FAKE_GPU": "memory=4000000000"}).code == 0
    claims = json.loads(fake("report", "--json", *database).out)["claims"]
    (row,) = next(claim["found"] for claim in claims if claim["claim"].startswith("1.5"))
    measured = dict(query(fake.folder / "d.db", "SELECT budget, median FROM measurement JOIN metric USING (metric_id) JOIN "
                                                "config USING (config_id) WHERE name = 'token_time_ns'"))
    assert row["value"] == pytest.approx(measured[None] / measured[64]) and row["what"] == "measured step, dense over budget 64"
    assert row["place"] == "tiny on fake GPU of the tests, batch 1"


class Weights:
    """Random weights in memory, by GGUF's names."""
    permuted, left_out, files = False, (), ()

    def __init__(self, shapes):
        rng = np.random.default_rng(3)
        self.shapes = shapes
        self.tensors = {name: (rng.standard_normal(shape) / np.sqrt(shape[-1]) if len(shape) == 2 or name.endswith("bias")
                               else 1 + 0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}

    def read(self, name, rows):
        return self.tensors[name][rows]


@pytest.mark.parametrize("arch, tied", [("llama", True), ("qwen2", False)])
def test_real_weights_predict_what_the_forward_pass_predicts(fake, arch, tied):
    """A model in memory -> export_weights.py -> decode --weights: every token that forward.py expects is sampled."""
    from architecture import Model, expected_tensors
    from export_weights import export
    from rope import Rope
    words, length = 112, 24
    m = Model(path="memory", name="m", arch=arch, weights=None, n_layers=3, n_q_heads=4, n_kv_heads=2, d=64, hidden=128,
              n_feed_forward=96, eps=1e-5, rope=Rope(50000.0, 64), context=100, tied=tied)
    m.weights = Weights({name: tuple(words if n == -1 else n for n in shape) for name, shape in expected_tensors(m).items()})
    tokens = np.random.default_rng(4).integers(0, words, length)
    assert export(m, tokens, fake.folder / "w.safetensors") == (fake.folder / "w.safetensors").stat().st_size
    (fake.folder / "m.json").write_text(json.dumps({**TINY, "name": "m", "intermediate_size": 96, "num_hidden_layers": 3,
                                                    "vocab_size": words, "tie_word_embeddings": tied}))
    command = ["decode", "--model", "m.json", "--weights", "w.safetensors", "--db", "d.db", "--json", "--check-only"]
    said = json.loads(fake(*command).out)
    assert said["followed"] == {"n": length, "n_same": length}
    assert query(fake.folder / "d.db", "SELECT median, budget FROM measurement JOIN metric USING (metric_id) JOIN config "
                                       "USING (config_id) WHERE name = 'same_token_ratio'") == [(1.0, length)]
    (fake.folder / "m.json").write_text(json.dumps({**TINY, "name": "m", "vocab_size": words, "tie_word_embeddings": tied}))
    result = fake(*command)
    assert result.code == 2 and "the model calls for F16 of 512 x 128" in result.err, "a larger MLP"
    (fake.folder / "w.safetensors").write_bytes((fake.folder / "w.safetensors").read_bytes()[:-1])
    assert fake(*command).code == 2


def test_the_plan_needs_no_gpu(adamas):
    result = adamas("decode", "--model", "llama-2-7b", "--dry-run", "--json", "--seq-lens", "32K", "--batch", "1,8")
    one, eight = json.loads(result.out)["plans"]
    linear = 2 * (32 * (3 * 4096 * 4096 + 4096 * 4096 + 3 * 4096 * 11008) + 32000 * 4096)
    assert one["linear_bytes"] == eight["linear_bytes"] == linear
    assert one["weight_bytes"] == linear + 2 * 32000 * 4096
    assert one["cache_bytes"] == 32768 * 32 * (32 * 2 * 128 * 2 + 30 * 128 / 4)
    assert eight["cache_bytes"] == 8 * one["cache_bytes"]
    assert one["bytes"] > one["weight_bytes"] + one["cache_bytes"]
    shown = adamas("decode", "--model", "llama-3-70b-tp4", "--dry-run").out
    assert "one rank of 4" in shown and "nothing was run" in shown
    assert not (adamas.folder / "adamas.db").exists()


def test_without_a_gpu_it_is_skipped(adamas):
    result = adamas("decode", "--model", "llama-2-7b")
    if result.code == 0:
        pytest.skip("this machine has a GPU")
    assert result.code == 77 and result.err


def test_bad_options_are_refused(adamas, tmp_path):
    base = ["decode", "--model", "llama-2-7b"]
    for option, value in (("--batch", "65"), ("--seq-lens", "0"), ("--page-size", "65"), ("--linear", "mkl"),
                          ("--budgets", "x"), ("--cap-ms", "0")):
        refuse(adamas, *base, option, value, says=[option])
    refuse(adamas, "decode", "--model", "gpt", says=["'gpt'", "llama-2-7b"])
    assert adamas("decode").code == 2 and adamas(*base, "x").code == 2
    for change, says in (({"hidden_size": 100}, "multiples of 32"), ({"vocab_size": 501, "ranks": 2}, "2 ranks")):
        (tmp_path / "bad.json").write_text(json.dumps({**TINY, **change}))
        result = adamas("decode", "--model", tmp_path / "bad.json", "--dry-run")
        assert result.code in (2, 77) and says in result.err

"""An option that would change nothing is refused or said, in one sentence; and a name that is nearly right is guessed."""
import re

import pytest

from conftest import ROOT, refuse

NO_POLICY = "here, since every policy of --policies lacks this setting or has its own"
NO_STAGE = "with these --stages, none of which depends on it"
NO_BUDGET = "to this stage, which attends to all or selects nothing"


@pytest.mark.parametrize("option, words", [
    ("--metric", ["--metric", "dot", "-p", "oracle"]),
    ("--metric", ["--metric", "dot", "-p", "oracle,adamas:metric=l1"]),
    ("--thresholds", ["-t", "calibrated", "-p", "quest"]),
    ("--sinks", ["--sinks", "4", "-p", "streaming"]),
    ("--recent", ["--recent", "4", "-p", "streaming"]),
    ("--select", ["--select", "group", "-p", "dense,random"])])
def test_a_setting_that_no_policy_of_a_replay_takes(adamas, write_trace, tmp_path, option, words):
    refuse(adamas, "replay", write_trace(), *words, "--db", "x.db", says=[f"{option} does nothing {NO_POLICY}: leave it out"])
    assert not (tmp_path / "x.db").exists()


def test_a_setting_that_one_policy_takes(adamas, write_trace):
    words = ["--budgets", "64", "--metric", "dot", "--sinks", "4", "--select", "group", "--timed-steps", "0"]
    result = adamas("replay", write_trace(), "-p", "oracle,adamas,streaming", *words, "--db", "x.db", "-q")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("option, words", [
    ("--timeline", ["--timeline"]), ("--counters", ["--counters", "host"]), ("--only-times", ["--only-times", "topk"]),
    ("a second --implementation", ["--implementation", "reference", "--implementation", "reference"])])
def test_a_replay_that_times_nothing(adamas, write_trace, option, words):
    refuse(adamas, "replay", write_trace(), "--timed-steps", "0", *words,
           says=[f"{option} does nothing with --timed-steps 0: leave it out"])


@pytest.mark.parametrize("words, says", [
    (["profile", "--dry-run", "--timestamps", "software"], "--timestamps does nothing without --timeline"),
    (["profile", "--dry-run", "--alone"], "--alone does nothing without --gpus"),
    (["profile", "--dry-run", "--split"], "--split does nothing without --gpus"),
    (["profile", "--dry-run", "--phases", "--stages", "topk"], "--phases does nothing without the stage step"),
    (["profile", "--static", "--seq-lens", "8K"], "--seq-lens does nothing with --static"),
    (["profile", "--static", "--dry-run"], "--dry-run does nothing with --static"),
    (["tune", "--show", "--stage", "topk"], "--stage does nothing with --show"),
    (["tune", "--show", "-b", "64"], "--budget does nothing with --show"),
    (["tune", "--stage", "topk", "--no-search"], "--no-search does nothing without a candidate"),
    (["tune", "--stage", "topk", "--device", "1"], "--device does nothing here, where nothing runs on a GPU"),
    (["simulate", "--validate", "--model", "llama-3.1-8b"], "--model does nothing with --validate"),
    (["simulate", "--validate", "--dry-run"], "--dry-run does nothing with --validate"),
    (["simulate", "--model", "llama-3.1-8b", "--generate", "rate=1", "--memory", "contiguous", "--no-prefix-cache"],
     "--no-prefix-cache does nothing with --memory contiguous"),
])
def test_an_option_that_another_one_makes_idle_is_refused(adamas, tmp_path, words, says):
    refuse(adamas, *words, says=[says, ": leave it out"])
    assert not (tmp_path / "adamas.db").exists()


@pytest.mark.parametrize("words, says", [
    (["profile", "--dry-run", "--check-only", "--cap-ms", "5"], "--cap-ms does nothing with --check-only"),
    (["profile", "--dry-run", "--check-only", "--launch", "stream"], "--launch does nothing with --check-only"),
    (["profile", "--dry-run", "--stages", "dense", "--budgets", "64"], f"--budgets does nothing {NO_STAGE}"),
    (["profile", "--dry-run", "--stages", "hadamard", "--metric", "dot"], f"--metric does nothing {NO_STAGE}"),
    (["profile", "--dry-run", "--stages", "pack", "--select", "group"], f"--select does nothing {NO_STAGE}"),
    (["tune", "--stage", "pack", "--budget", "64", "--seq-len", "256", "--check-only"], f"--budget does nothing {NO_BUDGET}"),
    (["tune", "--stage", "topk", "--arch", "sm_80", "--seq-len", "256", "--check-only"], "--arch does nothing without a .cu"),
    (["decode", "--model", "smollm2-135m", "--dry-run", "--budgets", "0", "--variant", "fused"],
     "--variant does nothing with --budgets 0"),
])
def test_an_option_of_a_configuration_that_is_idle_is_said(adamas, words, says):
    """Scripts give one configuration to many commands: they go on."""
    result = adamas(*words)
    assert result.code == 0 and result.err.startswith(f"adamas: {says}") and result.err.count("\n") == 1, result
    assert adamas(*words, "--quiet").err == ""


@pytest.mark.parametrize("words, meant", [
    (["simulate", "--model", "llama-3", "--generate", "rate=1"], "llama-3.1-8b"),
    (["decode", "--model", "qwen", "--dry-run"], "qwen-2.5-7b"),
    (["decode", "--model", "smollm2-135m", "--dry-run", "--variant", "groupd"], "grouped"),
    (["decode", "--model", "smollm2-135m", "--dry-run", "--linear", "cubals"], "cublas"),
    (["simulate", "--model", "llama-3.1-8b", "--generate", "rte=1"], "rate"),
    (["simulate", "--model", "llama-3.1-8b", "--generate", "rate=1", "--memory", "pagd"], "paged"),
    (["counters", "list", "--set", "ful"], "full"),
    (["profile", "--dry-run", "--counters", "memry"], "memory"),
    (["trace", "gen", "-o", "x", "--dtype", "fp16"], "f16"),
    (["replay", ROOT / "traces/smollm2-135m-kjv.safetensors", "-p", "orcle"], "oracle"),
])
def test_a_name_that_is_nearly_right(adamas, words, meant):
    assert re.search(rf"did you mean '{meant}'\?", adamas(*words).err), adamas(*words)


LOAD = ["simulate", "--model", "llama-3.1-8b", "--generate", "rate=1,duration=5,input_tokens=100,output_tokens=5"]


@pytest.mark.parametrize("words, meant", [
    (["--calibration", "recorded:h20"], "recorded:h200"), (["--gpu", "bandwith=3000"], "bandwidth"),
    (["--variant", "fusd"], "fused"), (["--quality", "recorded:h2"], "recorded:h200")])
def test_names_that_a_database_has(adamas, words, meant):
    assert adamas(*LOAD, "--db", "x.db", "-q").code == 0
    refuse(adamas, *LOAD, *words, "--db", "x.db", says=[f"did you mean '{meant}"])
    refuse(adamas, "report", "--run", "recorded:h2", "--db", "x.db", says=["did you mean 'recorded:h200"])

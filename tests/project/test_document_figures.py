"""Figures in README.md and docs/ that the repository can reproduce are what it says today.

GPU figures come from analysis/recorded, quality figures from a replay of the bundled session. A figure that changes on purpose
(a profile recorded anew, another definition) is changed in the document in the same commit.
"""
import re

import pytest

from conftest import BUNDLED, ROOT, query

README, GPU, REPLAY = ((ROOT / name).read_text() for name in ("README.md", "docs/gpu.md", "docs/replay.md"))
BUDGETS = (64, 256, 1024)
STEPS = """SELECT label, seq_len, kv_heads, batch, stage, variant, budget, median / 1e3 FROM stage_summary WHERE source = 'gpu'
AND metric = 'time_ns' AND status = 'ok' AND stage IN ('step', 'dense') AND label IN ('recorded:h100', 'recorded:h200')"""


@pytest.fixture
def steps(adamas):
    """{(GPU, length, KV heads, batch, variant, budget): microseconds} of the recorded grids."""
    recorded = [ROOT / f"analysis/recorded/{name}.json" for name in ("h100", "h200")]
    assert adamas("db", "import", *recorded).code == 0
    return {(label[9:], seq_len, kv_heads, batch, "dense" if stage == "dense" else variant, budget): us
            for label, seq_len, kv_heads, batch, stage, variant, budget, us in query(adamas.folder / "adamas.db", STEPS)}


def cells(text, first):
    """The cells of the last table row that begins with `first`, as lists of numbers."""
    rows = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", text, re.M)
    assert rows, f"no row {first}"
    return [[float(number) for number in re.findall(r"[\d.]+", cell)] for cell in rows[-1].split("|")]


def test_what_a_step_takes(steps):
    places = [(32768, 32, 1), (131072, 32, 1), (32768, 8, 1), (32768, 32, 8)]
    rows = {"dense, ours": ("dense", None), "six stages, a kernel each": ("six", 256), "the fused step": ("fused", 256)}
    for first, (variant, budget) in rows.items():
        for place, said in zip(places, cells(GPU, first), strict=True):
            found = [steps[gpu, *place, variant, budget] for gpu in ("h200", "h100")]
            assert said == pytest.approx(found, rel=0.004), (first, place)
    said = cells(GPU, "the grouped step, where query heads share KV heads (H200)")
    assert said == [[], [], [pytest.approx(steps["h200", *places[2], "grouped", 256], rel=0.004)], []]
    for place, said in zip(places, cells(GPU, "dense, ours, over the fused step"), strict=True):
        found = [steps[gpu, *place, "dense", None] / steps[gpu, *place, "fused", 256] for gpu in ("h200", "h100")]
        assert said == pytest.approx(found, abs=0.051), place


def test_where_it_loses(steps):
    slower = {}
    for (gpu, *place, variant, _), us in steps.items():
        if variant != "dense":
            slower.setdefault((gpu, variant), []).append(us >= steps[gpu, *place, "dense", None])
    n_slower = {key: (sum(each), len(each)) for key, each in slower.items()}
    said = re.search(r"(\d+) of (\d+) configurations on the\s+H200 and (\d+) of (\d+) on the H100", GPU)
    assert tuple(map(int, said.groups())) == (*n_slower["h200", "fused"], *n_slower["h100", "fused"])
    said = re.search(r"Six separate stages are slower than dense in (\d+) and (\d+)", GPU)
    assert tuple(map(int, said.groups())) == (n_slower["h200", "six"][0], n_slower["h100", "six"][0])
    said = re.search(r"The grouped\s+step is slower in (\d+) of the (\d+) that", GPU)
    assert tuple(map(int, said.groups())) == n_slower["h200", "grouped"]
    said = re.search(r"in (\d+) of the (\d+) recorded\s+configurations", README)
    assert tuple(map(int, said.groups())) == n_slower["h200", "fused"]


def test_the_readme_s_speed(steps):
    fused, dense = steps["h200", 32768, 32, 1, "fused", 256], steps["h200", 32768, 32, 1, "dense", None]
    few, few_dense = steps["h200", 32768, 8, 1, "grouped", 256], steps["h200", 32768, 8, 1, "dense", None]
    text = README.replace("\n", " ")
    assert f"32K tokens takes {fused:.1f} µs with 32 KV heads, where our dense attention takes {dense:.1f}" in text
    assert f"{dense / fused:.1f} times faster" in text
    assert f"the grouped step's gain is {few_dense / few:.1f} times ({few:.1f} against {few_dense:.1f})" in text


def test_output_error_of_the_bundled_session(adamas):
    command = re.search(r"^adamas (replay \S+ --seq-lens 4096 -b 64,256,1024 \\\n.*)$", REPLAY, re.M)[1].replace("\\\n", " ")
    arguments = [str(BUNDLED) if word.endswith(".safetensors") else word for word in command.split()]
    assert adamas(*arguments, "--quiet").code == 0
    error = {}
    for variant, budget, p50 in query(adamas.folder / "adamas.db", "SELECT policy || ' ' || variant, budget, p50 FROM "
                                      "quality_summary WHERE metric = 'output_rel_l2'"):
        error.setdefault(variant, {})[budget] = 100 * p50
    told = {  # the variant, its row in README.md or None, its row in docs/replay.md
        "oracle exact": ("`oracle`", "`oracle`"),
        "streaming 4 sinks": ("`streaming` (first and last tokens alone)", "`streaming`, 4 sinks"),
        "quest pages of 16": ("`quest`", "`quest`"),
        "adamas l1 calibrated": ("`adamas`, the default: `l1`, calibrated", "`adamas`, `l1` calibrated: the default"),
        "adamas asym4 calibrated": ("`adamas:metric=asym4`: a 4-bit query", "`adamas`, `asym4`"),
        "adamas asymmetric centred": (None, "`adamas`, `asymmetric` centred"),
        "accumulated half recent": (None, "`accumulated` (attention accumulated over the replayed steps; nothing is evicted)"),
        "adamas dot calibrated": (None, "`adamas`, `dot` calibrated"),
        "adamas dot centred": (None, "`adamas`, `dot` centred"),
        "adamas l1 centred": (None, "`adamas`, `l1` centred"),
        "adamas l1 fixed:-10,0,10": (None, "`adamas`, `l1` fixed −10, 0, 10: the paper's"),
    }
    for variant, rows in told.items():
        found = [error[variant][budget] for budget in BUDGETS]
        for text, first in zip((README, REPLAY), rows, strict=True):
            if first:
                assert cells(text, first)[0] == pytest.approx(found, abs=0.051), (variant, first)

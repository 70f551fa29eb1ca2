"""`adamas compare`: verdicts, exit codes, what is refused, and the files it leaves for a CI."""
import json
import xml.etree.ElementTree as ElementTree

import pytest

from conftest import refuse
from tracked_runs import STAGES, Runs


@pytest.fixture
def runs(small_run, tmp_path):
    return Runs(tmp_path / "x.db", small_run)


@pytest.fixture
def compare(adamas, runs):
    """compare(...) -> (exit code, the document of --json)"""
    def call(*arguments, base="label:base", cand="label:cand"):
        result = adamas("compare", base, cand, "--db", runs.path, "--json", *arguments)
        assert result.err == "", result
        return result.code, json.loads(result.out)
    return call


def rows_of(document, verdict, kind="time"):
    return [row for row in document["rows"] if row["verdict"] == verdict and row["kind"] == kind]


# ---------------------------------------------------------------- verdicts

def test_the_same_is_equivalent(runs, compare):
    runs.add(10, label="base")
    runs.add(10, label="cand")
    code, document = compare("--margin", "2")
    assert code == 0 and document["exit_code"] == 0
    assert document["n_regressed"] == document["n_inconclusive"] == document["n_improved"] == 0
    assert document["n_equivalent"] == len(document["rows"]) > 20
    assert {row["kind"] for row in document["rows"]} == {"time", "quality"}


def test_a_slower_stage_regresses_and_only_it(runs, compare):
    runs.add(10, label="base")
    runs.add(10, label="cand", slower={"topk": 1.05})
    code, document = compare()
    assert code == 1
    slow = rows_of(document, "regressed")
    assert slow and {row["stage"] for row in slow} == {"topk"}
    for row in slow:
        assert 0.03 < row["time"]["shift_ratio"] < 0.07 and row["p_adjusted"] <= 0.01
        assert row["time"]["low_ratio"] > 0 and row["n_baseline"] == row["n_candidate"] == 10
        assert "no counters are stored" in row["why"]
    assert document["rows"][0]["verdict"] == "regressed"  # what matters comes first


def test_a_faster_stage_improves(runs, compare):
    runs.add(10, label="base")
    runs.add(10, label="cand", slower={"distance": 0.9})
    code, document = compare("--margin", "2")
    assert code == 0 and {row["stage"] for row in rows_of(document, "improved")} == {"distance"}


def test_faster_but_less_accurate_is_a_regression(runs, compare):
    runs.add(10, label="base")
    runs.add(10, label="cand", slower={"attention": 0.8}, quality={"output_rel_l2": 1.02})
    code, document = compare("--margin", "2")
    assert code == 1 and document["faster_but_less_accurate"]
    assert {row["metric"] for row in rows_of(document, "regressed", "quality")} == {"output_rel_l2"}
    assert compare("--margin", "2", "--tolerance", "output_rel_l2=0.05")[0] == 0


def test_better_quality_improves_and_last_bits_do_not_count(runs, compare):
    runs.add(10, label="base")
    runs.add(10, label="cand", quality={"recall": 1.01, "mass": 1 - 1e-6})
    code, document = compare("--margin", "2")
    assert code == 0
    assert {row["metric"] for row in rows_of(document, "improved", "quality")} == {"recall"}


def test_noise_wider_than_the_margin_is_inconclusive(runs, compare):
    runs.add(10, label="base", noise=0.03)
    runs.add(10, label="cand", noise=0.03)
    code, document = compare()
    assert code == 3 and rows_of(document, "inconclusive") and not rows_of(document, "regressed")


def test_few_processes_prove_nothing(runs, compare):
    runs.add(4, label="base")
    runs.add(10, label="cand", slower={"topk": 2})
    code, document = compare()
    assert code == 3 and not rows_of(document, "regressed")
    assert all("at least 5 processes per side are needed; there are 4 and 10" in row["why"]
               for row in rows_of(document, "inconclusive"))


def test_missing_stages_are_inconclusive_on_either_side(runs, compare):
    runs.add(10, label="base", without=["pack"])
    runs.add(10, label="cand", without=["topk"])
    code, document = compare("--margin", "2")
    assert code == 3
    why = {row["stage"]: row["why"] for row in rows_of(document, "inconclusive")}
    assert why == {"topk": "the candidate has no such row", "pack": "the baseline has no such row"}


def test_a_stage_that_failed_its_check_regresses(runs, compare):
    runs.add(10, label="base")
    ids = runs.add(10, label="cand")
    runs.execute("UPDATE measurement SET status = 'failed', reason = 'wrong at row 3', n = 0, mean = NULL, median = NULL "
                 f"WHERE stage = 'topk' AND run_id >= {ids[0]}")
    code, document = compare("--margin", "2")
    assert code == 1 and {row["why"] for row in rows_of(document, "regressed")} == {"failed in the candidate: wrong at row 3"}


def test_a_renamed_implementation_is_still_its_stage(runs, compare):
    runs.add(10, label="base")
    ids = runs.add(10, label="cand", slower={"topk": 1.1})
    runs.copy_configs("config_id + 1000", "WHERE config_id IN (SELECT config_id FROM measurement WHERE stage = 'topk')",
                      variant="'other'")
    runs.execute(f"UPDATE measurement SET config_id = config_id + 1000 WHERE stage = 'topk' AND run_id >= {ids[0]}")
    code, document = compare("--margin", "2")
    assert code == 1 and not rows_of(document, "inconclusive")
    assert all("is now other" in row["why"] for row in rows_of(document, "regressed"))


# ---------------------------------------------------------------- counts, clocks and causes

SPILLS = ("topk", "spill_store_bytes", "bytes", "lower")


def test_counts_compare_exactly_with_a_single_run(runs, compare):
    runs.add(1, label="base", extra=[(*SPILLS, 0)])
    runs.add(1, label="cand", extra=[(*SPILLS, 16)])
    code, document = compare()
    assert code == 1
    assert {(row["metric"], row["candidate"]) for row in rows_of(document, "regressed", "count")} == {("spill_store_bytes", 16)}


def test_counts_have_a_stated_tolerance(runs, compare):
    instructions = ("topk", "instructions", "instructions", "lower")
    runs.add(10, label="base", extra=[(*instructions, 1000)])
    runs.add(10, label="cand", extra=[(*instructions, 1004)])
    assert compare("--margin", "2")[0] == 0
    assert compare("--margin", "2", "--tolerance", "instructions=0.001")[0] == 1


def test_the_row_names_the_likely_cause(runs, compare):
    instructions = ("topk", "instructions", "instructions", "lower")
    runs.add(10, label="base", extra=[(*instructions, 1000), ("topk", "cache_misses", "misses", "lower", 50)])
    runs.add(10, label="cand", slower={"topk": 1.10},
             extra=[(*instructions, 1100), ("topk", "cache_misses", "misses", "lower", 50)])
    _, document = compare()
    times = rows_of(document, "regressed")
    assert times and all(row["why"] == "likely: instructions +10.0%" for row in times)


def gpu(runs):
    """From here on all measurements are a GPU's."""
    runs.execute("UPDATE measurement SET source = 'gpu'")


def test_a_slow_clock_is_no_slow_program(runs, compare):
    def clock(hz):
        return [("topk", "sm_clock_hz", "Hz", "none", hz)]
    runs.add(10, label="base", extra=clock(2.0e9))
    runs.add(10, label="cand", slower={"topk": 1.05}, extra=clock(2.0e9 / 1.05))
    gpu(runs)
    code, document = compare("--margin", "2")
    assert code == 3 and not rows_of(document, "regressed")
    for row in rows_of(document, "inconclusive"):
        assert row["stage"] == "topk" and row["why"].startswith("explained by clocks: time +")
        assert abs(row["cycles"]["shift_ratio"]) < 0.02 < row["time"]["shift_ratio"]


def test_a_slow_program_is_slow_in_cycles_too(runs, compare):
    def clock(hz):
        return [("topk", "sm_clock_hz", "Hz", "none", hz)]
    runs.add(10, label="base", extra=clock(2.0e9))
    runs.add(10, label="cand", slower={"topk": 1.08}, extra=clock(1.99e9))
    gpu(runs)
    code, document = compare("--margin", "2")
    assert code == 1
    assert all(row["cycles"]["shift_ratio"] > 0.05 for row in rows_of(document, "regressed"))


def test_throttled_processes_are_not_judged(runs, compare):
    runs.add(10, label="base")
    ids = runs.add(10, label="cand", slower={"topk": 1.5})
    runs.execute(f"UPDATE sample SET throttle = 64 WHERE i = 3 AND measurement_id IN (SELECT measurement_id FROM measurement "
                 f"WHERE run_id >= {ids[4]} AND stage = 'topk')")
    code, document = compare("--margin", "2")
    assert code == 3 and not rows_of(document, "regressed")
    for row in rows_of(document, "inconclusive"):
        assert (row["stage"], row["n_throttled"], row["n_candidate"]) == ("topk", 6, 4)
        assert "left out: 6 of 20 processes, throttled" in row["why"]
    runs.execute("UPDATE sample SET throttle = 1")  # an idle GPU clocks down: no throttling
    assert compare("--margin", "2")[0] == 1


# ---------------------------------------------------------------- margins

def test_a_calibrated_margin_counts_unless_one_is_given(runs, compare):
    runs.add(10, label="base")
    runs.add(10, label="cand", slower={"topk": 1.05})
    runs.execute("INSERT INTO margin (config_id, source, stage, metric_id, host_name, cpu_model, gpu_name, margin_ratio, "
                 "n_processes, measured_utc) SELECT DISTINCT m.config_id, m.source, m.stage, m.metric_id, r.host_name, "
                 "r.cpu_model, r.gpu_name, 0.2, 20, '2026' FROM measurement m JOIN run r USING (run_id) WHERE m.stage = 'topk' "
                 "AND m.metric_id = (SELECT metric_id FROM metric WHERE name = 'time_ns')")
    code, document = compare()
    assert not [row for row in rows_of(document, "regressed") if row["metric"] == "time_ns"]
    assert {row["margin_ratio"] for row in document["rows"] if row["stage"] == "topk" and row["metric"] == "time_ns"} == {0.2}
    assert compare("--margin", "1")[0] == 1


def test_processes_and_samples_in_company_are_left_out(runs, compare):
    base = runs.add(10, label="base")
    cand = runs.add(8, label="cand") + runs.add(2, label="cand", slower=dict.fromkeys(STAGES, 1.5))
    runs.loops(base + cand[:8], 980)
    runs.loops(cand[8:], 1500)
    code, document = compare("--margin", "2")
    assert code == 0
    times = [row for row in document["rows"] if row["kind"] == "time"]
    assert {(row["n_baseline"], row["n_candidate"], row["n_throttled"]) for row in times
            if row["stage"] in STAGES} == {(10, 8, 2)}
    assert all("left out: 2 of 20 processes, throttled or on a shared core" in row["why"] for row in times
               if row["stage"] in STAGES)
    # Six samples of fifteen from a contended core, and those alone are what is compared.
    with runs.open() as db:
        db.execute("UPDATE sample SET value = value * 2 WHERE i < 6 AND measurement_id IN (SELECT measurement_id FROM "
                   "measurement JOIN metric USING (metric_id) WHERE name IN ('time_ns', 'encode_ns_per_key') AND "
                   "run_id = ?)", (cand[0],))
    runs.loops(cand[:1], lambda i: 1500 if i < 6 else 980)
    assert compare("--margin", "2")[0] == 0


def test_where_all_ran_in_company_all_are_compared(runs, compare):
    base, cand = runs.add(10, label="base"), runs.add(10, label="cand", slower={"topk": 1.5})
    runs.loops(base[:4] + cand[:4], 980)
    runs.loops(base[4:] + cand[4:], 1500)
    code, document = compare()
    assert code == 1 and {row["n_throttled"] for row in document["rows"] if row["kind"] == "time"} == {0}
    assert {row["stage"] for row in rows_of(document, "regressed")} == {"topk"}


# ---------------------------------------------------------------- what is refused

def refuse_pair(adamas, runs, says, *arguments):
    return refuse(adamas, "compare", "label:base", "label:cand", "--db", runs.path, *arguments, says=says)


@pytest.mark.parametrize("column, value, says", [
    ("cpu_model", "Other CPU", ["CPU (", "against Other CPU"]), ("host_name", "elsewhere", ["host (", "elsewhere"]),
    ("driver_version", "999", ["driver (none against 999)"]), ("n_cpus", 99, ["CPUs (", "against 99"])])
def test_times_of_different_machines(adamas, runs, column, value, says):
    runs.add(10, label="base")
    runs.add(10, label="cand", **{column: value})
    refuse_pair(adamas, runs, [*says, "--across-machines"])
    assert adamas("compare", "label:base", "label:cand", "--db", runs.path, "--across-machines", "--margin", "2").code == 0


def test_runners_of_a_pool_are_one_machine(adamas, runs):
    """By their label (ADAMAS_MACHINE), as in a history; another CPU is another machine all the same."""
    pair = ["compare", "label:base", "label:cand", "--db", runs.path, "--margin", "2"]
    for label, names in (("base", ("a", "b")), ("cand", ("c", "d"))):
        for host in names:
            runs.add(5, label=label, host_name=host, machine="pool", gpu_name="G", gpu_uuid=f"GPU-{host}", gpu_reason=None)
    assert adamas(*pair).code == 0
    runs.execute("UPDATE run SET machine = 'other' WHERE label = 'cand'")
    refuse_pair(adamas, runs, ["host (pool against other)", "--across-machines"])
    runs.execute("UPDATE run SET machine = NULL WHERE label = 'cand'")
    refuse_pair(adamas, runs, ["host (several in the candidate), GPU UUID (several in the candidate)"])
    runs.execute("UPDATE run SET machine = 'pool', cpu_model = 'Other CPU' WHERE label = 'cand'")
    refuse_pair(adamas, runs, ["CPU (", "against Other CPU"])


def test_another_power_limit_is_another_machine(adamas, runs):
    base, cand = runs.add(10, label="base"), runs.add(10, label="cand")
    runs.limit_power(base, 700)
    same = ["compare", "label:base", "label:cand", "--db", runs.path, "--margin", "2"]
    assert adamas(*same).code == 0  # one that is not known may be the same
    runs.limit_power(cand[:9], 500)
    refuse_pair(adamas, runs, ["power limit (700 W against 500 W)", "--across-machines"])
    assert adamas(*same, "--across-machines").code == 0
    runs.limit_power(cand[9:], 700)
    refuse_pair(adamas, runs, ["power limit (several in the candidate)"])


def test_compiled_figures_and_quality_do_not_depend_on_the_machine(adamas, runs):
    runs.add(1, label="base", without=[m["stage"] for m in runs.measurements if m["stage"]], extra=[(*SPILLS, 8)])
    runs.add(1, label="cand", without=[m["stage"] for m in runs.measurements if m["stage"]], extra=[(*SPILLS, 8)],
             cpu_model="Other CPU")
    assert adamas("compare", "label:base", "label:cand", "--db", runs.path).code == 0


def test_different_shapes(adamas, runs):
    runs.add(10, label="base")
    ids = runs.add(10, label="cand")
    runs.copy_configs("config_id + 1000", n_q_heads="8")
    runs.execute(f"UPDATE measurement SET config_id = config_id + 1000 WHERE run_id >= {ids[0]}")
    refuse_pair(adamas, runs, ["different things", "4 query heads", "8 query heads"])


@pytest.mark.parametrize("base, says", [
    ("99", ["no run 99", "newest is run 10"]), ("nobody", ["no complete run", "'nobody'"]), ("3-1", ["'3-1' is no list"]),
    ("1,,2", ["'1,,2' is no list"]), ("1-", ["'1-' is no list"]), ("commit:zzz", ["'commit:zzz'"]),
    ("4", ["run 4", "is failed"])])
def test_runs_that_are_not_there(adamas, runs, base, says):
    runs.add(10, label="cand")
    runs.execute("UPDATE run SET status = 'failed', reason = 'a test' WHERE run_id = 4")
    refuse(adamas, "compare", base, "label:cand", "--db", runs.path, says=says)


def test_runs_by_number_commit_and_file(adamas, runs, tmp_path):
    runs.add(10)
    runs.add(10, git_commit="ab" * 20)
    other = tmp_path / "other.db"
    other.write_bytes(runs.path.read_bytes())
    for base, cand in [("1-10", "11-20"), ("1-5,6-10", "commit:abab"), ("x.db:1-10", f"{other}:11-20"),
                       ("last~19-last~10", "last~9-last")]:
        result = adamas("compare", base, cand, "--db", "x.db", "--margin", "2")
        assert result.code == 0, (base, cand, result)


def test_the_same_run_on_both_sides_is_refused(adamas, runs, tmp_path):
    runs.add(10)
    (tmp_path / "other.db").write_bytes(runs.path.read_bytes())
    for base, cand in [("1-6", "6-10"), ("x.db", "other.db"), ("last", "10")]:
        refuse(adamas, "compare", base, cand, "--db", "x.db", says=["is on both sides"])


def test_other_grids_are_judged_where_they_meet(adamas, runs, compare):
    """Two lines for what one side lacks, however many rows that are."""
    runs.add(10, label="base")
    ids = runs.add(10, label="cand")
    (budget,) = {b for b, in runs.execute("SELECT DISTINCT budget FROM config WHERE budget IS NOT NULL ORDER BY 1 LIMIT 1")}
    runs.copy_configs("config_id + 1000", f"WHERE budget = {budget}", budget="77")
    for run in ids:
        runs.execute(f"UPDATE measurement SET config_id = config_id + 1000 WHERE run_id = ? AND config_id IN (SELECT config_id "
                     f"FROM config WHERE budget = {budget})", run)
    code, document = compare("--margin", "5")
    assert code == 3 and document["n_missing"] > 10 and document["n_equivalent"] > 5
    assert document["n_inconclusive"] == document["n_missing"]
    text = adamas("compare", "label:base", "label:cand", "--db", runs.path, "--margin", "5").out
    lines = [line for line in text.splitlines() if line.startswith("inconclusive")]
    assert [line.split()[3] for line in lines] == ["baseline", "candidate"] or \
           [line.split()[3] for line in lines] == ["candidate", "baseline"], text
    assert f"budget {budget}" in text and "budget 77" in text
    code, document = compare("--margin", "5", "--ignore-missing")
    assert code == 0 and document["n_missing"] == 0


def test_markdown_fits_into_a_comment(adamas, runs, tmp_path):
    """60,000 bytes at most, what regressed first, and the rest counted."""
    columns = [name for name, in runs.execute("SELECT name FROM pragma_table_info('config')")]
    with runs.open() as db:
        for n in range(40):
            values = ", ".join({"config_id": f"config_id + {1000 * (n + 1)}", "seq_len": f"seq_len + {n + 1}"}.get(c, c)
                               for c in columns)
            db.execute(f"INSERT INTO config ({', '.join(columns)}) SELECT {values} FROM config WHERE config_id < 1000")
    more = [dict(m, config_id=m["config_id"] + 1000 * (n + 1)) for m in runs.measurements for n in range(40)]
    runs.measurements += more
    runs.add(5, label="base", samples=2)
    runs.add(5, label="cand", samples=2, slower={"topk": 3})
    for side, label in ((tmp_path / "a.md", "label:cand"), (tmp_path / "b.md", "last")):
        adamas("compare", "label:base", label, "--db", runs.path, "--markdown", side)  # "last": nothing is judged
    text = (tmp_path / "a.md").read_text()
    assert 50000 < len(text.encode()) < 60000, len(text)
    assert "more rows have no room here" in text and "`adamas compare --all`" in text


@pytest.mark.parametrize("arguments, says", [
    (["--margin", "0"], ["--margin", "'0'"]), (["--margin", "x"], ["--margin", "'x'"]),
    (["--tolerance", "recal=0.1"], ["--tolerance: neither side has the metric 'recal'; did you mean 'recall'?"]),
    (["--tolerance", "recall"], ["--tolerance", "METRIC=RATIO"]), (["--tolerance", "recall=2"], ["--tolerance"]),
    (["--junit", ""], ["--junit"]), (["--seed", "-1"], ["--seed"])])
def test_bad_values(adamas, runs, arguments, says):
    runs.add(5, label="base")
    runs.add(5, label="cand")
    refuse_pair(adamas, runs, says, *arguments)


# ---------------------------------------------------------------- files for a CI

def test_files_agree_with_the_verdicts(adamas, runs, tmp_path):
    hostile = "<b>|`x`&\"]]>"
    runs.add(10, label="base")
    runs.add(10, label=hostile, slower={"topk": 1.05, "pack": 0.9}, without=["distance"])
    result = adamas("compare", "label:base", f"label:{hostile}", "--db", runs.path, "--margin", "2", "--markdown", "s.md",
                    "--junit", "j.xml", "--benchmark-json", "b.json", "--json")
    assert result.code == 1
    document = json.loads(result.out)

    suite = ElementTree.parse(tmp_path / "j.xml").getroot().find("testsuite")
    cases = suite.findall("testcase")
    assert int(suite.get("tests")) == len(cases) == len(document["rows"])
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == document["n_regressed"] > 0
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped")) == document["n_inconclusive"] > 0
    assert all(f.get("message") for f in suite.findall("testcase/failure"))
    assert {p.get("name"): p.get("value") for p in suite.find("properties")}["candidate"] == f"label:{hostile}"

    markdown = (tmp_path / "s.md").read_text()
    assert markdown.startswith(f"## Adamas: {document['n_regressed']} regressed") and "<b>" not in markdown
    table = [line for line in markdown.splitlines() if line.startswith("| **regressed**")]
    assert len(table) == document["n_regressed"] and all(line.count(" | ") == 9 for line in table)

    benchmark = json.loads((tmp_path / "b.json").read_text())
    smaller = [row for row in document["rows"] if row["candidate"] is not None]
    assert benchmark and all(set(entry) == {"name", "unit", "value", "range", "extra"} for entry in benchmark)
    assert len({entry["name"] for entry in benchmark}) == len(benchmark) <= len(smaller)
    assert not [entry for entry in benchmark if "recall" in entry["name"]]  # of which more is better


def test_the_same_seed_gives_the_same_document(runs, compare):
    runs.add(10, label="base", noise=0.02)
    runs.add(10, label="cand", noise=0.02)
    assert compare() == compare()


def test_text_for_people(adamas, runs):
    runs.add(10, label="base")
    runs.add(10, label="cand", slower={"topk": 1.05})
    result = adamas("compare", "base", "cand", "--db", runs.path, "--margin", "2")
    lines = result.out.splitlines()
    assert result.code == 1 and lines[0] == "baseline base, candidate cand"
    assert lines[1].startswith("regressed     host topk") and lines[-1].endswith(f"equivalent of {lines[-1].rsplit(' ', 1)[1]}")
    assert "equivalent    " not in result.out
    everything = adamas("compare", "base", "cand", "--db", runs.path, "--margin", "2", "--all").out
    assert "equivalent    " in everything
    assert adamas("compare", "base", "cand", "--db", runs.path, "--margin", "2", "--quiet").out == ""

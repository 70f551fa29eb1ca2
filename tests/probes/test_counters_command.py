"""`adamas counters`, the metric sets themselves, and the reader of sets. Plans are CUPTI's own, for every chip that it knows,
and need no GPU; without CUPTI they skip with the program's reason.
"""
import json
import re

import pytest

from conftest import ROOT, refuse

SETS = sorted(path.stem for path in (ROOT / "probes/sets").glob("*.metrics"))
UNITS = {"ns", "Hz", "%", "ratio", "1", "bytes", "bytes/s", "sectors", "instructions", "threads", "warps", "cycles",
         "conflicts", "wavefronts"}
CUPTI_NAME = r"[a-z0-9]+__\w+\.(sum|avg|pct|ratio)(\.\w+)?"


def listed(adamas, name):
    (document,) = json.loads(adamas("counters", "list", "--set", name, "--json").out)
    return document


@pytest.fixture
def plan(adamas):
    """plan(chip, set) -> the document of `counters plan`; skips where there is no CUPTI."""
    def run(chip, name):
        result = adamas("counters", "plan", "--chip", chip, "--set", name, "--json")
        if result.code == 77:
            assert result.out == "" and result.err.startswith("adamas: ") and len(result.err) > 40
            pytest.skip(result.err.strip())
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)
    return run


# ---- the sets as data ----

@pytest.mark.parametrize("name", SETS)
def test_lint(adamas, name):
    metrics = listed(adamas, name)["metrics"]
    names = [m["name"] for m in metrics]
    assert len(names) == len(set(names)) >= 10
    for at, m in enumerate(metrics):
        assert m["unit"] in UNITS and m["better"] in ("lower", "higher", "none"), m
        assert "formula" not in m or "alternatives" not in m
        for other in m.get("alternatives", []):
            assert re.fullmatch(CUPTI_NAME, other) and other not in names
            assert other.split(".")[1:] == m["name"].split(".")[1:]
        absent = m.get("absent", "a text")
        assert absent[0].islower() and not absent.endswith(".")  # it follows the name in brackets
        for field in ("meaning", "caveat"):
            text = m.get(field, "A text")
            assert text[0].isupper() or text[0].isdigit(), (m["name"], field)
            assert not text.endswith(".") and "  " not in text and "Caveat:" not in text, (m["name"], field)
            assert 6 <= len(text) <= 330, (m["name"], field)
        is_cupti = re.fullmatch(CUPTI_NAME, m["name"])
        assert bool(is_cupti) == ("formula" not in m), m["name"]
        if "formula" in m:
            words = set(re.findall(r"[a-z_][\w.]*", m["formula"]))
            assert words and all(w in names[:at] or w in ("model.bytes", "model.write_bytes", "model.flops", "timed.ns")
                                 for w in words)
        elif m["name"].endswith(".pct") or ".pct_" in m["name"]:
            assert m["unit"] == "%", m["name"]
        elif m["name"].endswith(".ratio"):
            assert m["unit"] not in ("%", "bytes"), m["name"]


def test_one_name_means_one_thing(adamas):
    meaning = {}
    for name in SETS:
        for m in listed(adamas, name)["metrics"]:
            told = (m["unit"], m["better"], m["meaning"])
            assert meaning.setdefault(m["name"], told) == told, m["name"]


def test_a_larger_set_holds_the_smaller_one_in_its_order(adamas):
    basic, memory, full = ([m["name"] for m in listed(adamas, name)["metrics"]] for name in ("basic", "memory", "full"))
    assert memory[:len(basic)] == basic and full[:len(memory)] == memory and len(full) > len(memory) > len(basic)


def test_every_file_of_the_folder_is_a_set_of_the_program(adamas):
    assert sorted(entry["set"] for entry in json.loads(adamas("counters", "list", "--json").out)) == SETS


def test_lines_are_short_enough_to_read():
    for path in sorted((ROOT / "probes/sets").iterdir()):
        assert path.suffix == ".metrics" and path.stem in SETS
        text = path.read_text()
        assert text.endswith("\n") and "\t" not in text and not re.search(r" +$", text, re.M)


# ---- plans ----

def test_an_unknown_chip_is_refused_with_those_there_are(plan, adamas):
    plan("GH100", "basic")
    said = refuse(adamas, "counters", "plan", "--chip", "NOCHIP", "--set", "basic", says=["NOCHIP", "GH100"])
    assert len(said.split("it knows ")[1].split(", ")) >= 20


def test_planning_twice_gives_the_same_order(plan):
    first, second = plan("AD102", "full"), plan("AD102", "full")
    assert first == second and sorted(first["scheduled"]) == sorted(first["collected"])
    assert first["passes"] <= first["passes_in_own_order"]


BAD_NAMES = {  # of metrics that GH100 has: what is wrong with the name, and what the reason says
    "sm__cycles_active": "needs a roll-up, such as sm__cycles_active.sum", "dram__bytes_read.pct": "not with .pct",
    "dram__throughput.sum": "not with .sum", "smsp__inst_executed.sum.per_fortnight": "not with .sum.per_fortnight",
    "sm__no_such_thing.sum": "has no metric sm__no_such_thing.sum"}


def test_a_wrong_name_costs_itself_and_not_the_set(plan, adamas, tmp_path):
    rest = "\nunit = cycles\nbetter = none\nmeaning = Any\n"
    names = ["sm__cycles_active.avg", *BAD_NAMES, "smsp__inst_executed.sum"]
    (tmp_path / "mine.metrics").write_text("".join(f"[{name}]{rest}" for name in names))
    document = plan("GH100", "./mine.metrics")
    assert document["collected"] == ["sm__cycles_active.avg", "smsp__inst_executed.sum"] and document["passes"] == 1
    assert [entry["name"] for entry in document["lacking"]] == list(BAD_NAMES)
    for entry in document["lacking"]:
        assert BAD_NAMES[entry["name"]] in entry["reason"] and "GH100" in entry["reason"]


def test_text_and_json_say_the_same(plan, adamas):
    document = plan("GB202", "memory")
    text = adamas("counters", "plan", "--chip", "GB202", "--set", "memory").out
    assert text.startswith(f"memory on GB202: {document['passes']} pass")
    shown = re.findall(r"^  ([^ ,\n]+)(?:, counted as (\S+))?$", text, re.M)
    assert [name for name, _ in shown] == document["collected"]
    assert {name: other for name, other in shown if other} == document["alternatives"] == {
        f"dram__bytes_{way}.sum": f"dram__bytes_op_{way}.sum" for way in ("read", "write")}
    assert re.findall(r"^  not: (.+)$", text, re.M) == [entry["reason"] for entry in document["lacking"]]


def test_explain(plan, adamas):
    plan("GH100", "basic")
    entries = json.loads(adamas("counters", "explain", "dram__bytes_read.sum", "l2_read_hit_ratio", "sm__cycles_active",
                                "--json").out)
    assert entries[0]["unit"] == "bytes" and "caveat" in entries[0] and "DRAM" in entries[0]["cupti"]
    assert entries[1]["formula"].count("lts__") == 2 and "cupti" not in entries[1]
    assert set(entries[2]) == {"name", "cupti"}
    text = adamas("counters", "explain", "dram__bytes_read.sum").out
    assert entries[0]["meaning"] in text and entries[0]["caveat"] in text and entries[0]["cupti"] in text
    refuse(adamas, "counters", "explain", "no_such_metric", says=["no_such_metric", "counters list --chip GH100"])


def test_a_chips_metrics(plan, adamas):
    plan("GH100", "basic")
    metrics = json.loads(adamas("counters", "list", "--chip", "GH100", "--json").out)
    assert len(metrics) > 3000 and {m["kind"] for m in metrics} == {"counter", "ratio", "throughput"}


def test_dry_run_says_what_counters_cost(plan, adamas):
    passes = plan("GH100", "full")["passes"]
    text = adamas("profile", "--dry-run", "--counters", "full", "--timeline").out
    assert f"counters full: every unit {passes} times" in text and "timeline: every unit 5 times" in text


# ---- refusals ----

@pytest.mark.parametrize("arguments, says", [
    (["plan", "--set", "nope"], ["'nope'", "basic, memory, full, mix"]),
    (["plan", "--set", "./gone.metrics"], ["./gone.metrics"]),
    (["list", "--set", "nope"], ["'nope'"]), (["shout"], ["'shout'", "list, explain, plan"]),
    (["explain"], ["name metrics"]), (["plan", "extra"], ["'extra'"])])
def test_bad_usage(adamas, arguments, says):
    refuse(adamas, "counters", *arguments, says=says)


def test_without_cupti_sets_are_explained_and_plans_are_skipped(adamas):
    none = {"env": {"ADAMAS_CUPTI": "/nowhere/libcupti.so.13"}}
    said = refuse(adamas, "counters", "plan", "--set", "basic", code=77, **none)
    assert "/nowhere/libcupti.so.13" in said or "built without" in said
    refuse(adamas, "counters", "plan", "--set", "nope", says=["'nope'"], **none)  # a wrong name is wrong on any machine
    refuse(adamas, "counters", "explain", "--chip", "GH100", "dram__bytes_read.sum", code=77, **none)
    result = adamas("counters", "explain", "dram__bytes_read.sum", **none)
    assert result.code == 0 and "Bytes read from device memory" in result.out and "CUPTI" not in result.out
    assert adamas("counters", "list", **none).code == 0


GOOD = "[a__b.sum]\nunit = bytes\nbetter = lower\nmeaning = Bytes\n"


@pytest.mark.parametrize("text, says", [
    ("", ["no metrics"]), ("# nothing\n", ["no metrics"]), ("[a__b.sum]\n", ["line 1", "no unit"]),
    ("[a__b.sum]\nunit = bytes\n", ["no 'better'"]), ("[a__b.sum]\nunit = bytes\nbetter = lower\n", ["no meaning"]),
    (GOOD.replace("bytes", "miles"), ["'miles'"]), (GOOD.replace("lower", "less"), ["'less'"]),
    (GOOD + GOOD, ["line 5", "twice", "a__b.sum"]), (GOOD + "unit = ns\n", ["line 5", "twice", "'unit'"]),
    (GOOD + "color = red\n", ["line 5", "'color'"]), (GOOD + "caveat =\n", ["line 5", "no value", "caveat"]),
    (GOOD + "nonsense\n", ["KEY = VALUE", "'nonsense'"]), ("color = red\n" + GOOD, ["line 1", "'color'"]),
    ("include = nope\n" + GOOD, ["'nope'"]), ("[a b]\n", ["[NAME]"]), ("[\n", ["[NAME]"]), ("[]\n", ["[NAME]"]),
    ("include = full\ninclude = full\n" + GOOD, ["twice"]),
    (GOOD + "[x]\nunit = ratio\nbetter = none\nmeaning = X\nformula = a__b.sum / y\n", ["'y'", "no metric above"]),
    (GOOD + "[x]\nunit = ratio\nbetter = none\nmeaning = X\nformula = x\n", ["'x'"]),
    (GOOD + "[x]\nunit = ratio\nbetter = none\nmeaning = X\nformula = a__b.sum /\n", ["its end"]),
    (GOOD + "[x]\nunit = ratio\nbetter = none\nmeaning = X\nformula = " + "(" * 500 + "\n", ["nesting"]),
    ("".join(f"[a__{i}.sum]\nunit = bytes\nbetter = lower\nmeaning = Bytes\n" for i in range(257)), ["at most 256"]),
    (GOOD + "alternative = c__d.sum,\n", ["alternative is empty", "a__b.sum"]),
    (GOOD + "alternative = c__d.sum\nalternative = e__f.sum\n", ["twice", "'alternative'"]),
    (GOOD + "alternative = a, b, c, d, e\n", ["at most 4", "'e'"]),
    (GOOD + "[x]\nunit = ratio\nbetter = none\nmeaning = X\nformula = a__b.sum\nalternative = c__d.sum\n",
     ["no alternative", "'x'"]),
    ("\0", ["NUL"]), pytest.param("# " + "x" * (1 << 20), ["1 MiB"], id="large")])
def test_a_bad_set_is_refused_with_its_line(adamas, tmp_path, text, says):
    (tmp_path / "mine.metrics").write_text(text)
    refuse(adamas, "counters", "list", "--set", "./mine.metrics", says=says)


def test_lines_may_go_on_and_end_as_they_like(adamas, tmp_path):
    (tmp_path / "mine.metrics").write_bytes(b"summary = Mine,\r\n  all of it\r\n\r\n" + GOOD.replace("\n", "\r\n").encode() +
                                            b"caveat = One\n   two\n\tthree")
    document = listed(adamas, "./mine.metrics")
    assert document["summary"] == "Mine, all of it"
    assert document["metrics"] == [{"name": "a__b.sum", "unit": "bytes", "better": "lower", "meaning": "Bytes",
                                    "caveat": "One two three", "set": "./mine.metrics"}]

"""`adamas report` as a user meets it: the page is a text file that any browser takes, names in the data stay text, and
what cannot be reported is refused without a page. How the page looks in a browser is tested in web-report/tests.
"""
import contextlib
import html.parser
import itertools
import json
import re
import shutil
import sqlite3
import uuid

import pytest

from conftest import ROOT, Adamas, files_of, query, refuse

EVIL = "</script><script>alert(\"1\")</script><!-- <b>'&amp;\u2028"


class Page(html.parser.HTMLParser):
    """Text and tags of a page; what is inside <script> is neither."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.scripts, self.inside = "", {}, [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.inside = tag
        if tag == "script":
            self.scripts.append([dict(attributes), ""])

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1][1] += data
        else:
            self.text += data


def test_report_shows_hostile_names_as_text(adamas, write_trace, tmp_path):
    pages = {}
    for name, text in (("plain", "plain"), ("evil", EVIL)):
        trace = write_trace(f"{name}.safetensors", metadata={"model": text, "text_source": text, text: text})
        assert adamas("replay", trace, "--db", f"{name}.db", "--label", text, "--quiet").code == 0
        result = adamas("report", "--db", f"{name}.db", "-o", f"{name}.html")
        assert (result.code, result.err) == (0, "") and f"{name}.html" in result.out
        pages[name] = Page((tmp_path / f"{name}.html").read_text())
    assert pages["evil"].tags == pages["plain"].tags, "a name became markup"
    assert EVIL.replace("\u2028", "?") in pages["evil"].text
    data = [text for attributes, text in pages["evil"].scripts if attributes.get("type") == "application/json"]
    assert len(data) == 1 and EVIL in strings_of(json.loads(data[0])), "the page's data lost the name"
    page, printed = unpacked(json.loads(data[0])), json.loads(adamas("report", "--db", "evil.db", "--json").out)
    assert page.pop("generated_utc") <= printed.pop("generated_utc")
    for name in ("advice", "best", "checks", "check_rows", "claims", "differences", "sketches", "verdict"):
        del printed[name]  # tables alone show them
    for name, members in (("quality", ("min", "p01", "p99", "max")),
                          ("units", ("min", "max", "cold_l2_ratio", "throttled_ratio")), ("configs", ("config_id",)),
                          ("runs", ("argv", "os", "run_uuid", "cpu_model", "compiler", "gpu_uuid", "finished_utc", "samples",
                                    "git_commit"))):
        printed[name] = [{key: value for key, value in row.items() if key not in members} for row in printed[name]]
    assert_alike(page, printed)


def unpacked(value):
    """The page's data as --json prints it: analysis/report/pack.h has the form."""
    if isinstance(value, list):
        return [unpacked(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "packed" not in value:
        return {key: unpacked(one) for key, one in value.items()}
    columns = {key: values_of(column, value["packed"]) for key, column in value["columns"].items()}
    return [{key: column[i] for key, column in columns.items() if column[i] is not ...} for i in range(value["packed"])]


def values_of(column, n):
    if isinstance(column, list):
        return [unpacked(one) for one in column]
    if "packed" in column:
        return unpacked(column)
    if "sparse" in column:
        return [... if one is None else one for one in values_of(column["sparse"], n)]
    if "all" in column:
        return [unpacked(column["all"])] * n
    if "at" in column:
        return [column["of"][at] for at in column["at"]]
    runs = iter(column["runs"])
    return [column["of"][at] for at, n_times in zip(runs, runs) for _ in range(n_times)]


def assert_alike(page, printed, path=""):
    """The same members in the same order; numbers to five digits, whole ones exactly."""
    if isinstance(printed, float):
        assert page == (printed if printed.is_integer() else pytest.approx(printed, rel=5e-5)), path
    elif isinstance(printed, list):
        assert len(page) == len(printed), path
        for i, (one, other) in enumerate(zip(page, printed)):
            assert_alike(one, other, f"{path}[{i}]")
    elif isinstance(printed, dict):
        assert set(page) == set(printed), path
        for key, value in printed.items():
            assert_alike(page[key], value, f"{path}.{key}")
    else:
        assert page == printed, path


def strings_of(value):
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return set(value).union(*map(strings_of, value.values()))
    return set().union(*map(strings_of, value)) if isinstance(value, list) else set()


def test_report_names_nothing_on_the_network(adamas, small_run, tmp_path):
    assert adamas("report", "--db", small_run[1], "--quiet").code == 0
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import""", page)
    assert not re.search(r"<(?:link|iframe|img|object|embed)\b", page)


@pytest.mark.parametrize("arguments, says", [
    (["-o", "none/r.html"], ["none/r.html", "No such file"]), (["-o", "."], ["."]), (["-o", ""], []),
    (["--run", "7"], ["7"]), (["--run", "0"], ["no run 0"]), (["--run", "x"], ["no run", "'x'"]), (["--run", "1-x"], ["'1-x'"]),
])
def test_report_with_bad_values(adamas, small_run, tmp_path, arguments, says):
    refuse(adamas, "report", "--db", small_run[1], *arguments, says=says)
    assert list(tmp_path.iterdir()) == []


def test_report_of_a_database_without_a_run(adamas, small_run, tmp_path):
    """A program killed before its first batch leaves such a database."""
    shutil.copy(small_run[1], tmp_path / "x.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM run")
        connection.commit()
    refuse(adamas, "report", "--db", "x.db", says=["x.db", "no run"])
    assert not (tmp_path / "report.html").exists()


def test_report_does_not_change_the_database(adamas, small_run):
    before = small_run[1].read_bytes()
    assert adamas("report", "--db", small_run[1], "--quiet").code == 0
    assert files_of(small_run[1]) == {small_run[1].name: before}


# ---- which GPU profiles are shown --------------------------------------------------------------------------------------

def add_profile(database, label="", gpu="Invented GPU", parts=("time_ns",), status="complete", day=1, stage="step", trace=None,
                commit="0", n_configs=1):
    """A run of one configuration with an invented figure for each part; returns its run_id."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        columns = {"run_uuid": str(uuid.uuid4()), "label": label, "command": "profile", "status": status,
                   "started_utc": f"2026-01-{day:02}T00:00:00.000Z", "tool_version": "0", "git_commit": commit, "argv": "[]",
                   "seed": 1, "host_name": "h", "os": "o", "cpu_model": "c", "n_cpus": 1, "memory_bytes": 1,
                   "compiler": "cc", "gpu_name": gpu}
        run = connection.execute(f"INSERT INTO run ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                                 tuple(columns.values())).lastrowid
        connection.executemany("INSERT OR IGNORE INTO config (config_id, policy, variant, n_q_heads, n_kv_heads, head_dim, "
                               "dtype, seq_len, batch, cache, launch, trace_id) VALUES (?, 'adamas', 'l1', 8, 8, 64, 'F16', ?, "
                               "1, 'cold', 'graph', ?)",
                               [(900 + 10 * (trace or 0) + i, 4096 + i, trace) for i in range(n_configs)])
        configs = [900 + 10 * (trace or 0) + i for i in range(n_configs)]
        for part, config in itertools.product(parts, configs):
            if part == "activity":
                connection.execute("INSERT INTO activity (run_id, config_id, stage, step, kind, name, stream, start_ns, "
                                   "end_ns, registers) VALUES (?, ?, 'distance', 0, 'kernel', 'k', 7, 0, 9, 32)", (run, config))
                continue
            connection.execute("INSERT OR IGNORE INTO metric (name, unit, better, description) VALUES (?, '1', 'none', '')",
                               (part,))
            connection.execute("INSERT INTO measurement (run_id, config_id, source, stage, metric_id, n, mean, median, status) "
                               "SELECT ?, ?, 'gpu', ?, metric_id, 1, 5.0, 5.0, 'ok' FROM metric WHERE name = ?",
                               (run, config, stage, part))
        connection.commit()
    return run


@pytest.fixture
def profiles(adamas, small_run, tmp_path):
    """profiles(*arguments) -> run ids of the report's profiles; the database is own.db."""
    shutil.copy(small_run[1], tmp_path / "own.db")

    def read(*arguments):
        result = adamas("report", "--db", "own.db", "--json", *arguments)
        assert (result.code, result.err) == (0, "")
        document = json.loads(result.out)
        shown = [profile["run_id"] for profile in document["profiles"]]
        read.parts = [profile["parts"] for profile in document["profiles"]]
        assert set(shown) <= {run["run_id"] for run in document["runs"]}
        assert not set(shown) & {run["run_id"] for run in document["other_runs"]}
        return shown
    read.database = tmp_path / "own.db"
    return read


def test_the_latest_profile_of_every_gpu_is_shown(profiles):
    db = profiles.database
    assert profiles() == []
    add_profile(db, day=1)
    newer = add_profile(db, day=3)
    add_profile(db, day=2)
    assert profiles() == [newer]
    other = add_profile(db, gpu="Another GPU", day=1)
    assert profiles() == [newer, other]


def test_recorded_profiles_stand_after_own_ones_and_apart(profiles):
    db = profiles.database
    recorded = add_profile(db, label="recorded:x", day=9)
    assert profiles() == [recorded]
    own = add_profile(db, day=1)
    assert profiles() == [own, recorded]


def test_an_earlier_run_is_shown_for_what_later_ones_lack(profiles):
    """Counters and timelines are often taken in runs of their own."""
    db = profiles.database
    timeline = add_profile(db, parts=("time_ns", "activity"), day=1)
    counters = add_profile(db, parts=("time_ns", "dram__bytes_read.sum"), day=2)
    add_profile(db, parts=("time_ns", "dram__bytes_read.sum"), day=1)
    times = add_profile(db, parts=("time_ns", "sm_clock_hz"), day=3)
    assert profiles() == [times, counters, timeline]
    assert profiles.parts == [1, 2, 4], "each for what the later ones lack"
    everything = add_profile(db, parts=("time_ns", "dram__bytes_read.sum", "activity"), day=4)
    assert profiles() == [everything]


def test_phases_of_a_step_are_a_section_and_no_counters(profiles, adamas):
    parts = ("time_ns", "phase_scan_ns", "phase_cut_ns", "phase_all_ns")
    assert profiles() == []
    run = add_profile(profiles.database, parts=parts, day=2)
    add_profile(profiles.database, stage="topk", parts=("time_ns", "phase_scan_ns"), day=1)
    assert profiles()[0] == run and profiles.parts[0] == 1 + 8
    document = json.loads(adamas("report", "--db", "own.db", "--json").out)
    assert [(row["profile"], row["phase"], row["median"], row["n"]) for row in document["phases"]] == [
        (0, "scan", 5.0, 1), (0, "cut", 5.0, 1), (0, "all", 5.0, 1)]
    assert document["counters"] == []
    assert adamas("report", "--db", "own.db", "-o", "phases.html", "--quiet").code == 0
    page = (profiles.database.parent / "phases.html").read_text()
    section = page[page.index("<div class=group id=phases>"):]
    section = section[:section.index("</noscript>")]
    assert "data-plot=phases data-profile=0" in section and section.count("<tr") == 1 + 3
    assert [word for word in ("scan", "cut", "all") if f">{word}<" in section] == ["scan", "cut", "all"]


def test_a_run_of_one_stage_does_not_hide_the_whole_steps(profiles):
    steps = add_profile(profiles.database, day=1)
    one = add_profile(profiles.database, stage="topk", day=2)
    assert profiles() == [one, steps]


def test_the_widest_grid_of_a_commit_is_shown_for_its_steps(profiles):
    """A later run of a few configurations, for counters say, does not take the grid's place; one of a later commit does."""
    db = profiles.database
    grid = add_profile(db, n_configs=3, day=1)
    observed = add_profile(db, parts=("time_ns", "dram__bytes_read.sum", "activity"), day=2)
    assert profiles() == [observed, grid] and profiles.parts == [6, 1]
    changed = add_profile(db, commit="1", day=3)
    assert profiles() == [changed, observed] and profiles.parts == [1, 6]
    assert profiles("--run", str(grid)) == [grid]


def test_a_run_of_a_trace_stands_beside_one_of_random_inputs(profiles):
    random = add_profile(profiles.database, day=1)
    traced = add_profile(profiles.database, trace=1, day=2)
    assert profiles() == [traced, random]


def test_a_broken_profile_gives_way_to_a_complete_one(profiles):
    db = profiles.database
    broken = add_profile(db, status="interrupted", day=2)
    assert profiles() == [broken]
    complete = add_profile(db, day=1)
    assert profiles() == [complete]
    assert profiles("--run", str(broken)) == [broken]


def test_a_profile_without_figures_is_not_shown(profiles):
    nothing = add_profile(profiles.database, parts=())
    assert profiles() == [] and profiles("--run", str(nothing)) == []


def test_a_database_of_profiles_alone_makes_a_page(adamas, small_run, tmp_path):
    shutil.copy(small_run[1], tmp_path / "own.db")
    run = add_profile(tmp_path / "own.db")
    assert adamas("report", "--db", "own.db", "--run", run, "--quiet").code == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "Invented GPU" in page.text and "Quality against budget" not in page.text


# ---- the best selection measured, and notes ----------------------------------------------------------------------------

NOTE = "quest below a budget of 48"


@pytest.fixture(scope="session")
def policies_run(program, small_run, tmp_path_factory):
    """A database of a replay with several policies at two budgets below the length and one above it."""
    adamas = Adamas(tmp_path_factory.mktemp("policies"))
    assert adamas("replay", small_run[0], "--db", "p.db", "--quiet", "--budgets", "16,48,4096", "--policies",
                  "oracle,random,streaming,quest,adamas:metric=l1+dot").code == 0
    return adamas.folder / "p.db"


@pytest.fixture
def best(adamas, policies_run, tmp_path):
    """best(sql) -> (rows of "best" by length and budget, the page's text, the stored errors) once the SQL has run."""
    def read(sql=""):
        shutil.copy(policies_run, tmp_path / "p.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as connection:
            connection.executescript(sql)
            stored = connection.execute(
                "SELECT seq_len, budget, policy || ' ' || variant, p50, n FROM quality_summary WHERE metric = 'output_rel_l2' "
                "AND budget < seq_len AND policy NOT IN ('dense', 'oracle', 'random') ORDER BY p50").fetchall()
        result = adamas("report", "--db", "p.db", "--json")
        assert (result.code, result.err) == (0, "")
        assert adamas("report", "--db", "p.db", "--quiet").code == 0
        rows = {(row["seq_len"], row["budget"]): row for row in json.loads(result.out)["best"]}
        return rows, Page((tmp_path / "report.html").read_text()).text, stored
    return read


OF_ERROR = "FROM config c, metric k WHERE c.config_id = measurement.config_id AND k.metric_id = measurement.metric_id " \
           "AND k.name = 'output_rel_l2' AND measurement.layer IS NULL"


def percent(value):
    return "<0.01%" if 0 < value < 5e-5 else f"{value * 100:,.2f}%"


def test_the_best_selection_is_the_smallest_stored_median(best):
    rows, text, stored = best()
    assert {key for key in rows} == {row[:2] for row in stored} and len(rows) == 2
    for (seq_len, budget), row in rows.items():
        here = [one for one in stored if one[:2] == (seq_len, budget)]
        default = next(one for one in here if one[2] == "adamas l1 calibrated")
        assert (row["series"], row["median"], row["n"]) == here[0][2:]
        assert (row["default"]["median"], row["default"]["n"]) == default[3:]
        assert (row["n_compared"], row["n_equal"]) == (4, 0)
        line = f"Best measured at budget {budget}, {seq_len:,} tokens: "
        line += "the default, " if here[0] == default else ""
        assert f"{line}{here[0][2]}: {percent(here[0][3])} median output error" in text
        if here[0] != default:
            assert f"; the default (adamas l1 calibrated) {percent(default[3])}; n = {here[0][4]:,}; of 4 selections" in text


def test_the_best_sketch_is_named_where_it_is_not_the_best(best):
    """What a kernel can scan: neither another policy nor a float query nor other widths, whatever they reach."""
    rows, text, _ = best()
    for row in rows.values():
        assert row["sketch"]["series"] in ("adamas l1 calibrated", "adamas dot calibrated")
    rows, text, _ = best(f"UPDATE measurement SET median = CASE (SELECT c.policy || c.variant {OF_ERROR}) "
                         "WHEN 'streaming4 sinks' THEN 0.25 WHEN 'adamasdot calibrated' THEN 0.375 ELSE 0.5 END "
                         f"WHERE EXISTS (SELECT 1 {OF_ERROR}); "
                         "UPDATE config SET variant = 'asymmetric centred' WHERE variant = 'l1 calibrated'")
    assert {(row["sketch"]["series"], row["sketch"]["median"]) for row in rows.values()} == {("adamas dot calibrated", 0.375)}
    assert "streaming 4 sinks: 25.00% median output error" in text
    assert "; the best sketch (adamas dot calibrated) 37.50%; n = " in text


def test_calibrations_name_the_best_sketch_of_a_model(adamas, small_run, tmp_path):
    assert adamas("calibrate", small_run[0], "-b", "16,48", "--db", "s.db", "--quiet").code == 0
    assert adamas("calibrate", small_run[0], "-b", "32", "--metrics", "l1", "--db", "s.db", "--quiet").code == 0
    result = adamas("report", "--db", "s.db", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    row, = document["sketches"]  # the latest
    stored = dict(query(tmp_path / "s.db", "SELECT policy || ' ' || variant, mean FROM quality_summary WHERE run_id = 2 AND "
                                           "metric = 'mass' AND budget = 32"))
    own, = (name for name in stored if ", calibration " in name)
    assert (row["run_id"], row["budget"], "adamas " + row["variant"], row["model"]) == (2, 32, own, "small")
    assert row["mass"] == pytest.approx(stored[own]) and row["exact_mass"] == pytest.approx(stored["oracle exact"])
    assert row["l1_mass"] == pytest.approx(stored["adamas l1 calibrated"]) and row["n"] == 8 * 2 * 4
    assert [run["run_id"] for run in document["other_runs"]] == [1]
    assert adamas("report", "--db", "s.db", "--quiet").code == 0
    text = Page((tmp_path / "report.html").read_text()).text
    assert f"Best sketch of small: {own}, by adamas calibrate (run 2)" in text
    assert f"At budget 32: {percent(row['mass'])}; the default (adamas l1 calibrated) {percent(row['l1_mass'])}" in text
    named = json.loads(adamas("report", "--db", "s.db", "--json", "--run", "1").out)["sketches"]
    assert [(r["run_id"], r["budget"]) for r in named] == [(1, 16), (1, 48)]


def test_the_best_selection_beats_the_default_by_the_figures_alone(best):
    """The oracle and random are never the best, whatever they reach; a planted figure decides."""
    rows, text, _ = best(f"UPDATE measurement SET median = CASE (SELECT c.policy || c.variant {OF_ERROR}) "
                         "WHEN 'oracleexact' THEN 0.01 WHEN 'streaming4 sinks' THEN 0.25 ELSE 0.5 END "
                         f"WHERE EXISTS (SELECT 1 {OF_ERROR});")
    assert {row["series"] for row in rows.values()} == {"streaming 4 sinks"}
    assert "streaming 4 sinks: 25.00% median output error; the default (adamas l1 calibrated) 50.00%; n = " in text


def test_equal_medians_are_counted_and_not_ranked(best):
    rows, text, _ = best(f"UPDATE measurement SET median = 0.5 WHERE EXISTS (SELECT 1 {OF_ERROR});")
    assert {row["n_equal"] for row in rows.values()} == {3}
    assert "50.00% median output error, and 3 with the same" in text


def test_a_default_that_was_not_measured_is_said_to_be_missing(adamas, small_run, tmp_path):
    assert adamas("replay", small_run[0], "--db", "q.db", "--quiet", "--budgets", "64", "--policies", "quest").code == 0
    assert adamas("report", "--db", "q.db", "--quiet").code == 0
    text = Page((tmp_path / "report.html").read_text()).text
    assert "the default (adamas l1 calibrated) was not measured; n = " in text and "of 1 selection\n" in text
    assert NOTE not in text, "a note without a row that needs it"


def test_the_default_that_the_report_names_is_the_default(adamas, small_run):
    """`adamas replay` with its own policies must measure what the report calls the default."""
    rows = json.loads(adamas("report", "--db", small_run[1], "--json").out)["best"]
    assert rows and all(row["default"] for row in rows)


def test_quest_below_three_pages_carries_a_note(adamas, best, tmp_path):
    best()
    document = json.loads(adamas("report", "--db", "p.db", "--json").out)
    noted = {(row["policy"], row["budget"]) for row in document["quality"] if "note" in row}
    assert noted == {("quest", 16)}
    page = (tmp_path / "report.html").read_text()
    for table in page.split("<section id=\"quality\"")[1].split("</section>")[0].split("<details")[1:]:
        rows = table.split("<tr")[2:]
        starred = [row for row in rows if "quest" in row and "&nbsp;*<td>" in row]
        assert all("<td>16<td>" in row for row in starred)
        assert (f"* {NOTE}" in table) == bool(starred), "an asterisk without its sentence, or the other way round"
    assert any("&nbsp;*<td>" in table for table in page.split("<details"))
    summary = page.split('id="summary"')[1].split("<h2")[1]
    assert ("&nbsp;*" in summary) == (f"* {NOTE}" in summary)


# ---- ratios of few timings ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n, ci, words, gain", [
    (20, 0.1, None, None),
    (12, 0.1, "from the medians' 95% intervals", (270 / 110, 330 / 90)),
    (12, None, "from p10 and p90", (280 / 125, 360 / 95)),
    (5, 0.1, "from p10 and p90", (280 / 125, 360 / 95)),
    (1, 0.1, "n < 20, no interval", None),
])
def test_a_ratio_of_few_timings_carries_its_interval(adamas, small_run, tmp_path, n, ci, words, gain):
    """A step of 100 us under dense attention of 300: the page's sentence, the table of speed-ups, the share of the limit."""
    shutil.copy(small_run[1], tmp_path / "own.db")
    run = add_profile(tmp_path / "own.db", parts=("time_ns", "limit_ratio", *(["median_ci_ratio"] if ci else [])))
    with contextlib.closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("UPDATE config SET budget = 256 WHERE config_id = 900")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(config)") if row[1] not in ("config_id", "policy",
                                                                                                      "budget")]
        names = ", ".join(f'"{column}"' for column in columns)
        connection.execute(f"INSERT INTO config (config_id, policy, budget, {names}) SELECT 999, 'dense', NULL, {names} FROM "
                           "config WHERE config_id = 900")
        connection.execute("INSERT INTO measurement (run_id, config_id, source, stage, metric_id, n, mean, median, status) "
                           "SELECT run_id, 999, source, 'dense', metric_id, n, mean, median, status FROM measurement "
                           "WHERE run_id = ?", (run,))
        of = "WHERE run_id = ? AND metric_id = (SELECT metric_id FROM metric WHERE name = ?) AND config_id = ?"
        for config, figures in ((900, (100e3, 95e3, 125e3)), (999, (300e3, 280e3, 360e3))):
            connection.execute(f"UPDATE measurement SET n = ?, median = ?, p10 = ?, p90 = ? {of}",
                               (n, *figures, run, "time_ns", config))
            connection.execute(f"UPDATE measurement SET median = 0.5 {of}", (run, "limit_ratio", config))
            connection.execute(f"UPDATE measurement SET median = ? {of}", (ci, run, "median_ci_ratio", config))
        connection.commit()
    assert adamas("report", "--db", "own.db", "--run", run, "--quiet").code == 0
    text = Page((tmp_path / "report.html").read_text()).text
    summary, table = text.split("times as long")[1], text.split("Of the faster step")[1]
    if words is None:
        assert "n < 20" not in text and "from the medians" not in text and "from p10" not in text
        return
    said = f"({gain[0]:.1f} to {gain[1]:.1f}, {words})" if gain else f"({words})"
    assert said in summary[:80], summary[:200]
    said = f"({gain[0]:.2f} to {gain[1]:.2f}, {words})" if gain else f"({words})"
    assert said in table[:700], table[:700]
    share = "50 ({:.1f} to {:.1f}, %s)" % words  # of the step alone: 0.5 over what 100 us may have been
    low, high = (110, 90) if "medians" in words else (125, 95)
    said = share.format(50 * 100 / low, 50 * 100 / high) if gain else f"50 ({words})"
    assert said in text


# ---- databases without a session or a profile --------------------------------------------------------------------------

def test_decode_steps_alone_have_a_first_screen(adamas, tmp_path):
    recorded = ROOT / "analysis/recorded/h200-decode.json"
    assert adamas("db", "import", recorded, "--db", "d.db", "--quiet").code == 0
    document = json.loads(adamas("report", "--db", "d.db", "--json").out)
    [headline] = document["verdict"]["headlines"]
    best = max((row for row in document["decoded"] if row["gain"] and row["budget"]), key=lambda row: row["gain"])
    assert (headline["view"], headline["value"]) == ("decode", f"{best['gain']:.2f}\u00d7")
    assert f"{best['model']} at {best['seq_len']:,} tokens" in headline["text"] and "recorded)" in headline["text"]
    assert document["verdict"]["nothing"] == "adamas report --baseline RUNS"
    assert adamas("report", "--db", "d.db", "--quiet").code == 0
    page = (tmp_path / "report.html").read_text()
    assert "measured anything yet" not in page and 'href="#summary"' not in page

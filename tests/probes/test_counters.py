"""`adamas replay --counters host`: a value for every stage and counter, or the reason why there is none, and nothing else
changed. Whether this machine counts decides which; the machinery itself is in test_perf_probe.c and test_replay.c.
"""
import os

import pytest

from conftest import check_sound, query, refuse

COUNTERS = ["cache_misses", "cycles", "instructions"]
STAGES = ["append", "attention", "bucket", "dense", "distance", "hadamard", "pack", "topk"]

MEASURED = """
SELECT config_id, ifnull(stage, ''), name, ifnull(layer, -1), ifnull(head, -1), n,
       CASE unit WHEN 'ns' THEN NULL ELSE mean END
FROM measurement JOIN metric USING (metric_id) WHERE name NOT IN ('cycles', 'instructions', 'cache_misses')
ORDER BY 1, 2, 3, 4, 5"""


@pytest.fixture
def counted(adamas, small_run, tmp_path):
    result = adamas("replay", small_run[0], "--db", "counted.db", "--counters", "host", "--timeline")
    assert (result.code, result.err) == (0, "")
    check_sound(tmp_path / "counted.db")
    return result, tmp_path / "counted.db"


def test_every_stage_has_every_counter_or_a_reason(counted):
    result, database = counted
    rows = query(database, "SELECT stage, metric, budget, source, n, median, status, ifnull(reason, '') FROM stage_summary "
                           "WHERE metric IN ('cycles', 'instructions', 'cache_misses')")
    assert sorted({(stage, metric) for stage, metric, *_ in rows}) == [(s, c) for s in STAGES for c in COUNTERS]
    assert len(rows) == len({row[:3] for row in rows}) == (6 + 2 * 5) * 3  # topk and attention at each default budget
    for stage, metric, _, source, n, median, status, reason in rows:
        assert source == "host"
        if status == "ok":
            assert 0 < n <= 32 and (median > 0 or metric == "cache_misses"), (stage, metric)
        else:
            assert (status, n, median) == ("skipped", 0, None) and len(reason) > 20, (stage, metric)
    assert ("not counted: " in result.out) == any(status == "skipped" and "never on" not in reason
                                                  for *_, status, reason in rows)
    if any(row[6] == "skipped" for row in rows):
        print("not counted here: " + next(row[7] for row in rows if row[6] == "skipped"))


def test_counting_changes_nothing_else(counted, adamas, small_run):
    _, database = counted
    assert query(database, MEASURED) == query(small_run[1], MEASURED)
    [(n_events, n_sessions)] = query(database, "SELECT count(*), count(*) FILTER (WHERE kind = 'session') FROM event")
    assert n_events > 500 and n_sessions == 1
    assert query(database, "SELECT status FROM run") == [("complete",)]


def test_the_report_shows_why_a_counter_is_missing(counted, adamas, tmp_path):
    _, database = counted
    assert adamas("report", "--db", database, "-o", "report.html", "--quiet").code == 0
    skipped = query(database, "SELECT reason FROM measurement WHERE status = 'skipped' LIMIT 1")
    page = (tmp_path / "report.html").read_text()
    assert "cycles" in page and all(reason[:40] in page for (reason,) in skipped)


def test_an_unknown_set_is_refused(adamas, small_run):
    refuse(adamas, "replay", small_run[0], "--counters", "gpu", says=["--counters", "'gpu'", "host"])
    assert os.listdir(adamas.folder) == []

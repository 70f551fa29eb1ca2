"""`evaluate.py --shard i/n` on a small random model: a sweep in parts and in one piece is the same to the last bit, and a part
that was cut short goes on.

Skipped where the packages of traces/model/requirements.txt are absent; `tests/run.py --with-models` runs it.
"""
import json
import sys
from pathlib import Path

import pytest
from tiny_models import save_folder, skip_module_without_models, tiny_model

from conftest import Adamas, check_sound, query

skip_module_without_models()

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))
import evaluate

ROWS = ("SELECT t.name, t.xxh128, c.policy, c.variant, c.seq_len, c.budget, k.name, m.n, m.mean, m.min, m.p05, m.median, "
        "m.p95, m.max, m.status FROM measurement m JOIN config c USING (config_id) JOIN trace t USING (trace_id) JOIN metric k "
        "USING (metric_id) ORDER BY 1, 2, 3, 4, 5, 6, 7")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    save_folder(tiny_model("llama", num_hidden_layers=3, num_attention_heads=6, head_dim=64, hidden_size=48,
                           max_position_embeddings=2048), folder / "model")
    for name in "ab":
        (folder / f"{name}.txt").write_text(f"{name} In the beginning God created the heaven and the earth. " * 9)
    return folder


@pytest.fixture
def sweep(place, tmp_path):
    """Runs evaluate.py into tmp_path: of a shard, or in one piece."""
    def run(db, shard=None, more=(), code=0):
        path = tmp_path / "shards" / db
        path.parent.mkdir(exist_ok=True)
        command = ["--model", str(place / "model"), "--text", str(place / "a.txt"), "--text", str(place / "b.txt"), "--db",
                   str(path), "--context", "64", "--blocks", "2", "--block-tokens", "8", "--budgets", "16,32", "--passkeys",
                   "1", "--passkey-context", "300", "--passkey-budgets", "16", "--policies", "adamas;quest;h2o;random"]
        assert evaluate.main([*command, *(["--shard", shard] if shard else []), *more]) == code
        return path

    def merge(*more, code=0):
        result = Adamas(tmp_path)("db", "merge", tmp_path / "shards", "--db", tmp_path / "all.db", "--json", *more)
        assert result.code == code, result
        return next(row for row in json.loads(result.out) if "sweep" in row)

    run.merge, run.all = merge, tmp_path / "all.db"
    return run


@pytest.mark.parametrize("n", [1, 3, 16])
def test_in_shards_and_in_one_piece(sweep, tmp_path, n):
    one = sweep("one.db").rename(tmp_path / "one.db")
    for i in range(1, n + 1):
        sweep(f"{i}.db", f"{i}/{n}")
    joined = sweep.merge()
    assert (joined["n_there"], joined["status"], joined["left"]) == (n, "complete", [])
    check_sound(sweep.all)
    assert len(query(one, ROWS)) > 150 and query(sweep.all, ROWS) == query(one, ROWS)
    assert query(sweep.all, "SELECT command, n_shards FROM run") == [("evaluate", n)]


def test_a_shard_that_was_cut_short_goes_on(sweep, tmp_path, monkeypatch):
    whole = query(sweep("whole.db", "1/1").rename(tmp_path / "whole.db"), ROWS)
    scored, asked = [], []
    score, decode = evaluate.score_text, evaluate.ask_passkeys

    def interrupted_in_the_second(model, library, ids, *rest):
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(len(ids))
        return score(model, library, ids, *rest)

    def interrupted_after_two_depths(model, library, tokenise, args, policies, note, known, done):
        def done_or_not(depth, answers):
            if len(asked) == 2:
                raise KeyboardInterrupt
            asked.append(depth)
            done(depth, answers)
        return decode(model, library, tokenise, args, policies, note, known, done_or_not)

    with monkeypatch.context() as m:
        m.setattr(evaluate, "score_text", interrupted_in_the_second)
        path = sweep("s.db", "1/1", code=130)
    assert query(path, "SELECT run_id, status FROM run") == [(1, "interrupted")]
    assert {row[0] for row in query(path, ROWS)} == {"a.txt"}
    assert sweep.merge(code=3)["left"][0]["fate"] == "unfinished"
    with monkeypatch.context() as m:
        m.setattr(evaluate, "ask_passkeys", interrupted_after_two_depths)
        m.setattr(evaluate, "score_text", lambda *arguments: scored.append(0) or score(*arguments))
        path = sweep("s.db", "1/1", code=130)
    assert len(scored) == 2  # the second text alone
    assert asked == [0.9, 0.7] and len({row[0] for row in query(path, ROWS)}) == 5
    with monkeypatch.context() as m:
        m.setattr(evaluate, "score_text", None)
        path = sweep("s.db", "1/1")
    assert query(path, "SELECT run_id, status FROM run") == [(1, "complete")]
    assert query(path, ROWS) == whole


def test_a_shard_that_is_repeated_replaces_itself(sweep):
    path = sweep("1.db", "1/2")
    sweep("2.db", "2/2")
    sweep.merge()
    first, rows = query(path, "SELECT run_uuid FROM run"), query(sweep.all, ROWS)
    sweep("1.db", "1/2")
    second = query(path, "SELECT run_uuid FROM run")
    assert len(second) == 1 and second != first
    assert sweep.merge()["n_joined"] == 1
    assert query(sweep.all, "SELECT run_uuid FROM shard WHERE shard = 1") == second
    assert query(sweep.all, ROWS) == rows


def test_other_inputs_are_refused(sweep, place, tmp_path):
    sweep("1.db", "1/2")
    (tmp_path / "b.txt").write_text("c In the beginning God created the heaven and the earth. " * 9)
    command = ["--model", str(place / "model"), "--text", str(place / "a.txt"), "--text", str(tmp_path / "b.txt"), "--db",
               str(tmp_path / "shards/2.db"), "--context", "64", "--blocks", "2", "--block-tokens", "8", "--budgets", "16,32",
               "--passkeys", "1", "--passkey-context", "300", "--passkey-budgets", "16", "--policies",
               "adamas;quest;h2o;random", "--shard", "2/2"]
    assert evaluate.main(command) == 0
    result = Adamas(tmp_path)("db", "merge", tmp_path / "shards", "--db", tmp_path / "all.db")
    assert result.code == 2 and "what their input files hold" in result.err

"""The store as another program uses it: core/store/store_api.h through ctypes."""
import ctypes
import json
import os
import subprocess
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p

import numpy as np
import pytest

from conftest import ROOT, SCHEMA_VERSION

LIBRARY = ROOT / "build/release/libadamas.so"
INPUT, INTERNAL = 1, 5
RUN = {"command": "evaluate", "argv": '["evaluate.py", "--quick"]', "gpu_reason": "the model runs on the host"}
TRACE = {"xxh128": "0123456789abcdef" * 2, "name": "kjv.txt", "kind": "real", "model": "m", "file_bytes": 10, "n_tokens": 9,
         "n_steps": 8, "n_layers": 30, "n_q_heads": 9, "n_kv_heads": 3, "head_dim": 64, "softmax_scale": 0.125,
         "metadata": '{"source": "a book"}'}
CONFIG = {"policy": "adamas", "variant": "l1", "n_q_heads": 9, "n_kv_heads": 3, "head_dim": 64, "dtype": "F32", "seq_len": 4096,
          "budget": 64, "batch": 1, "selection": "head", "launch": "host"}
NLL = {"source": "host", "metric": "nll", "unit": "nats", "better": "lower", "description": "Negative log-likelihood"}


class Field(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("value", c_char_p))


class StoreError(Exception):
    pass


class Store:
    """adm_db_* as methods that raise StoreError(code, sentence)."""

    def __init__(self, path):
        self.lib, self.handle = ctypes.CDLL(os.fspath(LIBRARY)), c_void_p()
        buffer = [c_char_p, c_size_t]
        fields = [c_void_p, POINTER(Field), c_size_t]
        for name, arguments in {
                "open": [c_char_p, POINTER(c_void_p)], "flush": [c_void_p],
                "begin_run": [*fields, POINTER(c_int64)], "add_trace": [*fields, POINTER(c_int64)],
                "add_config": [*fields, POINTER(c_int64)], "end_run": [c_void_p, c_int64, c_char_p, c_char_p],
                "add_measurement": [c_void_p, c_int64, c_int64, *fields[1:], POINTER(c_double), c_size_t, c_int]}.items():
            getattr(self.lib, f"adm_db_{name}").argtypes = arguments + buffer
        self.call("open", os.fsencode(path), byref(self.handle))

    def call(self, name, *arguments):
        error = ctypes.create_string_buffer(400)
        code = getattr(self.lib, f"adm_db_{name}")(*arguments, error, len(error))
        if code:
            raise StoreError(code, error.value.decode())
        assert error.value == b""

    @staticmethod
    def fields(row):
        text = [(k.encode(), None if v is None else str(v).encode()) for k, v in row.items()]
        return (Field * len(text))(*text), len(text)

    def add(self, what, row):
        row_id = c_int64()
        self.call(what, self.handle, *self.fields(row), byref(row_id))
        return row_id.value

    def measure(self, run, config, row, values=(), keep=False):
        values = np.asarray(values, np.float64)
        self.call("add_measurement", self.handle, run, config, *self.fields(row), values.ctypes.data_as(POINTER(c_double)),
                  len(values), keep)

    def flush(self):
        self.call("flush", self.handle)

    def end(self, run, status="complete", reason=None):
        self.call("end_run", self.handle, run, status.encode(), reason and reason.encode())

    def close(self):
        self.lib.adm_db_close(byref(self.handle))
        assert not self.handle.value


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


READ = "import json, sqlite3, sys; print(json.dumps(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()))"


def rows(path, sql):
    """Read in a process of its own: see store_api.h on two SQLites in one process."""
    done = subprocess.run([sys.executable, "-c", READ, path, sql], capture_output=True, text=True, check=True)
    return [tuple(row) for row in json.loads(done.stdout)]


def fails(code, says, call, *arguments, **options):
    with pytest.raises(StoreError) as raised:
        call(*arguments, **options)
    assert raised.value.args[0] == code and says in raised.value.args[1], raised.value.args


# ---------------------------------------------------------------- rows

def test_a_run_with_its_measurements_is_read_back(store, path):
    run = store.add("begin_run", RUN | {"label": "SmolLM2", "seed": -3, "tool_version": "evaluate.py 1.0",
                                        "git_commit": "abc", "git_dirty": 1, "compiler": "PyTorch"})
    assert rows(path, "SELECT status, label, seed, tool_version, git_commit, git_dirty, compiler, argv, gpu_name FROM run") == [
        ("running", "SmolLM2", -3, "evaluate.py 1.0", "abc", 1, "PyTorch", RUN["argv"], None)]  # before any flush
    trace = store.add("add_trace", TRACE)
    config = store.add("add_config", CONFIG | {"trace_id": trace})
    values = [4.0, 1.0, 2.5, 3.0]
    store.measure(run, config, NLL, values, keep=True)
    store.measure(run, config, NLL | {"layer": 3, "head": 0}, [7.0])
    store.flush()
    store.end(run)
    assert rows(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert rows(path, "SELECT name, kind, n_tokens, softmax_scale, metadata FROM trace") == [
        ("kjv.txt", "real", 9, 0.125, TRACE["metadata"])]
    assert rows(path, "SELECT trace_id, policy, dtype, budget, n_sinks, n_recent, selection, cache, page_size FROM config") == [
        (trace, "adamas", "F32", 64, None, None, "head", None, None)]
    found = rows(path, "SELECT status, layer, head, n, mean, min, p10, median, p90, max FROM measurement ORDER BY layer")
    assert found[0][:4] == ("ok", None, None, 4)
    assert found[0][4:] == pytest.approx((2.625, 1.0, *np.quantile(values, [0.1, 0.5, 0.9]), 4.0))
    assert found[1] == ("ok", 3, 0, 1, 7, 7, 7, 7, 7, 7)
    assert rows(path, "SELECT i, value FROM sample ORDER BY i") == list(enumerate(values))  # in the order given
    assert rows(path, "SELECT status, elapsed_ns > 0, finished_utc >= started_utc FROM run") == [("complete", 1, 1)]


def test_what_is_not_given_is_this_machine_and_this_build(store, path):
    store.add("begin_run", RUN)
    host, cpus, version, uuid, label, seed = rows(
        path, "SELECT host_name, n_cpus, tool_version, run_uuid, label, seed FROM run")[0]
    assert (host, cpus) == (os.uname().nodename, len(os.sched_getaffinity(0)))
    assert version and len(uuid) == 36 and (label, seed) == ("", 0)


def test_rows_that_runs_share_are_found_again(store, path):
    trace = store.add("add_trace", TRACE)
    config = store.add("add_config", CONFIG | {"trace_id": trace})
    assert store.add("add_trace", TRACE) == trace
    assert store.add("add_config", CONFIG | {"trace_id": trace, "n_sinks": None}) == config
    assert store.add("add_config", CONFIG | {"trace_id": trace, "n_sinks": 0}) != config
    assert store.add("add_config", CONFIG) != config
    store.flush()
    assert rows(path, "SELECT count(*) FROM config") == [(3,)]


def test_no_values_need_a_reason(store, path):
    run, config = store.add("begin_run", RUN), store.add("add_config", CONFIG)
    store.measure(run, config, NLL | {"reason": "the text is too short"})
    store.measure(run, config, NLL | {"layer": 1, "reason": "no convergence", "status": "failed"})
    store.flush()
    assert rows(path, "SELECT status, reason, n, median FROM measurement") == [
        ("skipped", "the text is too short", 0, None), ("failed", "no convergence", 0, None)]
    fails(INPUT, "neither values nor a reason", store.measure, run, config, NLL | {"layer": 2})
    fails(INPUT, "status 'ok' does not go with 0 values", store.measure, run, config, NLL | {"status": "ok", "reason": "x"})
    fails(INPUT, "status 'failed' does not go with 1 values", store.measure, run, config, NLL | {"status": "failed"}, [1.0])


def test_the_program_reports_such_a_run(adamas, store, path):
    run = store.add("begin_run", RUN)
    config = store.add("add_config", CONFIG | {"trace_id": store.add("add_trace", TRACE)})
    store.measure(run, config, NLL, [1.0, 2.0])
    store.flush()
    store.end(run)
    store.close()
    done = adamas("report", "--db", path, "--json")
    assert done.code == 0 and json.loads(done.out)["runs"][0]["command"] == "evaluate", done


# ---------------------------------------------------------------- batches

def test_a_failure_rolls_the_batch_back_and_keeps_what_was_flushed(store, path):
    run, config = store.add("begin_run", RUN), store.add("add_config", CONFIG)
    store.measure(run, config, NLL, [1.0])
    store.flush()
    store.measure(run, config, NLL | {"layer": 1}, [1.0])
    fails(INTERNAL, "UNIQUE", store.measure, run, config, NLL, [2.0])
    assert rows(path, "SELECT layer FROM measurement") == [(None,)]
    store.measure(run, config, NLL | {"layer": 2}, [1.0])
    fails(INPUT, "no column 'bugdet'", store.add, "add_config", CONFIG | {"bugdet": 1})
    store.flush()
    assert rows(path, "SELECT layer FROM measurement") == [(None,)]


def test_an_interrupted_run_drops_the_batch_in_flight(store, path):
    run, config = store.add("begin_run", RUN), store.add("add_config", CONFIG)
    store.flush()
    store.measure(run, config, NLL, [1.0])
    store.end(run, "interrupted", "Ctrl-C")
    assert rows(path, "SELECT status, reason FROM run") == [("interrupted", "Ctrl-C")]
    assert rows(path, "SELECT count(*) FROM measurement") == [(0,)]


def test_closing_drops_what_was_not_flushed(store, path):
    run, config = store.add("begin_run", RUN), store.add("add_config", CONFIG)
    store.flush()
    store.measure(run, config, NLL, [1.0])
    store.close()
    store.close()
    assert rows(path, "SELECT count(*) FROM measurement") == [(0,)] and not path.with_name("runs.db-wal").exists()


# ---------------------------------------------------------------- wrong input

@pytest.mark.parametrize("what, row, says", [
    ("begin_run", {k: v for k, v in RUN.items() if k != "command"}, "run.command is not given"),
    ("begin_run", {k: v for k, v in RUN.items() if k != "gpu_reason"}, "neither gpu_name nor gpu_reason"),
    ("begin_run", RUN | {"seed": "1.5"}, "'1.5' is no value for run.seed"),
    ("begin_run", RUN | {"seed": "9" * 30}, "is no value for run.seed"),
    ("begin_run", RUN | {"run_id": "1"}, "table run has no column 'run_id'"),
    ("add_trace", TRACE | {"xxh128": "abc"}, "'abc' is no value for trace.xxh128"),
    ("add_trace", TRACE | {"softmax_scale": "nan"}, "is no value for trace.softmax_scale"),
    ("add_trace", TRACE | {"n_steps": "-1"}, "is no value for trace.n_steps"),
    ("add_trace", TRACE | {"model": None}, "trace.model is not given"),
    ("add_config", CONFIG | {"dtype": "F64"}, "'F64' is no value for config.dtype"),
    ("add_config", CONFIG | {"seq_len": 1 << 32}, "is no value for config.seq_len"),
    ("add_config", CONFIG | {"batch": ""}, "'' is no value for config.batch"),
    ("add_config", CONFIG | {"batch": "1 "}, "is no value for config.batch"),
])
def test_a_wrong_row_is_refused_with_its_column(store, path, what, row, says):
    fails(INPUT, says, store.add, what, row)
    store.flush()
    assert [rows(path, f"SELECT count(*) FROM {table}") for table in ("run", "trace", "config")] == [[(0,)]] * 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused(store, value):
    run, config = store.add("begin_run", RUN), store.add("add_config", CONFIG)
    fails(INPUT, "value 1 of 2", store.measure, run, config, NLL, [1.0, value])


def test_a_metric_keeps_its_unit(store):
    run, config = store.add("begin_run", RUN), store.add("add_config", CONFIG)
    store.measure(run, config, NLL, [1.0])
    fails(INPUT, "has the metric 'nll' in nats", store.measure, run, config, NLL | {"layer": 1, "unit": "bits"}, [1.0])


def test_null_pointers_are_refused(store, path):
    lib, out, (fields, n) = store.lib, c_int64(), store.fields(RUN)
    assert lib.adm_db_open(None, byref(c_void_p()), None, 0) == INPUT
    assert lib.adm_db_open(os.fsencode(path), None, None, 0) == INPUT
    for name in ("begin_run", "add_trace", "add_config"):
        call = getattr(lib, f"adm_db_{name}")
        assert call(None, fields, n, byref(out), None, 0) == INPUT
        assert call(store.handle, None, n, byref(out), None, 0) == INPUT
        assert call(store.handle, fields, n, None, None, 0) == INPUT
        assert call(store.handle, None, 0, byref(out), None, 0) == INPUT
        assert call(store.handle, (Field * 1)((None, None)), 1, byref(out), None, 0) == INPUT
    assert lib.adm_db_add_measurement(None, 1, 1, fields, n, None, 0, 0, None, 0) == INPUT
    nll, n_nll = store.fields(NLL)
    assert lib.adm_db_add_measurement(store.handle, 1, 1, nll, n_nll, None, 3, 1, None, 0) == INPUT
    assert lib.adm_db_flush(None, None, 0) == INPUT
    assert lib.adm_db_end_run(None, 1, b"complete", None, None, 0) == INPUT
    assert lib.adm_db_end_run(store.handle, 1, None, None, None, 0) == INPUT
    lib.adm_db_close(None)
    lib.adm_db_close(byref(c_void_p()))


def test_a_sentence_is_cut_to_the_callers_buffer(store):
    error = ctypes.create_string_buffer(b"x" * 12)
    assert store.lib.adm_db_open(b"", byref(c_void_p()), error, 8) == INPUT
    assert error.raw[7:9] == b"\0x" and error.value == b"the dat"


def test_another_applications_file_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("not a database, but more than a header's hundred bytes of text " * 4)
    fails(INPUT, "is not an SQLite database", Store, tmp_path / "text.db")
    fails(INPUT, "there is no folder", Store, tmp_path / "none/x.db")

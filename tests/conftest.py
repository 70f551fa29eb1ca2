"""What the Python tests share: the program, small synthetic traces, the bundled real one and a replay of it.

The program is the one named by ADAMAS_BIN, else build/release/adamas; its absence is an error, not a skip.
"""
import contextlib
import json
import os
import sqlite3
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

PROGRAM = Path(os.environ.get("ADAMAS_BIN") or ROOT / "build/release/adamas").resolve()
BUNDLED = ROOT / "traces/smollm2-135m-kjv.safetensors"
SCHEMA_VERSION = len(list((ROOT / "core/store/schema").glob("[0-9]*.sql")))
BUNDLED_RUN = ["--budgets", "64,1024", "--seq-lens", "1024,4096"]


@dataclass
class Result:
    code: int
    out: str
    err: str


class Adamas:
    """Calls the program in a folder of its own: adamas("replay", path, ...) waits, adamas.start(...) does not."""

    def __init__(self, folder):
        self.folder, self.path = folder, PROGRAM

    def start(self, *arguments, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                   "cwd": self.folder, **options}
        return subprocess.Popen([os.fspath(self.path), *map(os.fspath, map(text_of, arguments))], **options)

    def __call__(self, *arguments, timeout=300, **options):  # what hangs is ended; nothing here takes that long
        with self.start(*arguments, **options) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Result(process.returncode, (out or b"").decode(), (err or b"").decode())


def text_of(argument):
    return argument if isinstance(argument, str | bytes | os.PathLike) else str(argument)


@pytest.fixture(scope="session")
def program():
    if not PROGRAM.exists():
        pytest.fail(f"{PROGRAM} is not there: build it with ninja, or name the program in ADAMAS_BIN")
    return PROGRAM


@pytest.fixture
def adamas(program, tmp_path):
    return Adamas(tmp_path)


def without(options, arguments):
    """The pairs of option and value, less those options that the arguments give otherwise: a list is given once."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return [word for name, value in pairs if name not in arguments for word in (name, value)]


def refuse(adamas, *arguments, code=2, says=(), **options):
    """The program ends with one clear sentence and nothing else; returns it."""
    result = adamas(*arguments, **options)
    assert (result.code, result.out) == (code, ""), result
    assert result.err.startswith("adamas: ") and result.err.endswith("\n"), result.err
    assert result.err.count("\n") == 1 and not result.err.endswith(".\n") and len(result.err) < 800, result.err
    for part in says:
        assert part in result.err, f"{result.err!r} does not say {part!r}"
    return result.err


def files_of(database):
    """The database and the journals beside it, as {name: content}."""
    return {path.name: path.read_bytes() for path in database.parent.glob(database.name + "*")}


def check_sound(database):
    """SQLite finds nothing wrong with it, and it is ours."""
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert query(database, "PRAGMA foreign_key_check") == []
    assert query(database, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert query(database, "PRAGMA application_id") == [(0x41444d4c,)]


@pytest.fixture(scope="session")
def bundled():
    return BUNDLED


@pytest.fixture(scope="session")
def bundled_run(program, tmp_path_factory):
    """The database of one replay of the bundled trace with BUNDLED_RUN, and what the program printed."""
    folder = tmp_path_factory.mktemp("bundled")
    result = Adamas(folder)("replay", BUNDLED, *BUNDLED_RUN, "--db", "run.db", "--label", "bundled")
    assert result.code == 0, result.err
    return folder / "run.db", result


def query(database, sql, *values):
    """All rows, read without a lock that would keep a writer out for longer than the query."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql, values).fetchall()


# ---- traces ----

def random_tensors(n_tokens=320, n_steps=16, layers=(2, 5), n_q=4, n_kv=2, d=64, dtype="F16", seed=1):
    """The tensors of a synthetic trace as {name: (dtype, array)}; keys have a few loud channels, as real ones do."""
    rng = np.random.default_rng(seed)
    kind = {"F16": np.float16, "F32": np.float32}[dtype]
    tensors = {}
    for layer in layers:
        loud = np.where(np.arange(d) % 13 == 0, 6.0, 1.0)
        for role, shape in (("k", (n_kv, n_tokens, d)), ("v", (n_kv, n_tokens, d)), ("q", (n_steps, n_q, d))):
            tensors[f"layers.{layer}.{role}"] = (dtype, (rng.standard_normal(shape) * loud).astype(kind))
    return tensors


def header_of(tensors, metadata=None):
    """The header that describes the tensors one after another, as a dict that a test may spoil."""
    header, at = {"__metadata__": {"format": "adamas-trace/1", "kind": "synthetic", **(metadata or {})}}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    return header


def safetensors_bytes(header, tensors):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for _, array in tensors.values())


@pytest.fixture(scope="session")
def small_run(program, tmp_path_factory):
    """(trace, database) of a complete replay of a small synthetic trace; who changes the database copies it first."""
    folder = tmp_path_factory.mktemp("small")
    tensors = random_tensors()
    (folder / "small.safetensors").write_bytes(safetensors_bytes(header_of(tensors, {"model": "small"}), tensors))
    result = Adamas(folder)("replay", "small.safetensors", "--db", "small.db", "--quiet")
    assert result == Result(0, "", ""), result
    return folder / "small.safetensors", folder / "small.db"


@pytest.fixture
def write_trace(tmp_path):
    """write_trace(name, metadata=..., spoil=..., **shape) -> path. spoil(header, tensors) may change both."""
    def write(name="trace.safetensors", metadata=None, spoil=None, **shape):
        tensors = random_tensors(**shape)
        header = header_of(tensors, metadata)
        if spoil:
            spoil(header, tensors)
        path = tmp_path / name
        path.write_bytes(safetensors_bytes(header, tensors))
        return path
    return write


def read_safetensors(path):
    """(tensors as {name: array}, metadata) of a file; BF16 is not needed here."""
    data = Path(path).read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    kinds = {"F16": np.float16, "F32": np.float32, "I64": np.int64, "I32": np.int32}
    tensors = {name: np.frombuffer(data[8 + length:], np.uint8)[slice(*t["data_offsets"])].view(kinds[t["dtype"]])
               .reshape(t["shape"]) for name, t in header.items()}
    return tensors, metadata

"""Files as somebody who means harm would send them: databases whose schema or values are not ours, and files of every kind of
input that are too large, endless or no files at all."""
import contextlib
import gzip
import os
import shutil
import sqlite3
import struct
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"

# What is done to the schema, and what the refusal says.
SPOILS = {
    "a view that was changed": (["DROP VIEW stage_summary", "CREATE VIEW stage_summary AS SELECT 1"], "view 'stage_summary'"),
    "a view that is gone": (["DROP VIEW quality_summary"], "no view 'quality_summary'"),
    "a table that is gone": (["DROP TABLE event"], "no table 'event'"),
    "a column more": (["ALTER TABLE run ADD COLUMN extra TEXT"], "table 'run'"),
    "a column of another type": (["UPDATE sqlite_schema SET sql = replace(sql, 'label          TEXT', 'label          ANY') "
                                  "WHERE name = 'run'"], "table 'run'"),
    "rules taken out": (["UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'metric'"], "table 'metric'"),
    "an index that is gone": (["DROP INDEX config_identity"], "no index 'config_identity'"),
    "a trigger": (["CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM metric; END"], "trigger"),
    "an older number on a newer schema": (["PRAGMA user_version = 2"], ""),
    "a newer number": (["PRAGMA user_version = 9999"], "9999"),
    "a virtual table": (["CREATE VIRTUAL TABLE f USING fts5(a)"], "f"),
}

REFUSED_IN_A_MERGE = {
    "an infinity": ("UPDATE measurement SET median = 9e999 WHERE measurement_id = 1", ["measurement", "median", "finite"]),
    "text that is not UTF-8": ("UPDATE metric SET unit = CAST(x'ff' AS TEXT)", ["metric", "unit", "UTF-8"]),
    "a zero byte in a text": ("UPDATE run SET label = CAST(x'610062' AS TEXT)", ["run", "label", "zero byte"]),
    "a head of four thousand million": ("UPDATE measurement SET head = 4000000000 WHERE measurement_id = 1", ["head", "4095"]),
    "a layer below zero": ("UPDATE measurement SET layer = -1 WHERE measurement_id = 1", ["layer"]),
    "a label of two megabytes": ("UPDATE run SET label = hex(zeroblob(1000000))", ["label", "1048576"]),
    "a length without an end": ("UPDATE OR IGNORE config SET seq_len = 9223372036854775807", ["seq_len"]),
}

# Escape sequences, C1 controls and directions of writing.
FOREIGN = "char(27) || '[31m' || char(155) || '1m' || char(8238) || 'abc' || char(8294) || char(7)"
VALUES = {
    **{name: [statement] for name, (statement, _) in REFUSED_IN_A_MERGE.items()},
    "all infinite": ["UPDATE measurement SET median = -9e999, mean = 9e999, p10 = 9e999, p90 = 9e999, min = 9e999, max = 9e999",
                     "UPDATE sample SET value = 9e999"],
    "counts without an end": ["UPDATE measurement SET n = 9223372036854775807"],
    "all heads and layers": ["UPDATE OR IGNORE measurement SET head = 4095, layer = 65535"],
    "lengths of one": ["UPDATE OR IGNORE config SET seq_len = 1, budget = 1"],
    "times before all others": ["UPDATE run SET started_utc = '', finished_utc = 'x', commit_utc = '99999-99-99'"],
    "words of a foreign tongue": [f"UPDATE OR IGNORE {table} SET {column} = {column} || {FOREIGN}" for table, column in (
        ("config", "policy"), ("config", "variant"), ("metric", "name"), ("metric", "unit"), ("metric", "description"),
        ("run", "label"), ("run", "host_name"), ("run", "cpu_model"), ("run", "argv"), ("run", "git_commit"),
        ("trace", "name"), ("trace", "model"), ("trace", "metadata"))],
}


def as_endless_view(connection, table):
    """The statements that put a view without an end in a table's place."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    body = ", ".join("x AS " + name if i == 0 else "kept." + name for i, name in enumerate(columns))
    return [f"ALTER TABLE {table} RENAME TO {table}_kept",
            f"CREATE VIEW {table} AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) "
            f"SELECT {body} FROM r, {table}_kept AS kept"]


def without_rules(database, to, statements):
    """A copy whose tables took anything for a while: rows of any type under the shipped schema."""
    shutil.copy(database, to)
    sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%STRICT%'"
    with contextlib.closing(sqlite3.connect(to)) as connection:
        tables = connection.execute(sql).fetchall()
    def change(changes, then=()):
        with contextlib.closing(sqlite3.connect(to, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.executemany("UPDATE sqlite_schema SET sql = ? WHERE name = ?", changes)
            for statement in then:
                connection.execute(statement)
    change([(text.replace("STRICT, WITHOUT", "WITHOUT").replace("STRICT", ""), name) for name, text in tables])
    change([], statements)
    change([(text, name) for name, text in tables])
    return to


def spoil(database, to, statements):
    """A copy in which SQLite ran these, and was kept from nothing."""
    shutil.copy(database, to)
    with contextlib.closing(sqlite3.connect(to)) as connection:
        for statement in ["PRAGMA foreign_keys = OFF", "PRAGMA writable_schema = ON", "PRAGMA ignore_check_constraints = ON",
                          *(statements(connection) if callable(statements) else statements)]:
            connection.execute(statement)
        connection.commit()
    return to


def make_databases(database, folder):
    """Databases of every kind above, and such as SQLite itself would stumble on."""
    recipes = {name: statements for name, (statements, _) in SPOILS.items()} | VALUES
    recipes |= {f"an endless {table}": lambda connection, table=table: as_endless_view(connection, table)
                for table in ("run", "metric", "measurement", "config", "sample", "trace")}
    for name, statements in recipes.items():
        spoil(database, folder / (name.replace(" ", "-") + ".db"), statements)
    text = "'<b>' || x'ff'"
    without_rules(database, folder / "text-in-numbers.db", [
        f"UPDATE OR IGNORE measurement SET median = {text}, n = {text}, layer = 'x', status = 7, reason = x'00'",
        f"UPDATE OR IGNORE config SET seq_len = {text}, head_dim = x'00', policy = 5", "UPDATE run SET seed = 'x', label = 1.5",
        "UPDATE sample SET value = 'x'"])
    data = database.read_bytes()
    for name, changed in {
        "half": data[:len(data) // 2], "a-page": data[:4096], "a-header": data[:100], "not-a-page": data[:4095],
        "no-application": data[:68] + b"\0\0\0\0" + data[72:],
        "page-of-one-byte": data[:16] + b"\0\x01" + data[18:], "many-pages": data[:28] + b"\xff\xff\xff\xfe" + data[32:],
        "ones": data[:100] + b"\xff" * (len(data) - 100), "wal-mode": data[:18] + b"\2\2" + data[20:],
        "reversed": data[:4096] + data[:4095:-1],
    }.items():
        (folder / f"{name}.db").write_bytes(changed)
    for suffix in ("-journal", "-wal"):
        shutil.copy(database, folder / f"with{suffix}.db")
        (folder / f"with{suffix}.db{suffix}").write_bytes(data[:20000])
        shutil.copy(database, folder / f"pipe{suffix}.db")
        os.mkfifo(folder / f"pipe{suffix}.db{suffix}")


def make_others(folder):
    """Files that are too large, and such as are no files."""
    (folder / "empty").write_bytes(b"")
    for name in ("pipe", "pipe.json", "pipe.so", "pipe.c"):
        os.mkfifo(folder / name)
    (folder / "folder").mkdir()
    (folder / "device").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    (folder / "proc-maps").symlink_to("/proc/self/maps")
    with open(folder / "a-terabyte", "wb") as file:
        file.truncate(1 << 40)
    (folder / "bomb.csv.gz").write_bytes(gzip.compress(b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + bytes(1 << 28), 6))
    line = b"2023-11-16 18:17:03.9799600,4808,10\n"
    (folder / "rows.csv.gz").write_bytes(gzip.compress(b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + line * 3000000, 1))
    (folder / "deep.json").write_bytes(b"[" * 1000000)
    (folder / "deep-objects.json").write_bytes(b'{"a":' * 1000000)
    (folder / "many-keys.json").write_bytes(b"{" + b",".join(b'"k%d":1' % i for i in range(1000000)) + b"}")
    (folder / "a-line").write_bytes(b"1" * (1 << 26))
    (folder / "lines").write_bytes(b"\n" * (1 << 24))
    (folder / "words.metrics").write_bytes(b"set x\n" + b"dram__bytes_read.sum = ((((((((((" * 200000)
    (folder / "escapes.json").write_text('{"format": "\\u001b[31m\\u009b\\u202e", "\\u001b[2J": 1}')
    (folder / "escapes.csv").write_text("\x1b[31m\x9b\u202eTIMESTAMP,\x07ContextTokens\n\x1b]0;x\x07,1\n")
    header = b'{"' + b"\x1b[31m\xc2\x9b\xe2\x80\xae" + b'": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}'
    (folder / "escapes.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    header = b'{"layers.0.k":{"dtype":"F16","shape":[1,16777216,64],"data_offsets":[0,2147483648]}}'
    with open(folder / "holes.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2147483648)
    (folder / "bytes.so").write_bytes(b"\x7fELF\2\1\1" + b"\xff" * 5000)
    (folder / "bytes.cubin").write_bytes(b"\x7fELF\2\1\1" + b"\xff" * 5000)
    (folder / "bytes.gguf").write_bytes(b"GGUF" + b"\xff" * 500)


def copy_corpus(folder):
    """The fuzzers' inputs, each under the name that its reader expects."""
    suffix = {"recorded": ".json", "manifest": ".so", "candidate": ".c", "metrics": ".metrics", "model": ".json",
              "calibration": ".json", "safetensors": ".safetensors"}
    for path in sorted(CORPUS.rglob("*")):
        if path.is_file():
            kind = path.relative_to(CORPUS).parts[0]
            name = f"{kind}-{path.name}" if path.suffix else f"{kind}-{path.name}{suffix.get(kind, '')}"
            shutil.copy(path, folder / name)


def make_all(database, folder):
    copy_corpus(folder)
    make_databases(database, folder)
    make_others(folder)
    journals = ("-journal", "-wal", "-shm")
    return sorted(path for path in folder.iterdir() if not path.name.endswith(journals))

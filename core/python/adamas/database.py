"""A database of runs, open for reading."""
from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .table import Table

APPLICATION_ID = 0x41444D4C  # "ADML", as core/store/file/migrate.c writes it

UNITS = {"seq_len": "tokens", "budget": "tokens", "batch": "sequences", "page_size": "tokens", "head_dim": "elements",
         "elapsed_ns": "ns"}


def open(path: str | os.PathLike[str] = "adamas.db") -> Database:
    """Opens a database that `adamas replay` or `adamas profile` wrote. It is never changed.

    Raises FileNotFoundError, or ValueError where the file is no such database.
    """
    return Database(path)


class Database:
    """The views of a database as Tables. Closes itself as a context manager, or by close()."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} does not exist: `adamas replay` and `adamas profile` write a database")
        self._connection = sqlite3.connect(f"file:{quote(str(self.path.resolve()))}?mode=ro", uri=True)
        try:
            application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        except sqlite3.DatabaseError as e:
            self._connection.close()
            raise ValueError(f"{self.path} is not an SQLite database") from e
        if application != APPLICATION_ID:
            self._connection.close()
            raise ValueError(f"{self.path} is not a database of Adamas Lab (application_id {application})")
        self._connection.execute("PRAGMA trusted_schema = off")

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sql(self, text: str, parameters: Any = (), units: dict[str, str] | None = None) -> Table:
        """Any query, as a Table."""
        cursor = self._connection.execute(text, parameters)
        return Table([column[0] for column in cursor.description or ()], cursor.fetchall(), {**UNITS, **(units or {})})

    def _view(self, view: str, order: str, **equal: Any) -> Table:
        given = {name: value for name, value in equal.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in given) or "1"
        table = self.sql(f"SELECT * FROM {view} WHERE {where} ORDER BY {order}", given)
        named = set(table["metric"])
        if len(named) == 1:  # one unit for every row
            unit = self._connection.execute("SELECT unit FROM metric WHERE name = ?", (named.pop(),)).fetchone()[0]
            table.units.update({name: unit for name in ("mean", "median", "p10", "p50", "p90", "p95", "p99", "worst")
                                if name in table.names})
        return table

    def runs(self) -> Table:
        """A row per run, oldest first: when, what, with which commit, on which machine, and how it ended."""
        return self.sql("SELECT run_id, label, command, status, started_utc, elapsed_ns, git_commit, host_name, gpu_name "
                        "FROM run ORDER BY run_id")

    def quality(self, *, run: int | None = None, policy: str | None = None, metric: str | None = None) -> Table:
        """The view quality_summary: how good each policy's selection was, by trace, context length and budget."""
        return self._view("quality_summary", "run_id, trace, policy, variant, seq_len, budget, metric", run_id=run,
                          policy=policy, metric=metric)

    def stages(self, *, run: int | None = None, stage: str | None = None, source: str | None = None,
               metric: str | None = "time_ns") -> Table:
        """The view stage_summary: the times of stages, or another metric of theirs; metric=None: all of them."""
        return self._view("stage_summary", "run_id, source, stage, variant, seq_len, budget, metric", run_id=run, stage=stage,
                          source=source, metric=metric)

    def counters(self, *, run: int | None = None, stage: str | None = None) -> Table:
        """The rows of stage_summary that are no time: hardware counters, bytes, flops, registers."""
        table = self.stages(run=run, stage=stage, metric=None)
        at = table.names.index("metric")
        return Table(table.names, [row for row in table.rows if row[at] != "time_ns"], UNITS)

    def compare(self, baseline: str, candidate: str) -> Table:
        """What `adamas compare BASELINE CANDIDATE` finds, a row per series. Needs the program `adamas`: of the variable
        ADAMAS_BIN, else of PATH. Raises ValueError with the program's sentence where runs are named wrongly."""
        program = os.environ.get("ADAMAS_BIN") or shutil.which("adamas")
        if program is None:
            raise FileNotFoundError("the program adamas is not on PATH; ADAMAS_BIN may name it")
        done = subprocess.run([program, "compare", "--db", str(self.path), "--all", "--json", str(baseline), str(candidate)],
                              capture_output=True, text=True)
        if done.returncode not in (0, 1, 3):
            raise ValueError(done.stderr.strip())
        return table_of_comparison(json.loads(done.stdout))


def table_of_comparison(document: dict[str, Any]) -> Table:
    """The rows of `adamas compare --json` as a Table; nested values become columns of their own."""
    flat = [{key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in row.items()}
            for row in document["rows"]]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return Table(names, [[row.get(name) for name in names] for row in flat], UNITS)

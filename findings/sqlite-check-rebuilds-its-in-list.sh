#!/usr/bin/env bash
# SQLite builds the list of CHECK (x IN (...)) anew for every row of an INSERT, as a table in memory, from three values on.
#
# Package   apsw 3.50.4.0 (SQLite 3.50.4) of PyPI
# Expected  a list of constants is prepared once per statement, as it is in WHERE x IN (...), where an Once stands before it
# Seen      two values are compared one by one; from three on the program of INSERT opens and fills an ephemeral table in its
#           loop, with no Once. A million rows: 0.10 s with 2 values, 0.36 with 3, 3.3 with 40; the same 40 as x = ... OR ...: 0.1
# So        in a table of many rows write such a CHECK as x = 'a' OR x = 'b' OR ..., or refer to a table of the values
# Exit: 0 as described, 1 changed, 77 no network or no such package
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python=${PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv "$folder/venv" && python=$folder/venv/bin/python
  "$python" -m pip install -q --only-binary :all: apsw==3.50.4.0 > /dev/null 2>&1 || exit 77
fi
"$python" - <<'END_PYTHON'
import sys
import time

import apsw

database = apsw.Connection(":memory:")
print("SQLite", apsw.sqlite_lib_version())
database.execute("CREATE TABLE source (x TEXT)")
database.execute("WITH RECURSIVE r (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM r WHERE i < 999999) "
                 "INSERT INTO source SELECT 'k' || (i % 2) FROM r")


def program(sql):
    return [row[1] for row in database.execute("EXPLAIN " + sql)]


def once_per_row(name, check):
    """Whether the list is made in the loop over the rows, and with no Once before it. Prints how long a million rows take."""
    database.execute(f"CREATE TABLE {name} (x TEXT CHECK ({check}))")
    insert = f"INSERT INTO {name} SELECT x FROM source"
    codes = program(insert)
    start = time.process_time()
    database.execute(insert)
    print(f"{name:9} {time.process_time() - start:6.2f} s, ephemeral tables {codes.count('OpenEphemeral')}, Once {codes.count('Once')}")
    return "OpenEphemeral" in codes[codes.index("Rewind"):] and "Once" not in codes


def values(n):
    return [f"'k{i}'" for i in range(n)]


by_in = {n: once_per_row(f"in_{n}", f"x IN ({', '.join(values(n))})") for n in (2, 3, 40)}
by_or = once_per_row("or_40", " OR ".join(f"x = {value}" for value in values(40)))
where = program(f"SELECT count(*) FROM source WHERE x IN ({', '.join(values(40))})")
print(f"WHERE     Once {where.count('Once')}")
sys.exit(0 if by_in == {2: False, 3: True, 40: True} and not by_or and "Once" in where else 1)
END_PYTHON

#!/usr/bin/env python3
"""write_now.py OUT MIGRATION...: the whole schema as the migrations leave it, for people to read.

SQLite runs the migrations and says what there is; the comments come from the migrations: those above a CREATE, those inside it,
and the one beside or above an ALTER TABLE ... ADD COLUMN. OUT is written only if its text changes.
"""
import re
import sqlite3
import sys
from pathlib import Path

NAME_WIDTH = 15
HEAD = """\
-- now.sql: the database of Adamas Lab as it is today, version {version} (PRAGMA user_version). Written by
-- core/store/schema/write_now.py from the migrations {first} to {last}; ninja runs it. The program runs the
-- migrations, not this.
"""


def statements(text):
    """(comment lines above, the statement, the comment behind it on its last line) of every statement."""
    above, lines = [], []
    for line in text.splitlines():
        if not lines and not line.strip():
            above = []  # what a blank line cuts off belongs to the file
        elif not lines and line.lstrip().startswith("--"):
            above.append(line)
        else:
            code, _, behind = line.partition(";") if ";" in line.split("--")[0] else (line, "", "")
            lines.append(line if code == line else f"{code};")
            if sqlite3.complete_statement("\n".join(lines)):
                yield above, "\n".join(lines), behind.strip()
                above, lines = [], []


def comments_of(migrations):
    """{object's name: comment lines above its newest CREATE}, {(table, column): comment of its ALTER}."""
    objects, columns = {}, {}
    for text in migrations:
        for above, statement, behind in statements(text):
            added = re.match(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", statement)
            created = re.match(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX|VIEW) (\w+)", statement)
            if added:
                columns[added.groups()] = [behind] if behind else above
            elif created:
                objects[created[1]] = above
    return objects, columns


def with_added_columns(name, sql, columns):
    """The CREATE of a table, each column that came by ALTER on a line of its own with its comment.

    SQLite keeps the text of the CREATE and puts ", column type" behind the last column.
    """
    behind_line, n_behind = None, 0  # where the last one went: those of one line stay in their order
    for (table, column), comment in columns.items():
        if table != name:
            continue
        lines = sql.split("\n")
        at = next(i for i, line in enumerate(lines) if f", {column} " in line)
        found = re.search(rf", ({column} [^,)]*)", lines[at])
        definition = f"    {column:<{NAME_WIDTH - 1}} {found[1].split(None, 1)[1]}"
        lines[at] = lines[at][:found.start()] + lines[at][found.end():]
        if found.start() == 0:  # the last column ended the line above
            at -= 1
            code, dashes, behind = lines[at].partition("--")
            lines[at] = f"{code.rstrip() + ',':<48} --{behind}" if dashes else f"{code.rstrip()},"
        else:  # the comma that follows belongs to both
            definition += ","
        above = [*(f"    {line}" for line in comment), definition]
        new = above if len(comment) > 1 else [" ".join([f"{definition:<48}", *comment])]
        n_behind = n_behind if behind_line == at else 0
        behind_line = at
        sql = "\n".join([*lines[:at + 1 + n_behind], *new, *lines[at + 1 + n_behind:]])
        n_behind += len(new)
    return sql


def schema(paths):
    migrations = [Path(path).read_text() for path in paths]
    database = sqlite3.connect(":memory:")
    for text in migrations:
        database.executescript(text)
    objects, columns = comments_of(migrations)
    head = re.match(r"(?:--.*\n)*", migrations[0])[0].splitlines()
    rest = "\n".join(head[next(i for i, line in enumerate(head) if line == "--"):])
    text = HEAD.format(version=len(paths), first=Path(paths[0]).name, last=Path(paths[-1]).name) + rest + "\n"
    for name, sql in database.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL "
                                      "ORDER BY type = 'view', rowid"):
        above = "".join(f"{line}\n" for line in objects[name])
        text += f"\n{above}{with_added_columns(name, sql, columns)};\n"
    return text


def main(out, *paths):
    text = schema(paths)
    if not Path(out).exists() or Path(out).read_text() != text:
        Path(out).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A query's answer: named columns that know their units, and become frames of whatever library is there."""
from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any


class Table:
    """Columns of equal length.

    len(t) rows; t["budget"] a column as a list; iteration gives rows as dicts. `units` maps a column's name to its unit ("ns",
    "tokens"); a column of figures whose unit differs by row has none there, and the column `unit` says it.
    """

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[Any]], units: dict[str, str] | None = None):
        self.names = list(names)
        self.rows = [tuple(row) for row in rows]
        self.units = {name: unit for name, unit in (units or {}).items() if name in self.names}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.names, row)) for row in self.rows)

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.names:
            raise KeyError(f"no column {name!r}; there are {', '.join(self.names)}")
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def to_arrow(self):
        """A pyarrow.Table; a column's unit stands in its field's metadata as b"unit"."""
        import pyarrow as pa
        arrays = [pa.array(self[name]) for name in self.names]
        fields = [pa.field(name, array.type, metadata={"unit": self.units[name]} if name in self.units else None)
                  for name, array in zip(self.names, arrays)]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def to_pandas(self):
        """A pandas.DataFrame; the units are its attrs["units"]."""
        frame = self.to_arrow().to_pandas()
        frame.attrs["units"] = dict(self.units)
        return frame

    def to_polars(self):
        """A polars.DataFrame. polars keeps no metadata of columns: `units` has them."""
        import polars
        return polars.from_arrow(self.to_arrow())

    def __arrow_c_stream__(self, requested_schema=None):
        """The Arrow PyCapsule interface, by which polars, DuckDB and others take a Table as it is."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _titles(self) -> list[str]:
        return [f"{name} [{self.units[name]}]" if name in self.units else name for name in self.names]

    def _cells(self, n: int) -> list[list[str]]:
        return [["" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value) for value in row]
                for row in self.rows[:n]]

    def __repr__(self) -> str:
        shown = [self._titles(), *self._cells(20)]
        widths = [max(map(len, column)) for column in zip(*shown)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in shown]
        return "\n".join([*lines, *([f"... {len(self)} rows"] if len(self) > 20 else [])])

    def _repr_html_(self) -> str:
        def row(cells, tag):
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
        more = f"<p>{len(self)} rows, of which 200 are shown</p>" if len(self) > 200 else ""
        return f"<table>{row(self._titles(), 'th')}{''.join(row(cells, 'td') for cells in self._cells(200))}</table>{more}"

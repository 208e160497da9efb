"""Writes what DuckDB answers, so that checks in other languages can compare: one question a line, as JSON.

    python expected.py answers.jsonl

| member | what |
|---|---|
| `name`, `sql` | the question, and what the server is asked |
| `columns` | name and type of each column: `text`, `whole`, `real`, `time` or `truth` |
| `tolerance` | how far a real may lie from the expected one, relatively |
| `rows` | one list a row; times are nanoseconds since 1970 as text, because JSON's numbers end before them |

The last two are not questions but exports: all weather, and all flights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import pyarrow

import nycflights
from compare import FLOAT_TOLERANCE
from questions import QUESTIONS, export

KINDS = {
    pyarrow.string(): "text",
    pyarrow.int64(): "whole",
    pyarrow.float64(): "real",
    pyarrow.timestamp("ns"): "time",
    pyarrow.bool_(): "truth",
}


def main() -> int:
    tables = [nycflights.weather(), nycflights.flights()]
    with duckdb.connect() as frames, Path(sys.argv[1]).open("w") as file:
        for table in tables:
            frames.register(table.name, table.arrow())
        for question in QUESTIONS:
            write(file, question.name, question.sql, question.answer(frames), FLOAT_TOLERANCE)
        for table in tables:
            write(file, f"all {table.name}", export(table), table.arrow(), 0)
    return 0


def write(file, name: str, sql: str, answer: pyarrow.Table, tolerance: float) -> None:
    columns = [[field.name, KINDS[field.type]] for field in answer.schema]
    rows = [list(row) for row in zip(*(plain(column) for column in answer.columns), strict=True)]
    line = {"name": name, "sql": sql, "columns": columns, "tolerance": tolerance, "rows": rows}
    # Reals are written with as many digits as it takes to read the same back.
    file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")


def plain(column: pyarrow.ChunkedArray) -> list:
    if column.type != pyarrow.timestamp("ns"):
        return column.to_pylist()
    return [None if value is None else str(value) for value in column.cast(pyarrow.int64()).to_pylist()]


if __name__ == "__main__":
    sys.exit(main())

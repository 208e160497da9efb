"""The Parquet files that a stopped server leaves, read by programs that know nothing of it.

Stop the server politely first (SIGTERM): it writes what it holds in memory to files. The data must have been loaded
once; a second load is kept in files of its own until they are merged.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pandas
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest

import nycflights
from compare import assert_same
from conftest import required


@pytest.fixture(scope="module")
def data_dir() -> Path:
    path = Path(required("FLIGHTLINE_DATA_DIR"))
    assert path.is_dir(), f"{path} is not a directory"
    return path


def files_of(data_dir: Path, table: str) -> list[Path]:
    """Directories are named `{number}-{name}`; the numbers are the server's business."""
    database = os.environ.get("FLIGHTLINE_DATABASE", nycflights.DATABASE)
    files = sorted(data_dir.glob(f"**/dbs/*-{database}/*-{table}/**/*.parquet"))
    assert files, f'no Parquet file of table "{table}" of database "{database}" under {data_dir}'
    return files


@pytest.fixture(params=[nycflights.weather, nycflights.flights], ids=["weather", "flights"], scope="module")
def table(request):
    return request.param()


def keys(table) -> list[tuple[str, str]]:
    return [(column, "ascending") for column in ("time", *table.tags)]


def test_duckdb_reads_the_files(data_dir, table):
    files = [str(file) for file in files_of(data_dir, table.name)]
    order = ", ".join(f"{column} NULLS LAST" for column in ("time", *table.tags))
    sql = f"SELECT {', '.join(table.columns())} FROM read_parquet({files}, union_by_name => true) ORDER BY {order}"
    with duckdb.connect() as connection:
        actual = connection.sql(sql).to_arrow_table()
    assert_same(actual.cast(table.schema()), table.arrow(), tolerance=0)


def test_pyarrow_reads_the_files(data_dir, table):
    tables = [pyarrow.parquet.read_table(file, partitioning=None) for file in files_of(data_dir, table.name)]
    actual = pyarrow.concat_tables(tables, promote_options="permissive").select(table.columns())
    actual = actual.cast(table.schema()).sort_by(keys(table))
    assert_same(actual, table.arrow(), tolerance=0)


def test_pandas_reads_the_files(data_dir, table):
    frames = [pandas.read_parquet(file, partitioning=None) for file in files_of(data_dir, table.name)]
    frame = pandas.concat(frames)[table.columns()]
    columns = [pyarrow.Array.from_pandas(frame[field.name], type=field.type) for field in table.schema()]
    actual = pyarrow.Table.from_arrays(columns, schema=table.schema()).sort_by(keys(table))
    assert_same(actual, table.arrow(), tolerance=0)


def test_time_is_in_nanoseconds_without_a_zone(data_dir, table):
    for file in files_of(data_dir, table.name):
        assert pyarrow.parquet.read_schema(file).field("time").type == pyarrow.timestamp("ns")


def test_every_row_group_is_sorted_and_says_its_time_range(data_dir, table):
    key = [*table.tags, "time"]
    key_schema = pyarrow.schema([table.schema().field(name) for name in key])
    order = ", ".join(f"{column} NULLS LAST" for column in key)
    for path in files_of(data_dir, table.name):
        with pyarrow.parquet.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number).select(key).cast(key_schema)
                ordered = duckdb.sql(f"SELECT * FROM rows ORDER BY {order}").to_arrow_table().cast(key_schema)
                assert_same(rows, ordered, tolerance=0)
                statistics = file.metadata.row_group(number).column(file.schema_arrow.names.index("time")).statistics
                times = pyarrow.compute.min_max(rows["time"].cast(pyarrow.int64())).as_py()
                assert (statistics.min_raw, statistics.max_raw) == (times["min"], times["max"])

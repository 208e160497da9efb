"""Writing Arrow: adbc_ingest, pandas, DoPut by hand, and INSERT with values. Every check writes to a database of its own."""

from __future__ import annotations

import datetime

import adbc_driver_manager
import pandas
import pyarrow
import pyarrow.flight
import pytest
from adbc_driver_manager import AdbcStatusCode
from pyarrow.flight import FlightCallOptions, FlightDescriptor

from clients import ANSWER_SECONDS_MAX

TAGS_HEADER = "adbc.flight.sql.rpc.call_header.x-flightline-tags"

START = datetime.datetime(2024, 1, 1)


def loads(first: int, count: int, value: float) -> pyarrow.Table:
    """Rows of one host, a second apart."""
    seconds = [START + datetime.timedelta(seconds=first + second) for second in range(count)]
    return pyarrow.table(
        {
            "host": pyarrow.array(["a"] * count).dictionary_encode(),
            "load": pyarrow.array([value] * count),
            "time": pyarrow.array(seconds, pyarrow.timestamp("ms")),
        }
    )


@pytest.fixture
def writer(scratch):
    with scratch.influxdb3() as library:
        library.write("witness value=1 1")  # makes the database
    with scratch.adbc() as connection, connection.cursor() as cursor:
        yield cursor


def rows(cursor, sql: str) -> list[tuple]:
    cursor.execute(sql)
    return cursor.fetchall()


def test_every_mode_of_ingestion(writer):
    summary = "SELECT count(*), sum(load) FROM modes"
    with pytest.raises(adbc_driver_manager.Error) as error:
        writer.adbc_ingest("modes", loads(0, 2, 1.0), mode="append")
    assert error.value.status_code == AdbcStatusCode.NOT_FOUND
    assert writer.adbc_ingest("modes", loads(0, 2, 1.0), mode="create") == 2
    with pytest.raises(adbc_driver_manager.Error) as error:
        writer.adbc_ingest("modes", loads(0, 2, 1.0), mode="create")
    assert error.value.status_code == AdbcStatusCode.ALREADY_EXISTS
    assert writer.adbc_ingest("modes", loads(1, 2, 5.0), mode="append") == 2
    assert rows(writer, summary) == [(3, 11.0)], "one point was written twice: the last write counts"
    assert writer.adbc_ingest("modes", loads(0, 1, 7.0), mode="replace") == 1
    assert rows(writer, summary) == [(1, 7.0)]
    assert writer.adbc_ingest("modes", loads(1, 1, 7.0), mode="create_append") == 1
    assert rows(writer, summary) == [(2, 14.0)]


def test_types_and_nulls_come_back(writer):
    table = pyarrow.table(
        {
            "time": pyarrow.array([1, 2], pyarrow.timestamp("us", tz="Europe/Berlin")),
            "float32": pyarrow.array([0.5, None], pyarrow.float32()),
            "int8": pyarrow.array([-1, None], pyarrow.int8()),
            "uint16": pyarrow.array([1, None], pyarrow.uint16()),
            "text": pyarrow.array(["ä", None], pyarrow.large_string()),
            "view": pyarrow.array(["b", None], pyarrow.string_view()),
            "truth": pyarrow.array([True, None]),
            "decimal": pyarrow.array([1, None], pyarrow.decimal128(10, 2)),
        }
    )
    assert writer.adbc_ingest("types", table, mode="create") == 2
    writer.execute("SELECT * FROM types ORDER BY time")
    got = writer.fetch_arrow_table()
    assert got.column("time").cast(pyarrow.int64()).to_pylist() == [1000, 2000]
    first = {"float32": 0.5, "int8": -1, "uint16": 1, "text": "ä", "view": "b", "truth": True, "decimal": 1.0}
    assert got.drop_columns("time").to_pylist() == [first, dict.fromkeys(first)]
    types = {field.name: field.type for field in got.schema}
    assert (types["float32"], types["int8"], types["uint16"]) == (pyarrow.float64(), pyarrow.int64(), pyarrow.uint64())


def test_a_column_that_does_not_fit_is_named_and_nothing_is_stored(writer):
    with pytest.raises(adbc_driver_manager.Error, match="column 'day' holds Date32"):
        writer.adbc_ingest("days", pyarrow.table({"day": pyarrow.array([1], pyarrow.date32())}), mode="create")
    with pytest.raises(adbc_driver_manager.Error, match="column 'value', expected iox::column_type::field::float"):
        writer.adbc_ingest("witness", pyarrow.table({"value": ["x"]}), mode="append")
    assert rows(writer, "SELECT table_name FROM information_schema.tables WHERE table_name = 'days'") == []


def test_tags_are_those_that_the_header_names(scratch, writer):
    table = pyarrow.table({"host": ["a", "b"], "room": ["x", "y"], "v": [1, 2]})
    with scratch.adbc() as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{TAGS_HEADER: "room,host"})
        assert cursor.adbc_ingest("tagged", table, mode="create") == 2
    sql = "SELECT column_name FROM information_schema.columns WHERE table_name = 'tagged' AND data_type LIKE 'Dict%'"
    assert sorted(rows(writer, sql)) == [("host",), ("room",)]


def test_a_pandas_frame_and_many_batches(writer):
    frame = pandas.DataFrame({"time": pandas.date_range("2024-01-01", periods=200_000, freq="s"), "v": range(200_000)})
    batches = pyarrow.Table.from_pandas(frame, preserve_index=False).to_reader(max_chunksize=1000)
    assert writer.adbc_ingest("frame", batches, mode="create") == 200_000
    assert rows(writer, "SELECT count(*), sum(v) FROM frame") == [(200_000, 199_999 * 100_000)]


def test_each_batch_of_a_put_is_acknowledged(scratch, writer):
    headers = [(b"database", scratch.database.encode())]
    if scratch.token:
        headers.append((b"authorization", f"Bearer {scratch.token}".encode()))
    options = FlightCallOptions(timeout=ANSWER_SECONDS_MAX, headers=headers)
    table = loads(0, 3, 1.0)
    with scratch.flight() as client:
        stream, acknowledgements = client.do_put(FlightDescriptor.for_path("put"), table.schema, options)
        for number, batch in enumerate(table.to_batches(max_chunksize=1)):
            stream.write_with_metadata(batch, f"batch {number}".encode())
            assert acknowledgements.read().to_pybytes() == f"batch {number}".encode()
            assert rows(writer, "SELECT count(*) FROM put") == [(number + 1,)], "acknowledged is visible"
        stream.done_writing()
        assert acknowledgements.read() is None
        stream.close()
        flights = list(client.list_flights(b"put", options))
        (flight,) = flights
        assert flight.descriptor.path == [scratch.database.encode(), b"put"]
        assert client.do_get(flight.endpoints[0].ticket, options).read_all().num_rows == 3


def test_insert_with_one_row_of_values_and_with_many(writer):
    writer.execute("CREATE TABLE made (host TAG, v BIGINT)")
    sql = "INSERT INTO made (time, host, v) VALUES ($1, $2, $3)"
    writer.execute(sql, (START, "a", 1))
    writer.executemany(sql, [(START, "a", 2), (START, "b", None), (START, "c", 4)])
    assert writer.rowcount == 3
    assert rows(writer, "SELECT host, v FROM made ORDER BY host") == [("a", 2), ("b", None), ("c", 4)]
    with pytest.raises(adbc_driver_manager.Error, match=r"the statement has 3 parameters \(\$1, \$2, \$3\)"):
        writer.execute(sql, (START, "a"))
    with pytest.raises(adbc_driver_manager.Error, match="already exists"):
        writer.execute("CREATE TABLE made (v BIGINT)")
    writer.execute("DROP TABLE made")
    with pytest.raises(adbc_driver_manager.Error, match="not found"):
        writer.execute("SELECT * FROM made")

"""The client library of InfluxDB 3: each way in which it writes and reads, and the errors that it understands."""

from __future__ import annotations

import time

import pandas
import pyarrow
import pytest
from influxdb_client_3 import InfluxDBClient3, Point, WriteOptions, write_client_options
from influxdb_client_3.exceptions import InfluxDB3ClientQueryError, InfluxDBError, InfluxDBPartialWriteError
from influxdb_client_3.write_client.client.write_api import WriteType

from compare import assert_same


@pytest.fixture
def library(scratch):
    with scratch.influxdb3() as client:
        yield client


def rows(library: InfluxDBClient3, sql: str) -> list[dict]:
    return library.query(sql).to_pylist()


# --- writing -------------------------------------------------------------------------------------------------------

# The default is /api/v2/write; use_v2_api=False goes to /api/v3/write_lp.
WAYS = {
    "default": {},
    "v3": {"use_v2_api": False},
    "v3 all or nothing": {"use_v2_api": False, "accept_partial": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_is_there(library, way):
    table = "written_" + way.replace(" ", "_")
    library.write(f'{table},place=pier temp=1.5,wind=3i,dry=true,sky="blue" 1000000001', **WAYS[way])
    assert rows(library, f"SELECT dry, place, sky, temp, CAST(time AS BIGINT) AS t, wind FROM {table}") == [
        {"dry": True, "place": "pier", "sky": "blue", "temp": 1.5, "t": 1_000_000_001, "wind": 3}
    ]


def test_a_write_that_does_not_wait_for_the_disk_arrives(library):
    library.write("unsynced value=1 1", use_v2_api=False, no_sync=True)
    deadline = time.monotonic() + 10
    while "unsynced" not in [row["table_name"] for row in rows(library, "SHOW TABLES")]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert rows(library, "SELECT value FROM unsynced") == [{"value": 1.0}]


@pytest.mark.parametrize("use_v2_api", [True, False], ids=["v2", "v3"])
@pytest.mark.parametrize(("precision", "unit"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_every_precision(library, precision, unit, use_v2_api):
    table = f"precision_{precision}_{'v2' if use_v2_api else 'v3'}"
    library.write(f"{table} value=1 1700000001", write_precision=precision, use_v2_api=use_v2_api)
    assert rows(library, f"SELECT CAST(time AS BIGINT) AS t FROM {table}") == [{"t": 1_700_000_001 * unit}]


def test_points_with_odd_names_and_values(library):
    odd = 'quote " backslash \\ comma , equals = space'
    point = Point("odd, names").tag("a b", "c,d=e f").field("x=y", odd).field("whole", 2**63 - 1).field("real", 5e-324)
    library.write(point.time(1))
    table = library.query('SELECT "a b", real, whole, "x=y" FROM "odd, names"')
    assert table.to_pylist() == [{"a b": "c,d=e f", "real": 5e-324, "whole": 2**63 - 1, "x=y": odd}]


def test_a_frame_is_written_and_read_back(library, weather):
    frame = weather.frame[weather.frame.origin == "JFK"].head(3000).reset_index(drop=True)
    library.write_dataframe(frame, measurement="weather_frame", timestamp_column="time", tags=["origin"])
    expected = pyarrow.Table.from_pandas(frame[weather.columns()], schema=weather.schema(), preserve_index=False)
    assert_same(library.query("SELECT * FROM weather_frame ORDER BY time"), expected, tolerance=0)


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_batches_in_the_background_lose_nothing(scratch, weather, gzip):
    table = "batched_gzip" if gzip else "batched_plain"
    failures = []
    options = write_client_options(
        write_options=WriteOptions(write_type=WriteType.batching, batch_size=1_000, flush_interval=1_000),
        error_callback=lambda batch, data, error: failures.append(error),
    )
    lines = [line.replace("weather,", f"{table},", 1) for line in weather.lines()][:9_500]
    with scratch.influxdb3(write_client_options=options, enable_gzip=gzip) as client:
        client.write(lines)
    assert failures == []
    with scratch.influxdb3() as client:
        assert rows(client, f"SELECT count(*) AS n, count(DISTINCT time) AS t FROM {table}") == [
            {"n": 9_500, "t": len({line.rsplit(" ", 1)[1] for line in lines})}
        ]


def test_a_later_write_replaces_its_fields_and_keeps_the_others(library):
    library.write("replaced,place=pier temp=1,wind=2 10\nreplaced,place=pier temp=3 10")
    library.write("replaced,place=pier wind=4,rain=5 10")
    assert rows(library, "SELECT place, rain, temp, wind FROM replaced") == [
        {"place": "pier", "rain": 5.0, "temp": 3.0, "wind": 4.0}
    ]


BAD_THIRD_LINE = "TABLE value=1 1\n\nTABLE value=oops 2\n# a comment\nTABLE value=3 3"


def test_good_lines_are_kept_and_bad_lines_named(library):
    with pytest.raises(InfluxDBPartialWriteError) as error:
        library.write(BAD_THIRD_LINE.replace("TABLE", "partly"), use_v2_api=False)
    (line,) = error.value.line_errors
    assert (line.line_number, line.original_line) == (3, "partly value=oops 2")
    assert line.error_message
    assert rows(library, "SELECT value FROM partly ORDER BY time") == [{"value": 1.0}, {"value": 3.0}]


def test_all_or_nothing_stores_nothing_and_names_the_line(library):
    with pytest.raises(InfluxDBPartialWriteError) as error:
        library.write(BAD_THIRD_LINE.replace("TABLE", "unwritten"), use_v2_api=False, accept_partial=False)
    (line,) = error.value.line_errors
    assert (line.line_number, line.original_line) == (3, "unwritten value=oops 2")
    assert_no_table(library, "unwritten")


def test_the_default_way_stores_nothing_of_a_bad_batch(library):
    with pytest.raises(InfluxDBError) as error:
        library.write(BAD_THIRD_LINE.replace("TABLE", "unwritten_default"))
    assert error.value.response.status == 400
    assert error.value.message.startswith("invalid: ")
    assert "3" in error.value.message, "the number of the bad line"
    assert_no_table(library, "unwritten_default")


def test_a_field_keeps_its_type(library):
    library.write("typed value=1i 1")
    with pytest.raises(InfluxDBError, match="value"):
        library.write("typed value=1.5 2")
    assert rows(library, "SELECT value FROM typed") == [{"value": 1}]


def assert_no_table(library: InfluxDBClient3, table: str) -> None:
    # The database may not exist either, if this check runs alone.
    library.write("witness value=1 1")
    assert table not in [row["table_name"] for row in rows(library, "SHOW TABLES")]


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(server):
    with server.influxdb3() as client:
        yield client


SQL = "SELECT origin, count(*) AS n FROM weather GROUP BY origin ORDER BY origin"
ANSWER = {"origin": ["EWR", "JFK", "LGA"], "n": [8703, 8706, 8706]}
SCHEMA = pyarrow.schema([("origin", pyarrow.string()), ("n", pyarrow.int64())])


def test_every_mode_of_reading(reader):
    assert reader.query(SQL, mode="all").to_pydict() == ANSWER
    assert reader.query(SQL, mode="reader").read_all().to_pydict() == ANSWER
    chunks = [chunk.data for chunk in reader.query(SQL, mode="chunk")]
    assert pyarrow.Table.from_batches(chunks).to_pydict() == ANSWER
    names_and_types = [(field.name, field.type) for field in reader.query(SQL, mode="schema")]
    assert names_and_types == [(field.name, field.type) for field in SCHEMA]
    frame = reader.query_dataframe(SQL)
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("list") == ANSWER


def test_query_parameters(reader):
    answer = reader.query("SELECT count(*) AS n FROM weather WHERE origin = $o", query_parameters={"o": "EWR"})
    assert answer.to_pydict() == {"n": [8703]}


def test_grpc_compression_may_be_refused(server):
    with server.influxdb3(disable_grpc_compression=True) as client:
        assert client.query(SQL).to_pydict() == ANSWER


@pytest.mark.parametrize(
    ("sql", "words"),
    [("SELEC 1", "SELEC"), ("SELECT * FROM hurricanes", "hurricanes"), ("SELECT snowfall FROM weather", "snowfall")],
)
def test_a_wrong_query_says_what_is_wrong(reader, sql, words):
    with pytest.raises(InfluxDB3ClientQueryError, match=words):
        reader.query(sql)


def test_an_unknown_database_is_named(reader):
    with pytest.raises(InfluxDB3ClientQueryError, match="atlantis"):
        reader.query("SELECT 1", database="atlantis")


def test_the_version_of_the_server(reader):
    assert reader.get_server_version()

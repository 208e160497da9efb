"""ADBC's Flight SQL driver beyond plain queries: prepared statements, metadata, errors.

It is the strictest client there is: it refuses a stream whose schema differs from what was promised, for queries and
for metadata alike.
"""

from __future__ import annotations

import datetime

import adbc_driver_manager
import pyarrow
import pytest
from adbc_driver_manager import AdbcStatusCode, NotSupportedError, ProgrammingError

from questions import QUESTIONS

CATALOG = "public"
TABLE_SCHEMA = "iox"


# --- queries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_the_schema_is_known_without_running_the_query(cursor, question):
    """Unprepared that is GetSchema, prepared it is the answer to CreatePreparedStatement; both must tell the truth."""
    cursor.adbc_statement.set_sql_query(question.sql)
    unprepared = pyarrow.schema(cursor.adbc_statement.execute_schema())
    prepared = cursor.adbc_execute_schema(question.sql)
    for schema in (unprepared, prepared):
        assert [(field.name, field.type) for field in schema] == list(question.columns.items())


def test_tags_come_as_plain_strings(cursor):
    cursor.execute("SELECT carrier, dest, origin, tailnum FROM flights LIMIT 10")
    schema = cursor.fetch_arrow_table().schema
    assert {field.type for field in schema} == {pyarrow.string()}


def test_an_empty_result_has_columns_and_no_rows(cursor):
    cursor.execute("SELECT time, origin, temp FROM weather WHERE origin = 'nowhere'")
    assert [column[0] for column in cursor.description] == ["time", "origin", "temp"]
    assert cursor.fetchone() is None
    cursor.execute("SELECT time, origin, temp FROM weather WHERE false")
    assert cursor.fetchall() == []


def test_rows_can_be_fetched_one_by_one_and_many_at_a_time(cursor):
    cursor.execute("SELECT origin, count(*) FROM weather GROUP BY origin ORDER BY origin")
    assert cursor.fetchone() == ("EWR", 8703)
    assert cursor.fetchmany(1) == [("JFK", 8706)]
    assert cursor.fetchall() == [("LGA", 8706)]


def test_one_connection_serves_several_cursors_at_once(connection):
    with connection.cursor() as first, connection.cursor() as second:
        first.execute("SELECT flight FROM flights ORDER BY time, carrier, flight")
        second.execute("SELECT count(*) FROM weather")
        assert first.fetchone() is not None
        assert second.fetchall() == [(26115,)]
        assert len(first.fetch_arrow_table()) > 300_000


def test_pandas_reads_through_adbc(connection):
    import pandas

    frame = pandas.read_sql("SELECT origin, max(wind_gust) AS gust FROM weather GROUP BY 1 ORDER BY 1", connection)
    assert frame.to_dict("list") == {"origin": ["EWR", "JFK", "LGA"], "gust": [58.68978, 66.74524, 62.14212]}


def test_partitions_can_be_read_elsewhere(server, cursor):
    sql = "SELECT origin, count(*) AS n FROM weather GROUP BY origin ORDER BY origin"
    partitions, schema = cursor.adbc_execute_partitions(sql)
    assert len(partitions) == 1, "Grafana accepts exactly one endpoint"
    with server.adbc() as other, other.cursor() as reader:
        reader.adbc_read_partition(partitions[0])
        table = reader.fetch_arrow_table()
    assert table.schema.equals(schema)
    assert table.to_pydict() == {"origin": ["EWR", "JFK", "LGA"], "n": [8703, 8706, 8706]}


def test_there_are_no_transactions_and_the_driver_is_told(server):
    with pytest.warns(Warning, match="Cannot disable autocommit"):
        connection = server.adbc(autocommit=False)
    connection.close()


# --- prepared statements -------------------------------------------------------------------------------------------

def test_a_prepared_statement_is_executed_again(cursor):
    sql = "SELECT count(*) FROM weather"
    assert len(cursor.adbc_prepare(sql)) == 0, "there are no parameters to bind"
    for _ in range(3):
        cursor.execute(sql)
        assert cursor.fetchall() == [(26115,)]


def test_a_prepared_statement_is_executed_again_with_other_values(cursor, frames):
    sql = "SELECT count(*) FROM weather WHERE origin = $1 AND temp > $2"
    parameters = cursor.adbc_prepare(sql)
    assert [field.type for field in parameters] == [pyarrow.string(), pyarrow.float64()]
    assert all(field.nullable for field in parameters)
    for values in (("JFK", 80.0), ("EWR", 80.0), ("EWR", 200.0), ("JFK", 80.0)):
        cursor.execute(sql, values)
        assert cursor.fetchall() == frames.execute(sql, values).fetchall()


def test_parameters_keep_their_places_beyond_the_ninth(cursor, frames):
    """Sorted as text, $10 would come before $2."""
    sql = """
        SELECT count(*) FROM weather
        WHERE origin <> $1 AND temp > $2 AND dewp > $3 AND humid > $4 AND wind_dir >= $5 AND wind_speed >= $6
          AND precip >= $7 AND pressure > $8 AND visib > $9 AND time < $10 AND origin < $11
    """
    parameters = cursor.adbc_prepare(sql)
    expected = [pyarrow.string(), *[pyarrow.float64()] * 8, pyarrow.timestamp("ms"), pyarrow.string()]
    assert [field.type for field in parameters] == expected
    values = ("EWR", 40.0, 20.0, 30.0, 90.0, 1.0, 0.0, 1000.0, 5.0, datetime.datetime(2013, 9, 1), "LGA")
    cursor.execute(sql, values)
    answer = cursor.fetchall()
    assert answer == frames.execute(sql, values).fetchall()
    assert answer[0][0] > 0


def test_a_parameter_may_be_null(cursor):
    sql = "SELECT count(*) FROM weather WHERE origin = $1"
    cursor.adbc_prepare(sql)
    cursor.execute(sql, pyarrow.record_batch([pyarrow.array([None], pyarrow.string())], names=["0"]))
    assert cursor.fetchall() == [(0,)]


def test_a_parameter_without_a_value_is_an_error_that_names_it(cursor):
    with pytest.raises(ProgrammingError) as error:
        cursor.execute("SELECT count(*) FROM weather WHERE origin = $1")
    assert error.value.status_code == AdbcStatusCode.INVALID_ARGUMENT
    assert "$1" in str(error.value)


# --- metadata ------------------------------------------------------------------------------------------------------


def objects(connection, **filters) -> dict[str, dict[str, dict[str, dict]]]:
    """catalog → schema → table → {"type", "columns"}; a level that was not asked for is empty."""
    return {
        catalog["catalog_name"]: {
            schema["db_schema_name"]: {
                table["table_name"]: {
                    "type": table["table_type"],
                    "columns": [column["column_name"] for column in table["table_columns"] or []],
                }
                for table in schema["db_schema_tables"] or []
            }
            for schema in catalog["catalog_db_schemas"] or []
        }
        for catalog in connection.adbc_get_objects(**filters).read_all().to_pylist()
    }


def test_objects_at_depth_catalogs(connection):
    assert objects(connection, depth="catalogs") == {CATALOG: {}}


def test_objects_at_depth_schemas(connection):
    found = objects(connection, depth="db_schemas")
    assert set(found) == {CATALOG}
    assert {TABLE_SCHEMA, "information_schema"} <= set(found[CATALOG])
    assert all(tables == {} for tables in found[CATALOG].values())


def test_objects_at_depth_tables(connection):
    found = objects(connection, depth="tables")[CATALOG]
    table = {"type": "BASE TABLE", "columns": []}
    assert found[TABLE_SCHEMA] == {"flights": table, "weather": table}
    assert found["information_schema"]["tables"]["type"] == "VIEW"


@pytest.mark.parametrize("depth", ["columns", "all"])
def test_objects_down_to_columns(connection, depth, weather, flights):
    found = objects(connection, depth=depth)[CATALOG][TABLE_SCHEMA]
    assert found["weather"]["columns"] == weather.columns()
    assert found["flights"]["columns"] == flights.columns()


def test_objects_can_be_filtered_at_every_level(connection):
    whole = objects(connection, depth="all")
    assert objects(connection, depth="all", catalog_filter="nobody") == {}
    assert set(objects(connection, depth="tables", db_schema_filter=TABLE_SCHEMA)[CATALOG]) == {TABLE_SCHEMA}
    assert set(objects(connection, depth="tables", table_name_filter="wea%")[CATALOG][TABLE_SCHEMA]) == {"weather"}
    views = objects(connection, depth="tables", table_types_filter=["VIEW"])[CATALOG]
    assert not views.get(TABLE_SCHEMA)
    assert set(views["information_schema"]) == set(whole[CATALOG]["information_schema"])
    gusts = objects(connection, depth="all", table_name_filter="weather", column_name_filter="wind%")
    assert gusts[CATALOG][TABLE_SCHEMA]["weather"]["columns"] == ["wind_dir", "wind_gust", "wind_speed"]


def test_columns_have_their_position(connection, weather):
    catalogs = connection.adbc_get_objects(depth="all", db_schema_filter=TABLE_SCHEMA, table_name_filter="weather")
    (catalog,) = catalogs.read_all().to_pylist()
    columns = catalog["catalog_db_schemas"][0]["db_schema_tables"][0]["table_columns"]
    assert [column["ordinal_position"] for column in columns] == list(range(1, len(weather.columns()) + 1))


def test_the_schema_of_a_table(connection, weather, flights):
    for table in (weather, flights):
        for place in ({}, {"db_schema_filter": TABLE_SCHEMA}, {"catalog_filter": CATALOG}):
            schema = connection.adbc_get_table_schema(table.name, **place)
            assert [(field.name, field.type) for field in schema] == [(f.name, f.type) for f in table.schema()]


def test_the_schema_of_a_table_that_does_not_exist(connection):
    with pytest.raises(ProgrammingError) as error:
        connection.adbc_get_table_schema("nowhere")
    assert error.value.status_code == AdbcStatusCode.NOT_FOUND


def test_table_types(connection):
    types = connection.adbc_get_table_types()
    assert types == sorted(types)
    assert {"BASE TABLE", "VIEW"} <= set(types)


def test_the_server_introduces_itself(connection):
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Flightline"
    assert info["vendor_version"]
    assert info["vendor_arrow_version"]
    assert info["driver_name"] == "ADBC Flight SQL Driver - Go"


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "not prepared"])
@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC origin FROM weather", ["SELEC"]),
        ("SELECT origin FROM weather WHERE", ["SQL", "EOF"]),
        ("SELECT * FROM hurricanes", ["hurricanes", "not found"]),
        ("SELECT snowfall FROM weather", ["snowfall"]),
        ("SELECT no_such_function(temp) FROM weather", ["no_such_function"]),
        ("SELECT origin + temp FROM weather", ["+"]),
    ],
    ids=["misspelt keyword", "cut off", "unknown table", "unknown column", "unknown function", "wrong types"],
)
def test_a_wrong_query_is_the_callers_error_and_says_what_is_wrong(cursor, sql, words, prepared):
    with pytest.raises(ProgrammingError) as error:
        run(cursor, sql, prepared)
    assert error.value.status_code == AdbcStatusCode.INVALID_ARGUMENT
    for word in words:
        assert word.lower() in str(error.value).lower()


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "not prepared"])
def test_an_unknown_database_is_not_found_and_named(server, prepared):
    with server.adbc(database="atlantis") as connection, connection.cursor() as cursor:
        with pytest.raises(ProgrammingError) as error:
            run(cursor, "SELECT 1", prepared)
    assert error.value.status_code == AdbcStatusCode.NOT_FOUND
    assert "atlantis" in str(error.value)


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "not prepared"])
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM weather WHERE temp > 0",
        "UPDATE weather SET temp = 0",
        "CREATE TABLE hurricanes AS SELECT * FROM weather",
        "ALTER TABLE weather RENAME TO hurricanes",
        "SET datafusion.execution.batch_size = 1",
        "COPY weather TO '/tmp/weather.csv'",
    ],
    ids=lambda sql: sql.split()[0].lower(),
)
def test_sql_that_changes_what_cannot_be_changed_is_refused(cursor, sql, prepared):
    # Either class will do: the request is wrong, or it asks for what the server does not do.
    with pytest.raises((NotSupportedError, ProgrammingError)):
        run(cursor, sql, prepared)
    cursor.execute("SELECT count(*) FROM weather")
    assert cursor.fetchall() == [(26115,)]


def test_a_delete_is_done_once_as_a_query_a_script_and_an_update(scratch):
    with scratch.influxdb3() as library:
        library.write([f"goers,host={host} value=1 {time}" for time, host in enumerate("abcde")])
    with scratch.adbc() as connection, connection.cursor() as cursor, connection.cursor() as other:

        def left() -> str:
            cursor.execute("SELECT host FROM goers ORDER BY host")
            return "".join(host for (host,) in cursor.fetchall())

        cursor.execute("DELETE FROM goers WHERE host = 'a'")
        assert cursor.rowcount == -1
        assert left() == "bcde"
        cursor.execute("DELETE FROM goers WHERE host = 'b'")  # and nobody fetches the answer
        assert left() == "cde"
        cursor.executescript("DELETE FROM goers WHERE host = 'c'")
        assert left() == "de"
        other.adbc_statement.set_sql_query("DELETE FROM goers WHERE time = '1970-01-01T00:00:00.000000003'")
        assert other.adbc_statement.execute_update() == -1
        assert left() == "e"
        # Described in either way it is not done.
        other.adbc_statement.set_sql_query("DELETE FROM goers")
        schema = pyarrow.schema(other.adbc_statement.execute_schema())
        assert schema == pyarrow.schema([("count", pyarrow.int64())])
        other.adbc_prepare("DELETE FROM goers")
        assert left() == "e"


def test_an_error_in_the_middle_of_the_rows_reaches_the_client(cursor):
    with pytest.raises(adbc_driver_manager.Error, match="(?i)divide by zero"):
        cursor.execute("SELECT 1 / (flight - flight) AS x FROM flights")
        cursor.fetch_arrow_table()


def run(cursor, sql: str, prepared: bool) -> pyarrow.Table:
    if prepared:
        return cursor.execute(sql).fetch_arrow_table()
    cursor.adbc_statement.set_sql_query(sql)
    stream, _ = cursor.adbc_statement.execute_query()
    return pyarrow.RecordBatchReader.from_stream(stream).read_all()

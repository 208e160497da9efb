"""What a client asks for once and gets with every call: session options, several endpoints, tags as dictionaries."""

from __future__ import annotations

import pyarrow
import pytest

COOKIES = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
OPTION = "adbc.flight.sql.session.option."
HEADER = "adbc.flight.sql.rpc.call_header."

EVERYTHING = "SELECT time, origin, dest, tailnum, flight FROM flights"


def test_options_hold_for_a_client_that_keeps_cookies(server):
    with server.adbc(settings=COOKIES) as connection:
        options = connection.adbc_connection
        assert options.get_option(OPTION + "query_language") == "sql"
        options.set_options(**{OPTION + "query_language": "influxql"})
        assert options.get_option(OPTION + "query_language") == "influxql"
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(temp) FROM weather")
            assert "iox::measurement" in [column[0] for column in cursor.description]
        with pytest.raises(Exception, match="(?i)invalid"):
            options.set_options(**{OPTION + "query_language": "cobol"})
        options.set_options(**{OPTION + "query_language": "sql"})
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM weather")
            assert cursor.fetchall() == [(26115,)]


def test_a_driver_without_cookies_is_told_that_nothing_was_set(server):
    with server.adbc() as connection, pytest.raises(Exception, match="(?i)error|option"):
        connection.adbc_connection.set_options(**{OPTION + "query_language": "influxql"})


def test_an_option_that_does_not_exist(server):
    with server.adbc(settings=COOKIES) as connection, pytest.raises(Exception, match="timezone"):
        connection.adbc_connection.set_options(**{OPTION + "timezone": "Europe/Berlin"})


def test_several_endpoints_are_one_result(server, frames):
    expected = frames.execute("SELECT count(*), count(DISTINCT (time, origin, dest, tailnum, flight)) FROM flights").fetchone()
    with server.adbc(settings={HEADER + "x-flightline-endpoints": "4"}) as connection, connection.cursor() as cursor:
        partitions, schema = cursor.adbc_execute_partitions(EVERYTHING)
        assert len(partitions) == 4
        tables = []
        for partition in reversed(partitions):
            with connection.cursor() as reader:
                reader.adbc_read_partition(partition)
                tables.append(reader.fetch_arrow_table())
        assert all(table.schema.equals(schema) for table in tables)
        assert min(map(len, tables)) > expected[0] / 16
        rows = pyarrow.concat_tables(tables)
        assert len(rows) == expected[0]
        assert len(rows.group_by(rows.column_names).aggregate([])) == expected[1]
        cursor.execute(EVERYTHING + " ORDER BY time")  # the driver reads all endpoints, in their order
        times = cursor.fetch_arrow_table().column("time").cast(pyarrow.int64()).to_pylist()
        assert len(times) == expected[0]
        assert times == sorted(times)


def test_tags_come_as_dictionaries_to_who_asks(server, cursor):
    cursor.execute(EVERYTHING + " ORDER BY time, origin, dest, tailnum, flight")
    plain = cursor.fetch_arrow_table()
    with server.adbc(settings={HEADER + "x-flightline-dictionaries": "true"}) as connection, connection.cursor() as asking:
        for sql in (EVERYTHING + " ORDER BY time, origin, dest, tailnum, flight", EVERYTHING + " WHERE false"):
            asking.execute(sql)
            table = asking.fetch_arrow_table()
            assert table.schema.field("origin").type == pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
            if "false" not in sql:
                assert table.cast(plain.schema).equals(plain)

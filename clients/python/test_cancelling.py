"""A query that nobody waits for any more must end: its client sees it at once, and the server gets its cores back.

These checks come last: should a query go on, every later one would wait for it.
"""

from __future__ import annotations

import threading
import time

import pyarrow
import pyarrow.flight
import pytest
from adbc_driver_flightsql import ConnectionOptions
from adbc_driver_manager import AdbcStatusCode, OperationalError

from clients import ticket

# The sine of 10^11 pairs: far more than any machine does before the check cancels it.
ENDLESS = "SELECT sum(sin(a.distance * b.distance + a.flight)) AS total FROM flights a, flights b"

# From the cancelling to the end, on a slow and busy machine.
SOON_SECONDS = 30


def test_a_cancelled_query_ends_soon_and_says_so(connection):
    with connection.cursor() as cursor:
        timer = threading.Timer(1.0, cursor.adbc_cancel)
        timer.start()
        started = time.monotonic()
        with pytest.raises(OperationalError) as error:
            cursor.execute(ENDLESS)
            cursor.fetch_arrow_table()
        timer.join()
    assert error.value.status_code == AdbcStatusCode.CANCELLED
    assert time.monotonic() - started < SOON_SECONDS


def test_cancelled_queries_leave_the_server_free(server, connection):
    """More queries than any machine has cores: were they to go on, the last one would wait for them."""
    for _ in range(8):
        with connection.cursor() as cursor:
            timer = threading.Timer(1.0, cursor.adbc_cancel)
            timer.start()
            with pytest.raises(OperationalError):
                cursor.execute(ENDLESS)
                cursor.fetch_arrow_table()
            timer.join()
    started = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM weather")
        assert cursor.fetchall() == [(26115,)]
    assert time.monotonic() - started < SOON_SECONDS


def test_a_timeout_of_the_client_ends_the_query(server):
    options = {ConnectionOptions.TIMEOUT_FETCH.value: "1.0"}
    with server.adbc(conn_kwargs=options) as connection, connection.cursor() as cursor:
        with pytest.raises(OperationalError) as error:
            cursor.execute(ENDLESS)
            cursor.fetch_arrow_table()
    assert error.value.status_code == AdbcStatusCode.TIMEOUT


def test_a_cancelled_stream_ends_soon(server):
    flight = server.flight()
    reader = flight.do_get(ticket(server.database, ENDLESS), server.flight_options())
    timer = threading.Timer(1.0, reader.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises((pyarrow.flight.FlightCancelledError, pyarrow.ArrowCancelled)):
        # Not `read_all`: pyarrow takes its cancelling for Ctrl-C and interrupts the whole run.
        for _ in reader:
            pass
    timer.join()
    assert time.monotonic() - started < SOON_SECONDS

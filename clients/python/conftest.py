"""What the checks share. Nothing is started here: a server must be running, and it must hold the data.

FLIGHTLINE_HOST, FLIGHTLINE_PORT   where it listens
FLIGHTLINE_DATABASE                database with the data of load_nycflights.py (default: nyc)
FLIGHTLINE_TOKEN                   token, if it asks for one
FLIGHTLINE_DATA_DIR                only for test_files.py: data directory of a server that has stopped

Whatever is missing is a failure. No check is ever skipped.
"""

from __future__ import annotations

import os
import time

import duckdb
import pytest

import nycflights
from clients import CLIENTS, Server, curl


def required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"environment variable {name} is not set", pytrace=False)
    return value


@pytest.fixture(scope="session")
def server() -> Server:
    server = Server(
        host=required("FLIGHTLINE_HOST"),
        port=int(required("FLIGHTLINE_PORT")),
        database=os.environ.get("FLIGHTLINE_DATABASE", nycflights.DATABASE),
        token=os.environ.get("FLIGHTLINE_TOKEN", ""),
    )
    try:
        response = curl(server, "/health")
    except RuntimeError as error:
        pytest.fail(f"no server at {server.http}: {error}", pytrace=False)
    assert response.status == 200, response.text
    return server


@pytest.fixture(scope="session")
def weather() -> nycflights.Table:
    return nycflights.weather()


@pytest.fixture(scope="session")
def flights() -> nycflights.Table:
    return nycflights.flights()


@pytest.fixture(scope="session")
def frames(weather, flights):
    """DuckDB over the same rows that the server was given."""
    with duckdb.connect() as connection:
        connection.register("weather", weather.arrow())
        connection.register("flights", flights.arrow())
        yield connection


@pytest.fixture(scope="session", params=CLIENTS, ids=lambda name: name)
def client(request, server):
    """Every client in turn."""
    client = CLIENTS[request.param](server)
    yield client
    client.close()


@pytest.fixture(scope="session")
def scratch(server) -> Server:
    """The same server with a database of its own for checks that write. It stays behind: use a server to throw away."""
    return Server(server.host, server.port, f"checks_{time.time_ns()}", server.token)


@pytest.fixture
def connection(server):
    with server.adbc() as connection:
        yield connection


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor

"""Every way to ask the server a question, behind one method: `ask(sql, schema) -> pyarrow.Table`.

The answer is what the client gave, with as little help as possible. Over Arrow the schema is the server's own; `schema`
only types what came as text (JSON, CSV) or went through pandas.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import adbc_driver_flightsql.dbapi
import pyarrow
import pyarrow.flight
import pyarrow.parquet
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions
from influxdb_client_3 import InfluxDBClient3

# Long enough for a slow machine, short enough that a server that hangs is told from one that thinks.
ANSWER_SECONDS_MAX = 120

# The driver waits for ever unless told otherwise.
TIMEOUTS = [option.value for option in ConnectionOptions if option.name.startswith("TIMEOUT_")]

QUERY_PATH = "/api/v3/query_sql"


@dataclass(frozen=True)
class Server:
    """Where the server is and which database holds the data. `token` is empty if the server asks for none."""

    host: str
    port: int
    database: str
    token: str = ""

    @property
    def http(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def grpc(self) -> str:
        return f"grpc://{self.host}:{self.port}"

    def influxdb3(self, database: str | None = None, **options) -> InfluxDBClient3:
        """The client library of InfluxDB 3, with its own defaults."""
        return InfluxDBClient3(host=self.http, database=database or self.database, token=self.token, **options)

    def adbc(
        self, database: str | None = None, settings: dict[str, str] | None = None, **options
    ) -> adbc_driver_flightsql.dbapi.Connection:
        """A DBAPI connection. The database is named in a header, because Flight SQL itself has no place for it."""
        header = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "database"
        settings = {header: database or self.database, **(settings or {})}
        if self.token:
            settings[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {self.token}"
        # The server has no transactions; without autocommit the driver would ask for one and warn.
        options = {"autocommit": True, "conn_kwargs": dict.fromkeys(TIMEOUTS, str(ANSWER_SECONDS_MAX)), **options}
        return adbc_driver_flightsql.dbapi.connect(self.grpc, db_kwargs=settings, **options)

    def flight(self, **options) -> pyarrow.flight.FlightClient:
        return pyarrow.flight.connect(self.grpc, **options)

    def flight_options(self) -> pyarrow.flight.FlightCallOptions:
        headers = [(b"authorization", f"Bearer {self.token}".encode())] if self.token else []
        return pyarrow.flight.FlightCallOptions(timeout=ANSWER_SECONDS_MAX, headers=headers)


class Client(Protocol):
    def ask(self, sql: str, schema: pyarrow.Schema) -> pyarrow.Table: ...

    def close(self) -> None: ...


class AdbcDbapi:
    """ADBC as pandas and most tools use it: every query is prepared first."""

    def __init__(self, server: Server):
        self.connection = server.adbc()

    def ask(self, sql, schema):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def close(self):
        self.connection.close()


class AdbcStatement(AdbcDbapi):
    """ADBC without preparing: one GetFlightInfo with the text of the query, one DoGet."""

    def ask(self, sql, schema):
        with self.connection.cursor() as cursor:
            cursor.adbc_statement.set_sql_query(sql)
            stream, _ = cursor.adbc_statement.execute_query()
            return pyarrow.RecordBatchReader.from_stream(stream).read_all()


class FlightTicket:
    """Plain Arrow Flight: one DoGet whose ticket is the JSON that InfluxDB 3's libraries send."""

    def __init__(self, server: Server):
        self.server = server
        self.client = server.flight()

    def ask(self, sql, schema):
        return self.client.do_get(ticket(self.server.database, sql), self.server.flight_options()).read_all()

    def close(self):
        self.client.close()


class InfluxLibrary:
    """influxdb3-python, answers as Arrow."""

    def __init__(self, server: Server):
        self.client = server.influxdb3()

    def ask(self, sql, schema):
        return self.client.query(sql, language="sql", mode="all")

    def close(self):
        self.client.close()


class InfluxLibraryPandas(InfluxLibrary):
    """influxdb3-python, answers as a pandas frame. pandas turns whole numbers with gaps into floats; that is undone."""

    def ask(self, sql, schema):
        frame = self.client.query(sql, language="sql", mode="pandas")
        assert list(frame.columns) == schema.names
        columns = [pyarrow.Array.from_pandas(frame[field.name], type=field.type) for field in schema]
        return pyarrow.Table.from_arrays(columns, schema=schema)


class Http:
    """curl, POSTing the query, in one of the formats with which programs can go on."""

    def __init__(self, server: Server, format: str):
        self.server = server
        self.format = format

    def ask(self, sql, schema):
        request = {"db": self.server.database, "q": sql, "format": self.format}
        response = curl(self.server, QUERY_PATH, "--json", json.dumps(request))
        assert response.status == 200, response.text
        return DECODERS[self.format](response.body, schema)

    def close(self):
        pass


CLIENTS = {
    "adbc dbapi": AdbcDbapi,
    "adbc statement": AdbcStatement,
    "flight ticket": FlightTicket,
    "influxdb3-python arrow": InfluxLibrary,
    "influxdb3-python pandas": InfluxLibraryPandas,
    "http json": lambda server: Http(server, "json"),
    "http jsonl": lambda server: Http(server, "jsonl"),
    "http csv": lambda server: Http(server, "csv"),
    "http parquet": lambda server: Http(server, "parquet"),
}


def ticket(database: str, sql: str, **more) -> pyarrow.flight.Ticket:
    """A ticket as InfluxDB 3's libraries make it: no GetFlightInfo before it."""
    members = {"database": database, "sql_query": sql, "query_type": "sql", **more}
    return pyarrow.flight.Ticket(json.dumps(members).encode())


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


def curl(server: Server, path: str, *options: str, stdin: bytes | None = None) -> Response:
    """One request with the real curl. Raises if curl itself fails, not for a status that says no."""
    with tempfile.TemporaryDirectory() as directory:
        headers, body = Path(directory, "headers"), Path(directory, "body")
        command = ["curl", "--silent", "--show-error", "--max-time", str(ANSWER_SECONDS_MAX)]
        command += ["--dump-header", str(headers), "--output", str(body), "--write-out", "%{http_code}"]
        if server.token:
            command += ["--header", f"Authorization: Bearer {server.token}"]
        # A proxy of the machine has no business between a check and its server.
        environment = os.environ | {"no_proxy": "*"}
        done = subprocess.run(
            [*command, *options, server.http + path], input=stdin, capture_output=True, env=environment
        )
        if done.returncode != 0:
            raise RuntimeError(f"curl {path}: {done.stderr.decode().strip()}")
        content = body.read_bytes() if body.exists() else b""
        return Response(int(done.stdout), last_headers(headers.read_text()), content)


def last_headers(text: str) -> dict[str, str]:
    """The headers of the last response: an interim `100 Continue` comes before it."""
    block = text.strip().replace("\r\n", "\n").split("\n\n")[-1]
    pairs = (line.split(":", 1) for line in block.split("\n")[1:])
    return {name.lower(): value.strip() for name, value in pairs}


def from_json(body: bytes, schema: pyarrow.Schema) -> pyarrow.Table:
    return from_objects(json.loads(body), schema)


def from_jsonl(body: bytes, schema: pyarrow.Schema) -> pyarrow.Table:
    return from_objects([json.loads(line) for line in body.splitlines()], schema)


def from_objects(rows: list[dict], schema: pyarrow.Schema) -> pyarrow.Table:
    """Nulls are left out of an object; a member that nobody asked for is an error, a number with a wrong shape too."""
    strangers = {name for row in rows for name in row} - set(schema.names)
    assert not strangers, f"unexpected members {strangers}"
    assert not any(value is None for row in rows for value in row.values()), "a null that should have been left out"
    return pyarrow.Table.from_arrays(
        [typed([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema
    )


def from_csv(body: bytes, schema: pyarrow.Schema) -> pyarrow.Table:
    """A null is an empty field (no value of the data is an empty string). The header is there also without rows."""
    header, *rows = csv.reader(io.StringIO(body.decode(), newline=""))
    assert header == schema.names
    read = {pyarrow.int64(): int, pyarrow.float64(): float, pyarrow.bool_(): {"true": True, "false": False}.get}
    columns = []
    for index, field in enumerate(schema):
        value_of = read.get(field.type, str)
        columns.append(typed([value_of(row[index]) if row[index] != "" else None for row in rows], field.type))
    return pyarrow.Table.from_arrays(columns, schema=schema)


def from_parquet(body: bytes, schema: pyarrow.Schema) -> pyarrow.Table:
    return pyarrow.parquet.read_table(pyarrow.BufferReader(body))


def typed(values: list, type: pyarrow.DataType) -> pyarrow.Array:
    if pyarrow.types.is_timestamp(type):
        # Text without a zone, as precise as it needs to be; pyarrow reads up to nanoseconds.
        return pyarrow.array(values, pyarrow.string()).cast(type)
    if pyarrow.types.is_integer(type):
        assert all(value is None or isinstance(value, int) for value in values), "a whole number with a fraction"
    return pyarrow.array(values, type)


DECODERS = {"json": from_json, "jsonl": from_jsonl, "csv": from_csv, "parquet": from_parquet}

"""pyarrow.flight by hand: JSON tickets as InfluxDB 3's libraries send them, and the bare RPCs of Flight SQL."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.flight
import pytest
from pyarrow.flight import FlightCallOptions, FlightDescriptor, Ticket

from clients import ANSWER_SECONDS_MAX, ticket
from questions import QUESTIONS

# What grpc-go receives at most unless told otherwise: Grafana and influxdb3-go are not told otherwise.
GRPC_GO_MESSAGE_BYTES_MAX = 4 * 1024 * 1024


@pytest.fixture
def flight(server):
    with server.flight() as client:
        yield client


def read(flight, server, ticket: Ticket) -> pyarrow.Table:
    return flight.do_get(ticket, server.flight_options()).read_all()


# --- JSON tickets --------------------------------------------------------------------------------------------------

COUNT = "SELECT count(*) AS n FROM weather"


@pytest.mark.parametrize(
    "text",
    [
        '{"database": "DB", "sql_query": "SQL", "query_type": "sql", "params": {}}',
        '{"database": "DB", "sql_query": "SQL", "query_type": "sql"}',
        '{"database": "DB", "sql_query": "SQL"}',
        '{"namespace_name": "DB", "sql_query": "SQL", "query_type": "sql"}',
        '{"bucket": "DB", "sql_query": "SQL", "query_type": "sql"}',
        '{"bucket-name": "DB", "sql_query": "SQL", "query_type": "sql"}',
        '{"database": "DB", "sql_query": "SQL", "query_type": "sql", "is_debug": true}',
    ],
)
def test_every_spelling_of_a_ticket(flight, server, text):
    text = text.replace("DB", server.database).replace("SQL", COUNT)
    assert read(flight, server, Ticket(text.encode())).to_pydict() == {"n": [26115]}


def test_parameters_of_every_kind(flight, server, frames):
    sql = "SELECT count(*) AS n FROM weather WHERE origin = $origin AND temp > $temp AND wind_dir >= $direction"
    values = {"origin": "JFK", "temp": 70.5, "direction": 180}
    expected = frames.execute(sql, values).fetchall()
    table = read(flight, server, ticket(server.database, sql, params=values))
    assert table.to_pydict() == {"n": [expected[0][0]]}
    sql = "SELECT $truth AS truth, $word AS word, $number AS number, $real AS real"
    values = {"truth": True, "word": "it's $1", "number": -7, "real": 0.1}
    assert read(flight, server, ticket(server.database, sql, params=values)).to_pylist() == [values]
    sql = "SELECT count(*) AS n FROM weather WHERE origin = $origin"
    assert read(flight, server, ticket(server.database, sql, params={"origin": None})).to_pydict() == {"n": [0]}


def test_an_empty_result_has_a_schema(flight, server):
    table = read(flight, server, ticket(server.database, "SELECT time, origin, temp FROM weather WHERE false"))
    assert table.num_rows == 0
    assert table.schema.equals(
        pyarrow.schema([("time", pyarrow.timestamp("ns")), ("origin", pyarrow.string()), ("temp", pyarrow.float64())])
    )


# pyarrow turns gRPC's codes into Python's exceptions: InvalidArgument into ArrowInvalid (a ValueError), NotFound into
# ArrowKeyError (a KeyError), Unimplemented into ArrowNotImplementedError.
@pytest.mark.parametrize(
    ("text", "exception", "words"),
    [
        ("{}", pyarrow.ArrowInvalid, "ticket"),
        ("no json", pyarrow.ArrowInvalid, "ticket"),
        ("", pyarrow.ArrowInvalid, "ticket"),
        ('{"database": "DB"}', pyarrow.ArrowInvalid, "ticket"),
        ('{"database": "DB", "sql_query": "SELEC 1"}', pyarrow.ArrowInvalid, "SELEC"),
        ('{"database": "DB", "sql_query": "SELECT * FROM hurricanes"}', pyarrow.ArrowInvalid, "hurricanes"),
        ('{"database": "DB", "sql_query": "SELECT 1", "query_type": "flux"}', pyarrow.ArrowInvalid, "flux"),
        ('{"database": "atlantis", "sql_query": "SELECT 1"}', pyarrow.ArrowKeyError, "atlantis"),
        ('{"database": "DB", "sql_query": "SELECT $x", "params": {"x": [1]}}', pyarrow.ArrowInvalid, "x"),
    ],
)
def test_a_wrong_ticket_is_refused_with_its_reason(flight, server, text, exception, words):
    with pytest.raises(exception, match=f"(?i){words}"):
        read(flight, server, Ticket(text.replace("DB", server.database).encode()))


def test_no_message_is_larger_than_grpc_go_takes(server, flights):
    limit = [("grpc.max_receive_message_length", GRPC_GO_MESSAGE_BYTES_MAX)]
    with server.flight(generic_options=limit) as client:
        table = read(client, server, ticket(server.database, "SELECT * FROM flights"))
    assert table.num_rows == len(flights.frame)


def test_a_stream_that_nobody_reads_to_its_end_does_no_harm(flight, server):
    for _ in range(20):
        reader = flight.do_get(ticket(server.database, "SELECT * FROM flights"), server.flight_options())
        assert reader.read_chunk().data.num_rows > 0
        reader.cancel()
    assert read(flight, server, ticket(server.database, COUNT)).to_pydict() == {"n": [26115]}


# --- Flight SQL by hand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_what_is_promised_is_what_is_sent(flight, server, question):
    """GetSchema, GetFlightInfo and DoGet must say the same: names, types and whether a column may be null."""
    options = sql_options(server, server.database)
    descriptor = FlightDescriptor.for_command(statement_query(question.sql))
    schema = flight.get_schema(descriptor, options).schema
    info = flight.get_flight_info(descriptor, options)
    (endpoint,) = info.endpoints
    assert list(endpoint.locations) == [], "no location means: ask the server that was asked"
    assert (info.total_records, info.total_bytes) == (-1, -1)
    sent = flight.do_get(endpoint.ticket, server.flight_options()).read_all().schema
    assert info.schema.equals(sent, check_metadata=False)
    assert schema.equals(sent, check_metadata=False)


def test_caches_are_made_asked_and_deleted(flight, server):
    def act(action: str, **body) -> list[dict]:
        request = pyarrow.flight.Action(action, json.dumps(body).encode())
        results = flight.do_action(request, sql_options(server, server.database))
        return [json.loads(result.body.to_pybytes()) for result in results]

    (made,) = act("CreateLastCache", table="weather", key_columns=["origin"], name="of_airports")
    assert (made["db"], made["key_columns"], made["count"]) == (server.database, ["origin"], 1)
    try:
        asked = "SELECT origin FROM last_cache('weather', 'of_airports') ORDER BY origin"
        table = read(flight, server, ticket(server.database, asked))
        assert table.to_pydict() == {"origin": ["EWR", "JFK", "LGA"]}
        with pytest.raises(pyarrow.ArrowException, match="already exists"):
            act("CreateLastCache", table="weather", key_columns=["origin"], name="of_airports")
    finally:
        assert act("DeleteLastCache", table="weather", name="of_airports") == []
    with pytest.raises(pyarrow.ArrowKeyError, match="not found"):
        act("DeleteLastCache", table="weather", name="of_airports")


def test_a_ticket_may_be_redeemed_twice(flight, server):
    descriptor = FlightDescriptor.for_command(statement_query(COUNT))
    (endpoint,) = flight.get_flight_info(descriptor, sql_options(server, server.database)).endpoints
    for _ in range(2):
        assert read(flight, server, endpoint.ticket).to_pydict() == {"n": [26115]}


@pytest.mark.parametrize("header", [b"database", b"bucket", b"bucket-name", b"iox-namespace-name"])
def test_every_header_that_names_the_database(flight, server, header):
    options = FlightCallOptions(headers=[*authorization(server), (header, server.database.encode())])
    info = flight.get_flight_info(FlightDescriptor.for_command(statement_query(COUNT)), options)
    assert read(flight, server, info.endpoints[0].ticket).to_pydict() == {"n": [26115]}


def test_without_a_name_there_must_be_only_one_database(flight, server, scratch):
    with scratch.influxdb3() as library:
        library.write("witness value=1 1")
    options = FlightCallOptions(headers=authorization(server))
    with pytest.raises(pyarrow.ArrowInvalid, match="database"):
        flight.get_flight_info(FlightDescriptor.for_command(statement_query(COUNT)), options)


def test_headers_that_name_different_databases_are_refused(flight, server):
    headers = [*authorization(server), (b"database", server.database.encode()), (b"bucket", b"atlantis")]
    with pytest.raises(pyarrow.ArrowInvalid):
        flight.get_flight_info(FlightDescriptor.for_command(statement_query(COUNT)), FlightCallOptions(headers=headers))


def test_a_descriptor_that_is_no_command_is_refused(flight, server):
    with pytest.raises(pyarrow.ArrowInvalid):
        flight.get_flight_info(FlightDescriptor.for_command(b"SELECT 1"), sql_options(server, server.database))


def sql_options(server, database: str) -> FlightCallOptions:
    headers = [*authorization(server), (b"database", database.encode())]
    return FlightCallOptions(timeout=ANSWER_SECONDS_MAX, headers=headers)


def authorization(server) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {server.token}".encode())] if server.token else []


def statement_query(sql: str) -> bytes:
    """google.protobuf.Any{CommandStatementQuery{query}}, written out: pyarrow knows Flight, but not Flight SQL."""
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return member(1, name) + member(2, member(1, sql.encode()))


def member(number: int, value: bytes) -> bytes:
    """A protobuf field of bytes, text or a message: key, length, value."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])

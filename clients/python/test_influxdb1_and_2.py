"""The client libraries of InfluxDB 1 (`influxdb`) and 2 (`influxdb-client`): what they write, ask and delete."""

from __future__ import annotations

import pytest
from influxdb import InfluxDBClient
from influxdb.exceptions import InfluxDBClientError
from influxdb_client import InfluxDBClient as InfluxDBClient2
from influxdb_client import Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

DATABASE = "influxdb1"


@pytest.fixture(params=["json", "msgpack"])
def library(request, server):
    """The library asks for MessagePack by itself, and takes JSON too."""
    headers = {"Accept": "application/json"} if request.param == "json" else None
    client = InfluxDBClient(
        server.host, server.port, "any", server.token, database=DATABASE, headers=headers, timeout=60, retries=1
    )
    client.create_database(DATABASE)
    yield client
    client.drop_database(DATABASE)
    client.close()


def points() -> list[dict]:
    return [
        {
            "measurement": "cpu",
            "tags": {"host": "a" if n % 2 == 0 else "b"},
            "time": n * 10,
            "fields": {"usage": n / 2, "load": n, "note": f"n {n}", "ok": n > 3},
        }
        for n in range(6)
    ]


def test_points_are_written_and_read(library):
    if library._headers["Accept"] == "application/x-msgpack":
        library.ping()
    assert {"name": DATABASE} in library.get_list_database()
    assert library.write_points(points(), time_precision="s", batch_size=4)
    rows = list(library.query("SELECT usage, load, note, ok FROM cpu WHERE host = 'a'", epoch="s").get_points())
    assert rows == [
        {"time": 10 * n, "usage": n / 2, "load": n, "note": f"n {n}", "ok": n > 3} for n in (0, 2, 4)
    ]
    texts = list(library.query("SELECT load FROM cpu LIMIT 1").get_points())
    assert texts[0]["time"].startswith("1970-01-01T00:00:00")
    assert library.get_list_measurements() == [{"name": "cpu"}]
    assert library.get_list_series() == ["cpu,host=a", "cpu,host=b"]


def test_series_come_with_their_tags_and_in_pieces(library):
    library.write_points(points(), time_precision="s")
    result = library.query("SELECT mean(usage) FROM cpu GROUP BY host", epoch="s")
    assert {key[1]["host"]: next(rows)["mean"] for key, rows in result.items()} == {"a": 1.0, "b": 1.5}
    if library._headers["Accept"] == "application/json":  # it reads one piece of MessagePack only
        pieces = library.query("SELECT load FROM cpu", chunked=True, chunk_size=2, epoch="s")
        assert [row["load"] for piece in pieces for row in piece.get_points()] == [0, 1, 2, 3, 4, 5]
    bound = library.query("SELECT load FROM cpu WHERE load > $n", bind_params={"n": 3}, epoch="s")
    assert [row["load"] for row in bound.get_points()] == [4, 5]


def test_series_measurements_and_policies_go(library):
    library.write_points(points(), time_precision="s")
    library.delete_series(measurement="cpu", tags={"host": "a"})
    assert library.get_list_series() == ["cpu,host=b"]
    library.create_retention_policy("week", "7d", "1", database=DATABASE)
    library.write_points(points()[:1], time_precision="s", retention_policy="week")
    policies = {policy["name"]: policy["duration"] for policy in library.get_list_retention_policies(DATABASE)}
    assert policies == {"autogen": "0s", "week": "168h0m0s"}
    library.alter_retention_policy("week", DATABASE, duration="30d")
    library.drop_retention_policy("week", DATABASE)
    library.drop_measurement("cpu")
    assert library.get_list_measurements() == []


def test_errors_are_understood(library):
    with pytest.raises(InfluxDBClientError, match="error parsing query: found EOF, expected FROM"):
        library.query("SELECT x")
    with pytest.raises(InfluxDBClientError, match="database not found: nosuch"):
        library.query("SELECT x FROM y", database="nosuch")
    library.write_points(points(), time_precision="s")
    with pytest.raises(InfluxDBClientError, match="usage"):
        library.write_points([{"measurement": "cpu", "fields": {"usage": "text"}}])


def test_the_library_of_version_2_writes_and_deletes(server, library):
    with InfluxDBClient2(url=server.http, token=server.token, org="any", timeout=60_000) as client:
        assert client.ping()
        client.write_api(write_options=SYNCHRONOUS).write(
            DATABASE, record=[Point("air").tag("room", room).field("temp", 20.5).time(1) for room in ("hall", "attic")]
        )
        assert library.get_list_series(measurement="air") == ["air,room=attic", "air,room=hall"]
        client.delete_api().delete("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", 'room="hall"', bucket=DATABASE)
        assert library.get_list_series(measurement="air") == ["air,room=attic"]
        with pytest.raises(ApiException):
            client.query_api().query('from(bucket: "x") |> range(start: 0)')

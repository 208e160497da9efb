"""The HTTP API with the real curl: formats, content types, line protocol and what is said when something is wrong."""

from __future__ import annotations

import gzip
import io
import json

import pyarrow
import pyarrow.parquet
import pytest

from clients import QUERY_PATH, curl

SQL = "SELECT origin, count(*) AS n FROM weather GROUP BY origin ORDER BY origin"

BODIES = {
    "json": b'[{"origin":"EWR","n":8703},{"origin":"JFK","n":8706},{"origin":"LGA","n":8706}]',
    "jsonl": b'{"origin":"EWR","n":8703}\n{"origin":"JFK","n":8706}\n{"origin":"LGA","n":8706}\n',
    "csv": b"origin,n\nEWR,8703\nJFK,8706\nLGA,8706\n",
    "pretty": b"+--------+------+\n| origin | n    |\n+--------+------+\n| EWR    | 8703 |\n| JFK    | 8706 |\n"
    b"| LGA    | 8706 |\n+--------+------+",
}

CONTENT_TYPES = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "csv": "text/csv",
    "pretty": "text/plain; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


def get(server, *options: str, **members: str):
    """GET with the members in the query string."""
    encoded = [part for name, value in members.items() for part in ("--data-urlencode", f"{name}={value}")]
    return curl(server, QUERY_PATH, "--get", *encoded, *options)


def post(server, *options: str, **members):
    """POST with the members as a JSON object."""
    return curl(server, QUERY_PATH, "--json", json.dumps(members), *options)


def write(server, body: bytes | str, query: str, *options: str):
    body = body.encode() if isinstance(body, str) else body
    return curl(server, f"/api/v3/write_lp?{query}", "--data-binary", "@-", *options, stdin=body)


def rows(server, sql: str) -> list[dict]:
    response = post(server, db=server.database, q=sql, format="json")
    assert response.status == 200, response.text
    return response.json()


# --- queries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("send", [get, post], ids=["GET", "POST"])
@pytest.mark.parametrize("format", CONTENT_TYPES)
def test_every_format(server, send, format):
    response = send(server, db=server.database, q=SQL, format=format)
    assert response.status == 200, response.text
    assert response.headers["content-type"] == CONTENT_TYPES[format]
    if format == "parquet":
        table = pyarrow.parquet.read_table(io.BytesIO(response.body))
        assert table.to_pydict() == {"origin": ["EWR", "JFK", "LGA"], "n": [8703, 8706, 8706]}
    else:
        assert response.body.rstrip() == BODIES[format].rstrip()


def test_jsonl_has_a_second_name(server):
    response = get(server, db=server.database, q=SQL, format="json_lines")
    assert response.body.rstrip() == BODIES["jsonl"].rstrip()


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("application/json", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("text/plain", "pretty"),
        ("application/vnd.apache.parquet", "parquet"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "json"),
    ],
)
def test_the_format_follows_the_accept_header(server, accept, format):
    response = get(server, "--header", f"Accept: {accept}", db=server.database, q=SQL)
    assert response.status == 200, response.text
    assert response.headers["content-type"] == CONTENT_TYPES[format]


def test_an_accept_header_that_nobody_can_serve(server):
    response = get(server, "--header", "Accept: image/png", db=server.database, q=SQL)
    assert response.status == 400
    assert "image/png" in response.text


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_nulls_are_left_out_and_times_have_no_zone(server, format):
    sql = "SELECT time, temp, wind_gust FROM weather WHERE origin = 'JFK' ORDER BY time LIMIT 1"
    text = get(server, db=server.database, q=sql, format=format).text.strip("[]\n")
    assert text == '{"time":"2013-01-01T06:00:00","temp":39.02}'


def test_times_are_exact_to_the_nanosecond(scratch):
    assert write(scratch, "instants value=1 1700000000123456789", f"db={scratch.database}&precision=ns").status == 204
    assert rows(scratch, "SELECT time FROM instants") == [{"time": "2023-11-14T22:13:20.123456789"}]


@pytest.mark.parametrize("send", [get, post], ids=["GET", "POST"])
def test_parameters(server, send):
    values = {"origin": "EWR", "temp": 60.5}
    params = json.dumps(values) if send is get else values
    sql = "SELECT count(*) AS n FROM weather WHERE origin = $origin AND temp > $temp"
    response = send(server, db=server.database, q=sql, format="json", params=params)
    assert response.status == 200, response.text
    expected = "SELECT count(*) AS n FROM weather WHERE origin = 'EWR' AND temp > 60.5"
    assert response.json() == rows(server, expected)


def test_an_empty_answer(server):
    sql = "SELECT origin, temp FROM weather WHERE false"
    assert get(server, db=server.database, q=sql, format="json").body == b"[]"
    assert get(server, db=server.database, q=sql, format="jsonl").body == b""
    assert get(server, db=server.database, q=sql, format="csv").body == b"origin,temp\n"


@pytest.mark.parametrize("send", [get, post], ids=["GET", "POST"])
@pytest.mark.parametrize(
    ("members", "status", "words"),
    [
        ({"q": "SELECT 1"}, 400, ["db"]),
        ({"db": "DB"}, 400, ["q"]),
        ({"db": "DB", "q": "SELEC 1"}, 400, ["SELEC"]),
        ({"db": "DB", "q": "SELECT * FROM hurricanes"}, 400, ["hurricanes", "not found"]),
        ({"db": "DB", "q": "SELECT snowfall FROM weather"}, 400, ["snowfall"]),
        ({"db": "DB", "q": "SELECT 1", "format": "xml"}, 400, ["xml"]),
        ({"db": "atlantis", "q": "SELECT 1"}, 404, ["database not found", "atlantis"]),
    ],
    ids=["no db", "no q", "misspelt", "unknown table", "unknown column", "unknown format", "unknown db"],
)
def test_a_wrong_request_says_what_is_wrong(server, send, members, status, words):
    members = {name: server.database if value == "DB" else value for name, value in members.items()}
    response = send(server, **members)
    assert response.status == status, response.text
    for word in words:
        assert word.lower() in response.text.lower()


@pytest.mark.parametrize("send", [get, post], ids=["GET", "POST"])
@pytest.mark.parametrize("sql", ["TRUNCATE TABLE weather", "DELETE FROM weather WHERE temp > 0", "COPY weather TO '/tmp/weather.csv'"])
def test_sql_only_reads(server, send, sql):
    response = send(server, db=server.database, q=sql)
    # Either will do: the request is wrong (400), or it asks for what the server does not do (405).
    assert response.status in (400, 405), response.text
    assert sql.split()[0] in response.text
    assert rows(server, "SELECT count(*) AS n FROM weather") == [{"n": 26115}]


def test_only_a_post_deletes(scratch):
    assert write(scratch, "leaver,host=a value=1 1\nleaver,host=b value=1 1", f"db={scratch.database}").status == 204
    refused = get(scratch, db=scratch.database, q="DELETE FROM leaver")
    assert refused.status == 400 and "read-only" in refused.text
    assert post(scratch, db=scratch.database, q="DELETE FROM leaver WHERE host = 'a'").status == 200
    assert rows(scratch, "SELECT host FROM leaver") == [{"host": "b"}]


def test_http_2_with_prior_knowledge(server):
    response = get(server, "--http2-prior-knowledge", db=server.database, q=SQL, format="json")
    assert response.body == BODIES["json"]


# --- line protocol -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "unit"),
    [
        ("s", 10**9),
        ("second", 10**9),
        ("ms", 10**6),
        ("millisecond", 10**6),
        ("us", 10**3),
        ("u", 10**3),
        ("microsecond", 10**3),
        ("ns", 1),
        ("n", 1),
        ("nanosecond", 1),
        ("auto", 10**9),
        (None, 10**9),
    ],
)
def test_every_precision(scratch, precision, unit):
    table = f"units_{precision or 'left_out'}"
    query = f"db={scratch.database}" + (f"&precision={precision}" if precision else "")
    response = write(scratch, f"{table} value=1 1700000001", query)
    assert (response.status, response.body) == (204, b"")
    assert rows(scratch, f"SELECT CAST(time AS BIGINT) AS t FROM {table}") == [{"t": 1_700_000_001 * unit}]


def test_gzip_of_several_members(scratch, weather):
    """Telegraf and others append gzip members; a reader that stops after the first loses lines without a word."""
    lines = [line.replace("weather,", "members,", 1) for line in weather.lines()][:3_000]
    parts = ["".join(f"{line}\n" for line in lines[at : at + 1_000]) for at in (0, 1_000, 2_000)]
    body = b"".join(gzip.compress(part.encode()) for part in parts)
    response = write(scratch, body, f"db={scratch.database}&precision=ns", "--header", "Content-Encoding: gzip")
    assert response.status == 204, response.text
    assert rows(scratch, "SELECT count(*) AS n FROM members") == [{"n": 3_000}]


def test_a_line_without_a_time_gets_the_time_of_the_server(scratch):
    assert write(scratch, "now value=1", f"db={scratch.database}").status == 204
    answer = rows(scratch, "SELECT time > now() - INTERVAL '1 minute' AND time <= now() AS recent FROM now")
    assert answer == [{"recent": True}]


def test_bad_lines_are_named_by_their_place_in_the_body(scratch):
    body = "# first a comment\nplaces value=1 1\n\nplaces value=x 2\nplaces value=2 3\nplaces 4"
    response = write(scratch, body, f"db={scratch.database}&precision=ns")
    assert response.status == 400
    answer = response.json()
    assert answer["error"] == "partial write of line protocol occurred"
    named = [(line["line_number"], line["original_line"]) for line in answer["data"]]
    assert named == [(4, "places value=x 2"), (6, "places 4")]
    assert all(line["error_message"] for line in answer["data"])
    assert rows(scratch, "SELECT value FROM places ORDER BY time") == [{"value": 1.0}, {"value": 2.0}]


@pytest.mark.parametrize(
    ("body", "query", "options", "words"),
    [
        (b"t v=1 1", "precision=ns", [], "db"),
        (b"t v=1 1", "", [], "db"),
        (b"t v=1 1", "db=DB&precision=h", [], "precision"),
        (b"", "db=DB", [], "empty"),
        (b"\n\n# nothing\n", "db=DB", [], "empty"),
        (b't v="\xff" 1', "db=DB", [], "utf"),
        (b"t v=1 1", "db=DB", ["--header", "Content-Encoding: gzip"], "gzip"),
        (b"t v=1 1", "db=DB", ["--header", "Content-Encoding: br"], "br"),
        (b"t v=1 1", "db=no%20spaces", [], "database"),
    ],
    ids=["no db", "no query", "unit", "empty", "comments", "not utf-8", "not gzip", "unknown encoding", "bad name"],
)
def test_a_wrong_write_says_what_is_wrong(scratch, body, query, options, words):
    response = write(scratch, body, query.replace("DB", scratch.database), *options)
    assert response.status == 400, response.text
    assert words in response.text.lower()


def test_unknown_paths_and_methods(server):
    assert curl(server, "/api/v3/nothing").status == 404
    assert curl(server, QUERY_PATH, "--request", "DELETE").status in (404, 405)


def test_ping_and_health(server):
    assert curl(server, "/health").text == "OK"
    assert curl(server, "/ping").json()["version"]

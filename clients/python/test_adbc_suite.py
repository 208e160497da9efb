"""What the public validation suite of ADBC drivers (adbc-drivers/validation) looks at, as far as the other checks don't.

Of its features these are not there, and it is told so: transactions, temporary tables, other catalogs and schemas, constraints, UPDATE,
columns of dates, times and bytes.
"""

from __future__ import annotations

import pyarrow
import pytest
from adbc_driver_manager import NotSupportedError, ProgrammingError

CATALOG = "public"
TABLE_SCHEMA = "iox"
NOWHERE = "thisdoesnotexist"


def query(cursor, sql: str) -> pyarrow.Table:
    """Without preparing it."""
    cursor.adbc_statement.set_sql_query(sql)
    stream, _ = cursor.adbc_statement.execute_query()
    return pyarrow.RecordBatchReader.from_stream(stream).read_all()


def read(cursor, sql: str) -> pyarrow.Table:
    """With a statement that rows were ingested with, which the driver can't use for anything else before it is prepared anew."""
    return cursor.execute(sql).fetch_arrow_table()


def update(cursor, sql: str) -> int:
    cursor.adbc_statement.set_sql_query(sql)
    return cursor.adbc_statement.execute_update()


@pytest.fixture
def writer(scratch):
    with scratch.influxdb3() as library:
        library.write("witness value=1 1")  # makes the database
    with scratch.adbc() as connection, connection.cursor() as cursor:
        yield cursor


# --- connection ----------------------------------------------------------------------------------------------------


def test_the_only_catalog_and_schema_are_the_current_ones(server):
    with server.adbc() as connection:
        assert connection.adbc_current_catalog == CATALOG
        assert connection.adbc_current_db_schema == TABLE_SCHEMA
        connection.adbc_current_catalog = CATALOG
        connection.adbc_current_db_schema = TABLE_SCHEMA
        with pytest.raises(Exception, match="(?i)invalid"):
            connection.adbc_current_catalog = NOWHERE
        assert connection.adbc_current_catalog == CATALOG


@pytest.mark.parametrize("depth", ["catalogs", "db_schemas", "tables", "columns"])
def test_objects_are_sorted_and_each_there_once(connection, depth):
    found = []
    for catalog in connection.adbc_get_objects(depth=depth).read_all().to_pylist():
        found.append((catalog["catalog_name"],))
        for schema in catalog["catalog_db_schemas"] or []:
            found.append((*found[0], schema["db_schema_name"]))
            for table in schema["db_schema_tables"] or []:
                name = (CATALOG, schema["db_schema_name"], table["table_name"])
                assert all(name)
                found.append(name)
                columns = [column["column_name"] for column in table["table_columns"] or []]
                assert len(set(columns)) == len(columns)
                assert bool(columns) == (depth == "columns")
    assert found == sorted(set(found))


@pytest.mark.parametrize("depth", ["catalogs", "db_schemas", "tables", "columns"])
@pytest.mark.parametrize("level", ["catalog_filter", "db_schema_filter", "table_name_filter"])
def test_a_filter_that_nothing_matches_leaves_nothing_below_it(connection, depth, level):
    catalogs = connection.adbc_get_objects(depth=depth, **{level: NOWHERE}).read_all().to_pylist()
    if level == "catalog_filter":
        assert catalogs == []
        return
    schemas = [schema for catalog in catalogs for schema in catalog["catalog_db_schemas"] or []]
    if level == "db_schema_filter" and depth != "catalogs":
        assert schemas == []
    assert [table for schema in schemas for table in schema["db_schema_tables"] or []] == []


def test_columns_say_what_power_bi_wants_to_know(connection):
    catalogs = connection.adbc_get_objects(depth="columns", table_name_filter="weather").read_all().to_pylist()
    (schema,) = [schema for schema in catalogs[0]["catalog_db_schemas"] if schema["db_schema_name"] == TABLE_SCHEMA]
    columns = schema["db_schema_tables"][0]["table_columns"]
    assert all(column["xdbc_type_name"] for column in columns)
    assert {column["xdbc_is_nullable"] for column in columns} <= {"YES", "NO", None}


# --- statements ----------------------------------------------------------------------------------------------------


def test_the_schema_of_an_expression_without_a_name(cursor):
    assert len(cursor.adbc_execute_schema("SELECT flight + 1 FROM flights")) == 1


def test_a_query_is_executed_for_every_row_of_values(cursor):
    """Prepared before values are bound: the other way round this driver forgets them."""
    cursor.adbc_statement.set_sql_query("SELECT 1 + $1")
    cursor.adbc_statement.prepare()
    cursor.adbc_statement.bind(pyarrow.RecordBatch.from_pydict({"0": [1, 2, 3, 4]}))
    stream, _ = cursor.adbc_statement.execute_query()
    result = pyarrow.RecordBatchReader.from_stream(stream).read_all()
    assert result[0].to_pylist() == [2, 3, 4, 5]


@pytest.mark.parametrize(("sql", "count"), [("SELECT 1 + $1", 1), ("SELECT 1 + $1 + $2", 2), ("SELECT 1", 0)])
def test_parameters_are_counted(cursor, sql, count):
    cursor.adbc_statement.set_sql_query(sql)
    cursor.adbc_statement.prepare()
    assert len(pyarrow.schema(cursor.adbc_statement.get_parameter_schema())) == count


def test_a_null_of_no_type_is_a_null_of_the_column(writer):
    update(writer, "CREATE TABLE sample (id BIGINT, value VARCHAR)")
    writer.adbc_statement.set_sql_query("INSERT INTO sample (id, value) VALUES ($1, $2)")
    writer.adbc_statement.prepare()
    writer.adbc_statement.bind(
        pyarrow.RecordBatch.from_pydict({"0": pyarrow.array([7001], pyarrow.int64()), "1": pyarrow.nulls(1)})
    )
    writer.adbc_statement.execute_update()
    assert query(writer, "SELECT value FROM sample WHERE id = 7001")[0].to_pylist() == [None]
    update(writer, "DROP TABLE sample")


def test_rows_are_counted_where_they_can_be(writer):
    assert update(writer, "CREATE TABLE counted (id BIGINT, host TAG)") == 0
    assert update(writer, "INSERT INTO counted (id, host) VALUES (1, 'a'), (2, 'b')") == 2
    with pytest.raises((NotSupportedError, ProgrammingError)):
        update(writer, "UPDATE counted SET id = id + 1")
    assert update(writer, "DELETE FROM counted WHERE host = 'a'") == -1, "nobody counts what a DELETE hides"
    assert update(writer, "DROP TABLE counted") == 0
    assert update(writer, "DROP TABLE IF EXISTS counted") == 0
    with pytest.raises(ProgrammingError, match="not found"):
        update(writer, "DROP TABLE counted")


def test_text_beyond_ascii(cursor):
    text = "Hello, 世界 🚀"
    assert query(cursor, f"SELECT '{text}' AS greeting")[0].to_pylist() == [text]


# --- ingestion -----------------------------------------------------------------------------------------------------


def test_replacing_a_table_that_is_not_there_makes_it(writer):
    data = pyarrow.table({"idx": [1, 2, 3], "value": ["foo", "bar", None]})
    for rows in (data, data, data.slice(0, 1)):
        assert writer.adbc_ingest("suite_replaced", rows, mode="replace") == len(rows)
        assert read(writer, "SELECT idx, value FROM suite_replaced ORDER BY idx").to_pydict() == rows.to_pydict()


def test_many_columns(writer):
    names = [f"c{number:03}" for number in range(300)]
    data = pyarrow.table({name: [number] for number, name in enumerate(names)})
    assert writer.adbc_ingest("wide", data, mode="create") == 1
    assert read(writer, f"SELECT {', '.join(names)} FROM wide").to_pylist() == data.to_pylist()


def test_batches_without_rows_between_others(writer):
    batch = pyarrow.record_batch({"idx": [1]})
    reader = pyarrow.RecordBatchReader.from_batches(batch.schema, [batch.slice(0, 0), batch, batch.slice(0, 0)])
    assert writer.adbc_ingest("gaps", reader, mode="create") == 1


def test_names_that_need_quotes(writer):
    data = pyarrow.table({"a b": [1], "Ünï": [2], "select": [3]})
    assert writer.adbc_ingest("Odd name", data, mode="create") == 1
    assert read(writer, 'SELECT "a b", "Ünï", "select" FROM "Odd name"').to_pylist() == data.to_pylist()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pyarrow.array([1], pyarrow.date32()), "2024-01-31"),
        (pyarrow.array([1], pyarrow.time64("us")), "13:45:00"),
        (pyarrow.array([b"x"]), "base64"),
        (pyarrow.array([[1]]), "row for each item"),
        (pyarrow.array([{"a": 1}]), "column for each"),
    ],
    ids=["date", "time", "binary", "list", "struct"],
)
def test_a_type_that_no_field_can_hold_is_refused_with_advice(writer, value, words):
    with pytest.raises(Exception, match=words):
        writer.adbc_ingest("unfit", pyarrow.table({"odd": value}), mode="create")


# --- Substrait -----------------------------------------------------------------------------------------------------


def part(number: int, content: bytes) -> bytes:
    """A field of protobuf that has a length."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def substrait_plan(table: str, column: str, name: str) -> bytes:
    """`SELECT column AS name FROM table` for a column of floats, as any producer of Substrait plans writes it."""
    kind = part(11, bytes([2 << 3, 1]))  # fp64, nullable
    columns = part(1, column.encode()) + part(2, part(1, kind))
    read = part(2, columns) + part(7, part(1, table.encode()))
    return part(3, part(2, part(1, part(1, read)) + part(2, name.encode())))


def test_a_substrait_plan_is_answered_as_its_text(cursor):
    expected = read(cursor, "SELECT temp AS degrees FROM weather").to_pydict()["degrees"]
    plan = substrait_plan("weather", "temp", "degrees")
    # Prepared, as the DB API does it, and at once.
    found = cursor.execute(plan).fetch_arrow_table()
    assert found.schema.names == ["degrees"]
    assert sorted(found["degrees"].drop_null().to_pylist()) == sorted(value for value in expected if value is not None)
    cursor.adbc_statement.set_substrait_plan(plan)
    stream, _ = cursor.adbc_statement.execute_query()
    assert pyarrow.RecordBatchReader.from_stream(stream).read_all().num_rows == len(expected)
    schema = pyarrow.schema(cursor.adbc_execute_schema(plan))
    assert schema.names == ["degrees"]


def test_what_is_no_substrait_plan_is_an_error_with_a_reason(cursor):
    for plan, words in [(b"SELECT 1", "can't be read"), (substrait_plan(NOWHERE, "temp", "t"), NOWHERE)]:
        with pytest.raises(ProgrammingError, match=words):
            cursor.execute(plan)
    assert read(cursor, "SELECT 1 AS one").to_pydict() == {"one": [1]}

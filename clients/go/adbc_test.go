package clients

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// The ADBC Flight SQL driver, as Go programs use it.

func adbcConnect(t *testing.T, database string, more map[string]string) adbc.Connection {
	t.Helper()
	options := map[string]string{
		adbc.OptionKeyURI:                                "grpc://" + address(),
		flightsql.OptionAuthorizationHeader:              "Bearer " + token,
		flightsql.OptionRPCCallHeaderPrefix + "database": database,
	}
	for name, value := range more {
		options[name] = value
	}
	return adbcOpen(t, options)
}

func adbcOpen(t *testing.T, options map[string]string) adbc.Connection {
	t.Helper()
	db := must(flightsql.NewDriver(memory.DefaultAllocator).NewDatabase(options))(t)
	t.Cleanup(func() { check(t, db.Close()) })
	connection := must(db.Open(context.Background()))(t)
	t.Cleanup(func() { check(t, connection.Close()) })
	return connection
}

func statement(t *testing.T, connection adbc.Connection, sql string) adbc.Statement {
	t.Helper()
	statement := must(connection.NewStatement())(t)
	t.Cleanup(func() { check(t, statement.Close()) })
	if sql != "" {
		check(t, statement.SetSqlQuery(sql))
	}
	return statement
}

func adbcRows(t *testing.T, connection adbc.Connection, sql string) []string {
	t.Helper()
	reader, _, err := statement(t, connection, sql).ExecuteQuery(context.Background())
	check(t, err)
	return texts(t, reader)
}

func TestAdbcAnswersAreDuckDBs(t *testing.T) {
	connection := adbcConnect(t, database, nil)
	for _, question := range answers(t) {
		t.Run(question.Name, func(t *testing.T) {
			reader, _, err := statement(t, connection, question.SQL).ExecuteQuery(context.Background())
			check(t, err)
			defer reader.Release()
			question.checkRecords(t, reader)
		})
	}
}

func TestAdbcWithUserAndPassword(t *testing.T) {
	options := map[string]string{
		adbc.OptionKeyURI:                                "grpc://" + address(),
		adbc.OptionKeyUsername:                           "anybody",
		adbc.OptionKeyPassword:                           token,
		flightsql.OptionRPCCallHeaderPrefix + "database": database,
	}
	equal(t, "rows", adbcRows(t, adbcOpen(t, options), "SELECT 1 AS one"), []string{"1"})
	options[adbc.OptionKeyPassword] = "wrong"
	db := must(flightsql.NewDriver(memory.DefaultAllocator).NewDatabase(options))(t)
	defer db.Close()
	_, err := db.Open(context.Background())
	equal(t, "status", adbcStatus(err), adbc.StatusUnauthenticated)
}

func adbcStatus(err error) adbc.Status {
	var known adbc.Error
	if errors.As(err, &known) {
		return known.Code
	}
	return adbc.StatusOK
}

func TestAdbcOverTLS(t *testing.T) {
	pem := string(must(os.ReadFile(tlsAuthority))(t))
	options := map[string]string{
		adbc.OptionKeyURI:                                "grpc+tls://" + host + ":" + tlsPort,
		flightsql.OptionAuthorizationHeader:              "Bearer " + tlsToken,
		flightsql.OptionSSLRootCerts:                     pem,
		flightsql.OptionRPCCallHeaderPrefix + "database": database,
	}
	equal(t, "rows", adbcRows(t, adbcOpen(t, options), "SELECT count(*) FROM weather"), []string{"1"})
}

func TestAdbcObjectsAtEveryDepth(t *testing.T) {
	connection := adbcConnect(t, database, nil)
	ctx := context.Background()
	text := func(text string) *string { return &text }
	objects := func(depth adbc.ObjectDepth, catalog, schema, table, column *string, types []string) string {
		t.Helper()
		reader, err := connection.GetObjects(ctx, depth, catalog, schema, table, column, types)
		check(t, err)
		return strings.Join(texts(t, reader), "\n")
	}
	names := func(json string, wanted ...string) {
		t.Helper()
		for _, word := range []string{"public", "iox", "information_schema", "weather", "flights", "wind_gust", "tailnum"} {
			if slices.Contains(wanted, word) != strings.Contains(json, word) {
				t.Fatalf("expected %v: %s", wanted, json)
			}
		}
	}
	names(objects(adbc.ObjectDepthCatalogs, nil, nil, nil, nil, nil), "public")
	names(objects(adbc.ObjectDepthCatalogs, text("attic"), nil, nil, nil, nil))
	names(objects(adbc.ObjectDepthDBSchemas, nil, nil, nil, nil, nil), "public", "iox", "information_schema")
	names(objects(adbc.ObjectDepthDBSchemas, text("public"), text("io%"), nil, nil, nil), "public", "iox")
	names(objects(adbc.ObjectDepthTables, nil, text("iox"), nil, nil, nil), "public", "iox", "weather", "flights")
	names(objects(adbc.ObjectDepthTables, nil, text("iox"), text("w%"), nil, []string{"BASE TABLE"}), "public", "iox", "weather")
	names(objects(adbc.ObjectDepthTables, nil, text("iox"), nil, nil, []string{"VIEW"}), "public", "iox")
	names(objects(adbc.ObjectDepthColumns, nil, text("iox"), nil, nil, nil), "public", "iox", "weather", "flights", "wind_gust", "tailnum")
	names(objects(adbc.ObjectDepthColumns, nil, text("iox"), text("weather"), text("wind%"), nil), "public", "iox", "weather", "wind_gust")
}

func TestAdbcSchemasTypesAndFacts(t *testing.T) {
	connection := adbcConnect(t, database, nil)
	ctx := context.Background()
	schema := must(connection.GetTableSchema(ctx, nil, nil, "weather"))(t)
	equal(t, "columns", schema.NumFields(), 11)
	_, err := connection.GetTableSchema(ctx, nil, nil, "hurricanes")
	equal(t, "status", adbcStatus(err), adbc.StatusNotFound)
	types, err := connection.GetTableTypes(ctx)
	check(t, err)
	equal(t, "types of tables", texts(t, types), []string{"BASE TABLE", "VIEW"})
	info, err := connection.GetInfo(ctx, []adbc.InfoCode{adbc.InfoVendorName})
	check(t, err)
	if facts := texts(t, info); len(facts) != 1 || !strings.Contains(facts[0], "Flightline") {
		t.Fatalf("facts: %v", facts)
	}
}

func TestAdbcParameters(t *testing.T) {
	connection := adbcConnect(t, database, nil)
	ctx := context.Background()
	query := statement(t, connection, "SELECT count(*) FROM weather WHERE origin = $1 AND temp > $2")
	check(t, query.Prepare(ctx))
	parameters := must(query.GetParameterSchema())(t)
	equal(t, "parameters", parameters.NumFields(), 2)
	for _, origin := range []string{"EWR", "JFK"} {
		builder := array.NewRecordBuilder(memory.DefaultAllocator, parameters)
		builder.Field(0).(*array.StringBuilder).Append(origin)
		builder.Field(1).(*array.Float64Builder).Append(500)
		check(t, query.Bind(ctx, builder.NewRecordBatch()))
		reader, _, err := query.ExecuteQuery(ctx)
		check(t, err)
		equal(t, "rows", texts(t, reader), []string{"0"})
	}
}

func TestAdbcIngestsInEveryMode(t *testing.T) {
	write(t, scratch, "witness value=1 1")
	connection := adbcConnect(t, scratch, nil)
	ctx := context.Background()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "time", Type: &arrow.TimestampType{Unit: arrow.Second}, Nullable: true},
		{Name: "load", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	}, nil)
	ingest := func(mode string, rows int) (int64, error) {
		builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for row := range rows {
			builder.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(row))
			builder.Field(1).(*array.Float64Builder).Append(float64(row))
		}
		into := statement(t, connection, "")
		check(t, into.SetOption(adbc.OptionKeyIngestTargetTable, "ingested"))
		check(t, into.SetOption(adbc.OptionKeyIngestMode, mode))
		check(t, into.Bind(ctx, builder.NewRecordBatch()))
		return into.ExecuteUpdate(ctx)
	}
	count := func() string { return adbcRows(t, connection, "SELECT count(*) FROM ingested")[0] }
	_, err := ingest(adbc.OptionValueIngestModeAppend, 1)
	equal(t, "status", adbcStatus(err), adbc.StatusNotFound)
	equal(t, "rows", must(ingest(adbc.OptionValueIngestModeCreate, 3))(t), int64(3))
	_, err = ingest(adbc.OptionValueIngestModeCreate, 3)
	equal(t, "status", adbcStatus(err), adbc.StatusAlreadyExists)
	equal(t, "rows", must(ingest(adbc.OptionValueIngestModeAppend, 5))(t), int64(5))
	equal(t, "rows", count(), "5")
	equal(t, "rows", must(ingest(adbc.OptionValueIngestModeReplace, 2))(t), int64(2))
	equal(t, "rows", count(), "2")
	equal(t, "rows", must(ingest(adbc.OptionValueIngestModeCreateAppend, 100_000))(t), int64(100_000))
	equal(t, "rows", count(), "100000")
}

func TestAdbcUpdatesRunOnce(t *testing.T) {
	write(t, scratch, "witness value=1 1")
	connection := adbcConnect(t, scratch, nil)
	ctx := context.Background()
	must(statement(t, connection, "CREATE TABLE updated (n BIGINT)").ExecuteUpdate(ctx))(t)
	equal(t, "rows", must(statement(t, connection, "INSERT INTO updated (time, n) VALUES (1, 1), (2, 2)").ExecuteUpdate(ctx))(t), int64(2))
	reader, _, err := statement(t, connection, "INSERT INTO updated (time, n) VALUES (3, 3)").ExecuteQuery(ctx)
	check(t, err)
	reader.Release()
	equal(t, "rows", adbcRows(t, connection, "SELECT count(*), sum(n) FROM updated"), []string{"3 6"})
}

func TestAdbcIsCancelledByItsContext(t *testing.T) {
	connection := adbcConnect(t, database, nil)
	for range 4 { // more than any machine has cores
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		reader, _, err := statement(t, connection, endless).ExecuteQuery(ctx)
		if err == nil {
			for reader.Next() {
			}
			err = reader.Err()
			reader.Release()
		}
		cancel()
		if err == nil {
			t.Fatal("the query was not cancelled")
		}
	}
	equal(t, "rows", adbcRows(t, connection, "SELECT count(*) FROM weather"), []string{"26115"})
}

func TestAdbcIncrementalExecutionAndPartitions(t *testing.T) {
	connection := adbcConnect(t, database, nil)
	query := statement(t, connection, "SELECT origin FROM weather WHERE temp > 90 ORDER BY time LIMIT 3")
	_, partitions, _, err := query.ExecutePartitions(context.Background())
	check(t, err)
	equal(t, "partitions", partitions.NumPartitions, uint64(1))
	reader, err := connection.ReadPartition(context.Background(), partitions.PartitionIDs[0])
	check(t, err)
	equal(t, "rows", len(texts(t, reader)), 3)
}

func TestAdbcSessionOptions(t *testing.T) {
	connection := adbcConnect(t, database, nil).(adbc.PostInitOptions)
	check(t, connection.SetOption(adbc.OptionKeyCurrentCatalog, "public"))
	check(t, connection.SetOption(adbc.OptionKeyCurrentDbSchema, "iox"))
	fails(t, connection.SetOption(adbc.OptionKeyCurrentCatalog, "attic"))
}

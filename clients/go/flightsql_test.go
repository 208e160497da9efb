package clients

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/driver"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// The client library of arrow-go, with gRPC's own limits, and its driver for database/sql.

func flightClient(t *testing.T) *flightsql.Client {
	client := must(flightsql.NewClient(address(), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	t.Cleanup(func() { check(t, client.Close()) })
	return client
}

// fetch reads the one endpoint of a description.
func fetch(t *testing.T, ctx context.Context, client *flightsql.Client, info *flight.FlightInfo, err error) *flight.Reader {
	t.Helper()
	check(t, err)
	if len(info.Endpoint) != 1 || len(info.Endpoint[0].Location) != 0 {
		t.Fatalf("endpoints: %v", info.Endpoint)
	}
	return must(client.DoGet(ctx, info.Endpoint[0].Ticket))(t)
}

func TestFlightAnswersAreDuckDBs(t *testing.T) {
	client, ctx := flightClient(t), withHeaders(t, database)
	for _, question := range answers(t) {
		t.Run(question.Name, func(t *testing.T) {
			info, err := client.Execute(ctx, question.SQL)
			reader := fetch(t, ctx, client, info, err)
			defer reader.Release()
			announced := must(flight.DeserializeSchema(info.Schema, memory.DefaultAllocator))(t)
			if !announced.Equal(reader.Schema()) {
				t.Fatalf("announced %v, sent %v", announced, reader.Schema())
			}
			question.checkRecords(t, reader)
		})
	}
}

func TestFlightHandshakeGivesATokenForAPassword(t *testing.T) {
	client := flightClient(t)
	ctx, err := client.Client.AuthenticateBasicToken(context.Background(), "anybody", token)
	check(t, err)
	info, err := client.Execute(ctx, "SELECT 1") // the token alone; one database is not the only one
	if err == nil {
		fetch(t, ctx, client, info, err).Release()
	} else {
		fails(t, err, "database")
	}
	_, err = client.Client.AuthenticateBasicToken(context.Background(), "anybody", "wrong")
	equal(t, "code", status.Code(err), codes.Unauthenticated)
}

func TestFlightMetadata(t *testing.T) {
	client, ctx := flightClient(t), withHeaders(t, database)
	rows := func(info *flight.FlightInfo, err error) []string {
		t.Helper()
		return texts(t, fetch(t, ctx, client, info, err))
	}
	iox, weather, number := "iox", "weather", int32(-5)
	equal(t, "catalogs", rows(client.GetCatalogs(ctx)), []string{"public"})
	equal(t, "schemas", rows(client.GetDBSchemas(ctx, &flightsql.GetDBSchemasOpts{DbSchemaFilterPattern: &iox})), []string{"public iox"})
	equal(t, "tables", rows(client.GetTables(ctx, &flightsql.GetTablesOpts{DbSchemaFilterPattern: &iox})),
		[]string{"public iox flights BASE TABLE", "public iox weather BASE TABLE"})
	equal(t, "types of tables", rows(client.GetTableTypes(ctx)), []string{"BASE TABLE", "VIEW"})
	keys := rows(client.GetPrimaryKeys(ctx, flightsql.TableRef{Table: weather}))
	equal(t, "keys", keys, []string{"public iox weather origin 1 <nil>", "public iox weather time 2 <nil>"})
	equal(t, "imported keys", rows(client.GetImportedKeys(ctx, flightsql.TableRef{Table: weather})), []string{})
	equal(t, "exported keys", rows(client.GetExportedKeys(ctx, flightsql.TableRef{Table: weather})), []string{})
	equal(t, "cross reference", rows(client.GetCrossReference(ctx, flightsql.TableRef{Table: weather}, flightsql.TableRef{Table: weather})), []string{})
	if types := rows(client.GetXdbcTypeInfo(ctx, nil)); len(types) < 10 {
		t.Fatalf("types: %v", types)
	}
	if types := rows(client.GetXdbcTypeInfo(ctx, &number)); len(types) != 2 || !strings.HasPrefix(types[0], "BIGINT") {
		t.Fatalf("types: %v", types)
	}
	if facts := rows(client.GetSqlInfo(ctx, nil)); len(facts) < 50 {
		t.Fatalf("facts: %v", facts)
	}
	schema := must(client.GetExecuteSchema(ctx, "SELECT * FROM weather"))(t)
	columns := must(flight.DeserializeSchema(schema.Schema, memory.DefaultAllocator))(t)
	equal(t, "columns", columns.NumFields(), 11)
}

func TestFlightPreparedStatementsWithParameters(t *testing.T) {
	client, ctx := flightClient(t), withHeaders(t, database)
	prepared := must(client.Prepare(ctx, "SELECT origin, count(*) AS n FROM weather WHERE origin = $1 AND temp > $2 GROUP BY origin"))(t)
	defer func() { check(t, prepared.Close(ctx)) }()
	equal(t, "parameters", prepared.ParameterSchema().NumFields(), 2)
	equal(t, "columns", prepared.DatasetSchema().NumFields(), 2)
	isUpdate, known := prepared.IsUpdate()
	equal(t, "is an update", [2]bool{isUpdate, known}, [2]bool{false, true})
	for _, origin := range []string{"JFK", "LGA"} {
		builder := array.NewRecordBuilder(memory.DefaultAllocator, prepared.ParameterSchema())
		builder.Field(0).(*array.StringBuilder).Append(origin)
		builder.Field(1).(*array.Float64Builder).Append(0)
		prepared.SetParameters(builder.NewRecordBatch())
		info, err := prepared.Execute(ctx)
		equal(t, "rows", texts(t, fetch(t, ctx, client, info, err)), []string{origin + " 8706"})
	}
}

func TestFlightChangesAndTheirCounts(t *testing.T) {
	write(t, scratch, "witness value=1 1")
	client, ctx := flightClient(t), withHeaders(t, scratch)
	must(client.ExecuteUpdate(ctx, "CREATE TABLE changed (host TAG, n BIGINT)"))(t)
	equal(t, "rows", must(client.ExecuteUpdate(ctx, "INSERT INTO changed (time, host, n) VALUES (1, 'a', 1), (2, 'b', 2)"))(t), int64(2))
	prepared := must(client.Prepare(ctx, "INSERT INTO changed (time, host, n) VALUES ($1, $2, $3)"))(t)
	isUpdate, _ := prepared.IsUpdate()
	equal(t, "is an update", isUpdate, true)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, prepared.ParameterSchema())
	for row := range 3 {
		builder.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(10 + row)) // milliseconds, as announced
		builder.Field(1).AppendNull()
		builder.Field(2).(*array.Int64Builder).Append(int64(row))
	}
	prepared.SetParameters(builder.NewRecordBatch())
	equal(t, "rows", must(prepared.ExecuteUpdate(ctx))(t), int64(3))
	check(t, prepared.Close(ctx))
	equal(t, "rows", rowsOverHTTP(t, scratch, "SELECT count(*) AS n FROM changed"), []map[string]any{{"n": 5.0}})
}

func TestFlightPollRenewAndCancel(t *testing.T) {
	client, ctx := flightClient(t), withHeaders(t, database)
	poll := must(client.ExecutePoll(ctx, "SELECT origin FROM weather", nil))(t)
	if poll.GetFlightDescriptor() != nil || poll.GetInfo() == nil {
		t.Fatalf("a poll is complete at once, not %v", poll)
	}
	renewed := must(client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: poll.Info.Endpoint[0]}))(t)
	reader := must(client.DoGet(ctx, renewed.Ticket))(t)
	reader.Release()

	info := must(client.Execute(ctx, endless))(t)
	reader, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
	check(t, err)
	defer reader.Release()
	result := must(client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info}))(t)
	equal(t, "status", result.Status, flight.CancelStatusCancelled)
	for reader.Next() {
	}
	equal(t, "code", status.Code(reader.Err()), codes.Canceled)
}

// The sine of 10^11 pairs: far more than any machine does before it is cancelled.
const endless = "SELECT sum(sin(a.distance * b.distance + a.flight)) AS total FROM flights a, flights b"

func TestFlightSessions(t *testing.T) {
	client, ctx := flightClient(t), withHeaders(t, database)
	options := must(client.GetSessionOptions(ctx, &flight.GetSessionOptionsRequest{}))(t)
	equal(t, "catalog", options.SessionOptions["catalog"].GetStringValue(), "public")
	value := must(flight.NewSessionOptionValue("public"))(t)
	request := &flight.SetSessionOptionsRequest{SessionOptions: map[string]*flight.SessionOptionValue{"catalog": &value, "colour": &value}}
	set := must(client.SetSessionOptions(ctx, request))(t)
	if set.Errors["catalog"] != nil || set.Errors["colour"] == nil {
		t.Fatalf("errors: %v", set.Errors)
	}
	must(client.CloseSession(ctx, &flight.CloseSessionRequest{}))(t)
}

func TestFlightOverTLS(t *testing.T) {
	with := func(config credentials.TransportCredentials) error {
		client := must(flightsql.NewClient(host+":"+tlsPort, nil, nil, grpc.WithTransportCredentials(config)))(t)
		defer client.Close()
		ctx, err := client.Client.AuthenticateBasicToken(context.Background(), "anybody", tlsToken)
		if err != nil {
			return err
		}
		info, err := client.Execute(ctx, "SELECT count(*) FROM weather")
		if err != nil {
			return err
		}
		equal(t, "rows", texts(t, fetch(t, ctx, client, info, err)), []string{"1"})
		return nil
	}
	check(t, with(credentials.NewTLS(authority(t))))
	if with(insecure.NewCredentials()) == nil {
		t.Fatal("answered without TLS")
	}
	if with(credentials.NewTLS(nil)) == nil {
		t.Fatal("an authority that nobody knows was believed")
	}
}

// --- database/sql --------------------------------------------------------------------------------------------------

func openSQL(t *testing.T, config driver.DriverConfig) *sql.DB {
	db := must(sql.Open("flightsql", config.DSN()))(t)
	t.Cleanup(func() { check(t, db.Close()) })
	return db
}

func TestDatabaseSQLQueriesWithParameters(t *testing.T) {
	db := openSQL(t, driver.DriverConfig{Address: address(), Token: token, Timeout: time.Minute, Params: map[string]string{"database": database}})
	check(t, db.Ping())
	rows := must(db.Query("SELECT origin, count(*), max(temp), max(time) FROM weather WHERE temp > ? GROUP BY origin ORDER BY origin", 0.0))(t)
	defer rows.Close()
	equal(t, "columns", len(must(rows.Columns())(t)), 4)
	var origins []string
	for rows.Next() {
		var origin string
		var count int64
		var temp float64
		var newest time.Time
		check(t, rows.Scan(&origin, &count, &temp, &newest))
		origins = append(origins, origin)
		if count < 8000 || temp < 90 || newest.Year() != 2013 {
			t.Fatalf("%s: %d %v %v", origin, count, temp, newest)
		}
	}
	check(t, rows.Err())
	equal(t, "origins", origins, []string{"EWR", "JFK", "LGA"})
}

func TestDatabaseSQLChanges(t *testing.T) {
	write(t, scratch, "witness value=1 1")
	db := openSQL(t, driver.DriverConfig{Address: address(), Token: token, Timeout: time.Minute, Params: map[string]string{"database": scratch}})
	must(db.Exec("CREATE TABLE from_sql (host TAG, n BIGINT, load DOUBLE, note VARCHAR)"))(t)
	// The driver has no parameters that are times; seconds since 1970 will do.
	insert := must(db.Prepare("INSERT INTO from_sql (time, host, n, load, note) VALUES (CAST(CAST(? AS BIGINT) AS TIMESTAMP), ?, ?, ?, ?)"))(t)
	for n := range 3 {
		result := must(insert.Exec(time.Unix(int64(n), 0).Unix(), "a", int64(n), float64(n)/2, "note"))(t)
		equal(t, "rows", must(result.RowsAffected())(t), int64(1))
	}
	check(t, insert.Close())
	var count, sum int64
	check(t, db.QueryRow("SELECT count(*), sum(n) FROM from_sql").Scan(&count, &sum))
	equal(t, "count and sum", [2]int64{count, sum}, [2]int64{3, 3})
	_, err := db.Exec("INSERT INTO nowhere (n) VALUES (1)")
	fails(t, err, "nowhere")
}

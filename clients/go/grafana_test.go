package clients

import (
	"context"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/metadata"
)

// Grafana's two ways to ask in SQL: the Flight SQL data source and the InfluxDB data source. Neither is a module that
// could be fetched; these are their calls, made with the library that they make them with and with its limits: the
// database in another header each, answers of one endpoint, text as Utf8 and nothing else, times in nanoseconds.

func grafanaContexts(t *testing.T) map[string]context.Context {
	contexts := map[string]context.Context{}
	for source, header := range map[string]string{"flightsql plugin": "bucket-name", "flightsql plugin metadata": "database", "influxdb": "database"} {
		pairs := metadata.Pairs(header, database, "authorization", "Bearer "+token)
		contexts[source] = metadata.NewOutgoingContext(context.Background(), pairs)
	}
	return contexts
}

// grafanaReads what a panel can show: the types that its frames have columns for.
func grafanaReads(t *testing.T, schema *arrow.Schema) {
	t.Helper()
	for _, field := range schema.Fields() {
		switch field.Type.ID() {
		case arrow.STRING, arrow.FLOAT64, arrow.UINT32, arrow.INT64, arrow.BOOL, arrow.DENSE_UNION:
		case arrow.TIMESTAMP:
			equal(t, "unit", field.Type.(*arrow.TimestampType).Unit, arrow.Nanosecond)
		default:
			t.Fatalf("a panel leaves column %s blank", field)
		}
	}
}

func TestGrafanaChecksTheDataSource(t *testing.T) {
	for source, ctx := range grafanaContexts(t) {
		t.Run(source, func(t *testing.T) {
			client := flightClient(t)
			info, err := client.Execute(ctx, "select 1")
			equal(t, "rows", texts(t, fetch(t, ctx, client, info, err)), []string{"1"})
		})
	}
}

func TestGrafanaDrawsAPanel(t *testing.T) {
	const panel = `SELECT date_bin(interval '21600 second', time, timestamp '1970-01-01T00:00:00Z') AS time, origin, avg(temp) AS temp,
		count(*) AS n, max(temp) > 90 AS hot FROM weather
		WHERE time >= '2013-07-01T00:00:00Z' AND time <= '2013-07-08T00:00:00Z' GROUP BY 1, 2 ORDER BY 1, 2`
	for source, ctx := range grafanaContexts(t) {
		t.Run(source, func(t *testing.T) {
			client := flightClient(t)
			info := must(client.Execute(ctx, panel))(t)
			equal(t, "endpoints", len(info.Endpoint), 1)
			// The stream itself, because the headers of the answer are read from it.
			stream := must(client.Client.DoGet(ctx, info.Endpoint[0].Ticket))(t)
			reader := must(flight.NewRecordReader(stream, ipc.WithAllocator(memory.DefaultAllocator)))(t)
			grafanaReads(t, reader.Schema())
			must(stream.Header())(t)
			rows := texts(t, reader)
			if len(rows) < 80 || len(rows) > 87 {
				t.Fatalf("%d rows", len(rows))
			}
		})
	}
}

func TestGrafanaShowsTags(t *testing.T) {
	client, ctx := flightClient(t), grafanaContexts(t)["influxdb"]
	info, err := client.Execute(ctx, "SELECT * FROM flights LIMIT 100")
	reader := fetch(t, ctx, client, info, err)
	grafanaReads(t, reader.Schema())
	equal(t, "rows", len(texts(t, reader)), 100)
}

func TestGrafanasQueryBuilder(t *testing.T) {
	for source, ctx := range grafanaContexts(t) {
		t.Run(source, func(t *testing.T) {
			client := flightClient(t)
			info, err := client.GetSqlInfo(ctx, []flightsql.SqlInfo{})
			facts := fetch(t, ctx, client, info, err)
			grafanaReads(t, facts.Schema())
			facts.Release()
			for _, types := range [][]string{{"BASE TABLE"}, {"table"}, {"BASE TABLE", "table"}} {
				info, err = client.GetTables(ctx, &flightsql.GetTablesOpts{TableTypes: types})
				rows := texts(t, fetch(t, ctx, client, info, err))
				found := 0
				for _, row := range rows {
					if row == "public iox flights BASE TABLE" || row == "public iox weather BASE TABLE" {
						found++
					}
				}
				equal(t, "tables", found, 2)
			}
			name := "weather"
			info, err = client.GetTables(ctx, &flightsql.GetTablesOpts{TableNameFilterPattern: &name, IncludeSchema: true})
			reader := fetch(t, ctx, client, info, err)
			defer reader.Release()
			if !reader.Next() {
				t.Fatal("table not found")
			}
			record := reader.RecordBatch()
			column := record.Column(record.Schema().FieldIndices("table_schema")[0]).(*array.Binary)
			columns := must(flight.DeserializeSchema(column.Value(0), memory.DefaultAllocator))(t)
			grafanaReads(t, columns)
			equal(t, "columns", columns.NumFields(), 11)
		})
	}
}

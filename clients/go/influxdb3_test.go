package clients

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/InfluxCommunity/influxdb3-go/v2/influxdb3"
	"github.com/apache/arrow-go/v18/arrow"
)

// InfluxDB 3's client library, with its own defaults.

func library(t *testing.T, database string) *influxdb3.Client {
	client := must(influxdb3.New(influxdb3.ClientConfig{Host: httpURL(), Token: token, Database: database}))(t)
	t.Cleanup(func() { check(t, client.Close()) })
	return client
}

func TestInfluxDB3AnswersAreDuckDBs(t *testing.T) {
	client := library(t, database)
	for _, question := range answers(t) {
		t.Run(question.Name, func(t *testing.T) {
			iterator := must(client.Query(context.Background(), question.SQL))(t)
			row := 0
			for ; iterator.Next(); row++ {
				got := iterator.Value()
				for column, named := range question.Columns {
					value := got[named[0]]
					switch time := value.(type) {
					case arrow.Timestamp:
						value = int64(time)
					}
					if time, ok := value.(time.Time); ok {
						value = time.UnixNano()
					}
					question.checkValue(t, row, column, value)
				}
			}
			check(t, iterator.Err())
			equal(t, "rows", row, len(question.Rows))
		})
	}
}

func TestInfluxDB3WritesInEveryWay(t *testing.T) {
	client, ctx := library(t, scratch), context.Background()
	at := time.Unix(0, 1_700_000_000_000_000_001)
	point := func(table string) *influxdb3.Point {
		fields := map[string]any{"temp": 1.5, "wind": int64(3), "rain": uint64(4), "dry": true, "sky": `blue "x", \ =`}
		return influxdb3.NewPoint(table, map[string]string{"place": "the pier, east"}, fields, at)
	}
	check(t, client.WritePoints(ctx, []*influxdb3.Point{point("by_default")}))
	check(t, client.WritePoints(ctx, []*influxdb3.Point{point("by_v2")}, influxdb3.WithUseV2Api(true)))
	check(t, client.WritePoints(ctx, []*influxdb3.Point{point("by_v3")}, influxdb3.WithUseV2Api(false)))
	check(t, client.WritePoints(ctx, []*influxdb3.Point{point("all_or_nothing")}, influxdb3.WithUseV2Api(false), influxdb3.WithAcceptPartial(false)))
	check(t, client.WritePoints(ctx, []*influxdb3.Point{point("gzipped")}, influxdb3.WithGzipThreshold(1)))
	type row struct {
		Table string    `lp:"measurement"`
		Place string    `lp:"tag,place"`
		Temp  float64   `lp:"field,temp"`
		Wind  int64     `lp:"field,wind"`
		Rain  uint64    `lp:"field,rain"`
		Dry   bool      `lp:"field,dry"`
		Sky   string    `lp:"field,sky"`
		Time  time.Time `lp:"timestamp"`
	}
	check(t, client.WriteData(ctx, []any{row{"from_a_struct", "the pier, east", 1.5, 3, 4, true, `blue "x", \ =`, at}}))
	for _, table := range []string{"by_default", "by_v2", "by_v3", "all_or_nothing", "gzipped", "from_a_struct"} {
		rows := rowsOverHTTP(t, scratch, "SELECT place, temp, wind, rain, dry, sky, CAST(time AS BIGINT) - 1700000000000000000 AS after FROM "+table)
		equal(t, table, rows, []map[string]any{{"place": "the pier, east", "temp": 1.5, "wind": 3.0, "rain": 4.0, "dry": true, "sky": `blue "x", \ =`, "after": 1.0}})
	}
}

func TestInfluxDB3EveryPrecision(t *testing.T) {
	client, ctx := library(t, scratch), context.Background()
	units := map[influxdb3.Precision]float64{influxdb3.Second: 1e9, influxdb3.Millisecond: 1e6, influxdb3.Microsecond: 1e3, influxdb3.Nanosecond: 1}
	for precision, unit := range units {
		for _, v2 := range []bool{true, false} {
			table := "precision_" + precision.String()
			if v2 {
				table += "_v2"
			}
			check(t, client.Write(ctx, []byte(table+" value=1 1000001"), influxdb3.WithPrecision(precision), influxdb3.WithUseV2Api(v2)))
			rows := rowsOverHTTP(t, scratch, "SELECT CAST(time AS BIGINT) AS t FROM "+table)
			equal(t, table, rows, []map[string]any{{"t": 1000001 * unit}})
		}
	}
}

func TestInfluxDB3NamesTheBadLines(t *testing.T) {
	client, ctx := library(t, scratch), context.Background()
	lines := []byte("TABLE value=1 1\n\nTABLE value=oops 2\n# a comment\nTABLE value=3 3")
	err := client.Write(ctx, lines, influxdb3.WithUseV2Api(false))
	var partial *influxdb3.PartialWriteError
	if !errors.As(err, &partial) {
		t.Fatalf("%T: %v", err, err)
	}
	equal(t, "bad lines", len(partial.LineErrors), 1)
	equal(t, "its number", partial.LineErrors[0].LineNumber, 3)
	equal(t, "the line", partial.LineErrors[0].OriginalLine, "TABLE value=oops 2")
	err = client.Write(ctx, lines, influxdb3.WithUseV2Api(false), influxdb3.WithAcceptPartial(false))
	if !errors.As(err, &partial) {
		t.Fatalf("%T: %v", err, err)
	}
	err = client.Write(ctx, lines, influxdb3.WithUseV2Api(true))
	var refused *influxdb3.ServerError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusBadRequest {
		t.Fatalf("%T: %v", err, err)
	}
}

func TestInfluxDB3ReadsPointsBack(t *testing.T) {
	client, ctx := library(t, scratch), context.Background()
	check(t, client.Write(ctx, []byte("points,place=pier temp=1.5,n=2i,ok=true 1700000000000000000")))
	iterator := must(client.QueryPointValue(ctx, "SELECT * FROM points"))(t)
	point := must(iterator.Next())(t)
	equal(t, "tags", point.Tags, map[string]string{"place": "pier"})
	equal(t, "temp", *point.GetDoubleField("temp"), 1.5)
	equal(t, "n", *point.GetIntegerField("n"), int64(2))
	equal(t, "ok", *point.GetBooleanField("ok"), true)
	equal(t, "time", point.Timestamp.UnixNano(), int64(1_700_000_000_000_000_000))
	_, err := iterator.Next()
	if !errors.Is(err, influxdb3.Done) {
		t.Fatalf("more than one point, or %v", err)
	}
}

func TestInfluxDB3Parameters(t *testing.T) {
	client := library(t, database)
	parameters := influxdb3.QueryParameters{"origin": "JFK", "temp": 0}
	iterator := must(client.QueryWithParameters(context.Background(), "SELECT count(*) AS n FROM weather WHERE origin = $origin AND temp > $temp", parameters))(t)
	if !iterator.Next() {
		t.Fatal(iterator.Err())
	}
	equal(t, "n", iterator.Value()["n"], any(int64(8706)))
}

func TestInfluxDB3SaysWhatIsWrong(t *testing.T) {
	client := library(t, database)
	for sql, words := range map[string]string{"SELEC 1": "SELEC", "SELECT * FROM hurricanes": "hurricanes", "SELECT snowfall FROM weather": "snowfall"} {
		iterator, err := client.Query(context.Background(), sql)
		if err == nil {
			for iterator.Next() {
			}
			err = iterator.Err()
		}
		fails(t, err, words)
	}
	if version := must(client.GetServerVersion())(t); version == "" {
		t.Fatal("no version")
	}
}

func TestInfluxDB3OverTLS(t *testing.T) {
	config := influxdb3.ClientConfig{Host: "https://" + host + ":" + tlsPort, Token: tlsToken, Database: database, SSLRootsFilePath: tlsAuthority}
	client := must(influxdb3.New(config))(t)
	defer client.Close()
	check(t, client.Write(context.Background(), []byte("tls_from_go value=1 1")))
	iterator := must(client.Query(context.Background(), "SELECT value FROM tls_from_go"))(t)
	if !iterator.Next() {
		t.Fatal(iterator.Err())
	}
	equal(t, "value", iterator.Value()["value"], any(1.0))
}

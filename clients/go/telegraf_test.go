package clients

import (
	"testing"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/logger"
	"github.com/influxdata/telegraf/metric"
	"github.com/influxdata/telegraf/plugins/outputs"
	"github.com/influxdata/telegraf/plugins/outputs/influxdb"
	"github.com/influxdata/telegraf/plugins/outputs/influxdb_v2"
	"github.com/influxdata/telegraf/selfstat"
)

// Telegraf's outputs, as its agent runs them: initialized, connected, given metrics.

func metrics(table string, count int) []telegraf.Metric {
	metrics := make([]telegraf.Metric, count)
	for at := range metrics {
		fields := map[string]any{"usage": float64(at) / 2, "n": int64(at), "free": uint64(at), "ok": at%2 == 0, "note": "it's \"quoted\""}
		metrics[at] = metric.New(table, map[string]string{"host": "a b"}, fields, time.Unix(1_700_000_000, int64(at)))
	}
	return metrics
}

func run(t *testing.T, output telegraf.Output, metrics []telegraf.Metric) {
	t.Helper()
	check(t, output.(telegraf.Initializer).Init())
	check(t, output.Connect())
	check(t, output.Write(metrics))
	check(t, output.Close())
}

func checkMetrics(t *testing.T, database, table string, count int) {
	t.Helper()
	rows := rowsOverHTTP(t, database, "SELECT count(*) AS n, sum(n) AS total, max(usage) AS most, min(note) AS note, min(host) AS host FROM "+table)
	expected := map[string]any{"n": float64(count), "total": float64(count * (count - 1) / 2), "most": float64(count-1) / 2, "note": `it's "quoted"`, "host": "a b"}
	equal(t, table, rows, []map[string]any{expected})
}

func v1(t *testing.T, encoding string) *influxdb.InfluxDB {
	output := outputs.Outputs["influxdb"]().(*influxdb.InfluxDB)
	output.URLs = []string{httpURL()}
	output.Username, output.Password = config.NewSecret([]byte("telegraf")), config.NewSecret([]byte(token))
	output.ContentEncoding = encoding
	output.InfluxUintSupport = true
	output.Log = logger.New("outputs", "influxdb", "")
	output.Statistics = selfstat.NewCollector(nil)
	return output
}

func v2(t *testing.T) *influxdb_v2.InfluxDB {
	output := outputs.Outputs["influxdb_v2"]().(*influxdb_v2.InfluxDB)
	output.URLs = []string{httpURL()}
	output.Token = config.NewSecret([]byte(token))
	output.Organization, output.UintSupport = "nobody", true
	output.Log = logger.New("outputs", "influxdb_v2", "")
	return output
}

func TestTelegrafV1MakesTheDatabaseAndWrites(t *testing.T) {
	for _, encoding := range []string{"gzip", "identity"} {
		output := v1(t, encoding)
		output.Database = scratch + "_telegraf_" + encoding
		run(t, output, metrics("cpu", 1500))
		checkMetrics(t, output.Database, "cpu", 1500)
	}
}

func TestTelegrafV1WritesWithARetentionPolicyAndADatabaseOfATag(t *testing.T) {
	output := v1(t, "gzip")
	output.Database, output.RetentionPolicy = scratch+"_telegraf_rp", "autogen"
	run(t, output, metrics("cpu", 10))
	checkMetrics(t, output.Database, "cpu", 10)

	output = v1(t, "gzip")
	output.Database, output.DatabaseTag, output.ExcludeDatabaseTag = "unused", "db", true
	tagged := metrics("cpu", 10)
	for _, one := range tagged {
		one.AddTag("db", scratch+"_telegraf_tag")
	}
	run(t, output, tagged)
	checkMetrics(t, scratch+"_telegraf_tag", "cpu", 10)
}

func TestTelegrafV2WritesWithAToken(t *testing.T) {
	for _, encoding := range []string{"gzip", "identity"} {
		output := v2(t)
		output.Bucket, output.ContentEncoding = scratch, encoding
		run(t, output, metrics("mem_"+encoding, 1500))
		checkMetrics(t, scratch, "mem_"+encoding, 1500)
	}
}

func TestTelegrafV2WritesToTheBucketOfATag(t *testing.T) {
	output := v2(t)
	output.BucketTag, output.ExcludeBucketTag, output.ConcurrentWrites = "bucket", true, 2
	tagged := metrics("disk", 20)
	for _, one := range tagged {
		one.AddTag("bucket", scratch+"_bucket")
	}
	run(t, output, tagged)
	checkMetrics(t, scratch+"_bucket", "disk", 20)
}

func TestTelegrafDropsWhatIsRefusedAndKeepsTheRest(t *testing.T) {
	write(t, scratch, "typed n=1i 1")
	output := v2(t)
	output.Bucket = scratch
	check(t, output.Init())
	check(t, output.Connect())
	defer output.Close()
	bad := metric.New("typed", nil, map[string]any{"n": "text"}, time.Unix(2, 0))
	// A conflict of types is no reason to try again for ever: Telegraf drops the batch and says so.
	err := output.Write([]telegraf.Metric{bad})
	fails(t, err)
	check(t, output.Write(metrics("after_the_bad_one", 3)))
	checkMetrics(t, scratch, "after_the_bad_one", 3)
}

func TestTelegrafOverTLS(t *testing.T) {
	output := v2(t)
	output.URLs = []string{"https://" + host + ":" + tlsPort}
	output.Token, output.Bucket = config.NewSecret([]byte(tlsToken)), database
	output.TLSCA = tlsAuthority
	run(t, output, metrics("tls_from_telegraf", 3))
}

// Package clients runs Go's clients against a server that holds the data of python/load_nycflights.py: where it is says
// the environment, as for the checks in other languages. What is missing is a failure.
package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"google.golang.org/grpc/metadata"
)

var (
	host     = required("FLIGHTLINE_HOST")
	port     = required("FLIGHTLINE_PORT")
	database = required("FLIGHTLINE_DATABASE")
	token    = required("FLIGHTLINE_TOKEN")
	// The same program with TLS, and one line of data.
	tlsPort      = required("FLIGHTLINE_TLS_PORT")
	tlsToken     = required("FLIGHTLINE_TLS_TOKEN")
	tlsAuthority = required("FLIGHTLINE_TLS_CA")
	answersFile  = required("FLIGHTLINE_ANSWERS")
	// A database for checks that write; it stays behind.
	scratch = fmt.Sprintf("go_%d", time.Now().UnixNano())
)

func required(name string) string {
	value := os.Getenv(name)
	if value == "" {
		panic("environment variable " + name + " is not set")
	}
	return value
}

func address() string { return net.JoinHostPort(host, port) }

func httpURL() string { return "http://" + address() }

// authority is what the server's certificate is checked with.
func authority(t *testing.T) *tls.Config {
	pem := must(os.ReadFile(tlsAuthority))(t)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s has no certificate", tlsAuthority)
	}
	return &tls.Config{RootCAs: pool}
}

// withHeaders is a context whose calls name a database and show the token.
func withHeaders(t *testing.T, database string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "database", database, "authorization", "Bearer "+token)
}

// must turns the two results of a call into one, or ends the test.
func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T any](t *testing.T, what string, got, expected T) {
	t.Helper()
	if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", expected) {
		t.Fatalf("%s: %v instead of %v", what, got, expected)
	}
}

// fails insists on an error that says these words.
func fails(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error that says %v", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q doesn't say %q", err, word)
		}
	}
}

// request is one request of plain HTTP, for what a check needs beside its client.
func request(t *testing.T, method, path string, body io.Reader) []byte {
	t.Helper()
	req := must(http.NewRequest(method, httpURL()+path, body))(t)
	req.Header.Set("Authorization", "Bearer "+token)
	response := must(http.DefaultClient.Do(req))(t)
	defer response.Body.Close()
	content := must(io.ReadAll(response.Body))(t)
	if response.StatusCode >= 300 {
		t.Fatalf("%s: %d %s", path, response.StatusCode, content)
	}
	return content
}

func write(t *testing.T, database, lines string) {
	t.Helper()
	request(t, "POST", "/api/v3/write_lp?db="+database, strings.NewReader(lines))
}

// rowsOverHTTP asks without any client, so that what a client wrote is not read by the same.
func rowsOverHTTP(t *testing.T, database, sql string) []map[string]any {
	t.Helper()
	question := must(json.Marshal(map[string]string{"db": database, "q": sql, "format": "json"}))(t)
	var rows []map[string]any
	check(t, json.Unmarshal(request(t, "POST", "/api/v3/query_sql", bytes.NewReader(question)), &rows))
	return rows
}

// answer is a question and what DuckDB answers: see python/expected.py.
type answer struct {
	Name      string
	SQL       string
	Columns   [][2]string
	Tolerance float64
	Rows      [][]any
}

func answers(t *testing.T) []answer {
	file := must(os.Open(answersFile))(t)
	defer file.Close()
	var all []answer
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		check(t, err)
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.UseNumber()
		var one answer
		check(t, decoder.Decode(&one))
		all = append(all, one)
	}
	if len(all) < 10 {
		t.Fatalf("%d questions in %s", len(all), answersFile)
	}
	return all
}

// arrowTypes are the types in which the server sends what the questions ask for.
var arrowTypes = map[string]arrow.DataType{
	"text":  arrow.BinaryTypes.String,
	"whole": arrow.PrimitiveTypes.Int64,
	"real":  arrow.PrimitiveTypes.Float64,
	"time":  &arrow.TimestampType{Unit: arrow.Nanosecond},
	"truth": arrow.FixedWidthTypes.Boolean,
}

// checkRecords fails with the first column or row of a result that differs.
func (expected answer) checkRecords(t *testing.T, records array.RecordReader) {
	t.Helper()
	for at, column := range expected.Columns {
		field := records.Schema().Field(at)
		if field.Name != column[0] || !arrow.TypeEqual(field.Type, arrowTypes[column[1]]) {
			t.Fatalf("column %d is %s, expected %v", at, field, column)
		}
	}
	var row int
	for records.Next() {
		record := records.RecordBatch()
		for at := range int(record.NumRows()) {
			for column := range expected.Columns {
				expected.checkValue(t, row, column, value(record.Column(column), at))
			}
			row++
		}
	}
	check(t, records.Err())
	equal(t, "rows", row, len(expected.Rows))
}

// checkValue compares one value: nil, string, int64 (times too), float64 or bool.
func (expected answer) checkValue(t *testing.T, row, column int, got any) {
	t.Helper()
	if row >= len(expected.Rows) {
		t.Fatalf("more than %d rows", len(expected.Rows))
	}
	var wanted any
	switch plain := expected.Rows[row][column].(type) {
	case json.Number:
		if expected.Columns[column][1] == "real" {
			wanted = must(plain.Float64())(t)
		} else {
			wanted = must(plain.Int64())(t)
		}
	case string:
		wanted = plain
		if expected.Columns[column][1] == "time" {
			wanted = must(strconv.ParseInt(plain, 10, 64))(t)
		}
	default:
		wanted = plain
	}
	if real, ok := wanted.(float64); ok {
		if other, ok := got.(float64); ok && expected.Tolerance > 0 &&
			math.Abs(real-other) <= expected.Tolerance*max(math.Abs(real), math.Abs(other))+1e-12 {
			return
		}
	}
	if got != wanted {
		t.Fatalf("row %d, column %s: %v instead of %v", row, expected.Columns[column][0], got, wanted)
	}
}

func value(column arrow.Array, row int) any {
	if column.IsNull(row) {
		return nil
	}
	switch column := column.(type) {
	case *array.String:
		return column.Value(row)
	case *array.Int64:
		return column.Value(row)
	case *array.Float64:
		return column.Value(row)
	case *array.Timestamp:
		return int64(column.Value(row))
	case *array.Boolean:
		return column.Value(row)
	default:
		return column.ValueStr(row)
	}
}

// texts is every row of a result, its values joined.
func texts(t *testing.T, records array.RecordReader) []string {
	t.Helper()
	defer records.Release()
	rows := []string{}
	for records.Next() {
		record := records.RecordBatch()
		for at := range int(record.NumRows()) {
			var row []string
			for _, column := range record.Columns() {
				row = append(row, fmt.Sprint(value(column, at)))
			}
			rows = append(rows, strings.Join(row, " "))
		}
	}
	check(t, records.Err())
	return rows
}

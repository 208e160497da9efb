//! Import and export as users run them: real program, real server, real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Decimal128Array, Float32Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::process::{PROGRAM, ServerProcess};

/// How long an import may take until something of it is seen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Desk {
    server: ServerProcess,
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { server: ServerProcess::start(&directory.path().join("data"), &[]), directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("FLIGHTLINE_HOST_URL", self.server.url(""));
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code, standard output, standard error output.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let (code, output, error) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        output
    }

    fn query(&self, database: &str, sql: &str) -> String {
        self.succeed(&["query", "-d", database, "--format", "csv", sql])
    }

    fn count(&self, database: &str) -> u64 {
        let (code, output, _) = self.run(&["query", "-d", database, "--format", "csv", "SELECT count(*) FROM t"]);
        if code == 0 { output.lines().nth(1).unwrap().parse().unwrap() } else { 0 }
    }
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    // As pyarrow and DuckDB write it unless told otherwise.
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn foreign_columns(rows: i64) -> Vec<(&'static str, ArrayRef)> {
    let numbers: Vec<i64> = (0..rows).collect();
    let times = numbers.iter().map(|row| 1_700_000_000_000_000 + row);
    vec![
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("America/New_York")) as ArrayRef,
        ),
        ("sensor", Arc::new(StringArray::from_iter_values(numbers.iter().map(|row| format!("s {}", row % 3))))),
        ("note", Arc::new(StringArray::from_iter(numbers.iter().map(|row| (row % 2 == 0).then_some("a,\"b\"\nc"))))),
        ("level", Arc::new(Int32Array::from_iter_values(numbers.iter().map(|row| *row as i32)))),
        ("ratio", Arc::new(Float32Array::from_iter_values(numbers.iter().map(|row| *row as f32 / 4.0)))),
        (
            "price",
            Arc::new(
                Decimal128Array::from_iter_values(numbers.iter().map(|row| i128::from(*row)))
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
        ),
    ]
}

#[test]
fn parquet_of_others_is_asked_about_shown_and_imported() {
    let desk = Desk::new();
    write_parquet(&desk.path("in/day=2024-01-01/a.parquet"), foreign_columns(10));
    let import = ["import", "-d", "db", "--table", "t", "--time", "ts", "in"];

    let (code, _, error) = desk.run(&import);
    assert!(code == 2 && error.contains("sensor, note: say --tags"), "{error}");

    let tags = [&import[..], &["--tags", "sensor,day"]].concat();
    let output = desk.succeed(&[&tags[..], &["--dry-run"]].concat());
    for expected in [
        "time   ts (from Timestamp(µs, \"America/New_York\"))",
        "tag    day (from the path, here \"2024-01-01\")",
        "field  price float (from Decimal128(12, 2))",
        "| t,day=2024-01-01,sensor=s\\ 1 level=1i,ratio=0.25,price=0.01 1700000000000001000",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    assert_eq!(desk.count("db"), 0);

    desk.succeed(&tags);
    assert_eq!(
        desk.query("db", "SELECT day, sensor, level, ratio, price, note FROM t ORDER BY time LIMIT 2"),
        "day,sensor,level,ratio,price,note\n2024-01-01,s 0,0,0.0,0.0,\"a,\"\"b\"\"\nc\"\n2024-01-01,s 1,1,0.25,0.01,\n"
    );
    assert!(fs::read_dir(desk.directory.path()).unwrap().count() == 2, "the state is gone when all is done");
}

#[test]
fn a_damaged_file_is_named_and_the_others_are_imported() {
    let desk = Desk::new();
    for name in ["a", "b", "c"] {
        write_parquet(&desk.path(&format!("in/site={name}/x.parquet")), foreign_columns(1000));
    }
    let damaged = desk.path("in/site=b/x.parquet");
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, &whole[..whole.len() - 100]).unwrap();
    let import = ["import", "-d", "db", "--table", "t", "--time", "ts", "--tags", "sensor,site", "in"];
    let (code, _, error) = desk.run(&import);
    assert!(code == 1 && error.contains("could not read \"in/site=b/x.parquet\""), "{error}");
    assert!(error.contains("imported 2 of 3 files") && error.contains("the same command goes on"), "{error}");
    assert_eq!(desk.count("db"), 2000);

    fs::write(&damaged, whole).unwrap();
    let (code, _, error) = desk.run(&import);
    assert!(code == 0 && error.contains("2 of 3 files are done") && error.contains("wrote 1,000 rows"), "{error}");
    assert_eq!(desk.count("db"), 3000);
}

#[test]
fn csv_is_imported_with_guessed_and_given_types() {
    let desk = Desk::new();
    let text = "time,host,a,b,empty\n1700000000,x,1,2.5,\n1700000001,y,2,,\"\"\n1700000002,y,oops,1,\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    fs::write(desk.path("x.csv.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(desk.path("x.csv.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    let import =
        ["import", "-d", "db", "--table", "t", "--tags", "host", "--precision", "s", "--types", "a:float,empty:string"];
    let (code, _, error) = desk.run(&[&import[..], &["x.csv.gz"]].concat());
    assert!(code == 3 && error.contains("x.csv.gz, row 3: column \"a\": \"oops\" is no number"), "{error}");
    assert_eq!(desk.count("db"), 0, "nothing of a request with a refused row is written");
    let (code, _, error) = desk.run(&[&import[..], &["x.csv.zst", "--accept-partial"]].concat());
    assert_eq!(code, 3, "{error}");
    let rows = "SELECT host, a, b, empty IS NULL AS n FROM t ORDER BY time";
    assert_eq!(desk.query("db", rows), "host,a,b,n\nx,1.0,2.5,true\ny,2.0,,false\n");
}

#[test]
fn refused_lines_are_named_by_file_and_line() {
    let desk = Desk::new();
    fs::write(desk.path("a.lp"), "# head\nt f=1i 1\nt f=oops 2\nt f=3i 3\n").unwrap();
    fs::write(desk.path("b.lp"), "t f=4i 4").unwrap();
    let (code, _, error) = desk.run(&["import", "-d", "db", "-p", "ns", "*.lp"]);
    assert!(code == 3 && error.contains("a.lp, row 3: ") && error.contains("t f=oops 2"), "{error}");
    let (code, _, error) = desk.run(&["import", "-d", "db", "-p", "ns", "--accept-partial", "*.lp"]);
    assert!(code == 3 && error.contains("a.lp, row 3: ") && error.contains("imported 2 of 2 files"), "{error}");
    assert_eq!(desk.query("db", "SELECT f FROM t ORDER BY f"), "f\n1\n3\n4\n");
}

/// Lines that are large enough for an import to take a while: many small requests, one at a time.
const SLOW: &[&str] = &["-p", "ns", "--max-request-size", "1KiB", "--max-concurrent-requests", "1", "--quiet"];

const SLOW_ROWS: u64 = 60_000;

fn write_slow_lines(path: &Path) {
    let lines: String = (0..SLOW_ROWS).map(|row| format!("t,k=a v={row}i {row}\n")).collect();
    fs::write(path, lines).unwrap();
}

/// Waits until some rows are there, but not all.
fn wait_for_some(desk: &Desk, import: &mut Child) {
    let mut waited = Duration::ZERO;
    while desk.count("db") == 0 {
        assert!(import.try_wait().unwrap().is_none(), "the import ended too early to be cut off");
        assert!(waited < PATIENCE, "nothing was imported for {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
        waited += Duration::from_millis(50);
    }
}

#[test]
fn an_import_that_was_killed_goes_on_where_it_was() {
    let desk = Desk::new();
    write_slow_lines(&desk.path("slow.lp"));
    let arguments = [&["import", "-d", "db", "slow.lp", "--resume", "state.json"], SLOW].concat();
    let mut import = desk.command(&arguments).spawn().unwrap();
    wait_for_some(&desk, &mut import);
    // Until something is recorded, so that there is something to go on from.
    let mut waited = Duration::ZERO;
    while !fs::read_to_string(desk.path("state.json")).unwrap_or_default().contains("acknowledged") {
        assert!(import.try_wait().unwrap().is_none() && waited < PATIENCE, "nothing was recorded");
        std::thread::sleep(Duration::from_millis(20));
        waited += Duration::from_millis(20);
    }
    import.kill().unwrap();
    import.wait().unwrap();
    assert!(desk.count("db") < SLOW_ROWS, "the import was killed in the middle");

    let (code, _, error) = desk.run(&["import", "-d", "db", "slow.lp", "--resume", "state.json", "-p", "ns"]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("going on where the state \"state.json\" says"), "{error}");
    let again: u64 = error.split("wrote ").nth(1).unwrap().split(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert!(again < SLOW_ROWS, "what was acknowledged is not sent again: {error}");
    assert_eq!(desk.query("db", "SELECT count(*), sum(v) FROM t").lines().nth(1).unwrap(), "60000,1799970000");

    let (code, _, error) = desk.run(&["import", "-d", "db", "slow.lp", "--resume", "state.json", "-p", "ns"]);
    assert!(code == 0 && error.contains("wrote 0 rows"), "{error}");
    let (code, _, error) = desk.run(&["import", "-d", "other", "slow.lp", "--resume", "state.json", "-p", "ns"]);
    assert!(code == 1 && error.contains("other arguments"), "{error}");
}

#[test]
fn an_import_whose_server_is_killed_says_how_to_go_on_and_does() {
    let mut desk = Desk::new();
    write_slow_lines(&desk.path("slow.lp"));
    let arguments = [&["import", "-d", "db", "slow.lp", "--resume", "state.json", "--patience", "1s"], SLOW].concat();
    let mut import = desk.command(&arguments).spawn().unwrap();
    wait_for_some(&desk, &mut import);
    let (data, other) = (desk.path("data"), desk.path("unused"));
    let address = desk.server.url("");
    let old = std::mem::replace(&mut desk.server, ServerProcess::start(&other, &[]));
    old.kill();
    let output = import.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("could not reach") && error.contains("the same command goes on where it stopped"),
        "{error}"
    );

    // The same address, because the state belongs to that server.
    desk.server = ServerProcess::start_at(address.trim_start_matches("http://").parse().unwrap(), &data, &[]);
    let (code, _, error) = desk.run(&["import", "-d", "db", "slow.lp", "--resume", "state.json", "-p", "ns"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(desk.query("db", "SELECT count(*), sum(v) FROM t").lines().nth(1).unwrap(), "60000,1799970000");
}

#[test]
fn an_import_outlives_a_restart_of_its_server() {
    let mut desk = Desk::new();
    write_slow_lines(&desk.path("slow.lp"));
    let mut import = desk.command(&[&["import", "-d", "db", "slow.lp"], SLOW].concat()).spawn().unwrap();
    wait_for_some(&desk, &mut import);
    let address = desk.server.url("").trim_start_matches("http://").parse().unwrap();
    let (data, other) = (desk.path("data"), desk.path("unused"));
    let old = std::mem::replace(&mut desk.server, ServerProcess::start(&other, &[]));
    old.kill();
    desk.server = ServerProcess::start_at(address, &data, &[]);
    let output = import.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(desk.query("db", "SELECT count(*), sum(v) FROM t").lines().nth(1).unwrap(), "60000,1799970000");
}

#[test]
fn an_export_is_cut_by_time_and_goes_on_where_it_was() {
    let desk = Desk::new();
    let weather = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/nyc_weather.lp.gz");
    desk.succeed(&["import", "-d", "nyc", weather]);
    let export = ["export", "-d", "nyc", "--to", "out", "--rows-per-file", "5000"];
    let (code, _, error) = desk.run(&export);
    assert!(code == 0 && error.contains("exported 1 of 1 table: wrote 26,115 rows in 6 files"), "{error}");
    let names = |directory: &str| {
        let entries = fs::read_dir(desk.path(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let files = names("out/weather");
    assert_eq!((files.len(), files[6].as_str()), (7, "table.json"), "{files:?}");

    // What a kill in the middle leaves: files that are missing, and a part.
    fs::remove_file(desk.path("out/weather").join(&files[2])).unwrap();
    fs::write(desk.path("out/weather").join(format!(".{}.part", files[2])), "half").unwrap();
    let (code, _, error) = desk.run(&export);
    assert!(code == 0 && error.contains("in 1 file,") && error.contains("5 files of an earlier run"), "{error}");
    assert_eq!(names("out/weather"), files);
    let (code, _, error) = desk.run(&["export", "-d", "nyc", "--to", "out", "--format", "csv"]);
    assert!(code == 1 || code == 2, "{error}");
    assert!(error.contains("is of another export"), "{error}");

    desk.succeed(&["import", "-d", "copy", "out"]);
    let sql = "SELECT * FROM weather ORDER BY origin, time";
    assert_eq!(desk.query("copy", sql), desk.query("nyc", sql));

    // Both ends are included.
    let day = ["--start", "2013-02-01T00:00:00Z", "--stop", "2013-02-01T23:00:00Z", "--format", "lp", "--to", "day"];
    let (_, _, error) = desk.run(&[&["export", "-d", "nyc", "-t", "weather"], &day[..]].concat());
    assert!(error.contains("wrote 72 rows"), "{error}");
    let (code, _, error) = desk.run(&["export", "-d", "nyc", "-t", "wether", "--to", "x"]);
    assert!(code == 2 && error.contains("there is no table \"wether\""), "{error}");
}

#[test]
fn an_export_that_was_killed_goes_on_where_it_was() {
    let desk = Desk::new();
    let weather = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/nyc_weather.lp.gz");
    desk.succeed(&["import", "-d", "nyc", weather]);
    let export = |to: &'static str| ["export", "-d", "nyc", "--format", "csv", "--rows-per-file", "200", "--to", to];
    desk.succeed(&export("whole"));
    let files = |directory: &str| {
        let entries = fs::read_dir(desk.path(directory).join("weather")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let named = |directory: &str| files(directory).into_iter().filter(|name| !name.starts_with('.')).count();
    let whole = files("whole");
    assert!(whole.len() > 100);
    // Killed again and again, each time a little further.
    for part in 1..=4 {
        let mut running = desk.command(&export("out")).spawn().unwrap();
        while named("out") < part * 15 {
            assert!(running.try_wait().unwrap().is_none(), "the export ended before it was killed");
            std::thread::sleep(Duration::from_millis(2));
        }
        running.kill().unwrap();
        running.wait().unwrap();
    }
    assert!(named("out") < whole.len(), "the export was killed in the middle");
    let (code, _, error) = desk.run(&export("out"));
    assert!(code == 0 && error.contains("files of an earlier run"), "{error}");
    assert_eq!(files("out"), whole, "nothing is missing and nothing left over");
    for name in &whole {
        let [one, other] = ["whole", "out"].map(|directory| fs::read(desk.path(directory).join("weather").join(name)));
        assert!(one.unwrap() == other.unwrap(), "{name}");
    }
}

/// A point of the table `names.0` with the tag `names.1` and string field `names.2`.
#[derive(Debug, Clone)]
struct Point {
    tag: Option<String>,
    string: Option<String>,
    float: Option<f64>,
    integer: Option<i64>,
    unsigned: Option<u64>,
    boolean: Option<bool>,
    time: i64,
}

fn hostile() -> impl Strategy<Value = String> {
    "[a-zé ,=\\\\\"'%/#\r]{0,5}[a-zé ,=\"'%/#\r]"
}

fn point() -> impl Strategy<Value = Point> {
    let float = any::<f64>().prop_filter("line protocol has no others", |float| float.is_finite());
    let time = prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -3..3_i64];
    (
        prop::option::of(hostile()),
        prop::option::of("[a\"\\\\\n\r,= é]{0,8}"),
        prop::option::of(float),
        prop::option::of(any::<i64>()),
        prop::option::of(any::<u64>()),
        prop::option::of(any::<bool>()),
        time,
    )
        .prop_map(|(tag, string, float, integer, unsigned, boolean, time)| Point {
            tag,
            string,
            float,
            integer,
            unsigned,
            boolean,
            time,
        })
}

/// A name as line protocol, by the rule of the documentation and not by the code under test.
fn escaped(name: &str, specials: &[char]) -> String {
    name.chars().flat_map(|letter| specials.contains(&letter).then_some('\\').into_iter().chain([letter])).collect()
}

fn line(names: &(String, String, String), point: &Point) -> String {
    let key = |name: &str| escaped(name, &['\\', ' ', ',', '=']);
    let table = escaped(&names.0, &['\\', ' ', ',']);
    let tag = point.tag.as_ref().map(|tag| format!(",{}={}", key(&names.1), key(tag))).unwrap_or_default();
    let string = |text: &String| format!("{}=\"{}\"", key(&names.2), escaped(text, &['"', '\\']));
    let fields: Vec<String> = [
        Some("always=t".to_owned()),
        point.string.as_ref().map(string),
        point.float.map(|value| format!("float={value:e}")),
        point.integer.map(|value| format!("integer={value}i")),
        point.unsigned.map(|value| format!("unsigned={value}u")),
        point.boolean.map(|value| format!("boolean={value}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("{table}{tag} {} {}\n", fields.join(","), point.time)
}

#[test]
fn random_points_come_back_from_every_format() {
    let desk = Desk::new();
    let cases_max = std::env::var("FLIGHTLINE_PROPERTY_CASES").map_or(12, |text| text.parse().expect("a number"));
    let mut runner = TestRunner::new(Config { cases: cases_max, failure_persistence: None, ..Config::default() });
    let distinct = |names: &(String, String, String)| names.1 != names.2 && !names.0.starts_with('#');
    let names = (hostile(), hostile(), hostile()).prop_filter("different names", distinct);
    let cases = std::cell::Cell::new(0);
    runner
        .run(&(names, prop::collection::vec(point(), 1..30)), |(names, points)| {
            cases.set(cases.get() + 1);
            let case = cases.get();
            let lines: String = points.iter().map(|point| line(&names, point)).collect();
            let original = format!("original{case}");
            let file = desk.path(&format!("{original}.lp"));
            fs::write(&file, &lines).unwrap();
            desk.succeed(&["write", "-d", &original, "-p", "ns", "-f", file.to_str().unwrap()]);
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let sql = format!("SELECT * FROM {} ORDER BY time, {}", quoted(&names.0), quoted(&names.1));
            let rows = |database: &str, sql: &str| {
                // With JSON, absent and empty text differ, and floats have all of their digits.
                desk.succeed(&["query", "-d", database, "--format", "jsonl", sql])
            };
            // A table whose points never had the tag has no such column.
            let sql = if points.iter().any(|point| point.tag.is_some()) {
                sql
            } else {
                format!("SELECT * FROM {} ORDER BY time", quoted(&names.0))
            };
            let expected = rows(&original, &sql);
            let types = "SELECT column_name, data_type FROM information_schema.columns \
                         WHERE table_schema = 'iox' ORDER BY column_name";
            for format in ["parquet", "csv", "lp"] {
                let (to, copy) = (format!("{format}{case}"), format!("{format}-copy{case}"));
                desk.succeed(&["export", "-d", &original, "--to", &to, "--format", format, "--rows-per-file", "7"]);
                desk.succeed(&["import", "-d", &copy, &to]);
                prop_assert_eq!(&rows(&copy, &sql), &expected, "{}", format);
                prop_assert_eq!(rows(&copy, types), rows(&original, types), "{}", format);
            }
            Ok(())
        })
        .unwrap();
}

//! The command line as a script uses it: real program, real server, exit codes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::harness::process::{PROGRAM, ServerProcess};

struct Shell {
    server: ServerProcess,
    directory: tempfile::TempDir,
}

impl Shell {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { server: ServerProcess::start(&directory.path().join("data"), &[]), directory }
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_with_input(arguments, "")
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .env_clear()
            .env("FLIGHTLINE_HOST_URL", self.server.url(""))
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

#[test]
fn a_script_writes_queries_and_tidies_up() {
    let shell = Shell::new();
    let (code, _, error) = shell.run(&["create", "database", "db"]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) =
        shell.run(&["create", "table", "t", "--database", "db", "--tags", "a,b", "--fields", "f:int64"]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) =
        shell.run_with_input(&["write", "--database", "db", "--precision", "ns"], "t,a=x f=1i 1\nt,a=y f=2i 2\n");
    assert_eq!(code, 0, "{error}");
    let (code, output, error) =
        shell.run(&["query", "--database", "db", "--format", "csv", "SELECT a, b, f FROM t ORDER BY a"]);
    assert_eq!((code, output.as_str()), (0, "a,b,f\nx,,1\ny,,2\n"), "{error}");
    let (code, output, _) = shell.run(&["show", "databases", "--format", "csv"]);
    assert_eq!((code, output.as_str()), (0, "iox::database\ndb\n"));
    let (code, output, _) = shell.run(&["show", "tables", "--database", "db"]);
    assert!(code == 0 && output.contains(" t "), "{output}");
    let (code, _, error) = shell.run(&["delete", "table", "t", "--database", "db", "--yes"]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = shell.run(&["query", "--database", "db", "SELECT * FROM t"]);
    assert_eq!(code, 1);
    assert!(error.contains("'public.iox.t' not found"), "{error}");
    let (code, _, error) = shell.run(&["delete", "database", "db", "-y"]);
    assert_eq!(code, 0, "{error}");
}

#[test]
fn refused_lines_are_named_by_their_place_in_the_file() {
    let shell = Shell::new();
    let file = shell.directory.path().join("points.lp");
    std::fs::write(&file, "# head\nt f=1i 1\nt f=oops 2\nt f=3i 3\nt f=4 4\n").unwrap();
    let (code, _, error) =
        shell.run(&["write", "--database", "db", "--file", "points.lp", "--precision", "ns", "--accept-partial"]);
    assert_eq!(code, 3, "some lines were refused: {error}");
    assert!(error.contains("line 3") && error.contains("t f=oops 2") && error.contains("line 5"), "{error}");
    let (_, output, _) = shell.run(&["query", "--database", "db", "--format", "csv", "SELECT f FROM t ORDER BY f"]);
    assert_eq!(output, "f\n1\n3\n");
}

#[test]
fn the_weather_file_is_written_in_pieces_and_read_back_whole() {
    let shell = Shell::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/nyc_weather.lp.gz");
    let (code, _, error) =
        shell.run(&["write", "--database", "nyc", "--file", file, "--max-request-size", "100000", "--gzip"]);
    assert_eq!(code, 0, "{error}");
    let sql = "SELECT origin, count(*) AS n FROM weather GROUP BY origin ORDER BY origin";
    let (_, before, _) = shell.run(&["query", "--database", "nyc", "--format", "csv", sql]);
    assert_eq!(before, "origin,n\nEWR,8703\nJFK,8706\nLGA,8706\n");
    let (code, _, error) = shell.run(&[
        "query",
        "--database",
        "nyc",
        "--format",
        "parquet",
        "--output",
        "out.parquet",
        "SELECT * FROM weather",
    ]);
    assert_eq!(code, 0, "{error}");
    let bytes = bytes::Bytes::from(std::fs::read(shell.directory.path().join("out.parquet")).unwrap());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1024).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 26_115);
}

#[test]
fn mistakes_have_their_own_exit_codes() {
    let shell = Shell::new();
    assert_eq!(shell.run(&["query", "--database", "none", "SELECT 1"]).0, 1);
    assert_eq!(shell.run(&["query", "--nonsense"]).0, 2);
    assert_eq!(shell.run(&["write", "--database", "db", "--file", "missing.lp"]).0, 1);
    let (code, _, error) = shell.run(&["query", "--host", "http://127.0.0.1:1", "--database", "db", "SELECT 1"]);
    assert!(code == 1 && error.contains("127.0.0.1:1"), "{error}");
    let (code, help, _) = shell.run(&["serve", "--help"]);
    assert!(code == 0 && help.contains("--http-bind") && help.contains("FLIGHTLINE_HTTP_BIND"), "{help}");
}

#[test]
fn a_second_server_on_the_same_data_is_told_who_has_it() {
    let shell = Shell::new();
    let data = shell.directory.path().join("data");
    let output = Command::new(PROGRAM)
        .args(["serve", "--without-auth", "--http-bind", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .env_clear()
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("is in use by process"), "{error}");
}

use std::path::PathBuf;

use super::admin::{Admin, Confirmation, DeleteRows, Field};
use super::caches::{CacheCommand, Deed};
use super::input::Source;
use super::*;

fn parsed(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, clap::Error> {
    let machine = Machine { memory_bytes: 1 << 30, processors: 2, host: None };
    let environment = |name: &str| {
        let home = [("HOME", "/home/ann")];
        let mut all = variables.iter().chain(&home);
        all.find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    };
    parse_with([&["flightline"], arguments].concat(), &environment, &machine)
}

fn client_command(arguments: &[&str], variables: &[(&str, &str)]) -> ClientCommand {
    match parsed(arguments, variables).unwrap() {
        Invocation::Client(command) => command,
        other => panic!("{arguments:?} is a client command, not {other:?}"),
    }
}

fn write(arguments: &[&str]) -> Write {
    match client_command(arguments, &[]).task {
        Task::Write(write) => write,
        task => panic!("{task:?} is no write"),
    }
}

fn admin(arguments: &[&str]) -> Admin {
    match client_command(arguments, &[]).task {
        Task::Admin(_, admin) => admin,
        task => panic!("{task:?} does nothing to databases or tables"),
    }
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn without_a_command_a_server_is_started() {
    let Invocation::Serve(config) = parsed(&[], &[]).unwrap() else { panic!() };
    assert_eq!(config.node_id, "primary-node");
    let Invocation::Serve(config) = parsed(&["--num-io-threads", "5", "serve"], &[]).unwrap() else { panic!() };
    assert_eq!(config.num_io_threads, 5);
    let arguments = ["--num-io-threads", "5", "serve", "--num-io-threads", "7"];
    let Invocation::Serve(config) = parsed(&arguments, &[]).unwrap() else { panic!() };
    assert_eq!(config.num_io_threads, 7);
}

#[test]
fn a_store_is_checked_with_the_settings_of_the_server() {
    let flags = ["debug", "object-store-check", "--object-store", "s3", "--object-store-single-writer"];
    let Invocation::CheckStore(config) =
        parsed(&flags, &[("AWS_ACCESS_KEY_ID", "k"), ("FLIGHTLINE_BUCKET", "b")]).unwrap()
    else {
        panic!()
    };
    assert_eq!(format!("{:?}", config.store), "s3://b");
    assert!(config.single_writer);
    let error = parsed(&flags, &[]).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--bucket is not set"), "{error}");
}

#[test]
fn a_backup_is_named_or_the_newest_and_its_place_must_be_known() {
    let backup = |arguments: &[&str], variables: &[(&str, &str)]| {
        parsed(&[&["backup"], arguments].concat(), variables).map(|invocation| format!("{invocation:?}"))
    };
    let restore = backup(&["restore", "a", "--from", "/mnt/b", "--data-dir", "/d"], &[]).unwrap();
    assert!(restore.contains("Named(BackupName(\"a\"))") && restore.contains("file:///mnt/b"), "{restore}");
    assert!(restore.contains("file:///d/objects"), "{restore}");
    let newest =
        backup(&["verify", "--not-after", "1970-01-01T00:00:00.000000007Z"], &[("FLIGHTLINE_BACKUP_TO", "/b")]);
    assert!(newest.unwrap().contains("Newest { not_after: Some(Timestamp(7)) }"));
    assert!(backup(&["list"], &[]).unwrap().contains("Asked"), "a server is asked");
    for (arguments, said) in [
        (&["restore"][..], "--from is not set"),
        (&["verify", "A", "--from", "/b"], "no name of a backup"),
        (&["verify", "--from", "ftp://b"], "s3://bucket/path"),
        (&["restore", "a", "--not-after", "1970-01-01T00:00:00Z"], "cannot be used with"),
        (&["delete"], "required"),
    ] {
        let error = backup(arguments, &[]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn a_setting_that_cannot_be_used_ends_with_the_usage_code() {
    let error = parsed(&["serve", "--without-auth", "--http-bind", "0.0.0.0:8181"], &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("Usage: flightline serve"), "{error}");
}

#[test]
fn help_names_presets_and_variables() {
    let help = parsed(&["serve", "--help"], &[]).unwrap_err().to_string();
    assert!(help.contains("--buffer-bytes <SIZE|%>"), "{help}");
    assert!(help.contains("[default: 10MiB]"), "{help}");
    assert!(help.contains("FLIGHTLINE_MAX_HTTP_REQUEST_SIZE, INFLUXDB3_MAX_HTTP_REQUEST_SIZE"), "{help}");
    assert!(!help.contains("gen1"), "{help}");
    assert_eq!(parsed(&["serve", "--help-all"], &[]).unwrap_err().to_string(), help);
    assert!(parsed(&["write", "--help"], &[]).unwrap_err().to_string().contains("Exit codes"));
}

#[test]
fn a_write_takes_words_a_file_or_the_standard_input() {
    let words = write(&["write", "-d", "nyc", "cpu,host=a", "usage=1"]);
    assert_eq!(words.source, Source::Words(vec!["cpu,host=a".into(), "usage=1".into()]));
    assert_eq!((words.precision.as_str(), words.request_bytes_max, words.requests_max), ("auto", 10 << 20, 32));
    assert!(!words.accept_partial && !words.no_sync && !words.gzip && !words.quiet);

    let file = write(&[
        "w",
        "--database",
        "nyc",
        "-f",
        "a.lp",
        "-p",
        "ms",
        "--accept-partial",
        "--no-sync",
        "--gzip",
        "-q",
        "--max-request-size",
        "1MiB",
        "--max-concurrent-requests",
        "4",
    ]);
    assert_eq!(file.source, Source::File(PathBuf::from("a.lp")));
    assert_eq!((file.precision.as_str(), file.request_bytes_max, file.requests_max), ("ms", 1 << 20, 4));
    assert!(file.accept_partial && file.no_sync && file.gzip && file.quiet);

    assert_eq!(write(&["write", "-d", "nyc"]).source, Source::StandardInput);
    assert!(parsed(&["write", "-d", "nyc", "-f", "a.lp", "cpu f=1"], &[]).is_err());
    for bad in [["--max-request-size", "0"], ["--max-concurrent-requests", "0"], ["--precision", "h"]] {
        assert!(parsed(&[&["write", "-d", "nyc"][..], &bad].concat(), &[]).is_err(), "{bad:?}");
    }
}

#[test]
fn the_words_of_a_query_are_put_together() {
    let command = client_command(&["q", "-d", "nyc", "SELECT", "1", "--format", "csv", "-o", "a.csv"], &[]);
    let Task::Query(query) = command.task else { panic!() };
    assert_eq!(query.source, Source::Words(vec!["SELECT 1".into()]));
    assert_eq!((query.language.as_str(), query.output.format.as_str()), ("sql", "csv"));
    assert_eq!(query.output.file, Some(PathBuf::from("a.csv")));
}

#[test]
fn the_connection_comes_from_flags_or_from_the_variables_of_influxdb3() {
    let variables = [
        ("INFLUXDB3_HOST_URL", "http://old:1"),
        ("INFLUXDB3_DATABASE_NAME", "nyc"),
        ("INFLUXDB3_AUTH_TOKEN", "apiv3_x"),
        ("INFLUXDB3_TLS_NO_VERIFY", "true"),
    ];
    let settings = client_command(&["query", "SELECT 1"], &variables).settings;
    assert_eq!((settings.host.as_str(), settings.database.as_deref()), ("http://old:1", Some("nyc")));
    assert_eq!(settings.token.as_ref().map(|token| token.reveal()), Some("apiv3_x"));
    assert!(settings.tls_no_verify);
    assert!(!format!("{settings:?}").contains("apiv3_x"));

    let host = |flags: &[&str], variables: &[(&str, &str)]| {
        client_command(&[&["query", "SELECT 1", "-d", "nyc"], flags].concat(), variables).settings.host
    };
    let query_host = ("INFLUXDB3_QUERY_HOST_URL", "http://query:1");
    assert_eq!(host(&[], &[]), "http://127.0.0.1:8181");
    assert_eq!(host(&[], &[variables[0], query_host]), "http://query:1");
    assert_eq!(host(&["-H", "http://flag:1"], &[query_host]), "http://flag:1");
    assert_eq!(host(&["-H", "http://flag:1", "--query-host", "http://flag:2"], &[]), "http://flag:2");
    assert_eq!(host(&[], &[("INFLUXDB3_WRITE_HOST_URL", "http://write:1")]), "http://127.0.0.1:8181");
}

#[test]
fn a_command_that_needs_a_database_says_how_to_name_it() {
    for arguments in
        [&["write", "cpu f=1"][..], &["query", "SELECT 1"], &["show", "tables"], &["delete", "table", "cpu"]]
    {
        let error = parsed(arguments, &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--database"), "{error}");
    }
    assert!(parsed(&["show", "databases"], &[]).is_ok());
}

#[test]
fn databases_and_tables_are_created_and_deleted_by_name() {
    assert_eq!(admin(&["create", "database", "nyc"]), Admin::CreateDatabase { name: "nyc".into(), retention: None });
    let field = |name: &str, kind: &str| Field { name: name.into(), kind: kind.into() };
    assert_eq!(
        admin(&["create", "table", "--tags", "host,region", "--fields", "a:int64,b:utf8", "-d", "nyc", "cpu"]),
        Admin::CreateTable {
            database: "nyc".into(),
            name: "cpu".into(),
            tags: vec!["host".into(), "region".into()],
            fields: vec![field("a", "int64"), field("b", "utf8")],
            retention: None,
        }
    );
    assert_eq!(
        admin(&["create", "database", "nyc", "--retention-period", "7d"]),
        Admin::CreateDatabase { name: "nyc".into(), retention: Some("7d".into()) }
    );
    assert_eq!(
        admin(&["update", "database", "nyc", "-r", "none"]),
        Admin::UpdateDatabase { name: "nyc".into(), retention: "none".into() }
    );
    assert_eq!(
        admin(&["update", "table", "cpu", "-d", "nyc", "-r", "1h 30m"]),
        Admin::UpdateTable { database: "nyc".into(), name: "cpu".into(), retention: "1h 30m".into() }
    );
    assert_eq!(
        admin(&["delete", "table", "cpu", "-d", "nyc", "-y"]),
        Admin::DeleteTable {
            database: "nyc".into(),
            name: "cpu".into(),
            hard_delete: None,
            confirmation: Confirmation::Given
        }
    );
    let rows =
        ["delete", "rows", "-d", "nyc", "-t", "cpu", "--stop", "2024-01-01T00:00:00Z", "--tag", "host=a=b", "-y"];
    assert_eq!(
        admin(&rows),
        Admin::DeleteRows(DeleteRows {
            database: "nyc".into(),
            table: "cpu".into(),
            start: None,
            stop: Some("2024-01-01T00:00:00Z".into()),
            tags: vec![("host".into(), "a=b".into())],
            confirmation: Confirmation::Given,
        })
    );
    assert_eq!(
        admin(&["delete", "database", "nyc"]),
        Admin::DeleteDatabase { name: "nyc".into(), hard_delete: None, confirmation: Confirmation::Wanted }
    );
    assert!(parsed(&["create", "table", "cpu", "-d", "nyc", "--fields", "a:double"], &[]).is_err());
    assert!(parsed(&["create"], &[]).is_err());
}

#[test]
fn an_unknown_command_is_an_error_with_a_suggestion() {
    let error = parsed(&["wirte"], &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("write"), "{error}");
}

fn cache(arguments: &[&str]) -> CacheCommand {
    match client_command(arguments, &[]).task {
        Task::Cache(_, cache) => cache,
        task => panic!("{task:?} does nothing to a cache"),
    }
}

#[test]
fn caches_are_made_with_the_flags_of_influxdb3() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let last = [
        "create",
        "last_cache",
        "-d",
        "nyc",
        "-t",
        "cpu",
        "--key-columns",
        "host,region",
        "--value-columns",
        "usage",
        "--count",
        "5",
        "--ttl",
        "1h 30m",
        "mine",
    ];
    let deed = Deed::CreateLast {
        keys: Some(names(&["host", "region"])),
        values: Some(names(&["usage"])),
        count: Some(5),
        ttl_seconds: Some(5400),
        per_field: false,
    };
    let (database, table) = ("nyc".to_owned(), "cpu".to_owned());
    assert_eq!(
        cache(&last),
        CacheCommand { database: database.clone(), table: table.clone(), name: Some("mine".to_owned()), deed }
    );
    let distinct = ["create", "distinct_cache", "-d", "nyc", "-t", "cpu", "--columns", "host", "--max-age", "1d"];
    let deed = Deed::CreateDistinct { columns: names(&["host"]), cardinality_max: None, age_max_seconds: Some(86_400) };
    assert_eq!(cache(&distinct), CacheCommand { database, table, name: None, deed });
    assert_eq!(cache(&["delete", "last_cache", "-d", "nyc", "-t", "cpu", "mine"]).deed, Deed::DeleteLast);
    for missing in [
        &["delete", "distinct_cache", "-d", "nyc", "-t", "cpu"][..],
        &["create", "distinct_cache", "-d", "nyc", "-t", "cpu"],
        &["create", "last_cache", "-d", "nyc"],
        &["create", "last_cache", "-t", "cpu"],
        &["create", "last_cache", "-d", "nyc", "-t", "cpu", "--count", "0"],
        &["create", "last_cache", "-d", "nyc", "-t", "cpu", "--count", "2", "--per-field"],
    ] {
        assert!(parsed(missing, &[]).is_err(), "{missing:?}");
    }
}

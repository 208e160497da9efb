use std::collections::HashSet;
use std::time::Duration;

use clap::Command;

use super::client::CLIENT_SETTINGS;
use super::settings;
use super::*;
use crate::engine::store::{ConnectionSettings, StoreSettings};

fn machine() -> Machine {
    Machine { memory_bytes: 8 << 30, processors: 6, host: Some("Räck 7.example".into()) }
}

/// The configuration from flags and variables; HOME is `/home/ann`.
fn config(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
    let command = with_settings(Command::new("serve"));
    let matches = command.try_get_matches_from([&["serve"], flags].concat()).map_err(|error| error.to_string())?;
    let environment = |name: &str| {
        let home = [("HOME", "/home/ann")];
        let mut all = variables.iter().chain(&home);
        all.find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    };
    Config::from_flags(&[&matches], &environment, &machine()).map_err(|error| error.to_string())
}

#[test]
fn a_server_starts_without_any_setting() {
    let config = config(&[], &[]).unwrap();
    assert_eq!(config.node_id, "R-ck-7.example-node");
    assert_eq!(config.http_bind, "127.0.0.1:8181".parse().unwrap());
    assert_eq!(config.data_dir, PathBuf::from("/home/ann/.flightline"));
    assert_eq!(config.store.store, StoreSettings::File { root: "/home/ann/.flightline/objects".into() });
    assert_eq!(config.store.connections, ConnectionSettings::default());
    assert!(!config.store.single_writer);
    assert_eq!(config.max_http_request_size, 10_485_760);
    assert_eq!(config.buffer_bytes, 2 << 30);
    assert_eq!(config.exec_mem_pool_bytes, 2 << 30);
    assert_eq!(config.parquet_mem_cache_size, 1_717_986_918);
    assert_eq!(config.parquet_mem_cache_query_path_duration, Duration::from_secs(5 * 3600));
    assert!(!config.disable_parquet_mem_cache);
    assert_eq!(config.value_cache_size, 429_496_729);
    assert_eq!(config.disk_cache_size, 0);
    assert_eq!(config.disk_cache_dir, PathBuf::from("/home/ann/.flightline/cache"));
    assert_eq!((config.num_datafusion_threads, config.num_io_threads), (6, 6));
    assert_eq!(config.persist_bytes, 256 << 20);
    assert_eq!(config.persist_age, Duration::from_secs(600));
    assert_eq!(config.query_text_bytes, 256 << 10);
    assert!(!config.disable_query_shortcuts);
    assert_eq!(config.log_filter, "info");
    assert_eq!(config.log_format, LogFormat::Full);
    assert!(!config.demo);
    assert!(config.notices.is_empty() && config.auth.is_on, "{:?}", config.notices);
}

#[test]
fn a_flag_beats_the_environment_and_our_variable_beats_the_others() {
    let ours = ("FLIGHTLINE_DATA_DIR", "/ours");
    let old = ("INFLUXDB3_DB_DIR", "/old");
    let new = ("INFLUXDB3_DATA_DIR", "/new");
    let data_dir = |flags: &[&str], variables: &[(&str, &str)]| config(flags, variables).unwrap().data_dir;
    assert_eq!(data_dir(&["--data-dir", "/flag"], &[ours, old, new]), PathBuf::from("/flag"));
    assert_eq!(data_dir(&[], &[new, old, ours]), PathBuf::from("/ours"));
    assert_eq!(data_dir(&[], &[new, old]), PathBuf::from("/old"));
    assert_eq!(data_dir(&[], &[new]), PathBuf::from("/new"));
    assert_eq!(data_dir(&[], &[("FLIGHTLINE_DATA_DIR", " "), new]), PathBuf::from("/new"));
}

#[test]
fn a_start_script_for_influxdb3_starts_this_server() {
    let flags = [
        "--host-id",
        "n1",
        "--object-store",
        "file",
        "--data-dir",
        "/data",
        "--http-bind",
        "127.0.0.1:8086",
        "--without-auth",
        "--exec-mem-pool-size",
        "512MB",
        "--datafusion-num-threads",
        "4",
        "--num-threads=2",
        "--wal-flush-interval",
        "100ms",
        "--gen1-duration",
        "10m",
        "--disable-telemetry-upload",
        "--plugin-dir",
        "/p",
        "--query-file-limit",
        "1000",
        "--parquet-mem-cache-size",
        "1000",
        "--log-filter",
        "debug",
        "-v",
    ];
    let config = config(&flags, &[("INFLUXDB3_GEN1_LOOKBACK_DURATION", "1month")]).unwrap();
    assert_eq!((config.node_id.as_str(), config.http_bind.port()), ("n1", 8086));
    assert!(!config.auth.is_on);
    assert_eq!(config.exec_mem_pool_bytes, 512_000_000);
    assert_eq!(config.parquet_mem_cache_size, 1_000_000_000);
    assert_eq!((config.num_datafusion_threads, config.num_io_threads), (4, 2));
    assert_eq!(config.log_filter, "debug");
    assert_eq!(config.wal_flush_interval, Duration::from_millis(100));
    let notices = config.notices.join("\n");
    for start in [
        "--gen1-duration has no effect: ",
        "--gen1-lookback-duration (from INFLUXDB3_GEN1_LOOKBACK_DURATION) has no effect: ",
        "--plugin-dir has no effect: there is no processing engine",
        "--disable-telemetry-upload has no effect: this server never uploads telemetry",
        "nobody is asked for a token: whoever is on this machine",
        "--parquet-mem-cache-size 1000 is read as megabytes",
    ] {
        assert!(notices.lines().any(|notice| notice.starts_with(start)), "{start} in {notices}");
    }
}

#[test]
fn a_refused_value_is_named_with_its_setting_and_what_is_accepted() {
    for (flags, variables, message) in [
        (
            &["--max-http-request-size", "lots"][..],
            &[][..],
            "invalid value \"lots\" for --max-http-request-size: expected a size from 1KiB to 1GiB such as 10485760 or 64MiB",
        ),
        (
            &[],
            &[("INFLUXDB3_OBJECT_STORE", "floppy")],
            "invalid value \"floppy\" for --object-store (from INFLUXDB3_OBJECT_STORE): expected memory, file, s3, google or azure",
        ),
        (
            &["--num-io-threads", "0"],
            &[],
            "invalid value \"0\" for --num-io-threads: expected a whole number from 1 to 1024",
        ),
        (&["--demo=maybe"], &[], "invalid value \"maybe\" for --demo: expected true or false"),
        (
            &["--persist-bytes", "2GiB", "--buffer-bytes", "1GiB"],
            &[],
            "invalid value \"2GiB\" for --persist-bytes: expected at most the 1073741824 bytes of --buffer-bytes",
        ),
        (
            &["--object-store", "s3"],
            &[],
            "--bucket is not set: the s3, google and azure stores need the name of a bucket or container",
        ),
        (
            &["--node-id", "a/b"],
            &[],
            "invalid value \"a/b\" for --node-id: expected at most 255 letters, digits, '.', '_' and '-'",
        ),
    ] {
        assert_eq!(config(flags, variables).unwrap_err(), message);
    }
}

#[test]
fn only_loopback_addresses_are_served_where_nobody_is_asked_for_a_token() {
    for good in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:8181", "localhost:8181", "[::ffff:127.0.0.1]:80"] {
        assert!(config(&["--http-bind", good], &[]).is_ok(), "{good}");
    }
    for bad in ["0.0.0.0:8181", "[::]:8181", "192.168.0.7:8181", "[::ffff:8.8.8.8]:80"] {
        for open in ["--without-auth", "--demo"] {
            let error = config(&["--http-bind", bad, open], &[]).unwrap_err();
            assert!(error.contains("nobody is asked for a token") && error.contains(bad), "{error}");
        }
        let insisted = config(&["--http-bind", bad, "--without-auth", "--without-auth-anywhere"], &[]).unwrap();
        assert!(insisted.notices.iter().any(|notice| notice.contains("read and destroy everything")));
        let asked = config(&["--http-bind", bad], &[]).unwrap();
        assert!(asked.auth.is_on && asked.notices.iter().any(|notice| notice.contains("unencrypted")));
        let tls = config(&["--http-bind", bad, "--tls-cert", "c.pem", "--tls-key", "k.pem"], &[]).unwrap();
        assert!(tls.notices.is_empty(), "{:?}", tls.notices);
    }
}

#[test]
fn settings_of_tls_and_tokens_belong_together() {
    for (flags, message) in [
        (&["--tls-cert", "c.pem"][..], "--tls-key is not set: --tls-cert needs its key"),
        (&["--tls-key", "k.pem"], "--tls-cert is not set: --tls-key needs its certificate"),
        (&["--auth-jwks-file", "f", "--auth-jwt-audience", "a"], "--auth-jwt-issuer is not set: a JWT of anybody"),
        (&["--auth-jwks-file", "f", "--auth-jwt-issuer", "i"], "--auth-jwt-audience is not set: a JWT of anybody"),
        (
            &["--auth-jwks-url", "http://keys.example.org"],
            "invalid value \"http://keys.example.org\" for --auth-jwks-url",
        ),
        (&["--disable-authz", "health,everything"], "invalid value \"health,everything\" for --disable-authz"),
    ] {
        let error = config(flags, &[]).unwrap_err();
        assert!(error.starts_with(message), "{message}: {error}");
    }
    let jwt = ["--auth-jwt-key-file", "a.pem, b.pem", "--auth-jwt-issuer", "i", "--auth-jwt-audience", "x,y"];
    let jwt = config(&jwt, &[]).unwrap().auth.jwt.unwrap();
    assert_eq!((jwt.key_files.len(), jwt.audiences.len(), jwt.leeway), (2, 2, Duration::from_secs(10)));
    assert!(config(&[], &[("INFLUXDB3_OBJECT_STORE_TLS_ALLOW_INSECURE", "false")]).is_ok());
}

#[test]
fn an_unknown_flag_is_an_error_with_a_suggestion() {
    let error = config(&["--htp-bind", "127.0.0.1:1"], &[]).unwrap_err();
    assert!(error.contains("--http-bind"), "{error}");
}

#[test]
fn the_node_can_be_named_by_another_variable() {
    let flags = ["--node-id-from-env", "POD_NAME"];
    assert_eq!(config(&flags, &[("POD_NAME", "pod-3")]).unwrap().node_id, "pod-3");
    assert_eq!(
        config(&flags, &[]).unwrap_err(),
        "--node-id-from-env names the environment variable \"POD_NAME\", which is not set"
    );
}

#[test]
fn a_small_buffer_makes_tables_go_to_files_earlier() {
    assert_eq!(config(&["--buffer-bytes", "64MiB"], &[]).unwrap().persist_bytes, 16 << 20);
}

#[test]
fn the_stores_take_their_own_variables() {
    let variables = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT_URL_S3", "http://s3:9000"),
        ("AWS_CREDENTIALS_FILE", "~/keys.json"),
    ];
    let config = config(&["--object-store=s3", "--bucket=metrics", "--aws-allow-http"], &variables).unwrap();
    let expected = StoreSettings::S3 {
        bucket: "metrics".into(),
        region: "us-east-1".into(),
        endpoint: Some("http://s3:9000".into()),
        access_key_id: Some("key".into()),
        secret_access_key: Some("secret".into()),
        session_token: None,
        credentials_file: Some("/home/ann/keys.json".into()),
        allow_http: true,
        skip_signature: false,
    };
    assert_eq!(config.store.store, expected);
    assert!(!format!("{config:?}").contains("secret\""), "{config:?}");
}

#[test]
fn the_clouds_take_their_own_variables_too() {
    let variables = [("GOOGLE_SERVICE_ACCOUNT", "~/key.json"), ("GOOGLE_BASE_URL", "http://gcs:4443")];
    let google = config(&["--object-store=google", "--bucket=b", "--google-allow-http"], &variables).unwrap();
    let expected = StoreSettings::Google {
        bucket: "b".into(),
        service_account: Some("/home/ann/key.json".into()),
        endpoint: Some("http://gcs:4443".into()),
        allow_http: true,
        skip_signature: false,
    };
    assert_eq!(google.store.store, expected);
    let variables = [("AZURE_STORAGE_ACCOUNT", "weather"), ("AZURE_STORAGE_KEY", "key")];
    let azure = config(&["--object-store=azure", "--bucket=b"], &variables).unwrap();
    let expected = StoreSettings::Azure {
        container: "b".into(),
        account: "weather".into(),
        access_key: Some("key".into()),
        endpoint: None,
        allow_http: false,
    };
    assert_eq!(azure.store.store, expected);
}

#[test]
fn a_plain_number_of_megabytes_is_pointed_out() {
    let config = config(&["--exec-mem-pool-bytes", "8192"], &[]).unwrap();
    assert_eq!(config.exec_mem_pool_bytes, 8_192_000_000);
    assert!(config.notices.iter().any(|notice| notice.contains("8192 is read as megabytes")), "{:?}", config.notices);
}

#[test]
fn the_parquet_cache_goes_by_the_names_of_both_lines_of_influxdb3_and_can_be_off() {
    let flags = ["--file-cache-size", "10%", "--file-cache-recency", "1d", "--disable-parquet-mem-cache"];
    let said = config(&flags, &[]).unwrap();
    assert_eq!((said.parquet_mem_cache_size, said.disable_parquet_mem_cache), (858_993_459, true));
    assert_eq!(said.parquet_mem_cache_query_path_duration, Duration::from_secs(86_400));
    let variables = [("INFLUXDB3_FILE_CACHE_SIZE", "0"), ("INFLUXDB3_DISABLE_PARQUET_MEM_CACHE", "true")];
    let said = config(&[], &variables).unwrap();
    assert_eq!((said.parquet_mem_cache_size, said.disable_parquet_mem_cache), (0, true));
    assert_eq!(said.notices.len(), 0, "0 needs no unit: {:?}", said.notices);
}

#[test]
fn every_setting_has_its_own_names_and_a_preset_it_accepts() {
    let mut flags = HashSet::new();
    let mut variables = HashSet::new();
    for setting in settings::all() {
        for flag in std::iter::once(&setting.name).chain(setting.aliases) {
            assert!(flags.insert(*flag), "--{flag} twice");
        }
        for variable in setting.env {
            assert!(variables.insert(*variable), "{variable} twice");
        }
        let ours = format!("FLIGHTLINE_{}", setting.name.to_uppercase().replace('-', "_"));
        assert_eq!(setting.env.first(), Some(&ours.as_str()));
        if let settings::Preset::Text(text) = setting.preset {
            assert!(setting.kind.parse(text, 1 << 30).is_some(), "--{} does not take {text}", setting.name);
        }
    }
    for foreign in IGNORED.iter().chain(REFUSED) {
        assert!(flags.insert(foreign.name), "--{} twice", foreign.name);
        for variable in foreign.env {
            assert!(variables.insert(*variable), "{variable} twice");
        }
    }
    for setting in CLIENT_SETTINGS {
        assert!(setting.env[0].starts_with("FLIGHTLINE_") && setting.env[1].starts_with("INFLUXDB3_"));
    }
    with_settings(Command::new("serve")).debug_assert();
}

#[test]
fn the_table_for_the_readme_names_every_setting_once() {
    let table = settings_table();
    for setting in settings::all() {
        assert_eq!(table.matches(&format!("| `--{}`", setting.name)).count(), 1, "{}", setting.name);
    }
    assert!(table.contains(
        "| `--exec-mem-pool-bytes`, `--exec-mem-pool-size` | `25%` | `FLIGHTLINE_EXEC_MEM_POOL_BYTES`, \
         `INFLUXDB3_EXEC_MEM_POOL_BYTES`, `INFLUXDB3_EXEC_MEM_POOL_SIZE` | Memory for running queries."
    ));
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(table.lines().filter(|line| line.starts_with('|')).all(|line| columns(line) == 5), "{table}");
}

#[test]
fn the_disk_cache_lies_in_the_data_directory_or_elsewhere() {
    let said = config(&["--data-dir", "/data", "--disk-cache-size", "10GiB"], &[]).unwrap();
    assert_eq!((said.disk_cache_size, said.disk_cache_dir), (10 << 30, PathBuf::from("/data/cache")));
    let said = config(&["--disk-cache-dir", "~/fast"], &[("FLIGHTLINE_DISK_CACHE_SIZE", "1 TB")]).unwrap();
    assert_eq!((said.disk_cache_size, said.disk_cache_dir), (1_000_000_000_000, PathBuf::from("/home/ann/fast")));
}

//! A real InfluxDB 1.6.7 as a process: what InfluxQL means is what it answers.
//!
//! `tests/oracle/install` installs it; a missing one is a failure. Each test starts its own on a free port, with its data in a
//! temporary directory.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin};
use std::time::Duration;

use tempfile::TempDir;

use super::object_server::{request, spawn};

/// How long it may take to answer after its start.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A running InfluxDB; it ends when dropped, and when the test process ends, however it ends.
pub struct InfluxDb {
    address: SocketAddr,
    pub http: reqwest::Client,
    process: Option<(Child, ChildStdin)>,
    directory: TempDir,
}

impl InfluxDb {
    /// One without databases.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let configuration = directory.path().join("influxdb.conf");
        std::fs::write(&configuration, settings(address, &directory.path().display().to_string())).unwrap();
        let arguments = ["run", "-config", configuration.to_str().unwrap()];
        let process = Some(spawn("oracle/influxdb/usr/bin/influxd", &arguments, directory.path()));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().unwrap();
        let influxdb = Self { address, http, process, directory };
        influxdb.wait_until_ready();
        influxdb
    }

    fn wait_until_ready(&self) {
        let step = Duration::from_millis(50);
        let mut waited = Duration::ZERO;
        while !matches!(request(self.address, "GET", "/ping", &[]), Ok(204)) {
            if waited >= START_PATIENCE {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("InfluxDB did not answer for {START_PATIENCE:?}: {log}");
            }
            std::thread::sleep(step);
            waited += step;
        }
    }

    pub fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.address)
    }

    /// Makes a database and writes lines that must all be good.
    pub async fn write(&self, database: &str, lines: &str) {
        let create = format!("CREATE DATABASE \"{database}\"");
        let created = self.http.post(self.url("/query")).form(&[("q", create)]).send().await.unwrap();
        assert_eq!(created.status(), 200);
        let written =
            self.http.post(self.url(&format!("/write?db={database}"))).body(lines.to_owned()).send().await.unwrap();
        let (status, text) = (written.status(), written.text().await.unwrap());
        assert_eq!(status, 204, "{text}");
    }
}

impl Drop for InfluxDb {
    fn drop(&mut self) {
        if let Some((mut shell, stdin)) = self.process.take() {
            drop(stdin); // which ends the server
            let _reaped = shell.wait();
        }
    }
}

fn settings(address: SocketAddr, directory: &str) -> String {
    format!(
        r#"
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  index-version = "tsi1"
  query-log-enabled = false
[coordinator]
  query-timeout = "20s"
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[retention]
  enabled = false
[http]
  bind-address = "{address}"
  log-enabled = false
[logging]
  level = "warn"
"#
    )
}

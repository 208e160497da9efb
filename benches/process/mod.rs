//! The real program as a process of its own, and what is made of times.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server without authentication; it is killed when this goes.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl ServerProcess {
    /// Starts it with its data there, and waits until it answers.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_flightline"))
            .args([
                "serve",
                "--without-auth",
                "--log-filter",
                "warn",
                "--http-bind",
                &address.to_string(),
                "--data-dir",
            ])
            .arg(data)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        server.wait_until_ready();
        server
    }

    /// What of its memory is in use, as the kernel counts it.
    #[allow(dead_code, reason = "not every benchmark looks at it")]
    pub(crate) fn resident_megabytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
    }

    /// Lets it end in order: all rows are in Parquet then.
    #[allow(dead_code, reason = "not every benchmark starts again")]
    pub(crate) fn stop(mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "an orderly end");
    }

    fn wait_until_ready(&self) {
        for _ in 0..1500 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server did not answer");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time that `percent` of them don't exceed.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

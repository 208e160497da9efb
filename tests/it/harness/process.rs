//! The real program as a process of its own, to be killed and started again.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a server may take to answer after its start.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_flightline");

/// A free port at an address of this machine that nobody else uses: at one that all use, another server may have taken the port before
/// ours does, and would be asked instead of it. Where there is but one such address, that one.
fn own_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(1);
    let host = match cfg!(target_os = "linux") {
        true => Ipv4Addr::from_bits(
            (127 << 24) | ((1 + std::process::id() % 250) << 16) | (TAKEN.fetch_add(1, Ordering::Relaxed) & 0xffff),
        ),
        false => Ipv4Addr::LOCALHOST,
    };
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

/// A server process; killed when dropped. `FLIGHTLINE_PROGRAM` names another program to start as one, such as a release build.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts a server on `data` and waits until it answers.
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, arguments, &[])
            .unwrap_or_else(|status| panic!("the server ended with {status} instead of starting"))
    }

    /// The same, but it asks for tokens.
    pub fn start_guarded(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, arguments, &[("FLIGHTLINE_WITHOUT_AUTH", "false")])
            .unwrap_or_else(|status| panic!("the server ended with {status} instead of starting"))
    }

    /// The same with variables of the environment; how it ended if it did.
    pub fn start_with(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self, ExitStatus> {
        Self::start_process(own_address(), data, arguments, environment)
    }

    /// A server at an address of one's choice, which must be free.
    pub fn start_at(address: SocketAddr, data: &Path, arguments: &[&str]) -> Self {
        Self::start_process(address, data, arguments, &[])
            .unwrap_or_else(|status| panic!("the server ended with {status} instead of starting"))
    }

    fn start_process(
        address: SocketAddr,
        data: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self, ExitStatus> {
        let program = std::env::var_os("FLIGHTLINE_PROGRAM");
        let child = Command::new(program.as_deref().unwrap_or(OsStr::new(PROGRAM)))
            .args(["serve", "--data-dir"])
            .arg(data)
            .args(["--http-bind", &address.to_string(), "--log-filter", "warn,flightline::cli::serve=error"])
            .args(arguments)
            .env_clear()
            // Before the others, so that they can say otherwise.
            .env("FLIGHTLINE_WITHOUT_AUTH", "true")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Self { child, address };
        process.wait_until_ready().map(|()| process)
    }

    fn wait_until_ready(&mut self) -> Result<(), ExitStatus> {
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while std::net::TcpStream::connect(self.address).is_err() || !self.is_healthy() {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(waited < START_PATIENCE, "the server did not answer for {START_PATIENCE:?}");
            std::thread::sleep(step);
            waited += step;
        }
        Ok(())
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn is_healthy(&self) -> bool {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(self.address) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let asked = stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    pub fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.address)
    }

    /// Memory that it has now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// SIGKILL: nothing gets a chance to tidy up.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(self) -> i32 {
        self.stop().code().expect("ended by itself, not by a signal")
    }

    /// SIGTERM; how it ended.
    pub fn stop(mut self) -> ExitStatus {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Fails if the process has ended already, which is what is wanted.
        let _already_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

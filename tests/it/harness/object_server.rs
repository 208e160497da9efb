//! Real object stores as processes: moto speaks S3, azurite Azure, and a proxy makes moto speak Google's protocol.
//!
//! `tests/stores/install` installs them; a missing one is a failure. Each test starts its own on a free port.
//!
//! Not used: fake-gcs-server (1.56 answers the puts of Google's XML protocol, which `object_store` sends, with "invalid
//! uploadType") and gcp-storage-emulator (no ETag, ignores conditions). So the client for Google is tested with what it
//! sends and understands, but not against Google's own idea of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flightline::clock::{Clock, SystemClock};
use flightline::engine::store::StoreSettings;
use tempfile::TempDir;

use super::proxy::{Manner, Proxy, S3_AUTHORIZATION};

/// How long a server may take to answer after its start.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// Azurite's account and key, which its documentation names and which open nothing else.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A local directory, for comparison.
    File,
    /// moto.
    S3,
    /// azurite.
    Azure,
    /// moto behind a proxy that translates.
    Google,
}

/// A running store; it ends when dropped, and when the test process ends, however it ends.
pub struct ObjectServer {
    kind: Kind,
    address: SocketAddr,
    proxy: Option<Proxy>,
    process: Option<(Child, ChildStdin)>,
    directory: TempDir,
}

/// A bucket, or what is one for the kind of store.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// For the engine.
    pub settings: StoreSettings,
    /// For the program, without a data directory.
    pub flags: Vec<String>,
}

impl ObjectServer {
    /// A store without buckets.
    pub fn start(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let command = match kind {
            Kind::File => None,
            Kind::S3 | Kind::Google => Some((
                "stores/moto/bin/python",
                vec![concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stores/s3.py"), &port],
            )),
            Kind::Azure => {
                let arguments = vec!["--inMemoryPersistence", "--silent", "--blobHost", &host, "--blobPort", &port];
                Some(("stores/azurite/node_modules/.bin/azurite-blob", arguments))
            }
        };
        let process = command.map(|(program, arguments)| spawn(program, &arguments, directory.path()));
        let mut server = Self { kind, address, proxy: None, process, directory };
        if server.process.is_some() {
            server.wait_until_ready();
        }
        if kind == Kind::Google {
            server = server.behind(Manner::Google);
        }
        server
    }

    /// The same store, to be reached through a proxy.
    pub fn behind(mut self, manner: Manner) -> Self {
        self.proxy = Some(Proxy::start(self.address, manner));
        self
    }

    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the store was put behind a proxy")
    }

    fn wait_until_ready(&self) {
        let step = Duration::from_millis(100);
        let mut waited = Duration::ZERO;
        while request(self.address, "GET", "/", &[]).is_err() {
            if waited >= START_PATIENCE {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("the {:?} store did not answer for {START_PATIENCE:?}: {log}", self.kind);
            }
            std::thread::sleep(step);
            waited += step;
        }
    }

    /// A new bucket, to be reached through the proxy if there is one.
    pub fn bucket(&self, name: &str) -> Bucket {
        match self.kind {
            Kind::File => {}
            Kind::S3 | Kind::Google => {
                let status = request(self.address, "PUT", &format!("/{name}"), &[("authorization", S3_AUTHORIZATION)]);
                assert_eq!(status.unwrap(), 200);
            }
            Kind::Azure => self.create_container(name),
        }
        let address = self.proxy.as_ref().map_or(self.address, Proxy::address);
        self.bucket_at(name, address)
    }

    /// A bucket that exists, to be reached without the proxy.
    pub fn bucket_without_proxy(&self, name: &str) -> Bucket {
        self.bucket_at(name, self.address)
    }

    fn bucket_at(&self, name: &str, address: SocketAddr) -> Bucket {
        let endpoint = match self.kind {
            Kind::Azure => format!("http://{address}/{AZURE_ACCOUNT}"),
            _ => format!("http://{address}"),
        };
        let (settings, flags) = match self.kind {
            Kind::File => {
                let root = self.directory.path().join(name);
                (StoreSettings::File { root }, vec!["--object-store=file".to_owned()])
            }
            Kind::S3 => {
                let settings = StoreSettings::S3 {
                    bucket: name.to_owned(),
                    region: "us-east-1".to_owned(),
                    endpoint: Some(endpoint.clone()),
                    access_key_id: Some("test".to_owned()),
                    secret_access_key: Some("test".to_owned()),
                    session_token: None,
                    credentials_file: None,
                    allow_http: true,
                    skip_signature: false,
                };
                // The program gets them the other way.
                let file = self.directory.path().join("credentials.json");
                std::fs::write(&file, r#"{"aws_access_key_id": "test", "aws_secret_access_key": "test"}"#).unwrap();
                let file = format!("--aws-credentials-file={}", file.display());
                let keys = [file.as_str(), "--aws-allow-http"];
                (settings, flags("s3", name, &format!("--aws-endpoint={endpoint}"), &keys))
            }
            Kind::Azure => {
                let settings = StoreSettings::Azure {
                    container: name.to_owned(),
                    account: AZURE_ACCOUNT.to_owned(),
                    access_key: Some(AZURE_KEY.to_owned()),
                    endpoint: Some(endpoint.clone()),
                    allow_http: true,
                };
                let account = format!("--azure-storage-account={AZURE_ACCOUNT}");
                let key = format!("--azure-storage-access-key={AZURE_KEY}");
                let keys = [account.as_str(), key.as_str(), "--azure-allow-http"];
                (settings, flags("azure", name, &format!("--azure-endpoint={endpoint}"), &keys))
            }
            Kind::Google => {
                let settings = StoreSettings::Google {
                    bucket: name.to_owned(),
                    service_account: None,
                    endpoint: Some(endpoint.clone()),
                    allow_http: true,
                    skip_signature: true,
                };
                let keys = ["--google-allow-http", "--google-skip-signature"];
                (settings, flags("google", name, &format!("--google-endpoint={endpoint}"), &keys))
            }
        };
        Bucket { settings, flags }
    }

    /// Azure's protocol has no request for this that goes without a signature.
    fn create_container(&self, name: &str) {
        let now = chrono::DateTime::from_timestamp_nanos(SystemClock::new().now().as_nanos());
        let (date, version) = (now.format("%a, %d %b %Y %H:%M:%S GMT").to_string(), "2021-08-06");
        let headers = format!("x-ms-date:{date}\nx-ms-version:{version}");
        let path = format!("/{AZURE_ACCOUNT}/{name}");
        // The method, eleven standard headers that are empty, then ours, then what is asked for.
        let signed = format!("PUT{}{headers}\n/{AZURE_ACCOUNT}{path}\nrestype:container", "\n".repeat(12));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &BASE64_STANDARD.decode(AZURE_KEY).unwrap());
        let signature = BASE64_STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes()));
        let authorization = format!("SharedKey {AZURE_ACCOUNT}:{signature}");
        let headers = [("x-ms-date", &*date), ("x-ms-version", version), ("authorization", &authorization)];
        let status = request(self.address, "PUT", &format!("{path}?restype=container"), &headers);
        assert_eq!(status.unwrap(), 201);
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        if let Some((mut shell, stdin)) = self.process.take() {
            drop(stdin); // which ends the server
            let _reaped = shell.wait();
        }
    }
}

fn flags(store: &str, bucket: &str, endpoint: &str, keys: &[&str]) -> Vec<String> {
    let common = [format!("--object-store={store}"), format!("--bucket={bucket}"), endpoint.to_owned()];
    common.into_iter().chain(keys.iter().map(|key| (*key).to_owned())).collect()
}

/// Starts a server under a shell that ends it when its standard input is closed: so it does not outlive a test process
/// that is killed.
pub(super) fn spawn(program: &str, arguments: &[&str], directory: &Path) -> (Child, ChildStdin) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(program);
    let is_oracle = program.iter().any(|part| part == "oracle");
    let script = if is_oracle { "tests/oracle/install" } else { "tests/stores/install" };
    assert!(program.exists(), "{} is missing: run {script}", program.display());
    let log = std::fs::File::create(directory.join("log")).unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", r#""$@" & server=$!; cat > /dev/null; kill -9 "$server""#, "sh"])
        .arg(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let stdin = shell.stdin.take().unwrap();
    (shell, stdin)
}

/// The status of a request without a body.
pub(super) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no status in the answer"))
}

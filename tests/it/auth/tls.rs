//! The same port with TLS: HTTP and Flight, certificates that change, clients that need one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flightline::server::TlsSettings;
use reqwest::{Certificate, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::on;
use crate::harness::server::TestServer;

/// An authority and certificates of it, made by OpenSSL.
struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let made = Self { directory: tempfile::tempdir().unwrap() };
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        );
        made
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.directory).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate for this name and the local address, in `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str) {
        std::fs::write(
            self.directory.path().join("extensions"),
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
        ));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            only_tls13: false,
            client_authorities: None,
        }
    }

    fn client(&self) -> reqwest::ClientBuilder {
        let authority = Certificate::from_pem(&self.bytes("ca.pem")).unwrap();
        reqwest::Client::builder().no_proxy().add_root_certificate(authority).timeout(Duration::from_secs(20))
    }
}

async fn server(tls: TlsSettings) -> TestServer {
    TestServer::start_with(|settings| {
        settings.tls = Some(tls);
        settings.auth = on();
    })
    .await
}

fn url(server: &TestServer) -> String {
    format!("https://{}/health", server.address())
}

fn token(data: &Path) -> String {
    std::fs::read_to_string(data.join("admin-token")).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_and_flight_are_served_with_tls_on_one_port() {
    let certificates = Certificates::new();
    certificates.issue("server");
    let server = server(certificates.settings()).await;
    for client in [certificates.client(), certificates.client().http2_prior_knowledge()] {
        let answer = client.build().unwrap().get(url(&server)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "OK");
    }
    let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(stranger.get(url(&server)).send().await.is_err(), "an authority that nobody knows");
    assert!(server.http.get(server.url("/health")).send().await.is_err(), "without TLS");

    // A Flight call as any client frames it: an empty message.
    let client = certificates.client().http2_prior_knowledge().build().unwrap();
    let flight = format!("https://{}/arrow.flight.protocol.FlightService/ListActions", server.address());
    let call = |token: &str| {
        let request = client.post(&flight).header("content-type", "application/grpc").header("te", "trailers");
        request.bearer_auth(token).body(vec![0; 5]).send()
    };
    let data = &server.server().services().settings.data_directory;
    let answer = call(&token(data)).await.unwrap();
    assert!(!answer.headers().contains_key("grpc-status") && answer.bytes().await.unwrap().len() > 100);
    assert_eq!(call("wrong").await.unwrap().headers()["grpc-status"], "16");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_certificate_are_sent_away_where_one_is_wanted() {
    let certificates = Certificates::new();
    certificates.issue("server");
    certificates.issue("client");
    let tls = TlsSettings { client_authorities: Some(certificates.path("ca.pem")), ..certificates.settings() };
    let server = server(tls).await;
    assert!(certificates.client().build().unwrap().get(url(&server)).send().await.is_err());
    let identity = [certificates.bytes("client.pem"), certificates.bytes("client.key")].concat();
    let client = certificates.client().identity(Identity::from_pem(&identity).unwrap()).build().unwrap();
    assert_eq!(client.get(url(&server)).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_taken_while_the_server_runs() {
    let certificates = Certificates::new();
    certificates.issue("server");
    let server = server(certificates.settings()).await;
    let serial = || async {
        let client = certificates.client().tls_info(true).build().unwrap();
        let answer = client.get(url(&server)).send().await.unwrap();
        answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
    };
    let before = serial().await;
    // One that is cut off is not taken.
    std::fs::write(certificates.path("server.pem"), &certificates.bytes("server.pem")[..100]).unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(serial().await, before);
    certificates.issue("server");
    let mut waited = 0;
    while serial().await == before {
        assert!(waited < 60, "the new certificate was not taken");
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited += 1;
    }
}

#[tokio::test]
async fn files_that_hold_no_certificate_stop_the_start_and_are_named() {
    let certificates = Certificates::new();
    certificates.issue("server");
    certificates.issue("other");
    let settings = certificates.settings();
    let refused = async |tls: TlsSettings, reason: &str| {
        let error = TestServer::try_start(|settings| settings.tls = Some(tls)).await.err().unwrap();
        assert!(error.report().contains(reason), "{reason}: {}", error.report());
    };
    refused(TlsSettings { certificate: certificates.path("missing"), ..settings.clone() }, "could not read").await;
    refused(TlsSettings { certificate: certificates.path("ca.key"), ..settings.clone() }, "no certificate in").await;
    refused(TlsSettings { key: certificates.path("server.pem"), ..settings.clone() }, "can't be used for TLS").await;
    refused(TlsSettings { key: certificates.path("other.key"), ..settings }, "can't be used for TLS").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_end_a_handshake_is_sent_away() {
    let certificates = Certificates::new();
    certificates.issue("server");
    let server = server(certificates.settings()).await;
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "after {begun:?} the connection is closed");
    }
}

//! TLS on the server's port: certificates from files, changed while the server runs.
//!
//! Always true:
//! - nothing but TLS is answered once TLS is on;
//! - a certificate that can't be read again keeps the one that was there, and is reported;
//! - whoever does not finish a handshake in time is sent away.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::error::{Error, ErrorKind, Result};
use crate::tasks::Tasks;

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How often the files are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(10);

/// What the port speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file with the server's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// Whether clients that don't speak TLS 1.3 are sent away.
    pub only_tls13: bool,
    /// PEM file with authorities, one of which every client must have a certificate of.
    pub client_authorities: Option<PathBuf>,
}

/// Turns connections into TLS connections.
pub(super) struct Tls {
    settings: TlsSettings,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Vec<Option<SystemTime>>>,
    tasks: Tasks,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files and goes on looking at them.
    ///
    /// # Errors
    /// `Unavailable` if a file can't be read; `Invalid` if it does not hold what it should, or if key and certificate don't belong
    /// together.
    pub(super) fn open(settings: TlsSettings) -> Result<Arc<Self>> {
        let seen = changed_at(&settings);
        let current = ArcSwap::new(read(&settings)?);
        let tls = Arc::new(Self { settings, current, seen: Mutex::new(seen), tasks: Tasks::new() });
        let watched = Arc::downgrade(&tls);
        tls.tasks.spawn("certificates", |stop| async move {
            while stop.run_until_cancelled(tokio::time::sleep(LOOK_PERIOD)).await.is_some() {
                let Some(tls) = watched.upgrade() else { return };
                tls.look_again();
            }
        });
        Ok(tls)
    }

    /// The handshake of one connection.
    ///
    /// # Errors
    /// If it fails or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await?
    }

    pub(super) async fn stop(&self) {
        self.tasks.stop().await;
    }

    fn look_again(&self) {
        let now = changed_at(&self.settings);
        if *self.seen.lock() == now {
            return;
        }
        match read(&self.settings) {
            Ok(new) => {
                self.current.store(new);
                tracing::info!(certificate = %self.settings.certificate.display(), "took the new certificate");
            }
            Err(error) => {
                tracing::warn!(error = error.report(), "could not take the new certificate; the old one stays")
            }
        }
        *self.seen.lock() = now;
    }
}

fn changed_at(settings: &TlsSettings) -> Vec<Option<SystemTime>> {
    let files = [Some(&settings.certificate), Some(&settings.key), settings.client_authorities.as_ref()];
    let at = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    files.into_iter().map(|path| path.and_then(at)).collect()
}

fn read(settings: &TlsSettings) -> Result<Arc<ServerConfig>> {
    let unfit = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::with_source(ErrorKind::Invalid, format!("{what} can't be used for TLS"), error)
    };
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = if settings.only_tls13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| unfit("the versions", error.into()))?;
    let builder = match &settings.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut authorities = RootCertStore::empty();
            for authority in certificates(path)? {
                authorities.add(authority).map_err(|error| unfit(&quoted(path), error.into()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
            let verifier = verifier.build().map_err(|error| unfit(&quoted(path), error.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(&bytes(&settings.key)?)
        .map_err(|error| unfit(&quoted(&settings.key), error.into()))?;
    let mut config = builder.with_single_cert(certificates(&settings.certificate)?, key).map_err(|error| {
        unfit(&format!("{} with {}", quoted(&settings.certificate), quoted(&settings.key)), error.into())
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = bytes(path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| {
        Error::with_source(ErrorKind::Invalid, format!("{} holds a damaged certificate", quoted(path)), error)
    })?;
    if found.is_empty() {
        return Err(Error::invalid(format!("there is no certificate in {}: it has to be PEM", quoted(path))));
    }
    Ok(found)
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Error::with_source(ErrorKind::Unavailable, format!("could not read {}", quoted(path)), error))
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

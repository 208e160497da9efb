//! Who did what: one JSON object per request, in a file that only grows.
//!
//! | field | |
//! |---|---|
//! | `time` | when the request was answered, RFC 3339 |
//! | `request_id`, `node`, `peer` | which request, at which server, from which address |
//! | `principal`, `by` | the token's name or the JWT's subject, and `token`, `jwt`, `everybody` or `nobody` |
//! | `action` | method and route, or the Flight call |
//! | `database` | as the URL or a header names it; a request may name it in its body alone |
//! | `status`, `grpc_status`, `ms` | how and when it ended; of a stream: when it began |
//!
//! Never in it: tokens, texts of queries, rows.
//!
//! What changes users or data at an operator's word is on the disk before it is answered; requests without a token are noted
//! so often and no oftener, so that nobody can fill the disk with them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// Refused requests that are noted a second.
const REFUSALS_PER_SECOND: u32 = 20;

/// Lines that wait for the disk; more requests wait for their turn.
const LINES_WAITING_MAX: usize = 10_000;

/// Where the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file. It is made if need be and added to.
    pub path: PathBuf,
}

/// One request, once it is answered.
#[derive(Debug)]
pub(super) struct Audited<'a> {
    pub(super) request_id: &'a str,
    pub(super) peer: Option<String>,
    pub(super) principal: &'a str,
    pub(super) by: &'static str,
    pub(super) action: &'a str,
    pub(super) database: Option<String>,
    pub(super) status: u16,
    pub(super) grpc_status: Option<i32>,
    pub(super) took: Duration,
    /// Whether it is worth a sync.
    pub(super) changes: bool,
    /// Whether nobody was recognised.
    pub(super) is_refusal: bool,
}

/// The log, open for more. A thread of its own writes, so that a slow disk keeps nobody from reading or writing rows.
#[derive(Debug)]
pub(in crate::server) struct AuditLog {
    node: String,
    clock: Arc<dyn Clock>,
    refusals: Mutex<Refusals>,
    /// `None` only while it is dropped.
    lines: Option<mpsc::Sender<Line>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Refusals {
    /// The second in which they are counted, and how many there were.
    second: u64,
    count: u32,
    left_out: u64,
}

#[derive(Debug)]
struct Line {
    text: String,
    /// Told when the line is on the disk.
    synced: Option<oneshot::Sender<()>>,
}

impl AuditLog {
    /// # Errors
    /// `Unavailable` if the file can't be opened.
    pub(in crate::server) fn open(settings: &AuditSettings, node: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = settings.path.clone();
        let failed = |error: io::Error| {
            let message = format!("could not open the audit log \"{}\"", path.display());
            Error::with_source(ErrorKind::Unavailable, message, error)
        };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
        let (lines, waiting) = mpsc::channel(LINES_WAITING_MAX);
        let to = path.clone();
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || write(file, &to, waiting));
        Ok(Self {
            node: node.to_owned(),
            clock,
            refusals: Mutex::default(),
            lines: Some(lines),
            writer: Some(writer.map_err(failed)?),
        })
    }

    /// Notes a request. If it changes something, the line is on the disk when this returns.
    ///
    /// A log that can't be written does not keep the server from answering; that is said once in the server's own log until it
    /// works again. One that is slow does: nothing is done that is not noted.
    pub(super) async fn note(&self, audited: &Audited<'_>) {
        let left_out = {
            let mut refusals = self.refusals.lock();
            if audited.is_refusal && !refusals.have_room(self.clock.elapsed().as_secs()) {
                return;
            }
            std::mem::take(&mut refusals.left_out)
        };
        let mut line = json!({
            "time": self.clock.now().to_string(),
            "request_id": audited.request_id,
            "node": self.node,
            "peer": audited.peer,
            "principal": audited.principal,
            "by": audited.by,
            "action": audited.action,
            "database": audited.database,
            "status": audited.status,
            "ms": u64::try_from(audited.took.as_millis()).unwrap_or(u64::MAX),
        });
        if let Some(code) = audited.grpc_status {
            line["grpc_status"] = code.into();
        }
        if left_out > 0 {
            line["refusals_left_out"] = left_out.into();
        }
        let (synced, done) = if audited.changes { Some(oneshot::channel()) } else { None }.unzip();
        let Some(lines) = &self.lines else { return };
        // Fails only if the writer has died, which its own thread has reported.
        if lines.send(Line { text: format!("{line}\n"), synced }).await.is_ok()
            && let Some(done) = done
        {
            let _written_or_reported = done.await;
        }
    }
}

impl Drop for AuditLog {
    /// Waits until every line is written.
    fn drop(&mut self) {
        self.lines = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of the audit log died");
        }
    }
}

impl Refusals {
    fn have_room(&mut self, second: u64) -> bool {
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
        let have_room = self.count <= REFUSALS_PER_SECOND;
        self.left_out += u64::from(!have_room);
        have_room
    }
}

/// Writes lines until there are no more.
fn write(mut file: File, path: &Path, mut lines: mpsc::Receiver<Line>) {
    let mut is_failing = false;
    while let Some(Line { text, synced }) = lines.blocking_recv() {
        let written = file.write_all(text.as_bytes());
        match written.and_then(|()| if synced.is_some() { file.sync_data() } else { Ok(()) }) {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(path = %path.display(), %error, "could not write the audit log");
            }
            Err(_) => {}
        }
        if let Some(synced) = synced {
            let _nobody_may_be_waiting = synced.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::clock::ManualClock;

    fn refusal() -> Audited<'static> {
        Audited {
            request_id: "1",
            peer: None,
            principal: "",
            by: "nobody",
            action: "POST /api/v3/write_lp",
            database: None,
            status: 401,
            grpc_status: None,
            took: Duration::ZERO,
            changes: false,
            is_refusal: true,
        }
    }

    #[tokio::test]
    async fn refusals_are_noted_so_often_and_the_rest_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let clock = Arc::new(ManualClock::new(crate::model::Timestamp::from_nanos(0)));
        let log = AuditLog::open(&AuditSettings { path: path.clone() }, "n", Arc::clone(&clock) as Arc<dyn Clock>);
        let log = log.unwrap();
        for _ in 0..50 {
            log.note(&refusal()).await;
        }
        log.note(&Audited {
            principal: "ops",
            by: "token",
            status: 204,
            changes: true,
            is_refusal: false,
            ..refusal()
        })
        .await;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 21);
        assert_eq!((&lines[20]["principal"], &lines[20]["refusals_left_out"]), (&"ops".into(), &30.into()));
    }
}

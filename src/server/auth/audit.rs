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
//! What changes users or data at an operator's word is on the disk before the next request is noted; refused requests are noted
//! so often and no oftener, so that nobody can fill the disk without a token.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// Refused requests that are noted a second.
const REFUSALS_PER_SECOND: u32 = 20;

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

/// The log, open for more.
#[derive(Debug)]
pub(in crate::server) struct AuditLog {
    path: PathBuf,
    node: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// The second in which refusals are counted, and how many there were.
    second: u64,
    refusals: u32,
    left_out: u64,
    is_failing: bool,
}

impl AuditLog {
    /// # Errors
    /// `Unavailable` if the file can't be opened.
    pub(in crate::server) fn open(settings: &AuditSettings, node: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = settings.path.clone();
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|error| {
            let message = format!("could not open the audit log \"{}\"", path.display());
            Error::with_source(ErrorKind::Unavailable, message, error)
        })?;
        let state = State { file, second: 0, refusals: 0, left_out: 0, is_failing: false };
        Ok(Self { path, node: node.to_owned(), clock, state: Mutex::new(state) })
    }

    /// Notes a request. A log that can't be written does not keep the server from answering; that is said once in the
    /// server's own log until it works again.
    pub(super) fn note(&self, audited: &Audited<'_>) {
        let mut state = self.state.lock();
        if audited.is_refusal && !state.has_room(self.clock.elapsed().as_secs()) {
            return;
        }
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
        if state.left_out > 0 {
            line["refusals_left_out"] = state.left_out.into();
        }
        let written = state.file.write_all(format!("{line}\n").as_bytes());
        let written = written.and_then(|()| if audited.changes { state.file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => (state.left_out, state.is_failing) = (0, false),
            Err(error) if !state.is_failing => {
                state.is_failing = true;
                tracing::error!(path = %self.path.display(), %error, "could not write the audit log");
            }
            Err(_) => {}
        }
    }
}

impl State {
    fn has_room(&mut self, second: u64) -> bool {
        if self.second != second {
            (self.second, self.refusals) = (second, 0);
        }
        self.refusals += 1;
        let has_room = self.refusals <= REFUSALS_PER_SECOND;
        self.left_out += u64::from(!has_room);
        has_room
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

    #[test]
    fn refusals_are_noted_so_often_and_the_rest_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let clock = Arc::new(ManualClock::new(crate::model::Timestamp::from_nanos(0)));
        let log = AuditLog::open(&AuditSettings { path: path.clone() }, "n", Arc::clone(&clock) as Arc<dyn Clock>);
        let log = log.unwrap();
        for _ in 0..50 {
            log.note(&refusal());
        }
        log.note(&Audited {
            principal: "ops",
            by: "token",
            status: 204,
            changes: true,
            is_refusal: false,
            ..refusal()
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 21);
        assert_eq!((&lines[20]["principal"], &lines[20]["refusals_left_out"]), (&"ops".into(), &30.into()));
    }
}

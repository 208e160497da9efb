//! The one thread that changes what is on the disk, so that queries never wait for writes and room is made before it is taken.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Shared;
use super::layout::Layout;
use super::ledger::Room;
use crate::model::FileId;

/// How long nothing is written after a failure: a full disk is not asked again for every block.
const PAUSE: Duration = Duration::from_secs(10);

/// What the thread is to do.
pub(super) enum Command {
    /// Find what is there of these files; forget everything else.
    Recover(Vec<(FileId, Layout)>),
    /// Write this.
    Keep(Keep),
    /// Something of this file is wrong.
    Remove(FileId),
    /// Forget every file but these.
    Retain(HashSet<FileId>),
    /// Say when everything before this is done.
    Settle(oneshot::Sender<()>),
    /// End, and let others have the directory.
    Stop(oneshot::Sender<()>),
}

/// Whether bytes are those that were written once.
pub(super) type Check = Box<dyn FnOnce(&[u8]) -> bool + Send>;

/// Slots of a file.
pub(super) struct Keep {
    pub(super) file: FileId,
    pub(super) layout: Layout,
    pub(super) slots: Range<usize>,
    pub(super) bytes: Bytes,
    pub(super) is_right: Check,
}

/// Works until it is told to stop or nobody is left who could tell it.
pub(super) fn run(shared: &Arc<Shared>, commands: &Receiver<Command>) {
    let mut writer = Writer { shared, paused_until: Duration::ZERO };
    let mut stopped = None;
    while let Ok(command) = commands.recv() {
        match command {
            Command::Recover(files) => writer.recover(files),
            Command::Keep(keep) => {
                let bytes = keep.bytes.len() as u64;
                writer.keep(keep);
                shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Command::Remove(file) => writer.attempt("remove a damaged file", |writer| writer.remove(file)),
            Command::Retain(known) => writer.retain(&known),
            // Whoever waited may have given up.
            Command::Settle(done) => drop(done.send(())),
            Command::Stop(done) => {
                stopped = Some(done);
                break;
            }
        }
    }
    shared.directory.release();
    if let Some(done) = stopped {
        let _ = done.send(());
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    paused_until: Duration,
}

impl Writer<'_> {
    /// Does something; if it fails, says so and pauses. No answer depends on it.
    fn attempt(&mut self, what: &str, act: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(error) = act(self) {
            self.shared.counts.failures.fetch_add(1, Ordering::Relaxed);
            self.paused_until = self.shared.clock.elapsed() + PAUSE;
            tracing::warn!(%error, pause = ?PAUSE, "the disk cache could not {what}; queries ask the object store instead");
        }
    }

    fn recover(&mut self, files: Vec<(FileId, Layout)>) {
        self.attempt("read what was there before", |writer| {
            let layouts: HashMap<FileId, Layout> = files.into_iter().collect();
            let mut found = writer.shared.directory.recover(|file| layouts.get(&file).copied())?;
            found.sort_by_key(|found| found.used);
            for found in found {
                let Some(layout) = layouts.get(&found.file).copied() else { continue };
                writer.shared.ledger.lock().found(found.file, layout, found.held);
                // The newest stay, if the bound is lower than it was.
                while let Some(oldest) = writer.first_too_many() {
                    writer.remove(oldest)?;
                }
            }
            Ok(())
        });
    }

    fn keep(&mut self, keep: Keep) {
        let room = self.shared.ledger.lock().room(keep.file, keep.layout, keep.slots.clone());
        let victims = match room {
            Room::Held => return,
            Room::Never => return self.refuse(),
            Room::Fits => Vec::new(),
            Room::After(victims) => victims,
        };
        if self.shared.clock.elapsed() < self.paused_until {
            return self.refuse();
        }
        let Keep { file, layout, slots, bytes, is_right } = keep;
        if bytes.len() as u64 != layout.length(&slots) || !is_right(&bytes) {
            return self.refuse();
        }
        self.attempt("write", |writer| {
            for victim in victims {
                writer.remove(victim)?;
                writer.shared.counts.evictions.fetch_add(1, Ordering::Relaxed);
            }
            writer.write(file, layout, slots.clone(), &bytes).or_else(|error| {
                if error.kind() != io::ErrorKind::NotFound || !writer.shared.directory.renew()? {
                    return Err(error);
                }
                // Somebody removed the directory, so nothing that was held is there any more.
                tracing::warn!("the directory of the disk cache was removed; it begins anew");
                writer.retain(&HashSet::new());
                writer.write(file, layout, slots, &bytes)
            })
        });
    }

    fn write(&mut self, file: FileId, layout: Layout, slots: Range<usize>, bytes: &[u8]) -> io::Result<()> {
        let (held, is_new) = {
            let mut ledger = self.shared.ledger.lock();
            let is_new = ledger.bytes_of(file) == 0;
            (ledger.reserve(file, layout, slots.clone()), is_new)
        };
        let written = self.shared.directory.write(file, layout, slots.start, bytes, &held, is_new);
        match written {
            Ok(()) => {
                self.shared.ledger.lock().written(file, held);
                Ok(())
            }
            Err(error) => {
                // What is there of it now is not known; and a full disk can use the room.
                self.remove(file)?;
                Err(error)
            }
        }
    }

    fn first_too_many(&self) -> Option<FileId> {
        self.shared.ledger.lock().first_too_many()
    }

    fn refuse(&self) {
        self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&mut self, file: FileId) -> io::Result<()> {
        self.shared.directory.remove(file)?;
        self.shared.ledger.lock().remove(file);
        Ok(())
    }

    fn retain(&mut self, known: &HashSet<FileId>) {
        let unknown: Vec<FileId> = self.shared.ledger.lock().files().filter(|file| !known.contains(file)).collect();
        self.attempt("remove files", |writer| unknown.into_iter().try_for_each(|file| writer.remove(file)));
    }
}

//! The log as a thing on disk: it appends groups, syncs, begins segments and removes them. One thread, no waiting.
//!
//! Always true:
//! - a segment's header and its entry in the directory are safe before its first frame is written;
//! - a file that refused a write or a sync gets no further frame and no further sync: the next group begins a new
//!   segment, whose header states how much of the old one counts, so that the log heals when the disk does;
//! - a group that failed keeps no sequence: the next group gets the same ones;
//! - segments go oldest first, each safely, so that what is left is always a chain without gaps.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::disk::{Disk, DiskFile};
use super::record::{EncodedRecord, WriteRecord};
use super::replay::{self, Replayed, SealedSegment};
use super::segment::{FrameHeader, FrameMagic, HEADER_BYTES, PreviousSegment, SegmentHeader, segment_name};
use super::{Durability, WalError, WalMetrics};
use crate::clock::Clock;
use crate::error::Result;
use crate::model::{Sequence, TableId};
use crate::steps::{self, Step};

/// The segments of one directory. See the module for what always holds.
#[derive(Debug)]
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    catalog: Uuid,
    clock: Arc<dyn Clock>,
    segment_bytes: u64,
    /// The segment that takes frames. None after opening and after a failure: the next group begins one.
    current: Option<OpenSegment>,
    /// Oldest first, in order of the chain.
    sealed: VecDeque<SealedSegment>,
    /// What the next segment's header says of the newest sealed segment, also if that one is removed by then.
    previous: Option<PreviousSegment>,
    /// A file that must be out of the way before the next segment is made: its making failed, or its first frame.
    leftover: Option<String>,
    /// A removal is not safe yet: until it is, no other segment may go.
    removal_unsynced: bool,
    next: Sequence,
    /// Tables that were dropped. Ids are never reused; this grows by four bytes for each drop until the restart.
    forgotten: HashSet<TableId>,
    metrics: WalMetrics,
}

struct OpenSegment {
    name: String,
    first: Sequence,
    file: Box<dyn DiskFile>,
    magic: FrameMagic,
    /// Where the last good frame ends.
    written: u64,
    /// Up to where the file is safe.
    synced: u64,
    /// What follows that is a mark and nothing else.
    is_marked: bool,
    tables: HashMap<TableId, Sequence>,
}

impl std::fmt::Debug for OpenSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSegment").field("name", &self.name).field("written", &self.written).finish_non_exhaustive()
    }
}

impl OpenSegment {
    /// Whether there are writes that a power cut would take.
    fn has_unsynced(&self) -> bool {
        self.synced < self.written && !self.is_marked
    }

    fn has_frames(&self) -> bool {
        self.written > HEADER_BYTES as u64
    }
}

impl SegmentLog {
    /// Replays what is there and is then ready to append.
    ///
    /// `apply` gets each record once, in order; its error stops the start. `first` is the smallest sequence that the log
    /// may give: the catalog knows of writes that the log may have lost or released.
    ///
    /// # Errors
    /// Kind `Corrupt` for damage, a gap or a foreign log, `Unavailable` if the disk does not answer.
    pub fn open(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        catalog: Uuid,
        first: Sequence,
        clock: Arc<dyn Clock>,
        apply: &mut dyn FnMut(Sequence, WriteRecord) -> Result<()>,
    ) -> Result<Self> {
        let Replayed { segments, next } = replay::replay(disk.as_ref(), catalog, apply)?;
        let previous = segments.last().map(|last| PreviousSegment {
            first: last.first,
            next: last.next,
            valid_bytes: last.valid_bytes,
            synced_bytes: last.valid_bytes,
        });
        Ok(Self {
            disk,
            catalog,
            clock,
            segment_bytes,
            current: None,
            sealed: segments.into(),
            previous,
            leftover: None,
            removal_unsynced: false,
            next: next.max(first).max(Sequence::ZERO.next()),
            forgotten: HashSet::new(),
            metrics: WalMetrics::default(),
        })
    }

    /// Appends a group of writes as one frame and returns the sequence of the first; the others follow without gaps.
    ///
    /// With `Durability::Synced` the frame, and all before it, is safe when this returns.
    ///
    /// # Errors
    /// `Write`, `Create` or `Sync`: then no write of the group counts, and the next call begins a new segment.
    pub fn append_group(&mut self, group: &[&EncodedRecord], durability: Durability) -> Result<Sequence, WalError> {
        let mut segment = self.take_segment()?;
        let (before, was_marked) = (segment.written, segment.is_marked);
        let header = frame_header(group, self.next, segment.synced);
        if let Err(source) = write_frame(&mut segment, &header, group) {
            let file = self.disk.locate(&segment.name);
            self.abandon_after_write_error(segment, before);
            return Err(WalError::Write { file, source });
        }
        segment.is_marked = false;
        steps::reached(Step::LogFrameWritten);
        if durability == Durability::Synced
            && let Err(source) = self.sync_segment(&mut segment)
        {
            let file = self.disk.locate(&segment.name);
            segment.is_marked = was_marked;
            self.abandon_after_sync_error(segment, before);
            return Err(WalError::Sync { file, source });
        }

        steps::reached(Step::LogSynced);

        let first = self.next;
        for record in group {
            let sequence = self.next;
            let tables = record.tables().iter().filter(|table| !self.forgotten.contains(table));
            segment.tables.extend(tables.map(|&table| (table, sequence)));
            self.next = sequence.next();
        }
        self.metrics.groups += 1;
        self.metrics.records += group.len() as u64;
        self.metrics.bytes_appended += segment.written - before;
        self.current = Some(segment);
        Ok(first)
    }

    /// Makes all appended writes safe. Does nothing if they are.
    ///
    /// # Errors
    /// `Sync`: then writes that were appended without durability since the last sync may be lost. The next group begins a
    /// new segment.
    pub fn sync(&mut self) -> Result<(), WalError> {
        let Some(mut segment) = self.current.take_if(|segment| segment.has_unsynced()) else { return Ok(()) };
        if let Err(source) = self.sync_segment(&mut segment) {
            let file = self.disk.locate(&segment.name);
            let written = segment.written;
            self.abandon_after_sync_error(segment, written);
            return Err(WalError::Sync { file, source });
        }
        self.current = Some(segment);
        Ok(())
    }

    /// Whether there are writes that a power cut would take.
    pub fn has_unsynced(&self) -> bool {
        self.current.as_ref().is_some_and(OpenSegment::has_unsynced)
    }

    /// Whether the newest write is safe and nothing in the file says so.
    pub fn wants_mark(&self) -> bool {
        let ends_with_frame =
            |segment: &OpenSegment| segment.has_frames() && segment.synced == segment.written && !segment.is_marked;
        self.current.as_ref().is_some_and(ends_with_frame) && self.disk.keeps_unsynced()
    }

    /// Says in the file that the newest write is safe, so that damage to it can't be taken for a torn tail. Costs no sync.
    pub fn mark(&mut self) {
        let Some(mut segment) = self.current.take() else { return };
        let mark = frame_header(&[], self.next, segment.synced);
        let before = segment.written;
        match write_frame(&mut segment, &mark, &[]) {
            Ok(()) => {
                segment.is_marked = true;
                self.current = Some(segment);
            }
            Err(error) => {
                tracing::warn!(segment = self.disk.locate(&segment.name), %error, "could not mark what is safe");
                self.abandon_after_write_error(segment, before);
            }
        }
    }

    /// The log no longer needs the writes of `table` up to `through`. Removes segments that hold nothing else.
    pub fn release(&mut self, table: TableId, through: Sequence) {
        let all = self.sealed.iter_mut().map(|segment| &mut segment.tables);
        for tables in all.chain(self.current.iter_mut().map(|segment| &mut segment.tables)) {
            if tables.get(&table).is_some_and(|&newest| newest <= through) {
                tables.remove(&table);
            }
        }
        self.remove_released();
    }

    /// The log needs no write of `table`, past or future: it was dropped.
    pub fn forget(&mut self, table: TableId) {
        self.forgotten.insert(table);
        self.release(table, Sequence::new(u64::MAX));
    }

    /// Makes everything safe and, if nothing in the log is needed any more, leaves an empty directory.
    ///
    /// # Errors
    /// `Sync`, as for [`SegmentLog::sync`].
    pub fn close(&mut self) -> Result<(), WalError> {
        self.sync()?;
        if self.current.as_ref().is_some_and(|segment| segment.tables.is_empty())
            && let Some(segment) = self.current.take()
        {
            self.seal(segment);
        }
        if self.wants_mark() {
            self.mark();
        }
        self.remove_released();
        Ok(())
    }

    /// The sequence that the next write gets.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// What the log has done since it was opened, and its size now.
    pub fn metrics(&self) -> WalMetrics {
        let current = self.current.iter().map(|segment| segment.written);
        let sizes = self.sealed.iter().map(|segment| segment.valid_bytes).chain(current);
        WalMetrics {
            segments: self.sealed.len() as u64 + u64::from(self.current.is_some()),
            bytes_on_disk: sizes.sum(),
            ..self.metrics
        }
    }

    /// Where the next frame goes in the current segment.
    #[cfg(test)]
    pub(super) fn current_bytes(&self) -> Option<u64> {
        self.current.as_ref().map(|segment| segment.written)
    }

    /// The segment for the next frame: the current one, or a new one if that is full or there is none.
    fn take_segment(&mut self) -> Result<OpenSegment, WalError> {
        if let Some(segment) = self.current.take_if(|segment| segment.written < self.segment_bytes) {
            return Ok(segment);
        }
        if let Some(mut full) = self.current.take() {
            // The next header will say what is safe. If this fails, only writes without durability are at risk, and the
            // group that is waiting has none of them.
            if full.has_unsynced()
                && let Err(error) = self.sync_segment(&mut full)
            {
                self.report_lost_sync(&full, &error);
            }
            self.seal(full);
        }
        let name = segment_name(self.next);
        self.create(&name).map_err(|source| {
            self.metrics.failures += 1;
            WalError::Create { file: self.disk.locate(&name), source }
        })
    }

    fn create(&mut self, name: &str) -> io::Result<OpenSegment> {
        if let Some(leftover) = &self.leftover {
            match self.disk.remove(leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.disk.sync_directory()?,
            }
            self.leftover = None;
        }
        let mut file = self.disk.create(name)?;
        self.leftover = Some(name.to_owned());
        let nonce = self.clock.unique_id();
        let header = SegmentHeader { catalog: self.catalog, nonce, first: self.next, previous: self.previous };
        file.append(&[&header.encode()])?;
        file.sync()?;
        steps::reached(Step::LogSegmentCreated);
        self.disk.sync_directory()?;
        self.leftover = None;
        self.removal_unsynced = false;
        self.metrics.syncs += 1;
        let (written, magic) = (HEADER_BYTES as u64, header.frame_magic());
        let name = name.to_owned();
        Ok(OpenSegment {
            name,
            first: self.next,
            file,
            magic,
            written,
            synced: written,
            is_marked: false,
            tables: HashMap::new(),
        })
    }

    fn sync_segment(&mut self, segment: &mut OpenSegment) -> io::Result<()> {
        segment.file.sync()?;
        segment.synced = segment.written;
        self.metrics.syncs += 1;
        Ok(())
    }

    /// Ends a segment whose last frame, from `good` on, was refused by the disk.
    fn abandon_after_write_error(&mut self, mut segment: OpenSegment, good: u64) {
        self.metrics.failures += 1;
        segment.written = good;
        self.cut_failed_frame(&mut segment);
        // A full disk still syncs what it took before, and writers without durability were told that it would.
        if segment.has_unsynced()
            && let Err(error) = self.sync_segment(&mut segment)
        {
            self.report_lost_sync(&segment, &error);
        }
        self.seal(segment);
    }

    /// Ends a segment that could not be synced. Frames up to `good` are acknowledged.
    ///
    /// It is never synced again: after a failed sync the kernel may call pages clean that never reached the disk, and a
    /// second sync would report a success that is none.
    fn abandon_after_sync_error(&mut self, mut segment: OpenSegment, good: u64) {
        self.metrics.failures += 1;
        let failed_frame = segment.written > good;
        segment.written = good;
        if failed_frame {
            self.cut_failed_frame(&mut segment);
        }
        self.seal(segment);
    }

    fn cut_failed_frame(&self, segment: &mut OpenSegment) {
        // Only to give space back: the next segment's header is what keeps replay from reading on.
        if let Err(error) = segment.file.truncate(segment.written) {
            tracing::warn!(segment = self.disk.locate(&segment.name), %error, "could not cut off a failed write");
        }
    }

    fn report_lost_sync(&mut self, segment: &OpenSegment, error: &io::Error) {
        self.metrics.failures += 1;
        let (segment, bytes) = (self.disk.locate(&segment.name), segment.written - segment.synced);
        tracing::error!(segment, bytes, %error, "writes acknowledged without durability may not survive a power cut");
    }

    fn seal(&mut self, segment: OpenSegment) {
        if !segment.has_frames() {
            // Nothing in it counts, and the next segment begins with the same sequence, so it will have the same name.
            self.leftover = Some(segment.name);
            return;
        }
        let OpenSegment { name, first, written, synced, is_marked, tables, .. } = segment;
        let (next, valid_bytes) = (self.next, if is_marked { synced } else { written });
        self.previous = Some(PreviousSegment { first, next, valid_bytes, synced_bytes: synced });
        self.sealed.push_back(SealedSegment { name, first, next, valid_bytes, tables });
    }

    fn remove_released(&mut self) {
        while self.sealed.front().is_some_and(|oldest| oldest.tables.is_empty()) {
            if let Err(error) = self.remove_oldest() {
                // The next release tries again; until then the log only takes more room.
                tracing::warn!(%error, "could not remove a segment of the write-ahead log");
                return;
            }
        }
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        if self.removal_unsynced {
            self.disk.sync_directory()?;
            self.removal_unsynced = false;
        }
        let Some(oldest) = self.sealed.front() else { return Ok(()) };
        match self.disk.remove(&oldest.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.sealed.pop_front(),
        };
        self.removal_unsynced = true;
        steps::reached(Step::LogSegmentRemoved);
        self.disk.sync_directory()?;
        self.removal_unsynced = false;
        Ok(())
    }
}

fn frame_header(group: &[&EncodedRecord], first: Sequence, synced_through: u64) -> FrameHeader {
    FrameHeader {
        body_bytes: group.iter().map(|record| record.bytes() as u64).sum(),
        synced_through,
        first,
        records: u32::try_from(group.len())
            .expect("a group fits, because the queue holds at most 2^32 KiB, 1 KiB a write"),
        body_checksum: group.iter().fold(0, |checksum, record| record.extend_checksum(checksum)),
    }
}

fn write_frame(segment: &mut OpenSegment, header: &FrameHeader, group: &[&EncodedRecord]) -> io::Result<()> {
    let header_bytes = header.encode(segment.magic);
    let mut slices: Vec<&[u8]> = vec![&header_bytes];
    slices.extend(group.iter().flat_map(|record| record.slices()));
    segment.file.append(&slices)?;
    segment.written += header_bytes.len() as u64 + header.body_bytes;
    Ok(())
}

//! Reading the log back: what counts, what a crash left half done, and what is damage.
//!
//! First all segment headers are read and checked as a chain, then the frames, one segment in memory at a time.
//! A segment with one after it counts up to the valid length that the next one states. The last segment counts up to its
//! first broken frame. That is a torn tail and is cut off, unless a later frame proves that the broken one was once safe
//! on disk: then the start is refused. At the end the directory is as if the crash had been a clean stop, and all that was
//! handed out is safe, also what a killed process had left to the kernel.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use uuid::Uuid;

use super::WalError;
use super::disk::Disk;
use super::record::WriteRecord;
use super::segment::{
    Frame, FrameFault, FrameMagic, HEADER_BYTES, HeaderFault, PreviousSegment, SegmentHeader, VERSION, is_segment_name,
    segment_name, synced_bytes_proved,
};
use crate::error::Result;
use crate::model::{Sequence, TableId};

/// A segment that gets no more frames.
#[derive(Debug)]
pub(super) struct SealedSegment {
    pub(super) name: String,
    pub(super) first: Sequence,
    /// The sequence after its last record.
    pub(super) next: Sequence,
    /// Where its last frame that counts ends.
    pub(super) valid_bytes: u64,
    /// The newest write of each table that has writes here.
    pub(super) tables: HashMap<TableId, Sequence>,
}

/// What replay found.
#[derive(Debug)]
pub(super) struct Replayed {
    /// Oldest first.
    pub(super) segments: Vec<SealedSegment>,
    /// The sequence after every one that the log has given.
    pub(super) next: Sequence,
}

/// Hands every record to `apply`, in order, and tidies what a crash left.
///
/// # Errors
/// Those of [`WalError`] for damage and for a disk that does not answer, and whatever `apply` returns.
pub(super) fn replay(
    disk: &dyn Disk,
    catalog: Uuid,
    apply: &mut dyn FnMut(Sequence, WriteRecord) -> Result<()>,
) -> Result<Replayed> {
    // What the last process made or removed but did not sync is settled first: nothing below may be undone by a crash.
    disk.sync_directory().map_err(|source| failed(disk, "sync", "", source))?;
    let chain = read_chain(disk, catalog)?;

    let mut segments = Vec::with_capacity(chain.links.len());
    let mut next = Sequence::ZERO;
    for (index, link) in chain.links.iter().enumerate() {
        let bytes = disk.read(&link.name).map_err(|source| failed(disk, "read", &link.name, source))?;
        let mut cursor = Cursor::new(disk, link, &bytes);
        match chain.links.get(index + 1).and_then(|after| after.header.previous) {
            Some(stated) => {
                cursor.replay_stated(stated, apply)?;
                if stated.synced_bytes < stated.valid_bytes {
                    cut(disk, &link.name, cursor.offset as u64)?;
                }
            }
            None => cursor.replay_last(apply)?,
        }
        next = next.max(cursor.next);
        segments.push(cursor.into_sealed());
    }
    tidy(disk, &mut segments, chain.unfinished)?;
    Ok(Replayed { segments, next })
}

/// One segment's place in the chain.
struct Link {
    name: String,
    header: SegmentHeader,
}

struct Chain {
    links: Vec<Link>,
    /// A last segment that the crash cut off before its header was safe, so that nothing in it was acknowledged.
    unfinished: Option<String>,
}

fn read_chain(disk: &dyn Disk, catalog: Uuid) -> Result<Chain, WalError> {
    let mut names = disk.list().map_err(|source| failed(disk, "list", "", source))?;
    names.retain(|name| is_segment_name(name));
    names.sort_unstable();

    let mut chain = Chain { links: Vec::with_capacity(names.len()), unfinished: None };
    let last = names.last().cloned();
    for name in names {
        let start = disk.read_start(&name, HEADER_BYTES).map_err(|source| failed(disk, "read", &name, source))?;
        match SegmentHeader::decode(&start) {
            Ok(header) => {
                check_link(disk, catalog, chain.links.last(), &name, &header)?;
                chain.links.push(Link { name, header });
            }
            Err(HeaderFault::Version(found)) => {
                return Err(WalError::Version { file: disk.locate(&name), found, readable: VERSION });
            }
            Err(HeaderFault::Damaged) if Some(&name) == last.as_ref() && holds_nothing(disk, &name)? => {
                chain.unfinished = Some(name);
            }
            Err(HeaderFault::Damaged) => {
                let found = "the header of the segment fails its checksum".to_owned();
                return Err(WalError::Damaged { file: disk.locate(&name), offset: 0, found });
            }
        }
    }
    Ok(chain)
}

/// Whether a segment without a readable header ends before its first frame.
///
/// The header is synced before the first frame is written, so a file with a frame once had a whole header.
fn holds_nothing(disk: &dyn Disk, name: &str) -> Result<bool, WalError> {
    let bytes = disk.read(name).map_err(|source| failed(disk, "read", name, source))?;
    Ok(bytes.len() <= HEADER_BYTES || bytes.iter().all(|&byte| byte == 0))
}

fn check_link(
    disk: &dyn Disk,
    catalog: Uuid,
    before: Option<&Link>,
    name: &str,
    header: &SegmentHeader,
) -> Result<(), WalError> {
    let file = || disk.locate(name);
    if header.catalog != catalog {
        return Err(WalError::Catalog { file: file(), found: header.catalog, expected: catalog });
    }
    if segment_name(header.first) != name {
        let found = format!("the header is that of \"{}\"", segment_name(header.first));
        return Err(WalError::Damaged { file: file(), offset: 0, found });
    }
    // Segments go oldest first, so the oldest that is left may well name one that is gone.
    let Some(before) = before else { return Ok(()) };
    match header.previous {
        Some(previous) if previous.first == before.header.first => Ok(()),
        Some(previous) => Err(WalError::Gap { file: file(), missing: previous.first.get() }),
        None => {
            let found = format!("it says that it is the oldest segment, but there is \"{}\"", before.name);
            Err(WalError::Damaged { file: file(), offset: 0, found })
        }
    }
}

/// Walks over the frames of one segment.
struct Cursor<'a> {
    disk: &'a dyn Disk,
    name: &'a str,
    first: Sequence,
    magic: FrameMagic,
    bytes: &'a Bytes,
    /// Where the next frame begins.
    offset: usize,
    /// The sequence that the next frame must begin with.
    next: Sequence,
    tables: HashMap<TableId, Sequence>,
}

impl<'a> Cursor<'a> {
    fn new(disk: &'a dyn Disk, link: &'a Link, bytes: &'a Bytes) -> Self {
        let Link { name, header } = link;
        let (first, magic) = (header.first, header.frame_magic());
        Self { disk, name, first, magic, bytes, offset: HEADER_BYTES, next: first, tables: HashMap::new() }
    }

    /// Replays a segment whose successor says how much of it counts.
    fn replay_stated(
        &mut self,
        stated: PreviousSegment,
        apply: &mut dyn FnMut(Sequence, WriteRecord) -> Result<()>,
    ) -> Result<()> {
        // More than the file holds is the same as not enough: the frame there is cut short.
        let valid = usize::try_from(stated.valid_bytes).unwrap_or(usize::MAX);
        while self.offset < valid {
            match self.frame(valid) {
                Ok(frame) => self.apply(&frame, apply)?,
                Err(fault) if self.offset as u64 >= stated.synced_bytes => {
                    let (segment, offset) = (self.disk.locate(self.name), self.offset);
                    tracing::warn!(
                        segment,
                        offset,
                        bytes = valid - offset,
                        "writes that were acknowledged without durability are lost: {fault}"
                    );
                    return Ok(());
                }
                Err(fault) => return Err(self.damaged(fault.to_string()).into()),
            }
        }
        if self.next != stated.next {
            let found = format!("the next sequence is {}, but the next segment says {}", self.next, stated.next);
            return Err(self.damaged(found).into());
        }
        Ok(())
    }

    /// Replays the newest segment, whose tail may be torn.
    fn replay_last(&mut self, apply: &mut dyn FnMut(Sequence, WriteRecord) -> Result<()>) -> Result<()> {
        while self.offset < self.bytes.len() {
            match self.frame(self.bytes.len()) {
                Ok(frame) => self.apply(&frame, apply)?,
                Err(fault) => return Ok(self.accept_torn_tail(fault)?),
            }
        }
        Ok(())
    }

    fn accept_torn_tail(&self, fault: FrameFault) -> Result<(), WalError> {
        if synced_bytes_proved(&self.bytes[self.offset..], self.magic) > self.offset as u64 {
            return Err(self.damaged(format!("{fault}, but a later frame proves that this one was once safe")));
        }
        let (segment, offset) = (self.disk.locate(self.name), self.offset);
        tracing::warn!(
            segment,
            offset,
            bytes = self.bytes.len() - offset,
            "the write-ahead log ends in an incomplete group of writes, which is cut off: {fault}"
        );
        Ok(())
    }

    fn frame(&self, end: usize) -> Result<Frame<'a>, FrameFault> {
        Frame::read(&self.bytes[self.offset..end.min(self.bytes.len())], self.magic)
    }

    fn apply(&mut self, frame: &Frame<'_>, apply: &mut dyn FnMut(Sequence, WriteRecord) -> Result<()>) -> Result<()> {
        if frame.header.first != self.next {
            let found = format!("a frame begins with sequence {}, expected {}", frame.header.first, self.next);
            return Err(self.damaged(found).into());
        }
        let mut body = frame.body;
        for _ in 0..frame.header.records {
            let record = WriteRecord::decode(&mut body).map_err(|fault| self.unreadable(fault))?;
            let sequence = self.next;
            self.tables.extend(record.entries.iter().map(|entry| (entry.table, sequence)));
            self.next = sequence.next();
            apply(sequence, record)?;
        }
        if !body.is_empty() {
            return Err(self.unreadable(super::record::RecordFault::Rest(body.len())).into());
        }
        self.offset += frame.bytes();
        Ok(())
    }

    fn into_sealed(self) -> SealedSegment {
        SealedSegment {
            name: self.name.to_owned(),
            first: self.first,
            next: self.next,
            valid_bytes: self.offset as u64,
            tables: self.tables,
        }
    }

    fn damaged(&self, found: String) -> WalError {
        WalError::Damaged { file: self.disk.locate(self.name), offset: self.offset as u64, found }
    }

    fn unreadable(&self, source: super::record::RecordFault) -> WalError {
        WalError::Record { file: self.disk.locate(self.name), offset: self.offset as u64, source }
    }
}

/// Leaves a chain whose last segment ends with a whole frame and is safe on disk.
fn tidy(disk: &dyn Disk, segments: &mut Vec<SealedSegment>, unfinished: Option<String>) -> Result<(), WalError> {
    // A segment without frames would stand in the way: the next one gets the same name.
    let kept =
        segments.iter().rposition(|segment| segment.valid_bytes > HEADER_BYTES as u64).map_or(0, |last| last + 1);
    let empty = segments.split_off(kept);

    // Before the empty one goes: only its header knows how much of this one counts. And even if nothing is cut off, a
    // process that was killed may have left bytes that no sync has made safe, and the next header will state that they are.
    if let Some(last) = segments.last() {
        cut(disk, &last.name, last.valid_bytes)?;
    }
    // Newest first, each safely, or a crash in between would leave a gap.
    for name in unfinished.into_iter().chain(empty.into_iter().rev().map(|segment| segment.name)) {
        disk.remove(&name).map_err(|source| failed(disk, "remove the unfinished segment of", &name, source))?;
        disk.sync_directory().map_err(|source| failed(disk, "sync", "", source))?;
    }
    Ok(())
}

/// Ends a segment after its last whole frame and makes it safe.
fn cut(disk: &dyn Disk, name: &str, valid_bytes: u64) -> Result<(), WalError> {
    disk.truncate(name, valid_bytes).map_err(|source| failed(disk, "cut the torn end of", name, source))
}

fn failed(disk: &dyn Disk, step: &'static str, name: &str, source: io::Error) -> WalError {
    WalError::Open { step, file: disk.locate(name), source }
}

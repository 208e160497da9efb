//! How the data of a file is cut into the pieces that memory holds.
//!
//! A piece is one column chunk (a column in a row group). Small chunks that follow each other share a piece, up to the size
//! of a checksum block, since less is never fetched. Large ones are cut into stretches of equal size.
//!
//! Column chunks, because that is what a scan asks for: a hit is a slice of one piece and copies nothing. Refused: whole
//! files, where a query for one column of many would fetch and keep them all; and pieces of one fixed size, where nearly
//! every chunk and many a page would lie across a border and be copied together again on every hit. The
//! price: the first query for one page of a recent file fetches the page's whole chunk. That is rare, because
//! recent files come in when they are written, and the next query wants another page of it.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;

/// Chunks below this share a piece: the size of a checksum block.
const PIECE_BYTES_MIN: u64 = 64 << 10;

/// The usual row group of 128 Ki rows of eight bytes, with some room for its page headers, is one piece. Larger chunks
/// come from long texts and from row groups that hold a burst.
const PIECE_BYTES_MAX: u64 = 2 << 20;

/// Where the pieces of one file lie: they follow each other from its start to the end of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::store) struct Pieces {
    /// Where each piece begins, and then where the last one ends.
    bounds: Box<[u64]>,
}

impl Pieces {
    /// The pieces of the file with this footer, whose data pages end at `data_bytes`.
    pub(in crate::engine::store) fn of(footer: &ParquetMetaData, data_bytes: u64) -> Self {
        let chunks = footer.row_groups().iter().flat_map(|row_group| row_group.columns());
        let ends = chunks.map(|chunk| {
            let (start, bytes) = chunk.byte_range();
            start + bytes
        });
        Self::cut(ends.collect(), data_bytes)
    }

    /// `ends` is where the column chunks end, in any order.
    fn cut(mut ends: Vec<u64>, data_bytes: u64) -> Self {
        ends.retain(|end| *end < data_bytes);
        ends.sort_unstable();
        ends.push(data_bytes);
        let mut bounds = vec![0];
        let (mut piece, mut chunks) = (0, 0); // ends of the last piece and of the chunks that were looked at
        for end in ends {
            let is_full = chunks - piece >= PIECE_BYTES_MIN;
            let next_is_large = end - chunks >= PIECE_BYTES_MIN;
            if is_full || next_is_large {
                push_stretches(&mut bounds, piece..chunks);
                piece = chunks;
            }
            chunks = end;
        }
        push_stretches(&mut bounds, piece..chunks);
        Self { bounds: bounds.into_boxed_slice() }
    }

    /// How many there are.
    pub(in crate::engine::store) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Where a piece lies in the file.
    pub(in crate::engine::store) fn range(&self, number: usize) -> Range<u64> {
        self.bounds[number]..self.bounds[number + 1]
    }

    /// The numbers of the pieces that hold `range`; `None` if it is empty or not all of it is data.
    pub(in crate::engine::store) fn covering(&self, range: &Range<u64>) -> Option<Range<usize>> {
        if range.is_empty() || self.bounds.last().is_none_or(|end| range.end > *end) {
            return None;
        }
        let first = self.bounds.partition_point(|bound| *bound <= range.start) - 1; // the first bound is 0
        let end = self.bounds.partition_point(|bound| *bound < range.end);
        Some(first..end)
    }

    /// `range` out of pieces by number. Copies only if it lies in several. `None` if one is missing or `range` is not
    /// covered.
    pub(in crate::engine::store) fn join(&self, range: &Range<u64>, pieces: &HashMap<usize, Bytes>) -> Option<Bytes> {
        let numbers = self.covering(range)?;
        let part = |number: usize| {
            let place = self.range(number);
            let wanted = range.start.max(place.start)..range.end.min(place.end);
            Some(pieces.get(&number)?.slice(position(wanted.start - place.start)..position(wanted.end - place.start)))
        };
        if numbers.len() == 1 {
            return part(numbers.start);
        }
        let mut joined = Vec::with_capacity(position(range.end - range.start));
        for number in numbers {
            joined.extend_from_slice(&part(number)?);
        }
        Some(joined.into())
    }

    /// A piece as a slice of the whole file; `None` if the file ends before it.
    pub(in crate::engine::store) fn cut_from(&self, number: usize, file: &Bytes) -> Option<Bytes> {
        let range = self.range(number);
        (range.end <= file.len() as u64).then(|| file.slice(position(range.start)..position(range.end)))
    }

    /// Bytes of memory that this takes.
    pub(in crate::engine::store) fn memory_size(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.bounds)
    }
}

fn push_stretches(bounds: &mut Vec<u64>, range: Range<u64>) {
    let bytes = range.end - range.start;
    let count = bytes.div_ceil(PIECE_BYTES_MAX);
    bounds.extend((1..=count).map(|number| range.start + bytes * number / count));
}

/// A place in bytes that are in memory.
fn position(byte: u64) -> usize {
    usize::try_from(byte).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    /// The sizes of the pieces for column chunks of these sizes.
    fn sizes(chunks: &[u64]) -> Vec<u64> {
        let mut end = 4; // "PAR1"
        let ends = chunks.iter().map(|bytes| {
            end += bytes;
            end
        });
        let ends: Vec<u64> = ends.collect();
        let data_bytes = ends.last().copied().unwrap_or(4);
        let pieces = Pieces::cut(ends, data_bytes);
        let sizes: Vec<u64> = pieces.bounds.windows(2).map(|bounds| bounds[1] - bounds[0]).collect();
        assert_eq!(sizes.iter().sum::<u64>(), data_bytes);
        assert!(sizes.iter().all(|bytes| (1..=PIECE_BYTES_MAX).contains(bytes)), "{sizes:?}");
        sizes
    }

    #[test]
    fn a_usual_chunk_is_a_piece() {
        assert_eq!(sizes(&[900 * KIB, 64 * KIB, MIB]), [4 + 900 * KIB, 64 * KIB, MIB]);
    }

    #[test]
    fn small_chunks_share_a_piece_and_leave_large_ones_alone() {
        assert_eq!(sizes(&[10, 20, 30]), [64]);
        assert_eq!(sizes(&[10, MIB, 20, 30, MIB, 40]), [14, MIB, 50, MIB, 40]);
        let many = sizes(&[KIB; 1000]);
        assert_eq!(many.iter().rev().skip(1).filter(|bytes| **bytes < 64 * KIB).count(), 0, "{many:?}");
        assert!(many.len() > 10 && many.iter().all(|bytes| *bytes < 128 * KIB), "{many:?}");
    }

    #[test]
    fn large_chunks_become_stretches_of_equal_size() {
        assert_eq!(sizes(&[5 * MIB - 4, 100]), [5 * MIB / 3, 5 * MIB / 3 + 1, 5 * MIB / 3 + 1, 100]);
    }

    #[test]
    fn a_file_without_chunks_is_one_piece() {
        assert_eq!(sizes(&[]), [4]);
    }

    #[test]
    fn any_range_comes_out_of_its_pieces() {
        let file: Bytes = (0..300 * KIB).map(|byte| (byte * 31 % 251) as u8).collect();
        let end = file.len() as u64 - 100; // the last bytes are the footer
        let pieces = Pieces::cut(vec![70 * KIB, 140 * KIB, 141 * KIB, 250 * KIB], end);
        assert_eq!(pieces.len(), 5);
        let all: HashMap<usize, Bytes> =
            (0..pieces.len()).map(|number| (number, pieces.cut_from(number, &file).unwrap())).collect();
        for (start, end) in [(0, 1), (0, end), (70 * KIB - 1, 70 * KIB + 1), (70 * KIB, 140 * KIB), (end - 1, end)] {
            let expected = file.slice(position(start)..position(end));
            assert_eq!(pieces.join(&(start..end), &all), Some(expected), "{start}..{end}");
        }
        let inside = pieces.join(&(KIB..2 * KIB), &all).unwrap();
        assert_eq!(inside.as_ptr(), all[&0].slice(position(KIB)..).as_ptr(), "not a copy");

        assert_eq!(pieces.covering(&(5..5)), None);
        assert_eq!(pieces.covering(&(end - 1..end + 1)), None);
        let mut incomplete = all.clone();
        incomplete.remove(&1);
        assert_eq!(pieces.join(&(0..end), &incomplete), None);
        assert!(pieces.join(&(0..1), &incomplete).is_some());
    }
}

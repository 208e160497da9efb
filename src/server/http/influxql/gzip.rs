//! Answers in gzip, piece by piece.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, header};

/// Whether the client takes gzip.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let is_refused = |quality: &str| quality.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
        parts.next() == Some("gzip") && !parts.any(is_refused)
    })
}

/// The compressor of one answer.
#[derive(Debug)]
pub(super) struct Gzip {
    /// `None` once the end is written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }

    /// The compressed form of a piece. The last one brings the end, and nothing comes after it.
    pub(super) fn piece(&mut self, bytes: &[u8], is_last: bool) -> Vec<u8> {
        let Some(mut encoder) = self.encoder.take() else { return Vec::new() };
        // Writing into memory does not fail. What is flushed can be read before the next piece comes.
        let _ = encoder.write_all(bytes);
        if is_last {
            return encoder.finish().unwrap_or_default();
        }
        let _ = encoder.flush();
        let piece = std::mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        piece
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn pieces_together_are_one_stream() {
        let mut gzip = Gzip::new();
        let mut sent = gzip.piece(b"one ", false);
        sent.extend(gzip.piece(b"two", true));
        assert!(gzip.piece(b"", true).is_empty());
        let mut text = String::new();
        GzDecoder::new(&*sent).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
    }

    #[test]
    fn it_is_only_for_who_takes_it() {
        let accepts = |value: &'static str| {
            let value = (header::ACCEPT_ENCODING, http::HeaderValue::from_static(value));
            is_accepted(&HeaderMap::from_iter([value]))
        };
        assert!(accepts("gzip") && accepts("deflate, gzip;q=0.5"));
        assert!(!accepts("identity") && !accepts("gzip;q=0") && !is_accepted(&HeaderMap::new()));
    }
}

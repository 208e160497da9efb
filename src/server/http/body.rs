//! Request bodies: limits are checked while reading, compressed bytes are inflated within them.

use std::io::Read;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use flate2::read::MultiGzDecoder;
use futures::{StreamExt, stream};
use http::{HeaderMap, header};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a body that arrive in a second at the least, after the patience that each body has: a tenth of what the slowest mobile networks
/// bring. Whoever sends one is waited for with a place to write held, so that a few who send a byte now and then would keep all others
/// from writing.
const BYTES_PER_SECOND_LEAST: f64 = 256.0;

/// The same body, but with an error where its client is silent for longer than `patience`, or slow for longer.
pub(super) fn paced(body: Body, patience: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let begun = Some((body.into_data_stream(), Pace::default()));
    Body::from_stream(stream::unfold(begun, move |state| async move {
        let (mut chunks, mut pace) = state?;
        let from = Instant::now();
        match tokio::time::timeout(pace.left(patience), chunks.next()).await {
            Err(_) => Some((Err(BodyError::Slow(patience)), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(BodyError::Broken(error)), None)),
            Ok(Some(Ok(chunk))) => {
                pace.waited += from.elapsed();
                pace.bytes += chunk.len();
                Some((Ok(chunk), Some((chunks, pace))))
            }
        }
    }))
}

/// How a body came so far.
#[derive(Debug, Default)]
struct Pace {
    bytes: usize,
    /// Without the time in which nobody asked for more of it.
    waited: Duration,
}

impl Pace {
    /// How long the next part may take.
    fn left(&self, patience: Duration) -> Duration {
        let earned = Duration::from_secs_f64(self.bytes as f64 / BYTES_PER_SECOND_LEAST);
        patience.min((patience + earned).saturating_sub(self.waited))
    }
}

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("it came too slowly: silent for {} s, or below {BYTES_PER_SECOND_LEAST} bytes a second for longer", .0.as_secs_f64())]
    Slow(Duration),
    #[error(transparent)]
    Broken(axum::Error),
}

/// The whole body, inflated if the request says it is compressed; never more than `bytes_max` of either form.
///
/// # Errors
/// `TooLarge` as soon as the limit is passed; `Invalid` for an unknown encoding, bytes that don't
/// inflate, or a body that ends early.
pub(super) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Vec<u8>> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let is_gzip = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"" | b"identity") => false,
        Some(b"gzip") => true,
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            return Err(Error::invalid(format!("unacceptable content-encoding: {other}")));
        }
    };
    let bytes = collect(body, declared.unwrap_or(0), bytes_max).await?;
    if !is_gzip {
        return Ok(bytes);
    }
    // Inflating runs at some hundred MB/s: off the threads that answer everybody else.
    tokio::task::spawn_blocking(move || inflate(&bytes, bytes_max))
        .await
        .map_err(|error| Error::with_source(ErrorKind::Internal, "decompression was cut off", error))?
}

async fn collect(body: Body, expected: usize, bytes_max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(expected.min(bytes_max));
    let mut chunks = body.into_data_stream();
    loop {
        match chunks.next().await {
            None => return Ok(bytes),
            Some(Err(error)) => {
                return Err(Error::with_source(ErrorKind::Invalid, "failed to read request body", error));
            }
            Some(Ok(chunk)) if bytes.len() + chunk.len() > bytes_max => return Err(too_large(bytes_max)),
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
        }
    }
}

fn inflate(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Several members in a row are one text: Telegraf sends them so.
    MultiGzDecoder::new(compressed)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::with_source(ErrorKind::Invalid, "error decoding gzip stream", error))?;
    if bytes.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(bytes)
}

fn too_large(bytes_max: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("max request size ({bytes_max} bytes) exceeded"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// What becomes of a body of so many parts of so many bytes, with so many seconds before each.
    async fn came(parts: usize, bytes: usize, seconds: u64) -> Result<Vec<u8>> {
        let parts = stream::iter(0..parts).then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; bytes]))
        });
        read(&HeaderMap::new(), paced(Body::from_stream(parts), PATIENCE), 10 << 20).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_for_a_while_and_then_has_a_pace() {
        assert_eq!(came(2, 1, 10).await.unwrap().len(), 2, "slow, but soon at its end");
        assert_eq!(came(1000, 300, 1).await.unwrap().len(), 300_000, "a sensor far away");
        let silent = came(1, 1, 31).await.unwrap_err().report();
        assert!(silent.contains("silent for 30 s"), "{silent}");
        for (parts, bytes, seconds) in [(100, 1, 1), (1000, 200, 1), (3, 1, 29)] {
            assert!(came(parts, bytes, seconds).await.is_err(), "{bytes} bytes every {seconds} s");
        }
    }
}

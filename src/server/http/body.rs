//! Request bodies: limits are checked while reading, compressed bytes are inflated within them.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use http::{HeaderMap, header};

use crate::error::{Error, ErrorKind, Result};

/// How long a client may be silent in the middle of a body.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The whole body, inflated if the request says it is compressed; never more than `bytes_max` of either form.
///
/// # Errors
/// `TooLarge` as soon as the limit is passed; `Invalid` for an unknown encoding, bytes that don't
/// inflate, or a body that ends early or stalls.
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
        let chunk = tokio::time::timeout(SILENCE_MAX, chunks.next())
            .await
            .map_err(|_| Error::invalid(format!("no part of the body arrived for {} s", SILENCE_MAX.as_secs())))?;
        match chunk {
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

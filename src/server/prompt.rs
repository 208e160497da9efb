//! Connections whose clients have to begin.
//!
//! Which version of HTTP is spoken shows in the first bytes, and until then nobody waits for anything with a limit: a client that
//! connects and says nothing, or a part of HTTP/2's first line, would have its connection for ever. Afterwards each version has its own
//! limits.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a client of HTTP/2 begins with, and no other one.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails if the version of HTTP is not known in time.
#[derive(Debug)]
pub(super) struct Prompt<S> {
    stream: S,
    /// `None` once the version is known.
    patience: Option<Pin<Box<Sleep>>>,
    /// Bytes of [`PREFACE`] that have come.
    begun: usize,
}

impl<S> Prompt<S> {
    /// A stream whose client has so long from now.
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience: Some(Box::pin(sleep(patience))), begun: 0 }
    }

    fn came(&mut self, bytes: &[u8]) {
        let expected = &PREFACE[self.begun..];
        let same = bytes.len().min(expected.len());
        self.begun += same;
        if self.begun == PREFACE.len() || bytes[..same] != expected[..same] {
            self.patience = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(patience) = &mut self.patience else { return read };
        match read {
            Poll::Ready(read) => {
                let came = buffer.filled().get(before..).unwrap_or_default();
                self.came(came);
                Poll::Ready(read)
            }
            Poll::Pending if patience.as_mut().poll(context).is_ready() => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not begin")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// What becomes of a client that sends these, each a second after the one before, and then nothing.
    async fn said(parts: &[&'static [u8]]) -> io::Result<Vec<u8>> {
        let (mut client, server) = duplex(1024);
        let parts = parts.to_vec();
        let sending = tokio::spawn(async move {
            for part in parts {
                client.write_all(part).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            sleep(Duration::from_secs(60)).await;
        });
        let mut bytes = Vec::new();
        let read = Prompt::new(server, PATIENCE).read_to_end(&mut bytes).await;
        sending.abort();
        read.map(|_| bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_a_part_of_the_preface_is_sent_away() {
        let begun: [&[&'static [u8]]; 3] = [&[], &[b"PRI * HTTP/2.0\r\n"], &[b"P", b"R", b"I", b" "]];
        for parts in begun {
            assert_eq!(said(parts).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{parts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_begun_is_left_to_the_version_of_http() {
        let begun: [&[&'static [u8]]; 4] =
            [&[b"GET"], &[PREFACE], &[b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n", b"more"], &[b"PUT"]];
        for parts in begun {
            assert_eq!(said(parts).await.unwrap(), parts.concat(), "{parts:?}");
        }
    }
}

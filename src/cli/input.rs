//! What is to be written: words of the command line, a file, or the standard input, inflated if it is gzip.

use std::fs::File;
use std::io::{self, BufReader, Cursor, IsTerminal, Read};
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;

use super::client::ClientError;
use super::split::{Chunk, Chunks, SplitError};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

const READ_BUFFER_BYTES: usize = 256 << 10;

/// Chunks that are read ahead of the requests: one, so that reading and sending overlap.
const CHUNKS_AHEAD_MAX: usize = 1;

/// Where text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Words(Vec<String>),
    File(PathBuf),
    StandardInput,
}

/// Text that can be read.
pub(crate) struct Input {
    reader: Box<dyn Read + Send>,
    /// Length of the text, where it is known before it is read.
    pub bytes: Option<u64>,
}

impl Source {
    /// A file if one is named, else the words if there are any, else the standard input.
    pub(crate) fn new(file: Option<PathBuf>, words: Vec<String>) -> Self {
        match file {
            Some(path) => Self::File(path),
            None if words.is_empty() => Self::StandardInput,
            None => Self::Words(words),
        }
    }

    /// Opens it. `what` is what the user was to give, for the error.
    pub(crate) fn open(&self, what: &'static str) -> Result<Input, ClientError> {
        let name = self.name();
        let failed = |source| ClientError::Read { name: name.clone(), source };
        match self {
            Self::Words(words) => {
                let text = join(words);
                let bytes = Some(text.len() as u64);
                Ok(Input { reader: Box::new(Cursor::new(text)), bytes })
            }
            Self::File(path) => {
                let file = File::open(path).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                let bytes = metadata.is_file().then_some(metadata.len());
                inflated(BufReader::with_capacity(READ_BUFFER_BYTES, file), bytes).map_err(failed)
            }
            // Waiting for someone to type is hardly ever meant.
            Self::StandardInput if io::stdin().is_terminal() => Err(ClientError::NoInput { what }),
            Self::StandardInput => inflated(io::stdin(), None).map_err(failed),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Words(_) => "the command line".into(),
            Self::File(path) => format!("\"{}\"", path.display()),
            Self::StandardInput => "the standard input".into(),
        }
    }
}

impl Input {
    /// All of the text, if it is at most `bytes_max` long.
    pub(crate) fn read_text(self, bytes_max: u64) -> io::Result<String> {
        let mut text = String::new();
        self.reader.take(bytes_max + 1).read_to_string(&mut text)?;
        if text.len() as u64 > bytes_max {
            return Err(io::Error::other(format!("it is longer than {bytes_max} bytes")));
        }
        Ok(text)
    }

    /// Cuts the text on a thread of its own.
    ///
    /// Not on the runtime: its blocking threads are waited for at the end, and a read of a pipe may never return.
    pub(crate) fn into_chunks(self, bytes_max: usize) -> io::Result<mpsc::Receiver<Result<Chunk, SplitError>>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let mut chunks = Chunks::new(self.reader, bytes_max);
        std::thread::Builder::new().name("read-input".into()).spawn(move || {
            while let Some(next) = chunks.next_chunk().transpose() {
                let is_last = next.is_err();
                // An error here means that nobody waits for chunks any more.
                if sender.blocking_send(next).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(receiver)
    }
}

/// Whole lines are put under each other; the words of one line that the shell took apart are put side by side.
fn join(words: &[String]) -> String {
    let are_lines = words.iter().all(|word| word.trim().contains(' '));
    words.join(if are_lines { "\n" } else { " " })
}

/// Gzip tells itself by its first bytes; several members one after the other are one text.
fn inflated(mut reader: impl Read + Send + 'static, bytes: Option<u64>) -> io::Result<Input> {
    let mut head = Vec::with_capacity(GZIP_MAGIC.len());
    reader.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
    let is_gzip = head == GZIP_MAGIC;
    let whole = Cursor::new(head).chain(reader);
    Ok(if is_gzip {
        Input { reader: Box::new(MultiGzDecoder::new(whole)), bytes: None }
    } else {
        Input { reader: Box::new(whole), bytes }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<String> {
        inflated(Cursor::new(bytes), None)?.read_text(100)
    }

    #[test]
    fn every_member_of_a_gzip_file_is_read() {
        let two = [gzip("cpu f=1\n"), gzip("cpu f=2\n")].concat();
        assert_eq!(read(two).unwrap(), "cpu f=1\ncpu f=2\n");
    }

    #[test]
    fn plain_text_stays_as_it_is_however_short() {
        for text in ["", "a", "cpu f=1"] {
            assert_eq!(read(text.into()).unwrap(), text);
        }
    }

    #[test]
    fn a_gzip_file_that_was_cut_off_is_an_error() {
        let mut bytes = gzip("cpu f=1\n");
        bytes.truncate(bytes.len() - 4);
        assert!(read(bytes).is_err());
    }

    #[test]
    fn text_beyond_the_limit_is_an_error() {
        assert!(read("x".repeat(100).into_bytes()).is_ok());
        assert!(read("x".repeat(101).into_bytes()).is_err());
    }

    #[test]
    fn words_are_one_line_unless_each_is_a_line() {
        let join = |words: &[&str]| join(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(join(&["cpu,host=a", "usage=1", "10"]), "cpu,host=a usage=1 10");
        assert_eq!(join(&["cpu,host=a usage=1", "cpu,host=b usage=2"]), "cpu,host=a usage=1\ncpu,host=b usage=2");
        assert_eq!(join(&["cpu", "f=a b", "10"]), "cpu f=a b 10");
    }
}

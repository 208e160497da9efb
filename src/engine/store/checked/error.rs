//! What can be wrong with a data file, and what the caller should do.

use std::ops::Range;
use std::sync::Arc;

use object_store::path::Path;
use parquet::errors::ParquetError;

use crate::engine::store::parquet::ChecksumFault;
use crate::error::{Error, ErrorKind};

/// Why a data file could not be read.
///
/// It can be cloned, because one failed load answers every reader that waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DataFileError {
    /// The object is not there.
    #[error("data file \"{path}\" is missing from the object store")]
    Missing {
        /// The object.
        path: Path,
    },

    /// The object ends early.
    #[error("data file \"{path}\" ends at byte {found} of {expected}")]
    Truncated {
        /// The object.
        path: Path,
        /// Its size according to the catalog.
        expected: u64,
        /// Where its bytes end.
        found: u64,
    },

    /// Bytes are not what was written.
    #[error("data file \"{path}\" is damaged: bytes {} to {} fail their checksum", bytes.start, bytes.end)]
    Checksum {
        /// The object.
        path: Path,
        /// Which bytes: a block of data, or page index and footer.
        bytes: Range<u64>,
    },

    /// The footer is what was written, but does not say what a footer must.
    #[error("the footer of data file \"{path}\" makes no sense")]
    Footer {
        /// The object.
        path: Path,
        /// What the decoder says.
        source: Arc<ParquetError>,
    },

    /// The footer is what was written, but has no checksums for the data.
    #[error("data file \"{path}\" has no checksums for its data")]
    NoChecksums {
        /// The object.
        path: Path,
        /// What is wrong with them.
        source: ChecksumFault,
    },

    /// More was asked for than the file holds.
    #[error("data file \"{path}\" of {size} bytes has no bytes {} to {}", bytes.start, bytes.end)]
    Outside {
        /// The object.
        path: Path,
        /// Its size.
        size: u64,
        /// What was asked for.
        bytes: Range<u64>,
    },

    /// The store did not answer.
    #[error("could not read data file \"{path}\"")]
    Store {
        /// The object.
        path: Path,
        /// The store's answer.
        source: Arc<object_store::Error>,
    },

    /// The runtime for IO dropped the request.
    #[error("reading data file \"{path}\" was cut off")]
    CutOff {
        /// The object.
        path: Path,
    },
}

impl From<DataFileError> for Error {
    fn from(error: DataFileError) -> Self {
        let kind = match &error {
            // A missing object is damage too: what the catalog names is never deleted.
            DataFileError::Missing { .. }
            | DataFileError::Truncated { .. }
            | DataFileError::Checksum { .. }
            | DataFileError::Footer { .. }
            | DataFileError::NoChecksums { .. } => ErrorKind::Corrupt,
            DataFileError::Store { .. } | DataFileError::CutOff { .. } => ErrorKind::Unavailable,
            DataFileError::Outside { .. } => ErrorKind::Internal,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

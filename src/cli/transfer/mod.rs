//! What import and export have in common.
//!
//! | file | what it holds |
//! |---|---|
//! | [`line`] | names and values as line protocol, so that every one of them comes back as it was |
//! | [`place`] | local paths and URLs of object stores |
//! | [`table_file`] | `table.json`, which stands beside exported files and says what their columns are |
//! | [`progress`] | a line now and then about how far it is |

pub(crate) mod line;
pub(crate) mod place;
pub(crate) mod progress;
pub(crate) mod table_file;

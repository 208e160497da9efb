//! Which files an import reads: from paths, directories, patterns and object stores, in the order of their names.
//!
//! In a directory, files whose names don't end like one of the formats are passed over, as are those whose names begin
//! with `.` or `_`, which others use for their own notes.
//!
//! Not here: what is in the files.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::source::{Object, Source};
use crate::cli::client::ClientError;
use crate::cli::transfer::place::{Place, RemotePlace};
use crate::cli::transfer::table_file::{TABLE_FILE, TableFile};

/// Longest `table.json`.
const TABLE_FILE_BYTES_MAX: u64 = 64 << 20;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Csv,
    Lines,
}

/// How a text is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A file to be imported.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// As it is shown, and known in the state.
    pub name: String,
    pub bytes: u64,
    /// Changes when the file does.
    pub identity: String,
    pub format: Format,
    pub compression: Compression,
    /// The `key=value` directories in its path.
    pub partitions: Vec<(String, String)>,
    /// The `table.json` beside it.
    pub table_file: Option<Arc<TableFile>>,
    pub source: Source,
}

/// The files of an import.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub files: Vec<SourceFile>,
    /// How many files of directories are of no format that is known.
    pub passed_over: u64,
}

impl Format {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "parquet" | "pq" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "lp" | "line" | "influx" => Some(Self::Lines),
            _ => None,
        }
    }
}

/// Everything below the places. `format` is what the user says of all files.
///
/// # Errors
/// If a place does not exist, cannot be read, or is a file of an unknown format.
pub(crate) async fn find(places: &[Place], format: Option<Format>) -> Result<Found, ClientError> {
    let mut finder = Finder { format, found: Found::default(), table_files: HashMap::new() };
    for place in places {
        match place {
            Place::Local(path) => finder.local(path)?,
            Place::Remote(place) => finder.remote(place).await?,
        }
    }
    let mut found = finder.found;
    found.files.sort_by(|a, b| a.name.cmp(&b.name));
    found.files.dedup_by(|a, b| a.name == b.name);
    Ok(found)
}

struct Finder {
    format: Option<Format>,
    found: Found,
    /// By directory.
    table_files: HashMap<String, Option<Arc<TableFile>>>,
}

impl Finder {
    fn local(&mut self, path: &Path) -> Result<(), ClientError> {
        let failed = |path: &Path, source| ClientError::Read { name: format!("\"{}\"", path.display()), source };
        let text = path.to_string_lossy().into_owned();
        let mut all = Vec::new();
        if path.is_dir() {
            walk(path, &mut all).map_err(|source| failed(path, source))?;
        } else if path.exists() || !is_pattern(&text) {
            return self.local_file(path, true).map_err(|source| failed(path, source));
        } else {
            let base = Path::new(pattern_base(&text));
            let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
            walk(base, &mut all).map_err(|source| failed(base, source))?;
            // Walking from "." puts that in front of every name.
            let name = |path: &PathBuf| path.strip_prefix(".").unwrap_or(path).to_string_lossy().into_owned();
            let pattern = text.strip_prefix("./").unwrap_or(&text);
            all.retain(|path| matches(pattern, &name(path)));
            if all.is_empty() {
                return Err(ClientError::Usage(format!("no file matches \"{text}\"")));
            }
        }
        for path in all {
            self.local_file(&path, false).map_err(|source| failed(&path, source))?;
        }
        Ok(())
    }

    fn local_file(&mut self, path: &Path, is_named: bool) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        let name = path.to_string_lossy().into_owned();
        let Some((format, compression)) = self.kind(&name, is_named)? else { return Ok(()) };
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let identity = format!("{} bytes of {}", metadata.len(), modified.unwrap_or_default().as_nanos());
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let table_file = match self.table_files.get(directory.to_string_lossy().as_ref()) {
            Some(known) => known.clone(),
            None => {
                let read = local_table_file(&directory)?.map(Arc::new);
                self.table_files.insert(directory.to_string_lossy().into_owned(), read.clone());
                read
            }
        };
        self.found.files.push(SourceFile {
            partitions: partitions(&name),
            name,
            bytes: metadata.len(),
            identity,
            format,
            compression,
            table_file,
            source: Source::Local(path.to_owned()),
        });
        Ok(())
    }

    async fn remote(&mut self, place: &RemotePlace) -> Result<(), ClientError> {
        let url = format!("{}/{}", place.bucket_url, place.path);
        let failed = |error: object_store::Error| ClientError::Read {
            name: format!("\"{url}\""),
            source: io::Error::other(error),
        };
        let store = place.open().map_err(ClientError::Store)?;
        let objects = Arc::clone(store.objects());
        let path = |text: &str| ObjectPath::parse(text).map_err(|error| ClientError::Usage(error.to_string()));
        let has_pattern = is_pattern(&place.path);
        if !has_pattern && !place.path.is_empty() {
            match objects.head(&path(&place.path)?).await {
                Ok(object) => return self.object(place, &store, object, true).await.map_err(failed_io(&url)),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let base = if has_pattern { pattern_base(&place.path).trim_end_matches('/') } else { &place.path };
        let base = if base.is_empty() { None } else { Some(path(base)?) };
        let all: Vec<ObjectMeta> = objects.list(base.as_ref()).try_collect().await.map_err(failed)?;
        let wanted: Vec<ObjectMeta> = all
            .into_iter()
            .filter(|object| !has_pattern || matches(&place.path, object.location.as_ref()))
            .filter(|object| !is_hidden(object.location.as_ref()))
            .collect();
        if wanted.is_empty() {
            return Err(ClientError::Usage(format!("there is no object at \"{url}\"")));
        }
        for object in wanted {
            self.object(place, &store, object, false).await.map_err(failed_io(&url))?;
        }
        Ok(())
    }

    async fn object(
        &mut self,
        place: &RemotePlace,
        store: &crate::engine::store::Store,
        object: ObjectMeta,
        is_named: bool,
    ) -> io::Result<()> {
        let name = format!("{}/{}", place.bucket_url, object.location);
        let Some((format, compression)) = self.kind(&name, is_named)? else { return Ok(()) };
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
        let table_file = match self.table_files.get(&directory) {
            Some(known) => known.clone(),
            None => {
                let read = object_table_file(store, &object.location).await?.map(Arc::new);
                self.table_files.insert(directory, read.clone());
                read
            }
        };
        let identity = object.e_tag.clone().unwrap_or_else(|| object.last_modified.to_rfc3339());
        self.found.files.push(SourceFile {
            partitions: partitions(&name),
            name,
            bytes: object.size,
            identity: format!("{} bytes of {identity}", object.size),
            format,
            compression,
            table_file,
            source: Source::Remote(Object::new(store.clone(), object)),
        });
        Ok(())
    }

    /// Format and compression by the name; `None` for a file that is passed over.
    fn kind(&mut self, name: &str, is_named: bool) -> io::Result<Option<(Format, Compression)>> {
        let lower = name.to_ascii_lowercase();
        let (inner, compression) = match lower.rsplit_once('.') {
            Some((inner, "gz")) => (inner, Compression::Gzip),
            Some((inner, "zst" | "zstd")) => (inner, Compression::Zstd),
            _ => (lower.as_str(), Compression::None),
        };
        let by_name = inner.rsplit_once('.').and_then(|(_, extension)| Format::named(extension));
        match by_name.or(self.format.filter(|_| is_named)) {
            Some(by_name) => Ok(Some((self.format.unwrap_or(by_name), compression))),
            None if is_named => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "its name does not say what it holds: say --format parquet, csv or lp",
            )),
            None => {
                let is_ours = name.ends_with(&format!("/{TABLE_FILE}"));
                self.found.passed_over += u64::from(!is_ours);
                Ok(None)
            }
        }
    }
}

fn failed_io(url: &str) -> impl Fn(io::Error) -> ClientError {
    let name = format!("\"{url}\"");
    move |source| ClientError::Read { name: name.clone(), source }
}

/// Adds all files below `directory`, but for those of others' notes.
fn walk(directory: &Path, all: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        // Links are followed to files, not to directories, which could go round in circles.
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), all)?;
        } else if entry.path().is_file() {
            all.push(entry.path());
        }
    }
    Ok(())
}

fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with(['.', '_']))
}

fn local_table_file(directory: &Path) -> io::Result<Option<TableFile>> {
    let path = directory.join(TABLE_FILE);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() <= TABLE_FILE_BYTES_MAX => parse_table_file(&fs::read(&path)?),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{TABLE_FILE} beside it is too long"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn object_table_file(store: &crate::engine::store::Store, file: &ObjectPath) -> io::Result<Option<TableFile>> {
    let directory = file.as_ref().rsplit_once('/').map_or("", |(directory, _)| directory);
    let path = ObjectPath::parse(format!("{directory}/{TABLE_FILE}")).map_err(io::Error::other)?;
    match store.objects().get(&path).await {
        Ok(found) if found.meta.size <= TABLE_FILE_BYTES_MAX => {
            parse_table_file(&found.bytes().await.map_err(io::Error::other)?)
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{TABLE_FILE} beside it is too long"))),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// A file of this name that somebody else put there is none of ours.
fn parse_table_file(bytes: &[u8]) -> io::Result<Option<TableFile>> {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return Ok(None) };
    if json.get("table").is_none() || json.get("columns").is_none() {
        return Ok(None);
    }
    serde_json::from_value(json).map(Some).map_err(io::Error::other)
}

/// The `key=value` directories of a path, unescaped, but for those that stand for null.
fn partitions(path: &str) -> Vec<(String, String)> {
    let directories = path.rsplit_once('/').map_or("", |(directories, _)| directories);
    let pairs = directories.split('/').filter_map(|part| part.split_once('='));
    let decoded = pairs.map(|(key, value)| (unescaped(key), unescaped(value)));
    decoded
        .filter(|(key, value)| !key.is_empty() && !value.is_empty() && value != "__HIVE_DEFAULT_PARTITION__")
        .collect()
}

/// `%20` and the like become what they stand for.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = if *first == b'%' { tail.get(..2) } else { None };
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The directories before the first one with a wildcard.
fn pattern_base(pattern: &str) -> &str {
    let wildcard = pattern.find(['*', '?']).unwrap_or(pattern.len());
    pattern[..wildcard].rfind('/').map_or("", |slash| &pattern[..=slash])
}

/// `*` and `?` stand for anything within one name, `**` for anything at all.
fn matches(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        return text.char_indices().any(|(at, _)| matches(rest, &text[at..])) || matches(rest, "");
    }
    let mut letters = pattern.chars();
    match (letters.next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), first) => {
            let may_take = first.is_some_and(|first| first != '/');
            matches(letters.as_str(), text) || (may_take && matches(pattern, &text[first.map_or(0, char::len_utf8)..]))
        }
        (Some('?'), Some(first)) if first != '/' => matches(letters.as_str(), &text[first.len_utf8()..]),
        (Some(letter), Some(first)) if letter == first => matches(letters.as_str(), &text[first.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("data/*.parquet", "data/a.parquet", true),
            ("data/*.parquet", "data/a/b.parquet", false),
            ("data/**/*.parquet", "data/a/b.parquet", true),
            ("data/**/*.parquet", "data/b.parquet", true),
            ("d?/x", "d1/x", true),
            ("d?/x", "d/x", false),
            ("*", "é", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert_eq!(pattern_base("data/day=*/x"), "data/");
        assert_eq!(pattern_base("*.lp"), "");
    }

    #[test]
    fn directories_tell_their_keys_and_values() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            partitions("x/day=2024-01-01/site=a%20b/c=__HIVE_DEFAULT_PARTITION__/e=5.parquet"),
            [pair("day", "2024-01-01"), pair("site", "a b")]
        );
        assert_eq!(unescaped("100%"), "100%");
    }

    #[tokio::test]
    async fn a_directory_gives_its_files_in_order_and_passes_over_others() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.lp.gz", "a.parquet", "notes.txt", ".hidden.lp", "_SUCCESS", "c/d.csv.zst"] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let found = find(&[Place::Local(directory.path().to_owned())], None).await.unwrap();
        let kinds: Vec<_> = found.files.iter().map(|file| (file.format, file.compression)).collect();
        assert_eq!(
            kinds,
            [
                (Format::Parquet, Compression::None),
                (Format::Lines, Compression::Gzip),
                (Format::Csv, Compression::Zstd)
            ]
        );
        assert_eq!(found.passed_over, 1);
        let named = directory.path().join("notes.txt");
        assert!(find(&[Place::Local(named.clone())], None).await.is_err());
        assert_eq!(find(&[Place::Local(named)], Some(Format::Lines)).await.unwrap().files.len(), 1);
        assert!(find(&[Place::Local(directory.path().join("*.none"))], None).await.is_err());
    }
}

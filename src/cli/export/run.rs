//! An export, table by table and file by file.

use std::fs;
use std::path::Path;

use crc32c::crc32c;
use indicatif::{HumanBytes, HumanCount};
use serde::Deserialize;

use super::Export;
use super::ask::Server;
use super::plan::{condition, plan, quoted};
use super::target::{Target, hidden};
use super::write::convert;
use crate::cli::Exit;
use crate::cli::client::{ClientError, Connection};
use crate::cli::transfer::progress::{Progress, counted, rate};
use crate::cli::transfer::table_file::{ColumnEntry, PieceEntry, TABLE_FILE, TableFile, kind_name};
use crate::clock::Clock;
use crate::model::{ColumnKind, FieldType, TIME_COLUMN, TimeRange};
use crate::steps::{self, Step};

/// Longer names of directories are cut: file systems end at 255 bytes.
const DIRECTORY_BYTES_MAX: usize = 200;

#[derive(Deserialize)]
struct TableRow {
    table_name: String,
}

#[derive(Deserialize)]
struct ColumnRow {
    column_name: String,
    data_type: String,
}

/// The sums of an export.
#[derive(Default)]
struct Sums {
    tables: u64,
    files: u64,
    files_total: u64,
    /// Files that an earlier run has written.
    there: u64,
    rows: u64,
    bytes: u64,
}

impl Export {
    /// Exports everything, and says on the standard error output what became of it.
    pub(crate) async fn run(&self, clock: &dyn Clock) -> Result<Exit, ClientError> {
        let server = Server::new(Connection::new(&self.settings)?, self.database.clone(), self.patience);
        let target = Target::new(&self.to)?;
        let tables = self.tables(&server).await?;
        if tables.is_empty() {
            return Err(ClientError::Usage(format!("database \"{}\" has no tables", self.database)));
        }
        let mut progress = Progress::new(clock, self.quiet);
        let mut sums = Sums::default();
        let mut result = Ok(());
        for table in &tables {
            result = self.table(&server, &target, table, &mut sums, &mut progress).await;
            if result.is_err() {
                break;
            }
            sums.tables += 1;
        }
        progress.clear();
        if !self.quiet {
            let took = progress.took();
            eprintln!(
                "exported {} of {}: wrote {} in {}, {} in {:.1} s: {} rows/s",
                HumanCount(sums.tables),
                counted(tables.len() as u64, "table"),
                counted(sums.rows, "row"),
                counted(sums.files, "file"),
                HumanBytes(sums.bytes),
                took.as_secs_f64(),
                HumanCount(rate(sums.rows, took)),
            );
            if sums.there > 0 {
                eprintln!("{} of an earlier run stayed as they are", counted(sums.there, "file"));
            }
        }
        if result.is_err() {
            eprintln!("the export is not complete; the same command goes on where it stopped");
        }
        result.map(|()| Exit::Success)
    }

    async fn tables(&self, server: &Server) -> Result<Vec<String>, ClientError> {
        if !self.tables.is_empty() {
            return Ok(self.tables.clone());
        }
        let rows: Vec<TableRow> = server.rows(crate::cli::admin::USER_TABLES).await?;
        Ok(rows.into_iter().map(|row| row.table_name).collect())
    }

    async fn table(
        &self,
        server: &Server,
        target: &Target,
        table: &str,
        sums: &mut Sums,
        progress: &mut Progress<'_>,
    ) -> Result<(), ClientError> {
        let directory = directory(table);
        let workshop = target.workshop(&directory)?;
        let result = self.pieces(server, target, table, &directory, &workshop, sums, progress).await;
        target.close_workshop(&workshop);
        result
    }

    #[expect(clippy::too_many_arguments, reason = "the objects of one run, handed on")]
    async fn pieces(
        &self,
        server: &Server,
        target: &Target,
        table: &str,
        directory: &str,
        workshop: &Path,
        sums: &mut Sums,
        progress: &mut Progress<'_>,
    ) -> Result<(), ClientError> {
        let file = self.table_file(server, target, table, directory).await?;
        sums.files_total += file.pieces.len() as u64;
        for piece in &file.pieces {
            let name = format!("{directory}/{}", piece.file);
            if target.has(&name).await? {
                sums.there += 1;
                continue;
            }
            let part = hidden(&workshop.join(&piece.file), "part");
            let exported = self.piece(server, target, &file, piece, &name, &part).await;
            if exported.is_err() {
                // What is left of it would only be in the way; the next run makes it anew.
                let _ = fs::remove_file(&part);
            }
            let (rows, bytes) = exported?;
            sums.files += 1;
            sums.rows += rows;
            sums.bytes += bytes;
            progress.tick(|took| {
                format!(
                    "table \"{table}\": {} of {}, {}, {} rows/s, {}",
                    HumanCount(sums.files + sums.there),
                    counted(sums.files_total, "file"),
                    counted(sums.rows, "row"),
                    HumanCount(rate(sums.rows, took)),
                    HumanBytes(sums.bytes)
                )
            });
        }
        Ok(())
    }

    /// The plan that an earlier run has stored, or a new one, which is stored.
    async fn table_file(
        &self,
        server: &Server,
        target: &Target,
        table: &str,
        directory: &str,
    ) -> Result<TableFile, ClientError> {
        let name = format!("{directory}/{TABLE_FILE}");
        let export = self.fingerprint(table);
        if let Some(bytes) = target.read(&name).await? {
            let known: Option<TableFile> = serde_json::from_slice(&bytes).ok();
            return known.filter(|known| known.export == export).ok_or_else(|| {
                ClientError::Usage(format!(
                    "{} is of another export; name another place with --to, or remove it with the files beside it",
                    target.name(&name)
                ))
            });
        }
        let columns = columns(server, table).await?;
        let ranges = plan(server, table, self.times, self.rows_per_file).await?;
        let extension = self.format.extension();
        let pieces = ranges.iter().map(|range| PieceEntry {
            file: format!("{}.{extension}", stem(*range)),
            first: range.min.as_nanos(),
            last: range.max.as_nanos(),
        });
        let file = TableFile { table: table.to_owned(), columns, export, pieces: pieces.collect() };
        let bytes = serde_json::to_vec_pretty(&file)
            .map_err(|error| ClientError::Write { name: target.name(&name), source: error.into() })?;
        target.put(&name, bytes).await?;
        steps::reached(Step::ExportPlanned);
        Ok(file)
    }

    /// Rows and bytes of one file.
    async fn piece(
        &self,
        server: &Server,
        target: &Target,
        table: &TableFile,
        piece: &PieceEntry,
        name: &str,
        part: &Path,
    ) -> Result<(u64, u64), ClientError> {
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = format!(
            "SELECT {}, {TIME_COLUMN} FROM {}{} ORDER BY {TIME_COLUMN}",
            columns.join(", "),
            quoted(&table.table),
            condition(TimeRange::from_nanos(piece.first, piece.last))
        );
        let answer = part.with_extension("answer");
        let converted = match server.fetch(&sql, &answer).await {
            Ok(_) => convert(&answer, part, self.format, table)
                .map_err(|source| ClientError::Write { name: target.name(name), source }),
            Err(error) => Err(error),
        };
        // If it stays, the next run overwrites it.
        let _ = fs::remove_file(&answer);
        let rows = converted?;
        let bytes = fs::metadata(part).map_or(0, |metadata| metadata.len());
        steps::reached(Step::ExportFileWritten);
        target.complete(part, name).await?;
        steps::reached(Step::ExportFileNamed);
        Ok((rows, bytes))
    }

    /// What must be the same for an export to be taken up.
    fn fingerprint(&self, table: &str) -> String {
        let Self { settings, database, times, format, rows_per_file, .. } = self;
        let (first, last) = (times.min.as_nanos(), times.max.as_nanos());
        format!("{:?}", (&settings.host, database, table, first, last, format, rows_per_file))
    }
}

async fn columns(server: &Server, table: &str) -> Result<Vec<ColumnEntry>, ClientError> {
    let sql = format!(
        "SELECT column_name, data_type FROM information_schema.columns \
         WHERE table_schema = 'iox' AND table_name = '{}' ORDER BY column_name",
        table.replace('\'', "''")
    );
    let rows: Vec<ColumnRow> = server.rows(&sql).await?;
    if rows.is_empty() {
        return Err(ClientError::Usage(format!("there is no table \"{table}\"")));
    }
    let columns = rows.into_iter().filter(|row| row.column_name != TIME_COLUMN).map(|row| {
        let kind = match row.data_type.as_str() {
            "Float64" => ColumnKind::Field(FieldType::Float),
            "Int64" => ColumnKind::Field(FieldType::Integer),
            "UInt64" => ColumnKind::Field(FieldType::Unsigned),
            "Boolean" => ColumnKind::Field(FieldType::Boolean),
            "Utf8" | "Utf8View" | "LargeUtf8" => ColumnKind::Field(FieldType::String),
            tag if tag.starts_with("Dictionary") => ColumnKind::Tag,
            other => {
                let message = format!("column \"{}\" of table \"{table}\" has type {other}", row.column_name);
                return Err(ClientError::Usage(message));
            }
        };
        Ok(ColumnEntry { name: row.column_name, kind: kind_name(kind).to_owned() })
    });
    columns.collect()
}

/// A file's name without what says its format: when its rows begin.
fn stem(range: TimeRange) -> String {
    chrono::DateTime::from_timestamp_nanos(range.min.as_nanos()).format("%Y-%m-%dT%H%M%S%.9fZ").to_string()
}

/// A name for a directory that every file system and store takes: other letters become `%` and their code.
fn directory(table: &str) -> String {
    let mut name = String::new();
    for (at, byte) in table.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-') || (at > 0 && matches!(byte, b'_' | b'.'));
        if is_plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > DIRECTORY_BYTES_MAX {
        name.truncate(DIRECTORY_BYTES_MAX);
        name.push_str(&format!("~{:08x}", crc32c(table.as_bytes())));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_takes_every_name() {
        assert_eq!(directory("cpu"), "cpu");
        assert_eq!(directory("_a/b c%"), "%5Fa%2Fb%20c%25");
        assert_eq!(directory(".."), "%2E.");
        let (one, other) = (directory(&"x".repeat(300)), directory(&format!("{}y", "x".repeat(299))));
        assert!(one != other && one.len() < 255);
    }

    #[test]
    fn a_file_is_named_by_its_first_moment() {
        assert_eq!(stem(TimeRange::from_nanos(1, 2)), "1970-01-01T000000.000000001Z");
        assert_eq!(stem(TimeRange::ALL), "1677-09-21T001243.145224192Z");
    }
}

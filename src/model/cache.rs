//! What a cache holds of a table: last values by key, or the distinct values of columns.
//!
//! A cache is a view. Its definition says which question about the table it answers; nothing here says how it is kept.

use std::fmt;
use std::time::Duration;

use super::names::{ColumnName, NameError, TIME_COLUMN};
use super::schema::{Column, ColumnKind, TableSchema};

/// Longest name of a cache, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// The two kinds of caches; each has names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheKind {
    /// The newest points of each key.
    Last,
    /// The distinct values of columns.
    Distinct,
}

impl fmt::Display for CacheKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last cache",
            Self::Distinct => "distinct cache",
        })
    }
}

/// A cache of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDefinition {
    /// Its name, unique in its table among those of its kind.
    pub name: String,
    /// Which rows.
    pub shape: CacheShape,
}

/// Which question about its table a cache answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheShape {
    /// The newest points of each key.
    Last {
        /// The columns of the key, in their order; `None`: all tags, also those that come later.
        keys: Option<Vec<ColumnName>>,
        /// The other columns, besides the time; `None`: all, also those that come later.
        values: Option<Vec<ColumnName>>,
        /// What there is of each key.
        newest: Newest,
        /// Points whose time is further back are not shown; `None`: all are.
        ttl: Option<Duration>,
    },
    /// The distinct combinations of the values of columns.
    Distinct {
        /// The columns, from the coarse to the fine.
        columns: Vec<ColumnName>,
        /// How many combinations there are at most: those with the newest points.
        cardinality_max: u32,
        /// Combinations whose newest point is further back are not shown; `None`: all are.
        age_max: Option<Duration>,
    },
}

/// What a last cache has of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newest {
    /// So many of its newest points, at least 1.
    Points(u32),
    /// One row: the time of its newest point, and of every other column the newest value that is there.
    Values,
}

/// Why something is no cache of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CacheError {
    #[error("the name of a cache can't be empty or longer than {NAME_BYTES_MAX} bytes")]
    Name,
    #[error("column '{column}' is not in the table")]
    Missing { column: String },
    #[error("column '{column}' is named twice")]
    Twice { column: ColumnName },
    #[error("a distinct cache needs at least one column")]
    NoColumn,
    #[error("{what} must be at least 1")]
    Zero { what: &'static str },
    #[error(transparent)]
    Column(#[from] NameError),
}

impl CacheDefinition {
    /// Of which kind it is.
    pub fn kind(&self) -> CacheKind {
        match self.shape {
            CacheShape::Last { .. } => CacheKind::Last,
            CacheShape::Distinct { .. } => CacheKind::Distinct,
        }
    }

    /// Whether it can be a cache of a table with these columns.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn check(&self, table: &TableSchema) -> Result<(), CacheError> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(CacheError::Name);
        }
        let is_there = |column: &ColumnName| match table.kind(column.as_str()) {
            Some(_) => Ok(()),
            None => Err(CacheError::Missing { column: column.to_string() }),
        };
        match &self.shape {
            CacheShape::Last { keys, values, newest, .. } => {
                let keys = keys.as_deref().unwrap_or_default();
                let values = values.as_deref().unwrap_or_default();
                each_once(keys.iter().chain(values))?;
                keys.iter().chain(values).try_for_each(is_there)?;
                if *newest == Newest::Points(0) { Err(CacheError::Zero { what: "count" }) } else { Ok(()) }
            }
            CacheShape::Distinct { columns, cardinality_max, .. } => {
                each_once(columns.iter())?;
                columns.iter().try_for_each(is_there)?;
                match (columns.is_empty(), cardinality_max) {
                    (true, _) => Err(CacheError::NoColumn),
                    (false, 0) => Err(CacheError::Zero { what: "max_cardinality" }),
                    (false, _) => Ok(()),
                }
            }
        }
    }

    /// The columns by which rows belong together, in their order. What the table does not have is left out.
    pub fn keys(&self, table: &TableSchema) -> Vec<ColumnName> {
        let wanted = match &self.shape {
            CacheShape::Last { keys: None, .. } => return table.tags().to_vec(),
            CacheShape::Last { keys: Some(keys), .. } => keys,
            CacheShape::Distinct { columns, .. } => columns,
        };
        wanted.iter().filter(|column| table.kind(column.as_str()).is_some()).cloned().collect()
    }

    /// The columns of an answer, in their order: the key, then what else there is, with the time if it is a last cache.
    pub fn output(&self, table: &TableSchema) -> Vec<String> {
        let keys = self.keys(table);
        let mut output: Vec<String> = keys.iter().map(ToString::to_string).collect();
        match &self.shape {
            CacheShape::Last { values: None, .. } => {
                let names = table.arrow().fields().iter().map(|field| field.name());
                output.extend(names.filter(|name| keys.iter().all(|key| key.as_str() != name.as_str())).cloned());
            }
            CacheShape::Last { values: Some(values), .. } => {
                output.extend(values.iter().map(ToString::to_string));
                output.push(TIME_COLUMN.to_owned());
            }
            CacheShape::Distinct { .. } => {}
        }
        output
    }

    /// The columns that have to be kept: those of an answer, and of a last cache all tags, which tell its points apart.
    pub fn kept(&self, table: &TableSchema) -> TableSchema {
        let output = self.output(table);
        let is_kept = |column: &Column| {
            let is_tag_of_point = column.kind == ColumnKind::Tag && self.kind() == CacheKind::Last;
            is_tag_of_point || output.iter().any(|name| name == column.name.as_str())
        };
        TableSchema::new(table.columns().filter(is_kept))
    }

    /// Whether a write can be added to what is kept. Tags of a point never change; a field of the key may, and then the row
    /// that was second before is first, which nobody has kept.
    pub fn follows_writes(&self, table: &TableSchema) -> bool {
        self.keys(table).iter().all(|key| table.kind(key.as_str()) == Some(ColumnKind::Tag))
    }

    /// How many rows there are of each key.
    pub fn rows_per_key(&self) -> usize {
        match self.shape {
            CacheShape::Last { newest: Newest::Points(count), .. } => usize::try_from(count).unwrap_or(usize::MAX),
            CacheShape::Last { newest: Newest::Values, .. } | CacheShape::Distinct { .. } => 1,
        }
    }

    /// Whether its rows are no points, but each column's newest value.
    pub fn is_of_values(&self) -> bool {
        matches!(self.shape, CacheShape::Last { newest: Newest::Values, .. })
    }

    /// The columns whose newest value counts by itself.
    pub fn own_values(&self, table: &TableSchema) -> Vec<ColumnName> {
        if !self.is_of_values() {
            return Vec::new();
        }
        let (keys, output) = (self.keys(table), self.output(table));
        let is_own = |name: &ColumnName| !keys.contains(name) && output.iter().any(|column| column == name.as_str());
        table.columns().map(|column| column.name).filter(is_own).collect()
    }

    /// How many keys there are at most, if that is bounded: those with the newest points.
    pub fn keys_max(&self) -> Option<usize> {
        match self.shape {
            CacheShape::Last { .. } => None,
            CacheShape::Distinct { cardinality_max, .. } => {
                Some(usize::try_from(cardinality_max).unwrap_or(usize::MAX))
            }
        }
    }

    /// How far back the time of a row that is shown may lie.
    pub fn age_max(&self) -> Option<Duration> {
        match self.shape {
            CacheShape::Last { ttl, .. } => ttl,
            CacheShape::Distinct { age_max, .. } => age_max,
        }
    }
}

fn each_once<'a>(columns: impl Iterator<Item = &'a ColumnName>) -> Result<(), CacheError> {
    let mut seen: Vec<&ColumnName> = Vec::new();
    for column in columns {
        if seen.contains(&column) {
            return Err(CacheError::Twice { column: column.clone() });
        }
        seen.push(column);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldType;

    fn table() -> TableSchema {
        let column = |name: &str, kind| Column { name: ColumnName::new(name).unwrap(), kind };
        TableSchema::new([
            column("region", ColumnKind::Tag),
            column("host", ColumnKind::Tag),
            column("usage", ColumnKind::Field(FieldType::Float)),
            column("state", ColumnKind::Field(FieldType::String)),
        ])
    }

    fn names(names: &[&str]) -> Vec<ColumnName> {
        names.iter().map(|name| ColumnName::new(name).unwrap()).collect()
    }

    fn last(keys: Option<&[&str]>, values: Option<&[&str]>) -> CacheDefinition {
        let shape =
            CacheShape::Last { keys: keys.map(names), values: values.map(names), newest: Newest::Points(1), ttl: None };
        CacheDefinition { name: "c".to_owned(), shape }
    }

    #[test]
    fn the_key_comes_first_and_time_is_always_there() {
        assert_eq!(last(None, None).output(&table()), ["region", "host", "state", "time", "usage"]);
        assert_eq!(last(Some(&["host"]), None).output(&table()), ["host", "region", "state", "time", "usage"]);
        assert_eq!(last(Some(&["host"]), Some(&["usage"])).output(&table()), ["host", "usage", "time"]);
        assert_eq!(last(Some(&[]), Some(&[])).output(&table()), ["time"]);
    }

    #[test]
    fn a_point_is_told_from_others_by_all_its_tags() {
        let kept = last(Some(&["host"]), Some(&["usage"])).kept(&table());
        assert_eq!(kept.sort_key().collect::<Vec<_>>(), ["region", "host", "time"]);
        assert_eq!(kept.column_count(), 3);
    }

    #[test]
    fn what_is_no_cache_is_told() {
        let refused = |cache: CacheDefinition| cache.check(&table()).unwrap_err().to_string();
        assert_eq!(refused(last(Some(&["rack"]), None)), "column 'rack' is not in the table");
        assert_eq!(refused(last(Some(&["host"]), Some(&["host"]))), "column 'host' is named twice");
        let distinct = |columns: &[&str], cardinality_max| CacheDefinition {
            name: "d".to_owned(),
            shape: CacheShape::Distinct { columns: names(columns), cardinality_max, age_max: None },
        };
        assert_eq!(refused(distinct(&["rack"], 1)), "column 'rack' is not in the table");
        assert_eq!(refused(distinct(&[], 1)), "a distinct cache needs at least one column");
        assert_eq!(refused(distinct(&["host"], 0)), "max_cardinality must be at least 1");
        assert!(distinct(&["region", "state", "usage"], 1).check(&table()).is_ok());
        assert!(last(Some(&["usage"]), None).check(&table()).is_ok());
    }
}

//! What the columns of a file hold, packed.
//!
//! A catalog keeps this of every column of every file, so it is most of what a catalog is. The files of a table share the names
//! of their columns; of each column, in the order of the names, the other bytes say:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the kind of its bounds: 0 none, 1 float, 2 integer, 3 unsigned, 4 text, 5 boolean; plus 8 if rows lack a value |
//! | 1–10 | if so: how many, as LEB128 |
//! | 16 | numbers: the smallest and the largest, little endian |
//! | – | texts: the smallest and the largest, each after its length as LEB128 |
//! | 1 | booleans: the smallest plus twice the largest |
//!
//! Checkpoints of the catalog hold these bytes as they are, from version 2 on: another layout is another version of those.

use std::fmt;
use std::sync::Arc;

use super::data_file::{ColumnStatistics, Scalar};
use super::names::ColumnName;

const NONE: u8 = 0;
const FLOAT: u8 = 1;
const INTEGER: u8 = 2;
const UNSIGNED: u8 = 3;
const TEXT: u8 = 4;
const BOOLEAN: u8 = 5;
const HAS_NULLS: u8 = 8;

/// The columns that occur in a file, with what is known of each.
#[derive(Clone, PartialEq, Eq)]
pub struct FileColumns {
    names: Arc<[ColumnName]>,
    packed: Box<[u8]>,
}

impl FileColumns {
    /// The columns of these names with packed statistics; `None` if the bytes are not those of so many columns.
    pub fn from_packed(names: Arc<[ColumnName]>, packed: &[u8]) -> Option<Self> {
        let mut rest = Packed(packed);
        for _ in names.iter() {
            rest.skip()?;
        }
        rest.0.is_empty().then(|| Self { names, packed: packed.into() })
    }

    /// The packed statistics.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The names of the columns.
    pub fn names(&self) -> &Arc<[ColumnName]> {
        &self.names
    }

    /// How many columns.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the file has nothing but times.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether there is a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// What is known of the column of this name.
    pub fn get(&self, name: &str) -> Option<ColumnStatistics> {
        self.at(self.position(name)?)
    }

    /// Where the column of this name is among the names.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column.as_str() == name)
    }

    /// What is known of the column at this position.
    pub fn at(&self, position: usize) -> Option<ColumnStatistics> {
        let mut rest = Packed(&self.packed);
        for _ in 0..position {
            rest.skip()?;
        }
        let (nulls, bounds) = rest.take()?;
        Some(ColumnStatistics { name: self.names.get(position)?.clone(), nulls, bounds })
    }

    /// What is known of each column.
    pub fn iter(&self) -> impl Iterator<Item = ColumnStatistics> + '_ {
        let mut rest = Packed(&self.packed);
        self.names.iter().map_while(move |name| {
            let (nulls, bounds) = rest.take()?;
            Some(ColumnStatistics { name: name.clone(), nulls, bounds })
        })
    }

    /// Keeps the names only once, if they are the same.
    pub fn share_names(&mut self, other: &Self) {
        if self.names == other.names {
            self.names = Arc::clone(&other.names);
        }
    }
}

impl FromIterator<ColumnStatistics> for FileColumns {
    fn from_iter<I: IntoIterator<Item = ColumnStatistics>>(columns: I) -> Self {
        let mut packed = Vec::new();
        let names = columns.into_iter().map(|column| {
            pack(&mut packed, &column);
            column.name
        });
        Self { names: names.collect(), packed: packed.into() }
    }
}

impl fmt::Debug for FileColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn pack(to: &mut Vec<u8>, column: &ColumnStatistics) {
    let kind = match &column.bounds {
        None => NONE,
        Some((Scalar::Float(_), _)) => FLOAT,
        Some((Scalar::Integer(_), _)) => INTEGER,
        Some((Scalar::Unsigned(_), _)) => UNSIGNED,
        Some((Scalar::String(_), _)) => TEXT,
        Some((Scalar::Boolean(_), _)) => BOOLEAN,
    };
    // Both bounds are of the column's type; if they were not, none would be the honest answer.
    let is_one_type = column.bounds.as_ref().is_none_or(|(min, max)| same_type(min, max));
    let kind = if is_one_type { kind } else { NONE };
    to.push(if column.nulls > 0 { kind | HAS_NULLS } else { kind });
    if column.nulls > 0 {
        put_number(to, column.nulls);
    }
    let Some((min, max)) = column.bounds.as_ref().filter(|_| kind != NONE) else { return };
    match (min, max) {
        (Scalar::Boolean(min), Scalar::Boolean(max)) => to.push(u8::from(*min) + 2 * u8::from(*max)),
        _ => [min, max].into_iter().for_each(|bound| put(to, bound)),
    }
}

fn same_type(a: &Scalar, b: &Scalar) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn put(to: &mut Vec<u8>, bound: &Scalar) {
    match bound {
        Scalar::Float(value) => to.extend_from_slice(&value.to_le_bytes()),
        Scalar::Integer(value) => to.extend_from_slice(&value.to_le_bytes()),
        Scalar::Unsigned(value) => to.extend_from_slice(&value.to_le_bytes()),
        Scalar::String(value) => {
            put_number(to, value.len() as u64);
            to.extend_from_slice(value.as_bytes());
        }
        Scalar::Boolean(value) => to.push(u8::from(*value)),
    }
}

fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

type Bounds = Option<(Scalar, Scalar)>;

/// What is yet to be read.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return None;
            }
            number |= shifted;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    /// The kind and the nulls of the next column.
    fn head(&mut self) -> Option<(u8, u64)> {
        let kind = self.byte()?;
        let nulls = if kind & HAS_NULLS != 0 { self.number()? } else { 0 };
        Some((kind & !HAS_NULLS, nulls))
    }

    fn skip(&mut self) -> Option<()> {
        let (kind, _) = self.head()?;
        match kind {
            NONE => Some(()),
            FLOAT | INTEGER | UNSIGNED => self.bytes(16).map(drop),
            TEXT => self.text().and_then(|_| self.text()).map(drop),
            BOOLEAN => self.byte().filter(|both| *both < 4).map(drop),
            _ => None,
        }
    }

    fn take(&mut self) -> Option<(u64, Bounds)> {
        let (kind, nulls) = self.head()?;
        let bounds = match kind {
            NONE => return Some((nulls, None)),
            FLOAT => {
                let mut next = || self.eight().map(|bytes| Scalar::Float(f64::from_le_bytes(bytes)));
                (next()?, next()?)
            }
            INTEGER => {
                let mut next = || self.eight().map(|bytes| Scalar::Integer(i64::from_le_bytes(bytes)));
                (next()?, next()?)
            }
            UNSIGNED => {
                let mut next = || self.eight().map(|bytes| Scalar::Unsigned(u64::from_le_bytes(bytes)));
                (next()?, next()?)
            }
            TEXT => {
                let mut next = || self.text().map(|text| Scalar::String(text.to_owned()));
                (next()?, next()?)
            }
            BOOLEAN => {
                let both = self.byte()?;
                (Scalar::Boolean(both & 1 != 0), Scalar::Boolean(both & 2 != 0))
            }
            _ => return None,
        };
        Some((nulls, Some(bounds)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bounds() -> impl Strategy<Value = Bounds> {
        let pair = prop_oneof![
            any::<(f64, f64)>()
                .prop_filter("NaN equals nothing", |(a, b)| !a.is_nan() && !b.is_nan())
                .prop_map(|(a, b)| (Scalar::Float(a), Scalar::Float(b))),
            any::<(i64, i64)>().prop_map(|(a, b)| (Scalar::Integer(a), Scalar::Integer(b))),
            any::<(u64, u64)>().prop_map(|(a, b)| (Scalar::Unsigned(a), Scalar::Unsigned(b))),
            any::<(String, String)>().prop_map(|(a, b)| (Scalar::String(a), Scalar::String(b))),
            any::<(bool, bool)>().prop_map(|(a, b)| (Scalar::Boolean(a), Scalar::Boolean(b))),
        ];
        proptest::option::of(pair)
    }

    fn columns() -> impl Strategy<Value = Vec<ColumnStatistics>> {
        let nulls = prop_oneof![Just(0_u64), any::<u64>()];
        vec((nulls, bounds()), 0..9).prop_map(|columns| {
            let column = |(number, (nulls, bounds)): (usize, (u64, Bounds))| ColumnStatistics {
                name: ColumnName::new(&format!("c{number}")).unwrap(),
                nulls,
                bounds,
            };
            columns.into_iter().enumerate().map(column).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(columns in columns()) {
            let packed: FileColumns = columns.iter().cloned().collect();
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), columns.clone());
            for column in &columns {
                prop_assert_eq!(packed.get(column.name.as_str()), Some(column.clone()));
            }
            prop_assert_eq!(packed.get("other"), None);
            prop_assert_eq!(FileColumns::from_packed(Arc::clone(packed.names()), packed.packed()), Some(packed));
        }

        #[test]
        fn bytes_of_more_or_fewer_columns_are_refused(columns in columns(), cut: prop::sample::Index) {
            let whole: FileColumns = columns.into_iter().collect();
            let names = || Arc::clone(whole.names());
            let longer = [whole.packed(), &[NONE]].concat();
            prop_assert_eq!(FileColumns::from_packed(names(), &longer), None);
            if !whole.is_empty() {
                let shorter = &whole.packed()[..cut.index(whole.packed().len())];
                prop_assert_eq!(FileColumns::from_packed(names(), shorter), None);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..60), count in 0_usize..6) {
            let names: Arc<[ColumnName]> = (0..count).map(|n| ColumnName::new(&format!("c{n}")).unwrap()).collect();
            if let Some(columns) = FileColumns::from_packed(names, &bytes) {
                prop_assert_eq!(columns.iter().count(), count);
            }
        }
    }

    #[test]
    fn ten_numbers_take_170_bytes() {
        let column = |number: u32| ColumnStatistics {
            name: ColumnName::new(&format!("c{number}")).unwrap(),
            nulls: 0,
            bounds: Some((Scalar::Float(0.5), Scalar::Float(number.into()))),
        };
        let columns: FileColumns = (0..10).map(column).collect();
        assert_eq!(columns.packed().len(), 170);
    }
}

//! Numbers for the series of a table, the same in every unit.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::Int32Type;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result as DataFusionResult;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::dictionaries::cut;
use crate::engine::store::decoded::SeriesRows;
use crate::model::{ColumnKind, ColumnName, TableSchema};

/// The number of a series that has none yet.
const NONE: u32 = u32::MAX;

/// About what a number takes in the table beside its key.
const NUMBER_BYTES: usize = 8;

/// Of a list of which at most one series in so many is asked for nothing is remembered but those.
const FEW: usize = 4;

/// So many lists are remembered.
const LISTS_MAX: usize = 32;

/// Numbers series as they are met, from 0 on.
///
/// Most units hold the same series as another one, so the lists of them are remembered, and only of a list that is new the series are looked
/// up by their tags.
#[derive(Debug)]
pub(super) struct SeriesNumbers {
    table: Arc<TableSchema>,
    /// `None` if the table has no tags, and so one series.
    converter: Option<RowConverter>,
    count: u32,
    lists: Vec<List>,
    /// Numbers by key, of all series but those of a list that is the only one.
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Key after key.
    keys: Vec<u8>,
    key_of: Vec<Range<usize>>,
}

/// The series of a unit.
#[derive(Debug)]
struct List {
    tags: RecordBatch,
    numbers: Vec<u32>,
}

impl SeriesNumbers {
    /// # Errors
    /// If the tags can't be compared; a defect.
    pub(super) fn new(table: Arc<TableSchema>) -> DataFusionResult<Self> {
        let options = SortOptions { descending: false, nulls_first: false };
        let field = |_| SortField::new_with_options(ColumnKind::Tag.data_type(), options);
        let fields: Vec<SortField> = table.tags().iter().map(field).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self {
            table,
            converter,
            count: 0,
            lists: Vec::new(),
            by_key: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            keys: Vec::new(),
            key_of: Vec::new(),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Memory of all that is remembered, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let lists: usize = self.lists.iter().map(|list| list.numbers.len() * size_of::<u32>()).sum();
        lists
            + self.keys.capacity()
            + self.key_of.capacity() * size_of::<Range<usize>>()
            + self.by_key.capacity() * NUMBER_BYTES
    }

    /// The numbers of the series of a unit that have these places in it, each as often as it is named.
    ///
    /// # Errors
    /// If a tag is none; a defect.
    pub(super) fn of(&mut self, series: &SeriesRows, places: &[usize]) -> DataFusionResult<Vec<u32>> {
        if self.converter.is_none() {
            self.count = 1;
            return Ok(vec![0; places.len()]);
        }
        if places.len() * FEW <= series.len() {
            return self.find(series.tags(), places);
        }
        let list = self.list(series);
        let unknown: Vec<usize> =
            places.iter().copied().filter(|place| self.lists[list].numbers[*place] == NONE).collect();
        if self.lists.len() == 1 && self.by_key.is_empty() {
            for place in unknown {
                let number = &mut self.lists[list].numbers[place];
                // A series may be asked for more than once.
                if *number == NONE {
                    *number = self.count;
                    self.count += 1;
                }
            }
        } else if !unknown.is_empty() {
            let found = self.find(&self.lists[list].tags.clone(), &unknown)?;
            for (place, number) in unknown.into_iter().zip(found) {
                self.lists[list].numbers[place] = number;
            }
        }
        let numbers = &self.lists[list].numbers;
        Ok(places.iter().map(|place| numbers[*place]).collect())
    }

    /// Where the list of these series is.
    fn list(&mut self, series: &SeriesRows) -> usize {
        if let Some(known) = self.lists.iter().position(|list| are_same(&list.tags, series.tags())) {
            return known;
        }
        let list = List { tags: series.tags().clone(), numbers: vec![NONE; series.len()] };
        if self.lists.len() == LISTS_MAX {
            self.lists.remove(1); // the first one may hold series that are in no other place
        }
        self.lists.push(list);
        self.lists.len() - 1
    }

    /// The numbers of series at these places of a list by their tags.
    fn find(&mut self, tags: &RecordBatch, places: &[usize]) -> DataFusionResult<Vec<u32>> {
        if let Some(first) = self.lists.first().filter(|_| self.by_key.is_empty()) {
            let mut numbered: Vec<usize> =
                (0..first.numbers.len()).filter(|place| first.numbers[*place] != NONE).collect();
            numbered.sort_unstable_by_key(|place| first.numbers[*place]);
            if let Some(keys) = self.keys_at(&first.tags, &numbered)? {
                for key in &keys {
                    self.insert(key.data());
                }
            }
        }
        let Some(keys) = self.keys_at(tags, places)? else { return Ok(vec![0; places.len()]) };
        let mut numbers = Vec::with_capacity(places.len());
        for key in &keys {
            let key = key.data();
            let is_same = |number: &u32| self.keys[self.key_of[*number as usize].clone()] == *key;
            numbers.push(match self.by_key.find(self.hasher.hash_one(key), is_same) {
                Some(number) => *number,
                None => {
                    self.count += 1;
                    self.insert(key)
                }
            });
        }
        Ok(numbers)
    }

    /// Remembers a key under the next number.
    fn insert(&mut self, key: &[u8]) -> u32 {
        let (start, number) = (self.keys.len(), self.key_of.len() as u32);
        self.keys.extend_from_slice(key);
        self.key_of.push(start..self.keys.len());
        let hash_of = |number: &u32| self.hasher.hash_one(&self.keys[self.key_of[*number as usize].clone()]);
        self.by_key.insert_unique(self.hasher.hash_one(key), number, hash_of);
        number
    }

    /// The tags of series, each as one string of bytes; `None` if the table has no tags.
    fn keys_at(&self, tags: &RecordBatch, places: &[usize]) -> DataFusionResult<Option<Rows>> {
        let Some(converter) = &self.converter else { return Ok(None) };
        let places = UInt32Array::from_iter_values(places.iter().map(|place| *place as u32));
        let column = |name: &ColumnName| match tags.column_by_name(name.as_str()) {
            Some(tag) => cut(&take(tag, &places, None)?),
            None => Ok(new_null_array(&ColumnKind::Tag.data_type(), places.len())),
        };
        let columns = self.table.tags().iter().map(column).collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        Ok(Some(converter.convert_columns(&columns)?))
    }
}

/// Whether two lists are the same codes of the same texts. Lists that are found different may be equal all the same.
pub(super) fn are_same(one: &RecordBatch, other: &RecordBatch) -> bool {
    let is_same = |(one, other): (&ArrayRef, &ArrayRef)| {
        let (Some(one), Some(other)) = (one.as_dictionary_opt::<Int32Type>(), other.as_dictionary_opt::<Int32Type>())
        else {
            return false;
        };
        // Texts first: of one tag that each series has another value of, the codes are the same in all lists.
        (Arc::ptr_eq(one.values(), other.values()) || one.values() == other.values()) && one.keys() == other.keys()
    };
    one.num_rows() == other.num_rows()
        && one.schema().fields() == other.schema().fields()
        && one.columns().iter().zip(other.columns()).all(is_same)
}

#[cfg(test)]
mod tests {
    use arrow::array::DictionaryArray;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::Column;

    fn table(tags: &[&str]) -> Arc<TableSchema> {
        let column = |name: &&str| Column { name: ColumnName::new(name).unwrap(), kind: ColumnKind::Tag };
        Arc::new(TableSchema::new(tags.iter().map(column)))
    }

    fn series(hosts: &[u8], is_with_zone: bool) -> SeriesRows {
        let tag = |texts: Vec<Option<String>>| {
            Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>()) as ArrayRef
        };
        let host = tag(hosts.iter().map(|host| (*host > 0).then(|| format!("h{host}"))).collect());
        let zone = tag(vec![None; hosts.len()]);
        let mut columns = vec![("host", host, true)];
        if is_with_zone {
            columns.push(("zone", zone, true));
        }
        SeriesRows::of(&RecordBatch::try_from_iter_with_nullable(columns).unwrap()).unwrap()
    }

    #[test]
    fn without_tags_there_is_one_series() {
        let mut numbers = SeriesNumbers::new(table(&[])).unwrap();
        let series = SeriesRows::of(&RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()))).unwrap();
        assert_eq!((numbers.count(), numbers.of(&series, &[0]).unwrap(), numbers.count()), (0, vec![0], 1));
    }

    proptest! {
        /// Units of some series each, of which some are asked for; the same tags always have the same number, and no others.
        #[test]
        fn a_series_has_one_number(
            units in vec((proptest::collection::btree_set(0_u8..12, 0..9), vec(0_usize..3, 9), any::<bool>()), 0..50),
        ) {
            let mut numbers = SeriesNumbers::new(table(&["host", "zone"])).unwrap();
            let mut known: std::collections::HashMap<u8, u32> = std::collections::HashMap::new();
            for (hosts, asked, is_with_zone) in units {
                let hosts: Vec<u8> = hosts.into_iter().collect();
                // As often as it has rows.
                let places: Vec<usize> =
                    (0..hosts.len()).flat_map(|place| std::iter::repeat_n(place, asked[place])).collect();
                let found = numbers.of(&series(&hosts, is_with_zone), &places).unwrap();
                prop_assert_eq!(found.len(), places.len());
                for (place, number) in places.into_iter().zip(found) {
                    prop_assert_eq!(*known.entry(hosts[place]).or_insert(number), number);
                }
            }
            let mut all: Vec<u32> = known.into_values().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..numbers.count() as u32).collect::<Vec<_>>());
        }
    }
}

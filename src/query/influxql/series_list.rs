//! Series as `SHOW SERIES` lists them: many, each once, sorted by their tags.

use std::cmp::Ordering;
use std::ops::Range;

use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::MemoryReservation;

/// Series of one measurement. Their texts lie in one piece, for there may be millions of them.
pub(super) struct SeriesList<'a> {
    measurement: &'a str,
    /// Sorted.
    tags: Vec<&'a String>,
    texts: String,
    /// The place of a tag, and where its value ends in the texts. It begins where the one before ends.
    pairs: Vec<(u32, usize)>,
    /// Where the pairs of each series end.
    ends: Vec<usize>,
    memory: MemoryReservation,
}

impl<'a> SeriesList<'a> {
    /// No series yet of a measurement with these tags, which are sorted; charged to `memory`.
    pub(super) fn new(measurement: &'a str, tags: Vec<&'a String>, memory: MemoryReservation) -> Self {
        Self { measurement, tags, texts: String::new(), pairs: Vec::new(), ends: Vec::new(), memory }
    }

    /// The place of each of these tags, by which [`SeriesList::push`] is told of them.
    pub(super) fn places(&self, tags: &[String]) -> Vec<Option<usize>> {
        tags.iter().map(|tag| self.tags.binary_search(&tag).ok()).collect()
    }

    /// Takes a series: values of tags at these places; one that is `None` is absent.
    ///
    /// # Errors
    /// `ResourcesExhausted` if there is no more memory.
    pub(super) fn push(&mut self, places: &[Option<usize>], values: &[Option<&str>]) -> DataFusionResult<()> {
        let (texts, pairs) = (self.texts.len(), self.pairs.len());
        let mut present: Vec<(usize, &str)> =
            places.iter().zip(values).filter_map(|(place, value)| Some(((*place)?, (*value)?))).collect();
        present.sort_unstable_by_key(|(place, _)| *place);
        for (place, value) in present {
            self.texts.push_str(value);
            self.pairs.push((place as u32, self.texts.len()));
        }
        self.ends.push(self.pairs.len());
        let bytes = (self.pairs.len() - pairs) * size_of::<(u32, usize)>() + 2 * size_of::<usize>();
        self.memory.try_grow(self.texts.len() - texts + bytes)
    }

    /// The series, each once, by tags and values.
    pub(super) fn sorted(self) -> SortedSeries<'a> {
        let mut order: Vec<usize> = (0..self.ends.len()).collect();
        // Stable, because that sort sees where they rise already.
        order.sort_by(|one, other| self.compared(*one, *other));
        order.dedup_by(|one, other| self.compared(*one, *other) == Ordering::Equal);
        SortedSeries { list: self, order }
    }

    fn pairs(&self, series: usize) -> impl Iterator<Item = (u32, &str)> {
        let start = series.checked_sub(1).map_or(0, |before| self.ends[before]);
        (start..self.ends[series]).map(|pair| {
            let (tag, end) = self.pairs[pair];
            let texts: Range<usize> = pair.checked_sub(1).map_or(0, |before| self.pairs[before].1)..end;
            (tag, &self.texts[texts])
        })
    }

    fn compared(&self, one: usize, other: usize) -> Ordering {
        self.pairs(one).cmp(self.pairs(other))
    }

    /// `measurement,tag=value`, as line protocol writes it.
    fn key(&self, series: usize) -> String {
        let mut key = String::new();
        escape(self.measurement, &[',', ' '], &mut key);
        for (tag, value) in self.pairs(series) {
            key.push(',');
            escape(self.tags[tag as usize], &[',', '=', ' '], &mut key);
            key.push('=');
            escape(value, &[',', '=', ' '], &mut key);
        }
        key
    }
}

/// Series in their order.
pub(super) struct SortedSeries<'a> {
    list: SeriesList<'a>,
    order: Vec<usize>,
}

impl SortedSeries<'_> {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The keys of those at these places, as line protocol writes them. Escaping changes the order of texts, but not of the keys here.
    pub(super) fn keys(&self, places: Range<usize>) -> impl Iterator<Item = String> {
        self.order[places].iter().map(|series| self.list.key(*series))
    }
}

fn escape(text: &str, special: &[char], written: &mut String) {
    for letter in text.chars() {
        if special.contains(&letter) {
            written.push('\\');
        }
        written.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};

    use super::*;

    #[test]
    fn series_are_listed_once_and_by_their_tags() {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let tags = ["a", "b b", "c"].map(str::to_owned);
        let memory = MemoryConsumer::new("test").register(&pool);
        let mut list = SeriesList::new("m,1", tags.iter().collect(), memory);
        let places = list.places(&["c", "a", "b b"].map(str::to_owned));
        for values in [
            [None, Some("x!"), None],
            [Some("1"), Some("x"), None],
            [None, Some("x"), Some("2")],
            [None, None, None],
            [None, Some("x"), None],
            [Some("1"), Some("x"), None],
            [Some("0"), None, Some("a=1")],
        ] {
            list.push(&places, &values).unwrap();
        }
        let sorted = list.sorted();
        let keys: Vec<String> = sorted.keys(0..sorted.len()).collect();
        assert_eq!(
            keys,
            ["m\\,1", "m\\,1,a=x", "m\\,1,a=x,b\\ b=2", "m\\,1,a=x,c=1", "m\\,1,a=x!", "m\\,1,b\\ b=a\\=1,c=0"]
        );
        assert_eq!(sorted.len(), 6);
        assert!(pool.reserved() > 0);
    }
}

//! An ordered map whose copies share all but what differs.
//!
//! The entries lie in pieces of some hundred neighbours; a changed copy owns the list of pieces and the piece that
//! changed. With 100,000 entries a change copies some 700 pointers, where a `BTreeMap` would copy all of it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Entries of a piece before it is split in two.
const PIECE_ENTRIES_MAX: usize = 512;

type Piece<K, V> = BTreeMap<K, V>;

#[derive(Clone)]
pub(super) struct SharedMap<K, V> {
    /// By a key that no key of the piece is below. No piece is empty.
    pieces: Arc<BTreeMap<K, Arc<Piece<K, V>>>>,
    len: usize,
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (_, piece) = self.pieces.range::<Q, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        piece.get(key)
    }

    /// The value for changing. Copies nothing if there is none.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.get(key)?;
        let (_, piece) = Arc::make_mut(&mut self.pieces).range_mut(..=key).next_back()?;
        Arc::make_mut(piece).get_mut(key)
    }

    /// Returns the value that was there.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let pieces = Arc::make_mut(&mut self.pieces);
        let below = pieces.range(..=&key).next_back().map(|(lowest, _)| lowest.clone());
        let lowest = below.unwrap_or_else(|| {
            // Below all others: the first piece, if there is one, now begins here.
            let (_, first) = pieces.pop_first().unzip();
            pieces.insert(key.clone(), first.unwrap_or_default());
            key.clone()
        });
        let piece = Arc::make_mut(pieces.entry(lowest).or_default());
        let replaced = piece.insert(key, value);
        self.len += usize::from(replaced.is_none());
        if piece.len() > PIECE_ENTRIES_MAX
            && let Some(middle) = piece.keys().nth(PIECE_ENTRIES_MAX / 2).cloned()
        {
            let upper = piece.split_off(&middle);
            pieces.insert(middle, Arc::new(upper));
        }
        replaced
    }

    /// Returns the value that was there. Copies nothing if there was none.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let pieces = Arc::make_mut(&mut self.pieces);
        let (lowest, piece) = pieces.range_mut::<Q, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        let piece = Arc::make_mut(piece);
        let removed = piece.remove(key)?;
        self.len -= 1;
        if piece.is_empty() {
            let lowest = lowest.clone();
            pieces.remove::<K>(&lowest);
        }
        Some(removed)
    }

    /// In the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pieces.values().flat_map(|piece| piece.iter())
    }

    /// In the order of the keys.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.pieces.values().flat_map(|piece| piece.values())
    }
}

impl<K: Ord, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { pieces: Arc::default(), len: 0 }
    }
}

// By entries and not derived: where pieces begin depends on the history.
impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pieces, &other.pieces) || self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_same(map: &SharedMap<u16, u32>, model: &BTreeMap<u16, u32>) {
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model.iter()) && map.values().eq(model.values()));
        assert!(map.pieces.values().all(|piece| !piece.is_empty() && piece.len() <= PIECE_ENTRIES_MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn it_does_what_an_ordinary_map_does(steps in proptest::collection::vec((0..4u8, 0..2000u16, any::<u32>()), 0..3000)) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let mut kept = Vec::new();
            for (number, (step, key, value)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    2 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    _ => match (map.get_mut(&key), model.get_mut(&key)) {
                        (Some(found), Some(expected)) => (*found, *expected) = (value, value),
                        (found, expected) => prop_assert_eq!(found, expected),
                    },
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
                if number % 500 == 0 {
                    kept.push((map.clone(), model.clone()));
                }
            }
            assert_same(&map, &model);
            // Older copies have not changed with newer ones.
            kept.iter().for_each(|(map, model)| assert_same(map, model));
        }
    }

    #[test]
    fn a_change_copies_one_piece() {
        let mut map = SharedMap::default();
        for key in (0..10_000u16).rev() {
            map.insert(key, 0u32);
        }
        let before = map.clone();
        map.insert(5_000, 1);
        let shared = before.pieces.values().filter(|old| map.pieces.values().any(|new| Arc::ptr_eq(old, new))).count();
        assert_eq!(shared, before.pieces.len() - 1);
        assert!(before.pieces.len() > 10_000 / PIECE_ENTRIES_MAX);
        assert_eq!((before.get(&5_000), map.get(&5_000)), (Some(&0), Some(&1)));
    }
}

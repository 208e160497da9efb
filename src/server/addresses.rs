//! How many connections each address has.
//!
//! Addresses of IPv6 count by their first 64 bits: whoever has one of them has them all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The bits of an address of IPv6 that tell one holder from another.
const IPV6_MASK: u128 = !(u64::MAX as u128);

/// How many connections each address has.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The addresses that have connections now.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// `None`: nobody counts.
    count_max: Option<usize>,
    counts: Counts,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Option<(IpAddr, Counts)>,
}

impl Addresses {
    /// No connections yet, and never more than so many of one address.
    pub(super) fn new(count_max: Option<usize>) -> Self {
        Self { count_max, counts: Arc::default() }
    }

    /// One more connection; `None` if the address has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let Some(count_max) = self.count_max else { return Some(Place { of: None }) };
        let address = holder(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= count_max {
            return None;
        }
        *count += 1;
        Some(Place { of: Some((address, Arc::clone(&self.counts))) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((address, counts)) = &self.of else { return };
        if let Entry::Occupied(mut entry) = counts.lock().entry(*address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_MASK).into(),
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_gets_them_back() {
        let addresses = Addresses::new(Some(2));
        let enter = |address: &str| addresses.enter(address.parse().unwrap());
        let (first, second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        drop(first);
        assert!(enter("10.0.0.1").is_some());
        drop(second);
        assert!(addresses.counts.lock().is_empty());
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one() {
        let addresses = Addresses::new(Some(1));
        let _first = addresses.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(addresses.enter("2001:db8::2".parse().unwrap()).is_none());
        assert!(addresses.enter("2001:db8:0:1::2".parse().unwrap()).is_some());
    }

    #[test]
    fn without_a_bound_nobody_counts() {
        let addresses = Addresses::new(None);
        let places: Vec<_> = (0..1000).map(|_| addresses.enter("::1".parse().unwrap()).unwrap()).collect();
        assert_eq!((places.len(), addresses.counts.lock().len()), (1000, 0));
    }
}

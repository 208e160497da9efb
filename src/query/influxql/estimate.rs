//! What is answered by chance or about: a random choice, and how many different values there are.
//!
//! Both follow from the points alone: the same question over the same points has the same answer.

use super::value::Value;

/// Bits of a hash that choose a register.
const REGISTER_BITS: u32 = 14;

/// Registers of an estimate, a byte each: the standard error is 1.04 over the root of their number, 0.8 %.
pub(super) const REGISTERS: usize = 1 << REGISTER_BITS;

/// SplitMix64.
#[derive(Debug, Clone, Default)]
pub(super) struct Random(u64);

impl Random {
    /// A number below the limit, which is not 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        // The high half of the product: each number has nearly the same chance, without a division.
        ((u128::from(mixed(self.0)) * u128::from(limit)) >> 64) as u64
    }
}

fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// HyperLogLog: of each group of hashes the longest run of zeros.
#[derive(Debug, Clone)]
pub(super) struct Estimate(Vec<u8>);

impl Default for Estimate {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Estimate {
    pub(super) fn add(&mut self, value: &Value) {
        let hash = hash(value);
        let register = (hash >> (64 - REGISTER_BITS)) as usize;
        let zeros = ((hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() as u8 + 1;
        self.0[register] = self.0[register].max(zeros);
    }

    /// About how many different values there were; where there are few, nearly exactly.
    pub(super) fn count(&self) -> i64 {
        let registers = REGISTERS as f64;
        let sum: f64 = self.0.iter().map(|zeros| 2f64.powi(-i32::from(*zeros))).sum();
        let estimate = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let empty = self.0.iter().filter(|zeros| **zeros == 0).count();
        let count = match estimate <= 2.5 * registers && empty > 0 {
            true => registers * (registers / empty as f64).ln(),
            false => estimate,
        };
        count.round() as i64
    }
}

fn hash(value: &Value) -> u64 {
    let of_bytes = |kind: u64, bytes: &[u8]| {
        let folded = bytes.chunks(8).fold(kind ^ bytes.len() as u64, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mixed(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from_le_bytes(word))
        });
        mixed(folded)
    };
    match value {
        Value::Null => 0,
        Value::Float(value) => of_bytes(1, &value.to_bits().to_le_bytes()),
        Value::Integer(value) => of_bytes(2, &value.to_le_bytes()),
        Value::Unsigned(value) => of_bytes(3, &value.to_le_bytes()),
        Value::String(value) => of_bytes(4, value.as_bytes()),
        Value::Boolean(value) => of_bytes(5, &[u8::from(*value)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_values_are_counted_to_some_percent() {
        for count in [0, 1, 10, 1_000, 30_000, 300_000] {
            let mut estimate = Estimate::default();
            (0..3 * count).for_each(|n| estimate.add(&Value::Integer(n % count.max(1))));
            let error = (estimate.count() - count).abs() as f64;
            assert!(error <= 0.03 * count as f64, "{count}: {}", estimate.count());
        }
    }

    #[test]
    fn each_number_below_the_limit_has_its_chance() {
        let mut random = Random::default();
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[random.below(10) as usize] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}

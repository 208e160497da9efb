//! Parquet's hybrid of runs and packed bits, in which it writes positions in a dictionary and where values are missing.

/// Numbers that are packed together.
const PACKED: usize = 8;

/// Encodes numbers of some bits each.
pub(super) struct Hybrid {
    width: u32,
    bytes: Vec<u8>,
    /// Numbers that come too rarely in a row to be a run; they are packed in groups of eight.
    loose: Vec<u32>,
}

impl Hybrid {
    pub(super) fn new(width: u32) -> Self {
        Self { width, bytes: Vec::new(), loose: Vec::new() }
    }

    /// Takes numbers as they come.
    pub(super) fn extend(&mut self, numbers: &[u32]) {
        let mut rest = numbers;
        while let [first, others @ ..] = rest {
            let run = 1 + others.iter().take_while(|number| *number == first).count();
            self.push(*first, run);
            rest = &rest[run..];
        }
    }

    /// Takes the same number `count` times.
    pub(super) fn push(&mut self, number: u32, count: usize) {
        let missing = self.loose.len().next_multiple_of(PACKED) - self.loose.len();
        let loose = if count - count.min(missing) < PACKED { count } else { missing };
        self.loose.extend(std::iter::repeat_n(number, loose));
        let run = count - loose;
        if run > 0 {
            self.pack();
            self.number((run as u64) << 1);
            self.bytes.extend_from_slice(&number.to_le_bytes()[..self.width.div_ceil(8) as usize]);
        }
    }

    /// Writes the loose numbers. Those that are missing to a group are zero, which is allowed at the end only.
    fn pack(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        let groups = self.loose.len().div_ceil(PACKED);
        self.number((groups as u64) << 1 | 1);
        let end = self.bytes.len() + groups * self.width as usize;
        let (mut bits, mut held) = (0u64, 0);
        for number in &self.loose {
            bits |= u64::from(*number) << held;
            held += self.width;
            if held >= u32::BITS {
                self.bytes.extend_from_slice(&(bits as u32).to_le_bytes());
                bits >>= u32::BITS;
                held -= u32::BITS;
            }
        }
        self.loose.clear();
        self.bytes.extend_from_slice(&(bits as u32).to_le_bytes());
        self.bytes.resize(end, 0);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// What was written.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.pack();
        self.bytes
    }
}

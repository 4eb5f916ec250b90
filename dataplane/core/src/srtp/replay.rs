//! The list of numbers that came already (RFC 3711 3.3.2), a window that ends with the highest authentic one.

use super::OpenError;

/// A window of `64 * (WORDS - 1)` numbers: it begins within a word, so that it touches one more than it fills.
#[derive(Clone, Debug)]
pub(super) struct Window<const WORDS: usize> {
    highest: u64,
    /// Number `n` is bit `n % 64` of word `n / 64 % WORDS`.
    came: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    const SIZE: u64 = 64 * (WORDS as u64 - 1);

    /// The window after the first authentic number.
    pub(super) fn starting_with(index: u64) -> Self {
        let mut window = Self { highest: index, came: [0; WORDS] };
        window.mark(index);
        window
    }

    /// The highest number that came.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `index` may still come.
    pub(super) fn check(&self, index: u64) -> Result<(), OpenError> {
        if index > self.highest {
            return Ok(());
        }
        if self.highest - index >= Self::SIZE {
            return Err(OpenError::TooOld);
        }
        let came = self.came.get(Self::word(index)).is_some_and(|word| word >> (index % 64) & 1 == 1);
        if came { Err(OpenError::Replayed) } else { Ok(()) }
    }

    /// Remembers an authentic number that [`check`](Self::check) let pass.
    pub(super) fn accept(&mut self, index: u64) {
        if index > self.highest {
            self.advance(index);
        }
        self.mark(index);
    }

    /// Clears the words between the old end and the new one.
    fn advance(&mut self, index: u64) {
        let steps = (index / 64 - self.highest / 64).min(WORDS as u64);
        for step in 0..steps {
            if let Some(word) = self.came.get_mut(Self::word(index - 64 * step)) {
                *word = 0;
            }
        }
        self.highest = index;
    }

    fn mark(&mut self, index: u64) {
        if let Some(word) = self.came.get_mut(Self::word(index)) {
            *word |= 1 << (index % 64);
        }
    }

    fn word(index: u64) -> usize {
        (index / 64 % WORDS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_knows_exactly_what_came(
            steps in prop::collection::vec(prop_oneof![8 => -140_i64..=140, 1 => 0_i64..=5_000], 1..400)
        ) {
            let mut window = Window::<3>::starting_with(1_000);
            let mut came = HashSet::from([1_000_u64]);
            for step in steps {
                let index = window.highest().saturating_add_signed(step);
                let expected = if index + 128 <= window.highest() {
                    Err(OpenError::TooOld)
                } else if came.contains(&index) {
                    Err(OpenError::Replayed)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(index), expected);
                if expected.is_ok() {
                    window.accept(index);
                    came.insert(index);
                }
            }
        }
    }
}

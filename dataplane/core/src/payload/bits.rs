//! Reading and writing bits from the highest to the lowest, as the codecs' headers are laid out.

/// A cursor over the bits of a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// How many bits were read.
    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// An unsigned number of `count` bits, at most 32.
    pub(super) fn read(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |number, _| Some(number << 1 | u32::from(self.flag()?)))
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let at = self.at.checked_add(count)?;
        (at <= self.data.len() * 8).then(|| self.at = at)
    }

    /// `ns(n)`: a number below `values` in as few bits as it needs (AV1 RTP specification, A.8.2).
    pub(super) fn read_below(&mut self, values: u32) -> Option<u32> {
        let width = u32::BITS - values.leading_zeros();
        let short = (1_u32.checked_shl(width)?).checked_sub(values)?;
        let number = self.read(width.checked_sub(1)?)?;
        if number < short {
            return Some(number);
        }
        Some((number << 1) - short + u32::from(self.flag()?))
    }

    /// `ue(v)`: Exp-Golomb (ITU-T H.264, 9.1), at most 32 bits of value.
    pub(super) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let low = self.read(zeros)?;
        Some((1 << zeros) - 1 + low)
    }
}

/// A cursor that writes bits into a slice.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> BitWriter<'a> {
    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    pub(super) fn flag(&mut self, set: bool) -> Option<()> {
        let byte = self.out.get_mut(self.at / 8)?;
        let shift = 7 - self.at % 8;
        // A new byte loses what the caller had in it, so that the padding is zero.
        let kept = if shift == 7 { 0 } else { *byte };
        *byte = kept | u8::from(set) << shift;
        self.at += 1;
        Some(())
    }

    pub(super) fn write(&mut self, number: u32, count: u32) -> Option<()> {
        (0..count).rev().try_for_each(|place| self.flag(number >> place & 1 == 1))
    }

    /// Takes over `count` bits.
    pub(super) fn copy(&mut self, from: &mut BitReader<'_>, count: usize) -> Option<()> {
        (0..count).try_for_each(|_| self.flag(from.flag()?))
    }

    /// How many bytes hold what was written.
    pub(super) const fn len(&self) -> usize {
        self.at.div_ceil(8)
    }
}

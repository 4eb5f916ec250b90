//! Transport-wide feedback: which packets of a transport arrived, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).

use super::{Malformed, bytes_at, u16_at, u32_at};

pub use super::twcc_write::write_feedback;

/// The body up to the chunks: two SSRCs, base, count, reference time and feedback count.
pub(super) const HEADER: usize = 16;
/// The reference time's unit in microseconds.
pub(super) const REFERENCE_MICROS: i64 = 64_000;
/// The deltas' unit in microseconds.
pub(super) const DELTA_MICROS: i64 = 250;

/// One feedback packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback<'a> {
    /// Who reports.
    pub sender_ssrc: u32,
    /// Any source of the transport that is reported about.
    pub media_ssrc: u32,
    /// The first transport-wide number that is reported.
    pub base: u16,
    /// How many numbers are reported.
    pub count: u16,
    /// The first delta counts from here; in units of 64 ms on the receiver's clock, 24 bits that wrap.
    pub reference: i32,
    /// Counts the feedback packets, modulo 256.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Reads what follows the RTCP header. Where it succeeds, the chunks cover `count` numbers, and each number that
    /// arrived has its delta.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        Self::header(body).ok_or(Malformed("feedback is cut off"))?.measured()
    }

    fn header(body: &'a [u8]) -> Option<Self> {
        let [high, middle, low, feedback_count] = bytes_at(body, 12)?;
        Some(Self {
            sender_ssrc: u32_at(body, 0)?,
            media_ssrc: u32_at(body, 4)?,
            base: u16_at(body, 8)?,
            count: u16_at(body, 10)?,
            reference: i32::from_be_bytes([high, middle, low, 0]) >> 8,
            feedback_count,
            chunks: body.get(HEADER..)?,
            deltas: &[],
        })
    }

    /// Finds where the chunks end and the deltas begin, and that there are enough of both.
    fn measured(mut self) -> Result<Self, Malformed> {
        let mut chunks = self.chunks.chunks_exact(2);
        let (mut left, mut used, mut delta_bytes) = (usize::from(self.count), 0, 0);
        while left > 0 {
            let chunk = chunks.next().and_then(|chunk| u16_at(chunk, 0)).map(Chunk);
            let chunk = chunk.ok_or(Malformed("the status chunks are cut off"))?;
            let covered = chunk.len().min(left);
            delta_bytes += chunk.delta_bytes(covered).ok_or(Malformed("a packet status is reserved"))?;
            (left, used) = (left - covered, used + 2);
        }
        let (chunks, rest) = self.chunks.split_at_checked(used).unwrap_or_default();
        let deltas = rest.get(..delta_bytes).ok_or(Malformed("the receive deltas are cut off"))?;
        (self.chunks, self.deltas) = (chunks, deltas);
        Ok(self)
    }

    /// Each number that is reported, ascending from `base`, and when it arrived: microseconds on the receiver's clock,
    /// `None` where it did not.
    #[must_use]
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            chunks: self.chunks,
            chunk: Chunk(0),
            at: 0,
            deltas: self.deltas,
            next: self.base,
            left: self.count,
            clock: i64::from(self.reference) * REFERENCE_MICROS,
        }
    }
}

/// A packet status chunk (3.1.3, 3.1.4): a run of one symbol, or a vector of seven or fourteen.
#[derive(Debug, Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    const fn is_vector(self) -> bool {
        self.0 & 0x8000 != 0
    }

    const fn has_two_bits(self) -> bool {
        self.0 & 0x4000 != 0
    }

    /// How many packets it tells about.
    fn len(self) -> usize {
        match (self.is_vector(), self.has_two_bits()) {
            (false, _) => usize::from(self.0 & 0x1FFF),
            (true, true) => 7,
            (true, false) => 14,
        }
    }

    /// The symbol at `at`, which is below `len`: 0 for not received, 1 for a small and 2 for a large or negative delta,
    /// 3 is reserved.
    const fn symbol(self, at: usize) -> u16 {
        match (self.is_vector(), self.has_two_bits()) {
            (false, _) => self.0 >> 13 & 3,
            (true, true) => self.0 >> (12 - 2 * at) & 3,
            (true, false) => self.0 >> (13 - at) & 1,
        }
    }

    /// How many bytes the deltas of its first `covered` symbols take; `None` for a reserved one.
    fn delta_bytes(self, covered: usize) -> Option<usize> {
        if !self.is_vector() {
            return delta_size(self.symbol(0)).map(|size| size * covered);
        }
        (0..covered).try_fold(0, |sum, at| Some(sum + delta_size(self.symbol(at))?))
    }
}

const fn delta_size(symbol: u16) -> Option<usize> {
    match symbol {
        0 => Some(0),
        1 => Some(1),
        2 => Some(2),
        _ => None,
    }
}

/// What [`Feedback::statuses`] gives.
#[derive(Debug, Clone)]
pub struct Statuses<'a> {
    chunks: &'a [u8],
    chunk: Chunk,
    /// The next symbol of `chunk`.
    at: usize,
    deltas: &'a [u8],
    next: u16,
    left: u16,
    clock: i64,
}

impl Statuses<'_> {
    fn symbol(&mut self) -> Option<u16> {
        // A run of length zero is no use, and no harm: each turn takes a chunk.
        while self.at >= self.chunk.len() {
            let (chunk, rest) = self.chunks.split_first_chunk()?;
            (self.chunk, self.chunks, self.at) = (Chunk(u16::from_be_bytes(*chunk)), rest, 0);
        }
        self.at += 1;
        Some(self.chunk.symbol(self.at - 1))
    }

    fn delta(&mut self, symbol: u16) -> Option<i64> {
        let (delta, rest) = self.deltas.split_at_checked(delta_size(symbol)?)?;
        self.deltas = rest;
        match *delta {
            [small] => Some(i64::from(small)),
            [high, low] => Some(i64::from(i16::from_be_bytes([high, low]))),
            _ => None,
        }
    }
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let symbol = self.symbol()?;
        let number = self.next;
        self.next = number.wrapping_add(1);
        let arrival = self.delta(symbol).map(|delta| {
            self.clock += delta * DELTA_MICROS;
            self.clock
        });
        Some((number, arrival))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}

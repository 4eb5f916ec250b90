//! Writes transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).

use super::rtcp::{FORMAT_TRANSPORT_WIDE, TRANSPORT_FEEDBACK};
use super::rtcp_write::{Body, Buffer};
use super::twcc::{DELTA_MICROS, HEADER, REFERENCE_MICROS};
use crate::time::Instant;

/// How many arrivals one packet reports.
pub const MAX_DELTAS: usize = 256;
/// How many numbers, gaps included, one packet covers.
const MAX_NUMBERS: usize = 6 * MAX_DELTAS;
const REFERENCE_TICKS: i64 = REFERENCE_MICROS / DELTA_MICROS;
/// A run that is worth its chunk: a vector of two-bit symbols holds seven.
const VECTOR: usize = 7;
const MAX_RUN: usize = 0x1FFF;

/// Appends one feedback packet and gives how many of `arrivals` it covers: a delta that does not fit into 16 bits ends
/// the packet, as do 256 arrivals and 1,536 numbers; the caller goes on with the rest. 0, with nothing written, where it
/// covers none or does not fit into `b`.
///
/// `base` is the first number that is reported, not above `arrivals`, which ascend by number; gaps are reported as not
/// received.
pub fn write_feedback(
    b: &mut Buffer,
    sender_ssrc: u32,
    media_ssrc: u32,
    feedback_count: u8,
    base: u64,
    arrivals: &[(u64, Instant)],
) -> usize {
    let Some((_, first)) = arrivals.first() else { return 0 };
    let reference = micros(*first) / REFERENCE_MICROS;
    let mut report = Report::new();
    report.fill(base, reference * REFERENCE_TICKS, arrivals);
    let chunk_bytes = 2 * chunks(report.symbols()).count();
    let size = (HEADER + chunk_bytes + report.delta_bytes).next_multiple_of(4);
    if report.covered == 0 {
        return 0;
    }
    let Some(mut body) = b.packet(FORMAT_TRANSPORT_WIDE, TRANSPORT_FEEDBACK, size) else { return 0 };
    #[expect(clippy::cast_possible_truncation, reason = "fields of 16 and 24 bits that wrap; a count of at most 1,536")]
    let (base, count, reference) = (base as u16, report.count as u16, reference.cast_unsigned() as u32);
    body.u32(sender_ssrc);
    body.u32(media_ssrc);
    body.u16(base);
    body.u16(count);
    body.u32(reference << 8 | u32::from(feedback_count));
    report.write(&mut body);
    report.covered
}

fn micros(moment: Instant) -> i64 {
    moment.as_micros().min(i64::MAX.cast_unsigned()).cast_signed()
}

/// The moment in units of 250 us, rounded to the nearest, a half to the even one.
fn ticks(moment: Instant) -> i64 {
    let micros = micros(moment);
    let (whole, rest) = (micros / DELTA_MICROS, micros % DELTA_MICROS);
    let half = DELTA_MICROS / 2;
    whole + i64::from(rest > half || rest == half && whole % 2 == 1)
}

/// Symbols and deltas of one packet.
struct Report {
    symbols: [u8; MAX_NUMBERS],
    count: usize,
    deltas: [u8; 2 * MAX_DELTAS],
    delta_bytes: usize,
    covered: usize,
}

impl Report {
    const fn new() -> Self {
        Self { symbols: [0; MAX_NUMBERS], count: 0, deltas: [0; 2 * MAX_DELTAS], delta_bytes: 0, covered: 0 }
    }

    /// Takes arrivals while they fit; `clock` is the reference time in units of 250 us.
    fn fill(&mut self, base: u64, mut clock: i64, arrivals: &[(u64, Instant)]) {
        for (number, moment) in arrivals.iter().take(MAX_DELTAS) {
            let at = number.checked_sub(base).and_then(|at| usize::try_from(at).ok());
            let Ok(delta) = i16::try_from(ticks(*moment) - clock) else { break };
            if at.is_none_or(|at| self.push(at, delta).is_none()) {
                break;
            }
            clock += i64::from(delta);
            self.covered += 1;
        }
    }

    /// The packet `at` places after the base arrived. `None` where it lies too far, or before one that is in already.
    fn push(&mut self, at: usize, delta: i16) -> Option<()> {
        let symbol = self.symbols.get_mut(at).filter(|_| at >= self.count)?;
        let bytes = delta.to_be_bytes();
        let (kind, bytes) = match bytes {
            [0, small] => (1, &[small][..]),
            _ => (2, &bytes[..]),
        };
        self.deltas.get_mut(self.delta_bytes..self.delta_bytes + bytes.len())?.copy_from_slice(bytes);
        *symbol = kind;
        self.delta_bytes += bytes.len();
        self.count = at + 1;
        Some(())
    }

    fn symbols(&self) -> &[u8] {
        self.symbols.get(..self.count).unwrap_or_default()
    }

    fn write(&self, body: &mut Body<'_>) {
        for chunk in chunks(self.symbols()) {
            body.u16(chunk);
        }
        body.bytes(self.deltas.get(..self.delta_bytes).unwrap_or_default());
        body.zeros();
    }
}

/// Run-length chunks where at least seven symbols are alike, else two-bit status vectors of seven.
fn chunks(mut symbols: &[u8]) -> impl Iterator<Item = u16> {
    core::iter::from_fn(move || {
        let first = *symbols.first()?;
        let run = symbols.iter().take(MAX_RUN).take_while(|symbol| **symbol == first).count();
        let (chunk, taken) = if run >= VECTOR || run == symbols.len() {
            (u16::from(first) << 13 | u16::try_from(run).unwrap_or(0), run)
        } else {
            let vector = symbols.iter().take(VECTOR).zip((0..VECTOR).rev());
            let bits = vector.fold(0, |bits, (symbol, place)| bits | u16::from(*symbol) << (2 * place));
            (0xC000 | bits, VECTOR.min(symbols.len()))
        };
        symbols = symbols.get(taken..).unwrap_or_default();
        Some(chunk)
    })
}

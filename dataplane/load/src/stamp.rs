//! The last bytes of every payload: a mark and the time of sending, which a forwarder that rewrites headers leaves alone.

use parley_core::time::Instant;

/// Bytes of a stamp.
pub const STAMP_LEN: usize = 12;
const MARK: [u8; 4] = *b"PLd1";

/// Writes the stamp to the end of `payload`; nothing where it does not fit.
pub fn write(payload: &mut [u8], now: Instant) {
    if let Some((_, stamp)) = payload.split_last_chunk_mut::<STAMP_LEN>() {
        stamp[..4].copy_from_slice(&MARK);
        stamp[4..].copy_from_slice(&now.as_micros().to_be_bytes());
    }
}

/// When `payload` was sent; None where it has no stamp.
#[must_use]
pub fn read(payload: &[u8]) -> Option<Instant> {
    let (rest, time) = payload.split_last_chunk::<8>()?;
    rest.ends_with(&MARK).then(|| Instant::from_micros(u64::from_be_bytes(*time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written_whatever_stands_before_it() {
        let mut payload = [7; 40];
        write(&mut payload, Instant::from_micros(123_456_789));
        assert_eq!(read(&payload), Some(Instant::from_micros(123_456_789)));
        assert_eq!(payload[..28], [7; 28]);
        assert_eq!(read(&payload[..39]), None);
        assert_eq!(read(&[]), None);
    }
}

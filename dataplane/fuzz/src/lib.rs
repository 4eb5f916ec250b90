//! What the fuzz targets and the writer of their seeds agree on.

pub mod world;

/// Key and salt, long enough for every profile.
pub const KEY: [u8; 46] = *b"parley fuzz key: known to all, secret to none.";

/// The datagrams of an input: two bytes of length, big-endian, then as many bytes or what is left.
pub fn datagrams(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len) % 1_600);
        let (datagram, after) = after.split_at(len.min(after.len()));
        rest = after;
        Some(datagram)
    })
}

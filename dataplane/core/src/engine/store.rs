//! The packets of one stream as they came, decrypted, for as long as somebody may still need them.
//!
//! One copy serves every subscriber: what is forwarded, what waits in a pacer and what is sent again by RTX is built from
//! here. A ring of bytes with a ring of entries over it; it allocates when the stream begins and when it must hold a
//! higher rate, never for a packet.

use crate::payload::PacketInfo;
use crate::units::DataRate;
use core::time::Duration;

const MIN_BYTES: usize = 32 * 1_024;
const MAX_BYTES: usize = 4 * 1_024 * 1_024;
const MEAN_PACKET: usize = 256;
/// How much media a store is to hold.
const SPAN: Duration = Duration::from_millis(1_500);
/// A byte of an extension that is not there.
pub(crate) const ABSENT: u8 = 0xFF;

/// What is known of a stored packet beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meta {
    pub(crate) number: u64,
    pub(crate) timestamp: u32,
    pub(crate) payload_len: u16,
    pub(crate) descriptor_len: u8,
    pub(crate) padding: u8,
    pub(crate) marker: bool,
    pub(crate) level: u8,
    pub(crate) orientation: u8,
    /// The frame number of the dependency descriptor, where there is one.
    pub(crate) frame: u16,
    pub(crate) info: PacketInfo,
    pub(crate) at: u64,
}

/// A ring of packets by their unrolled number.
#[derive(Debug)]
pub(crate) struct PacketStore {
    bytes: Vec<u8>,
    entries: Vec<Meta>,
    head: u64,
}

impl PacketStore {
    pub(crate) fn new(is_video: bool) -> Self {
        Self::sized(if is_video { 8 * MIN_BYTES } else { MIN_BYTES })
    }

    fn sized(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes], entries: vec![Meta::default(); bytes / MEAN_PACKET], head: 1 }
    }

    /// Takes a packet in. One that is larger than a datagram is not taken.
    pub(crate) fn insert(&mut self, mut meta: Meta, descriptor: &[u8], payload: &[u8]) {
        let len = descriptor.len() + payload.len();
        let (Ok(payload_len), Ok(descriptor_len)) = (u16::try_from(payload.len()), u8::try_from(descriptor.len()))
        else {
            return;
        };
        let size = self.bytes.len() as u64;
        let mut at = self.head;
        if offset(at, size) + len > self.bytes.len() {
            at = (at | (size - 1)) + 1; // packets are not split at the end of the ring
        }
        let start = offset(at, size);
        let Some(room) = self.bytes.get_mut(start..start + len) else { return };
        let (first, second) = room.split_at_mut(descriptor.len());
        first.copy_from_slice(descriptor);
        second.copy_from_slice(payload);
        meta.at = at;
        meta.payload_len = payload_len;
        meta.descriptor_len = descriptor_len;
        self.head = at + len as u64;
        let slot = offset(meta.number, self.entries.len() as u64);
        if let Some(entry) = self.entries.get_mut(slot) {
            *entry = meta;
        }
    }

    /// The packet of a number with its descriptor and payload, `None` where it is gone.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<(&Meta, &[u8], &[u8])> {
        let meta = self.entries.get(offset(number, self.entries.len() as u64))?;
        let size = self.bytes.len() as u64;
        if meta.number != number || meta.at == 0 || meta.at + size < self.head {
            return None;
        }
        let start = offset(meta.at, size);
        let middle = start + usize::from(meta.descriptor_len);
        let end = middle + usize::from(meta.payload_len);
        Some((meta, self.bytes.get(start..middle)?, self.bytes.get(middle..end)?))
    }

    /// Makes room for a stream of this rate. Packets that are held stay held.
    pub(crate) fn fit(&mut self, rate: DataRate) {
        let wanted = usize::try_from(rate.bytes_in(SPAN)).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        if wanted <= self.bytes.len() {
            return;
        }
        let mut larger = Self::sized(wanted.next_power_of_two());
        let mut held: Vec<u64> = self.entries.iter().filter(|meta| meta.at != 0).map(|meta| meta.number).collect();
        held.sort_unstable();
        for number in held {
            if let Some((meta, descriptor, payload)) = self.get(number) {
                larger.insert(*meta, descriptor, payload);
            }
        }
        *self = larger;
    }
}

/// `at` in a ring whose size is a power of two.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "less than `size`, which is a length")]
const fn offset(at: u64, size: u64) -> usize {
    (at & (size - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(number: u64) -> Meta {
        Meta { number, ..Meta::default() }
    }

    #[test]
    fn a_packet_comes_back_until_the_ring_has_gone_round() {
        let mut store = PacketStore::sized(MIN_BYTES);
        let payload = [7_u8; 1_000];
        for number in 0..40 {
            store.insert(meta(number), &[1, 2], &payload);
        }
        let held: Vec<u64> = (0..40).filter(|&number| store.get(number).is_some()).collect();
        assert!(held.len() >= 31 && held.last() == Some(&39) && !held.contains(&0));
        let (_, descriptor, body) = store.get(39).unwrap();
        assert_eq!((descriptor, body), (&[1, 2][..], &payload[..]));
    }

    #[test]
    fn a_number_that_never_came_is_not_there() {
        let mut store = PacketStore::new(false);
        assert!(store.get(0).is_none());
        store.insert(meta(5), &[], b"x");
        assert!(store.get(5 + store.entries.len() as u64).is_none());
        assert!(store.get(0).is_none());
    }

    #[test]
    fn growing_keeps_what_is_held() {
        let mut store = PacketStore::new(true);
        for number in 0..200_u64 {
            store.insert(meta(number), &[], &number.to_be_bytes());
        }
        store.fit(DataRate::from_bps(20_000_000));
        assert!(store.bytes.len() > 1_000_000);
        assert!((0..200_u64).all(|number| store.get(number).is_some_and(|(_, _, p)| p == number.to_be_bytes())));
    }
}

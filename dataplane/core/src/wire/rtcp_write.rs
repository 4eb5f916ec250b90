//! RTCP packets that an SFU writes (RFC 3550, RFC 4585, RFC 5104, draft-alvestrand-rmcat-remb). Each writer appends one
//! packet to a [`Buffer`]; where it does not fit, it returns false and writes nothing.

use super::rtcp::{
    BLOCK, BYE, FORMAT_APPLICATION, FORMAT_FULL_INTRA, FORMAT_NACK, FORMAT_PICTURE_LOSS, HEADER, PAYLOAD_FEEDBACK,
    RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION, TRANSPORT_FEEDBACK,
};

/// The largest count that the five bits of the header hold (RFC 3550 6.4.1).
const MAX_COUNT: usize = 31;
const CNAME: u8 = 1;

/// A compound packet that is being written. Behind its 1,400 bytes there is room for what SRTCP appends.
#[derive(Clone)]
pub struct Buffer {
    bytes: [u8; Self::CAPACITY + Self::TRAILER],
    len: usize,
}

impl Buffer {
    /// How many bytes of packets it holds.
    pub const CAPACITY: usize = 1_400;
    /// Room for an SRTCP index and a tag (RFC 3711 3.4, RFC 7714 9).
    const TRAILER: usize = 32;

    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY + Self::TRAILER], len: 0 }
    }

    /// Forgets what was written.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// What was written.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// How many bytes were written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True where nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes of packets fit yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        Self::CAPACITY - self.len
    }

    /// Begins a packet whose body is `body` bytes, a multiple of 4; `None` where it does not fit.
    pub(super) fn packet(&mut self, count: u8, kind: u8, body: usize) -> Option<Body<'_>> {
        debug_assert!(body.is_multiple_of(4), "RTCP packets are whole words");
        let words = u16::try_from(body / 4).ok()?;
        let end = self.len.checked_add(HEADER + body).filter(|end| *end <= Self::CAPACITY)?;
        let mut packet = Body { room: self.bytes.get_mut(self.len..end)? };
        self.len = end;
        packet.u16(u16::from_be_bytes([0x80 | count, kind]));
        packet.u16(words);
        Some(packet)
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

/// The whole storage, the room for SRTCP's trailer included: for sealing in place.
impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl core::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Buffer").field(&self.as_slice()).finish()
    }
}

/// The part of a packet that is not written yet.
pub(super) struct Body<'a> {
    room: &'a mut [u8],
}

impl Body<'_> {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room.len(), "the packet was begun with the length of its fields");
        if let Some((field, rest)) = core::mem::take(&mut self.room).split_at_mut_checked(bytes.len()) {
            field.copy_from_slice(bytes);
            self.room = rest;
        }
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.bytes(&number.to_be_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    /// What is left becomes padding of zeros.
    pub(super) fn zeros(&mut self) {
        self.room.fill(0);
    }

    fn block(&mut self, block: &ReportBlock) {
        let [_, high, middle, low] = block.lost.clamp(-0x80_0000, 0x7F_FFFF).to_be_bytes();
        self.u32(block.ssrc);
        self.bytes(&[block.fraction_lost, high, middle, low]);
        for field in [block.highest_sequence, block.jitter, block.last_sr, block.delay] {
            self.u32(field);
        }
    }
}

/// A sender report with no blocks (RFC 3550 6.4.1). `ntp` is the 64-bit NTP time stamp, `rtp_timestamp` the same moment
/// on the payload's clock.
pub fn write_sender_report(b: &mut Buffer, ssrc: u32, ntp: u64, rtp_timestamp: u32, packets: u32, octets: u32) -> bool {
    let Some(mut body) = b.packet(0, SENDER_REPORT, 24) else { return false };
    body.u32(ssrc);
    body.bytes(&ntp.to_be_bytes());
    for field in [rtp_timestamp, packets, octets] {
        body.u32(field);
    }
    true
}

/// A receiver report (RFC 3550 6.4.2). More than 31 blocks fit into no report: the caller splits.
pub fn write_receiver_report(b: &mut Buffer, ssrc: u32, blocks: &[ReportBlock]) -> bool {
    let Some(count) = count(blocks.len()) else { return false };
    let Some(mut body) = b.packet(count, RECEIVER_REPORT, 4 + BLOCK * blocks.len()) else { return false };
    body.u32(ssrc);
    for block in blocks {
        body.block(block);
    }
    true
}

fn count(number: usize) -> Option<u8> {
    u8::try_from(number).ok().filter(|_| number <= MAX_COUNT)
}

/// A source description with the CNAME of `ssrc`, of which at most 255 bytes are written (RFC 3550 6.5.1).
pub fn write_cname(b: &mut Buffer, ssrc: u32, name: &str) -> bool {
    let text = name.as_bytes().get(..255).unwrap_or(name.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "at most 255")]
    let length = text.len() as u8;
    // SSRC, item type, length, the text, and at least one zero that ends the items.
    let size = (4 + 2 + text.len() + 1).next_multiple_of(4);
    let Some(mut body) = b.packet(1, SOURCE_DESCRIPTION, size) else { return false };
    body.u32(ssrc);
    body.bytes(&[CNAME, length]);
    body.bytes(text);
    body.zeros();
    true
}

/// A generic NACK for `numbers`, which are in sending order (RFC 4585 6.2.1).
pub fn write_nack(b: &mut Buffer, sender_ssrc: u32, media_ssrc: u32, numbers: &[u16]) -> bool {
    let size = 8 + 4 * nack_pairs(numbers).count();
    let Some(mut body) = b.packet(FORMAT_NACK, TRANSPORT_FEEDBACK, size) else { return false };
    body.u32(sender_ssrc);
    body.u32(media_ssrc);
    for (number, mask) in nack_pairs(numbers) {
        body.u16(number);
        body.u16(mask);
    }
    true
}

/// Packet id and bit mask of the following lost packets.
fn nack_pairs(mut numbers: &[u16]) -> impl Iterator<Item = (u16, u16)> {
    core::iter::from_fn(move || {
        let (&first, mut rest) = numbers.split_first()?;
        let mut mask = 0;
        while let Some((&number, after)) = rest.split_first() {
            let distance = number.wrapping_sub(first);
            if !(1..=16).contains(&distance) {
                break;
            }
            mask |= 1 << (distance - 1);
            rest = after;
        }
        numbers = rest;
        Some((first, mask))
    })
}

/// A PLI (RFC 4585 6.3.1).
pub fn write_picture_loss(b: &mut Buffer, sender_ssrc: u32, media_ssrc: u32) -> bool {
    let Some(mut body) = b.packet(FORMAT_PICTURE_LOSS, PAYLOAD_FEEDBACK, 8) else { return false };
    body.u32(sender_ssrc);
    body.u32(media_ssrc);
    true
}

/// A FIR for one source (RFC 5104 4.3.1); `command` is its sequence number, one higher for each new command.
pub fn write_full_intra(b: &mut Buffer, sender_ssrc: u32, media_ssrc: u32, command: u8) -> bool {
    let Some(mut body) = b.packet(FORMAT_FULL_INTRA, PAYLOAD_FEEDBACK, 16) else { return false };
    for field in [sender_ssrc, 0, media_ssrc, u32::from(command) << 24] {
        body.u32(field);
    }
    true
}

/// The receiver's estimate for `ssrcs` (draft-alvestrand-rmcat-remb-03 2.2). The rate is rounded down to 18 bits; more
/// than 255 sources fit into no packet.
pub fn write_remb(b: &mut Buffer, sender_ssrc: u32, bitrate_bps: u64, ssrcs: &[u32]) -> bool {
    let Ok(count) = u8::try_from(ssrcs.len()) else { return false };
    let Some(mut body) = b.packet(FORMAT_APPLICATION, PAYLOAD_FEEDBACK, 16 + 4 * ssrcs.len()) else { return false };
    let exponent = (u64::BITS - bitrate_bps.leading_zeros()).saturating_sub(18);
    let mantissa = bitrate_bps >> exponent;
    #[expect(clippy::cast_possible_truncation, reason = "a mantissa of 18 bits")]
    let rate = u32::from(count) << 24 | exponent << 18 | mantissa as u32;
    body.u32(sender_ssrc);
    body.u32(0);
    body.bytes(b"REMB");
    body.u32(rate);
    for ssrc in ssrcs {
        body.u32(*ssrc);
    }
    true
}

/// A BYE (RFC 3550 6.6). More than 31 sources fit into no packet.
pub fn write_bye(b: &mut Buffer, ssrcs: &[u32]) -> bool {
    let Some(mut body) = count(ssrcs.len()).and_then(|count| b.packet(count, BYE, 4 * ssrcs.len())) else {
        return false;
    };
    for ssrc in ssrcs {
        body.u32(*ssrc);
    }
    true
}

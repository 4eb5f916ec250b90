//! The few header fields that SRTP itself needs; they are read before a packet is known to be authentic.

/// Bytes of an RTP header without CSRCs and extension.
pub(super) const RTP_FIXED: usize = 12;
/// Bytes of the part of an RTCP packet that stays in the clear.
pub(super) const RTCP_FIXED: usize = 8;

/// Bytes of the RTP header with CSRCs and extension (RFC 3550 5.1); `None` where the packet is shorter.
pub(super) fn rtp_header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut len = RTP_FIXED + 4 * usize::from(first & 0x0F);
    if first & 0x10 != 0 {
        let words = packet.get(len + 2..len + 4)?.first_chunk::<2>()?;
        len += 4 + 4 * usize::from(u16::from_be_bytes(*words));
    }
    (len <= packet.len()).then_some(len)
}

/// The sequence number of an RTP packet.
pub(super) fn rtp_sequence(packet: &[u8]) -> Option<u16> {
    packet.get(2..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The SSRC of an RTP packet.
pub(super) fn rtp_ssrc(packet: &[u8]) -> Option<u32> {
    word(packet, 8)
}

/// The SSRC of the sender of an RTCP packet.
pub(super) fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    word(packet, 4)
}

/// The four bytes at `at`, in network order.
pub(super) fn word(packet: &[u8], at: usize) -> Option<u32> {
    packet.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

//! What is on the wire: RTP, RTCP with transport-wide feedback, and STUN. All of it borrows from the datagram and
//! allocates nothing; a datagram that breaks a rule gives [`Malformed`], whatever its bytes.

pub mod rtcp;
pub mod rtcp_write;
pub mod rtp;
pub mod stun;
pub mod twcc;
mod twcc_write;

use core::fmt;

/// Why a datagram is not what it should be. The text is for people: no program decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Malformed {}

/// The `N` bytes of `data` from `at`; `None` where it ends before.
pub(crate) fn bytes_at<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

/// The big-endian number of 16 bits at `at`.
pub(crate) fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    bytes_at(data, at).map(u16::from_be_bytes)
}

/// The big-endian number of 32 bits at `at`.
pub(crate) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    bytes_at(data, at).map(u32::from_be_bytes)
}

/// The big-endian number of 32 bits that ends `bytes`: for the whole words that `chunks_exact` yields.
pub(crate) fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

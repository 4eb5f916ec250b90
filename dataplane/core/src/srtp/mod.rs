//! SRTP and SRTCP (RFC 3711) with the profiles that browsers negotiate: AES-CM with HMAC-SHA1 (RFC 5764 4.1.2) and
//! AES-GCM (RFC 7714).
//!
//! A [`Sealer`] is one sending direction, an [`Opener`] one receiving direction. Both work in the caller's buffer and
//! allocate nothing for a packet; an [`Opener`] allocates when an authentic packet brings a new SSRC.

mod cm;
mod gcm;
mod header;
mod keys;
mod open;
mod profile;
mod replay;
mod seal;

use core::fmt;

pub use keys::{KeySet, SessionKeys};
pub use open::{MAX_SSRCS, OpenError, Opened, Opener};
pub use profile::{MAX_OVERHEAD, Profile};
pub use seal::Sealer;

/// The keying material has not the length that its profile demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey;

impl fmt::Display for BadKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("the keying material has the wrong length")
    }
}

impl core::error::Error for BadKey {}

/// The E flag of an SRTCP packet: its payload is encrypted (RFC 3711 3.4).
const E_FLAG: u32 = 1 << 31;

/// A cipher with its authentication under the session keys of one direction.
///
/// Lengths and the SSRC are read from the packet by the methods themselves; `None` means that the packet is too short,
/// the buffer too small or, where a packet is opened, that it is not authentic. What is in the buffer then is undefined.
trait Protection: Send + Sync {
    /// Seals the first `len` bytes of `buf`, of which `header_len` stay in the clear; the sealed length.
    fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> Option<usize>;

    /// Opens the whole of `buf`; the length of the packet in it.
    fn open_rtp(&self, buf: &mut [u8], header_len: usize, index: u64) -> Option<usize>;

    /// Seals the first `len` bytes of `buf` as SRTCP packet number `index` (31 bits); the sealed length.
    fn seal_rtcp(&self, buf: &mut [u8], len: usize, index: u32) -> Option<usize>;

    /// Opens the whole of `buf`, which [`rtcp_word`](Self::rtcp_word) was read from; the length of the packet in it.
    fn open_rtcp(&self, buf: &mut [u8], word: u32) -> Option<usize>;

    /// The E flag and the index of an SRTCP packet.
    fn rtcp_word(&self, packet: &[u8]) -> Option<u32>;
}

fn protection(profile: Profile, keys: &SessionKeys) -> Result<Box<dyn Protection>, BadKey> {
    Ok(match profile {
        Profile::Aes128CmSha1_80 => Box::new(cm::CounterMode::new(keys)?),
        Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => Box::new(gcm::Gcm::new(profile, keys)?),
    })
}

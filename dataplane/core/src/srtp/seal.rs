//! One sending direction.

use core::fmt;

use super::header::{RTCP_FIXED, RTP_FIXED, rtp_sequence};
use super::{BadKey, E_FLAG, Profile, Protection, SessionKeys, protection};

/// The first packet index that no longer exists (RFC 3711 9.2: at most 2^48 packets under one key).
const INDEX_END: u64 = 1 << 48;

/// Seals the packets of one direction.
pub struct Sealer {
    profile: Profile,
    protection: Box<dyn Protection>,
    next_rtcp: u32,
}

impl Sealer {
    /// A sealer under a master key followed by its salt.
    ///
    /// # Errors
    /// [`BadKey`] where the length is not the sum of the profile's key and salt lengths.
    pub fn new(profile: Profile, key_and_salt: &[u8]) -> Result<Self, BadKey> {
        Self::with_session_keys(profile, &SessionKeys::derive(profile, key_and_salt)?)
    }

    /// A sealer under session keys that were derived already.
    ///
    /// # Errors
    /// [`BadKey`] where the cipher refuses its key.
    pub fn with_session_keys(profile: Profile, keys: &SessionKeys) -> Result<Self, BadKey> {
        Ok(Self { profile, protection: protection(profile, keys)?, next_rtcp: 0 })
    }

    /// The same sealer, whose SRTCP indexes go on after another's: keys that are given twice must not seal two packets
    /// under one index.
    #[must_use]
    pub fn after(mut self, former: Option<&Self>) -> Self {
        self.next_rtcp = former.map_or(self.next_rtcp, |former| self.next_rtcp.max(former.next_rtcp));
        self
    }

    /// Seals the RTP packet in the first `len` bytes of `buf` in place; the sealed length.
    ///
    /// `header_len` bytes (fixed header, CSRCs and extension block) stay in the clear. `index` is the packet's 48-bit
    /// index (RFC 3711 3.3.1), whose low 16 bits are its sequence number. **The caller never seals an SSRC and index
    /// twice**: with GCM that would give the key away.
    ///
    /// `None`, where `buf` has no room for [`Profile::rtp_overhead`] more bytes, the lengths contradict each other, or
    /// the index has more than 48 bits or does not end with the sequence number. The packet must then not be sent.
    pub fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> Option<usize> {
        let room = buf.len().saturating_sub(self.profile.rtp_overhead());
        let fits = RTP_FIXED <= header_len && header_len <= len && len <= room;
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
        let agrees = rtp_sequence(buf) == Some(index as u16) && index < INDEX_END;
        if !fits || !agrees {
            return None;
        }
        self.protection.seal_rtp(buf, header_len, len, index)
    }

    /// Seals the compound RTCP packet in the first `len` bytes of `buf` in place; the sealed length.
    ///
    /// The SRTCP index counts from zero over all SSRCs of this direction. `None`, where `buf` has no room for
    /// [`Profile::rtcp_overhead`] more bytes, the packet is shorter than 8 bytes, or all 2^31 indexes are used up.
    pub fn seal_rtcp(&mut self, buf: &mut [u8], len: usize) -> Option<usize> {
        let room = buf.len().saturating_sub(self.profile.rtcp_overhead());
        let fits = RTCP_FIXED <= len && len <= room;
        if !fits || self.next_rtcp >= E_FLAG {
            return None;
        }
        let index = self.next_rtcp;
        self.next_rtcp += 1;
        self.protection.seal_rtcp(buf, len, index)
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Sealer").field("profile", &self.profile).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_srtcp_index_past_31_bits_is_never_used() {
        let mut sealer = Sealer::new(Profile::AeadAes128Gcm, &[7; 28]).unwrap();
        sealer.next_rtcp = E_FLAG - 1;
        let mut buf = [0; 64];
        assert_eq!(sealer.seal_rtcp(&mut buf, 8), Some(28));
        assert_eq!(buf[24..28], [0xFF; 4]);
        assert_eq!(sealer.seal_rtcp(&mut buf, 8), None);
    }
}

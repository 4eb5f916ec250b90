//! One receiving direction.

use core::fmt;

use rustc_hash::FxHashMap;

use super::header::{RTCP_FIXED, rtcp_ssrc, rtp_header_len, rtp_sequence, rtp_ssrc};
use super::replay::Window;
use super::{BadKey, E_FLAG, Profile, Protection, SessionKeys, protection};

/// The most SSRCs that one direction remembers, RTP and RTCP apart.
pub const MAX_SSRCS: usize = 1_024;

/// The roll-over counter's last value, shifted to its place.
const LAST_ROLL_OVER: u64 = 0xFFFF_FFFF_0000;

/// An RTP packet that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of the packet in the buffer.
    pub len: usize,
    /// The packet index: 32 bits of roll-over counter and the sequence number.
    pub index: u64,
}

/// Why a packet was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenError {
    /// Shorter than its own header and the profile's overhead.
    TooShort,
    /// A new SSRC while [`MAX_SSRCS`] are remembered.
    TooManySsrcs,
    /// This SSRC and number came already.
    Replayed,
    /// Older than the replay window.
    TooOld,
    /// Not authentic, or SRTCP that is not encrypted as the profile demands.
    Forged,
}

impl fmt::Display for OpenError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::TooShort => "the packet is shorter than header and tag",
            Self::TooManySsrcs => "the packet has one SSRC too many",
            Self::Replayed => "the packet came already",
            Self::TooOld => "the packet is older than the replay window",
            Self::Forged => "the packet is not authentic",
        })
    }
}

impl core::error::Error for OpenError {}

/// Opens the packets of one direction, each once.
pub struct Opener {
    profile: Profile,
    protection: Box<dyn Protection>,
    rtp: FxHashMap<u32, Window<17>>,
    rtcp: FxHashMap<u32, Window<3>>,
}

impl Opener {
    /// An opener under a master key followed by its salt.
    ///
    /// # Errors
    /// [`BadKey`] where the length is not the sum of the profile's key and salt lengths.
    pub fn new(profile: Profile, key_and_salt: &[u8]) -> Result<Self, BadKey> {
        Self::with_session_keys(profile, &SessionKeys::derive(profile, key_and_salt)?)
    }

    /// An opener under session keys that were derived already.
    ///
    /// # Errors
    /// [`BadKey`] where the cipher refuses its key.
    pub fn with_session_keys(profile: Profile, keys: &SessionKeys) -> Result<Self, BadKey> {
        let protection = protection(profile, keys)?;
        Ok(Self { profile, protection, rtp: FxHashMap::default(), rtcp: FxHashMap::default() })
    }

    /// Opens the SRTP packet that `buf` holds, in place.
    ///
    /// The roll-over counter is estimated from the highest authentic index of the SSRC (RFC 3711 3.3.1); a new SSRC
    /// starts with zero and is remembered only when its packet is authentic. The replay window is 1,024 packets.
    ///
    /// # Errors
    /// See [`OpenError`]; what `buf` holds then is undefined.
    pub fn open_rtp(&mut self, buf: &mut [u8]) -> Result<Opened, OpenError> {
        let header_len = rtp_header_len(buf).ok_or(OpenError::TooShort)?;
        if buf.len() < header_len + self.profile.rtp_overhead() {
            return Err(OpenError::TooShort);
        }
        let (Some(sequence), Some(ssrc)) = (rtp_sequence(buf), rtp_ssrc(buf)) else {
            return Err(OpenError::TooShort);
        };
        let full = self.rtp.len() >= MAX_SSRCS;
        let window = self.rtp.get_mut(&ssrc);
        let index = expect_index(window.as_deref(), full, |window| estimate(window.highest(), sequence))?
            .unwrap_or(u64::from(sequence));
        let len = self.protection.open_rtp(buf, header_len, index).ok_or(OpenError::Forged)?;
        match window {
            Some(window) => window.accept(index),
            None => drop(self.rtp.insert(ssrc, Window::starting_with(index))),
        }
        Ok(Opened { len, index })
    }

    /// Opens the SRTCP packet that `buf` holds, in place; the length of the compound packet in it.
    ///
    /// The replay window is 128 packets of an SSRC.
    ///
    /// # Errors
    /// See [`OpenError`]; what `buf` holds then is undefined.
    pub fn open_rtcp(&mut self, buf: &mut [u8]) -> Result<usize, OpenError> {
        if buf.len() < RTCP_FIXED + self.profile.rtcp_overhead() {
            return Err(OpenError::TooShort);
        }
        let (Some(ssrc), Some(word)) = (rtcp_ssrc(buf), self.protection.rtcp_word(buf)) else {
            return Err(OpenError::TooShort);
        };
        if word & E_FLAG == 0 {
            return Err(OpenError::Forged); // WebRTC forbids unencrypted SRTCP (RFC 8827 6.5)
        }
        let index = u64::from(word & !E_FLAG);
        let full = self.rtcp.len() >= MAX_SSRCS;
        let window = self.rtcp.get_mut(&ssrc);
        expect_index(window.as_deref(), full, |_| index)?;
        let len = self.protection.open_rtcp(buf, word).ok_or(OpenError::Forged)?;
        match window {
            Some(window) => window.accept(index),
            None => drop(self.rtcp.insert(ssrc, Window::starting_with(index))),
        }
        Ok(len)
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }
}

/// The index to try, `None` for that of a new SSRC; refuses what came already before any cryptography.
fn expect_index<const WORDS: usize>(
    window: Option<&Window<WORDS>>,
    full: bool,
    index: impl FnOnce(&Window<WORDS>) -> u64,
) -> Result<Option<u64>, OpenError> {
    match window {
        Some(window) => {
            let index = index(window);
            window.check(index).map(|()| Some(index))
        }
        None if full => Err(OpenError::TooManySsrcs),
        None => Ok(None),
    }
}

/// The index nearest to `highest` that ends with `sequence` (RFC 3711 3.3.1), within 48 bits.
fn estimate(highest: u64, sequence: u16) -> u64 {
    let same = highest & LAST_ROLL_OVER | u64::from(sequence);
    let last = highest & 0xFFFF;
    let number = u64::from(sequence);
    if last < 0x8000 && number > last + 0x8000 {
        same.checked_sub(0x1_0000).unwrap_or(same)
    } else if last >= 0x8000 && number < last - 0x8000 && same < LAST_ROLL_OVER {
        same + 0x1_0000
    } else {
        same
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut to = to.debug_struct("Opener");
        to.field("profile", &self.profile).field("ssrcs", &self.rtp.len()).finish_non_exhaustive()
    }
}

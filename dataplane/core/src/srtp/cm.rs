//! AES in counter mode with HMAC-SHA1 (RFC 3711 4.1.1 and 4.2.1), tags of 80 bits.

use aes::Aes128Enc;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::header::{RTCP_FIXED, rtcp_ssrc, rtp_ssrc, word};
use super::keys::{KeySet, SessionKeys};
use super::profile::RTCP_WORD;
use super::{BadKey, E_FLAG, Protection};

const TAG: usize = 10;

pub(super) struct CounterMode {
    rtp: Keyed,
    rtcp: Keyed,
}

impl CounterMode {
    pub(super) fn new(keys: &SessionKeys) -> Result<Self, BadKey> {
        Ok(Self { rtp: Keyed::new(&keys.rtp)?, rtcp: Keyed::new(&keys.rtcp)? })
    }
}

struct Keyed {
    cipher: Aes128Enc,
    /// Has taken in the key already; cloned for each packet.
    authentication: Hmac<Sha1>,
    salt: u128,
}

impl Keyed {
    fn new(keys: &KeySet) -> Result<Self, BadKey> {
        let key = keys.cipher.first_chunk::<16>().ok_or(BadKey)?;
        Ok(Self {
            cipher: Aes128Enc::new(key.into()),
            authentication: Hmac::new_from_slice(&keys.authentication).map_err(|_| BadKey)?,
            salt: keys.salt.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)) << 16,
        })
    }

    /// Encrypts, or decrypts, in place.
    fn apply(&self, ssrc: u32, index: u64, text: &mut [u8]) -> Option<()> {
        let iv = self.salt ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        let core = CtrCore::<&Aes128Enc, Ctr128BE>::inner_iv_init(&self.cipher, &iv.to_be_bytes().into());
        StreamCipherCoreWrapper::from_core(core).try_apply_keystream(text).ok()
    }

    fn authenticated(&self, packet: &[u8], last: [u8; 4]) -> Hmac<Sha1> {
        let mut state = self.authentication.clone();
        state.update(packet);
        state.update(&last);
        state
    }

    fn tag(&self, packet: &[u8], last: [u8; 4], room: &mut [u8]) -> Option<()> {
        let tag = self.authenticated(packet, last).finalize().into_bytes();
        room.get_mut(..TAG)?.copy_from_slice(tag.get(..TAG)?);
        Some(())
    }
}

/// The roll-over counter, as it is authenticated after the packet.
#[expect(clippy::cast_possible_truncation, reason = "an index has 48 bits")]
fn roll_over(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

impl Protection for CounterMode {
    fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> Option<usize> {
        let ssrc = rtp_ssrc(buf)?;
        let (packet, rest) = buf.split_at_mut_checked(len)?;
        self.rtp.apply(ssrc, index, packet.get_mut(header_len..)?)?;
        self.rtp.tag(packet, roll_over(index), rest)?;
        Some(len + TAG)
    }

    fn open_rtp(&self, buf: &mut [u8], header_len: usize, index: u64) -> Option<usize> {
        let ssrc = rtp_ssrc(buf)?;
        let len = buf.len().checked_sub(TAG)?;
        let (packet, tag) = buf.split_at_mut_checked(len)?;
        self.rtp.authenticated(packet, roll_over(index)).verify_truncated_left(tag).ok()?;
        self.rtp.apply(ssrc, index, packet.get_mut(header_len..)?)?;
        Some(len)
    }

    fn seal_rtcp(&self, buf: &mut [u8], len: usize, index: u32) -> Option<usize> {
        let ssrc = rtcp_ssrc(buf)?;
        let word = (index | E_FLAG).to_be_bytes();
        let (packet, rest) = buf.split_at_mut_checked(len)?;
        self.rtcp.apply(ssrc, u64::from(index), packet.get_mut(RTCP_FIXED..)?)?;
        let (end, rest) = rest.split_first_chunk_mut::<RTCP_WORD>()?;
        *end = word;
        self.rtcp.tag(packet, word, rest)?;
        Some(len + RTCP_WORD + TAG)
    }

    fn open_rtcp(&self, buf: &mut [u8], word: u32) -> Option<usize> {
        let ssrc = rtcp_ssrc(buf)?;
        let len = buf.len().checked_sub(TAG + RTCP_WORD)?;
        let (packet, rest) = buf.split_at_mut_checked(len)?;
        let state = self.rtcp.authenticated(packet, word.to_be_bytes());
        state.verify_truncated_left(rest.get(RTCP_WORD..)?).ok()?;
        self.rtcp.apply(ssrc, u64::from(word & !E_FLAG), packet.get_mut(RTCP_FIXED..)?)?;
        Some(len)
    }

    fn rtcp_word(&self, packet: &[u8]) -> Option<u32> {
        word(packet, packet.len().checked_sub(TAG + RTCP_WORD)?)
    }
}

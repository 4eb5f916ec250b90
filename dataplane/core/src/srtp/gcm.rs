//! AES-GCM (RFC 7714 8 and 9).

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::header::{RTCP_FIXED, rtcp_ssrc, rtp_ssrc, word};
use super::keys::{KeySet, SessionKeys};
use super::profile::RTCP_WORD;
use super::{BadKey, E_FLAG, Profile, Protection};

const TAG: usize = 16;

pub(super) struct Gcm {
    rtp: Keyed,
    rtcp: Keyed,
}

impl Gcm {
    pub(super) fn new(profile: Profile, keys: &SessionKeys) -> Result<Self, BadKey> {
        Ok(Self { rtp: Keyed::new(profile, &keys.rtp)?, rtcp: Keyed::new(profile, &keys.rtcp)? })
    }
}

struct Keyed {
    key: LessSafeKey,
    salt: u128,
}

impl Keyed {
    fn new(profile: Profile, keys: &KeySet) -> Result<Self, BadKey> {
        let algorithm = if profile == Profile::AeadAes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
        let key = keys.cipher.get(..profile.key_len()).ok_or(BadKey)?;
        let key = UnboundKey::new(algorithm, key).map_err(|_| BadKey)?;
        let salt = keys.salt.iter().take(profile.salt_len()).fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        Ok(Self { key: LessSafeKey::new(key), salt })
    }

    /// Two zero bytes, the SSRC and 48 bits of index (SRTP: the roll-over counter and the sequence number; SRTCP: the
    /// index), all mixed with the salt (RFC 7714 8.1, 9.1).
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mixed = (u128::from(ssrc) << 48 | u128::from(index)) ^ self.salt;
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&mixed.to_be_bytes()[4..]);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `text` in place and puts the tag at the start of `rest`.
    fn seal(&self, nonce: Nonce, clear: &[u8], text: &mut [u8], rest: &mut [u8]) -> Option<()> {
        let room = rest.first_chunk_mut::<TAG>()?;
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(clear), text).ok()?;
        room.copy_from_slice(tag.as_ref());
        Some(())
    }

    /// Decrypts `text` in place where the tag at the start of `rest` is right.
    fn open(&self, nonce: Nonce, clear: &[u8], text: &mut [u8], rest: &[u8]) -> Option<()> {
        let tag = Tag::from(*rest.first_chunk::<TAG>()?);
        self.key.open_in_place_separate_tag(nonce, Aad::from(clear), tag, text, 0..).ok()?;
        Some(())
    }
}

impl Protection for Gcm {
    fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> Option<usize> {
        let nonce = self.rtp.nonce(rtp_ssrc(buf)?, index);
        let (packet, rest) = buf.split_at_mut_checked(len)?;
        let (header, payload) = packet.split_at_mut_checked(header_len)?;
        self.rtp.seal(nonce, header, payload, rest)?;
        Some(len + TAG)
    }

    fn open_rtp(&self, buf: &mut [u8], header_len: usize, index: u64) -> Option<usize> {
        let nonce = self.rtp.nonce(rtp_ssrc(buf)?, index);
        let len = buf.len().checked_sub(TAG)?;
        let (packet, tag) = buf.split_at_mut_checked(len)?;
        let (header, payload) = packet.split_at_mut_checked(header_len)?;
        self.rtp.open(nonce, header, payload, tag)?;
        Some(len)
    }

    fn seal_rtcp(&self, buf: &mut [u8], len: usize, index: u32) -> Option<usize> {
        let nonce = self.rtcp.nonce(rtcp_ssrc(buf)?, u64::from(index));
        let word = (index | E_FLAG).to_be_bytes();
        let (packet, rest) = buf.split_at_mut_checked(len)?;
        let (header, payload) = packet.split_first_chunk_mut::<RTCP_FIXED>()?;
        rest.get_mut(TAG..TAG + RTCP_WORD)?.copy_from_slice(&word);
        self.rtcp.seal(nonce, &associated(header, word), payload, rest)?;
        Some(len + TAG + RTCP_WORD)
    }

    fn open_rtcp(&self, buf: &mut [u8], word: u32) -> Option<usize> {
        let nonce = self.rtcp.nonce(rtcp_ssrc(buf)?, u64::from(word & !E_FLAG));
        let len = buf.len().checked_sub(TAG + RTCP_WORD)?;
        let (packet, rest) = buf.split_at_mut_checked(len)?;
        let (header, payload) = packet.split_first_chunk_mut::<RTCP_FIXED>()?;
        self.rtcp.open(nonce, &associated(header, word.to_be_bytes()), payload, rest)?;
        Some(len)
    }

    fn rtcp_word(&self, packet: &[u8]) -> Option<u32> {
        word(packet, packet.len().checked_sub(RTCP_WORD)?)
    }
}

/// What of an SRTCP packet is authenticated but in the clear (RFC 7714 9.2).
fn associated(header: &[u8; RTCP_FIXED], word: [u8; RTCP_WORD]) -> [u8; RTCP_FIXED + RTCP_WORD] {
    let mut associated = [0; RTCP_FIXED + RTCP_WORD];
    associated[..RTCP_FIXED].copy_from_slice(header);
    associated[RTCP_FIXED..].copy_from_slice(&word);
    associated
}

//! Session keys out of a master key and salt (RFC 3711 4.3 with a key derivation rate of zero, RFC 6188 for AES-256,
//! RFC 7714 11 for the shorter salt of GCM).

use core::fmt;

use aes::cipher::{KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use ctr::Ctr128BE;

use super::{BadKey, Profile};

/// The longest session key, in bytes.
const MAX_KEY: usize = 32;
/// Bytes of a salt in counter mode; GCM uses the first 12.
const SALT: usize = 14;
/// Bytes of an HMAC-SHA1 key.
const AUTHENTICATION_KEY: usize = 20;

/// The session keys of one protocol, RTP or RTCP, in one direction.
#[derive(Clone)]
pub struct KeySet {
    /// The cipher's key; the profile says how many bytes of it count.
    pub cipher: [u8; MAX_KEY],
    /// The key of HMAC-SHA1, unused by GCM.
    pub authentication: [u8; AUTHENTICATION_KEY],
    /// The salt; the profile says how many bytes of it count.
    pub salt: [u8; SALT],
}

/// All session keys of one direction.
#[derive(Clone)]
pub struct SessionKeys {
    /// Keys of RTP.
    pub rtp: KeySet,
    /// Keys of RTCP.
    pub rtcp: KeySet,
}

impl SessionKeys {
    /// Derives the session keys from a master key followed by its salt.
    ///
    /// # Errors
    /// [`BadKey`] where the length is not the sum of the profile's key and salt lengths.
    pub fn derive(profile: Profile, key_and_salt: &[u8]) -> Result<Self, BadKey> {
        if key_and_salt.len() != profile.key_len() + profile.salt_len() {
            return Err(BadKey);
        }
        let (key, short_salt) = key_and_salt.split_at(profile.key_len());
        let mut salt = [0; SALT];
        // the salt of GCM is padded on the right (RFC 7714 11)
        salt.get_mut(..short_salt.len()).ok_or(BadKey)?.copy_from_slice(short_salt);
        Ok(Self { rtp: KeySet::derive(profile, key, salt, 0)?, rtcp: KeySet::derive(profile, key, salt, 3)? })
    }
}

impl KeySet {
    /// `first_label` is the label of the cipher's key; those of authentication and salt follow it.
    fn derive(profile: Profile, key: &[u8], master_salt: [u8; SALT], first_label: u8) -> Result<Self, BadKey> {
        let mut set = Self { cipher: [0; MAX_KEY], authentication: [0; AUTHENTICATION_KEY], salt: [0; SALT] };
        let cipher = set.cipher.get_mut(..profile.key_len()).ok_or(BadKey)?;
        pseudo_random(key, master_salt, first_label, cipher)?;
        pseudo_random(key, master_salt, first_label + 1, &mut set.authentication)?;
        let salt = set.salt.get_mut(..profile.salt_len()).ok_or(BadKey)?;
        pseudo_random(key, master_salt, first_label + 2, salt)?;
        Ok(set)
    }
}

/// Fills `out`, which is all zero, with the key stream of `label`.
fn pseudo_random(key: &[u8], salt: [u8; SALT], label: u8, out: &mut [u8]) -> Result<(), BadKey> {
    let mut iv = [0; 16];
    iv[..SALT].copy_from_slice(&salt);
    iv[7] ^= label; // the label stands left of the 48 bits of the index, which is zero
    if key.len() == 16 {
        Ctr128BE::<Aes128>::new_from_slices(key, &iv).map_err(|_| BadKey)?.apply_keystream(out);
    } else {
        Ctr128BE::<Aes256>::new_from_slices(key, &iv).map_err(|_| BadKey)?.apply_keystream(out);
    }
    Ok(())
}

impl fmt::Debug for KeySet {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("KeySet(redacted)")
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("SessionKeys(redacted)")
    }
}

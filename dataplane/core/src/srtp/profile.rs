//! The protection profiles and what each adds to a packet.

/// A protection profile as DTLS-SRTP names it (RFC 5764 4.1.2, RFC 7714 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AES-128 in counter mode with an HMAC-SHA1 tag of 80 bits.
    Aes128CmSha1_80,
    /// AES-128 in Galois/counter mode with a tag of 128 bits.
    AeadAes128Gcm,
    /// AES-256 in Galois/counter mode with a tag of 128 bits.
    AeadAes256Gcm,
}

/// The most bytes that sealing adds to a packet, over all profiles and both protocols.
pub const MAX_OVERHEAD: usize = 20;

/// Bytes of the E flag and index that SRTCP adds (RFC 3711 3.4).
pub(super) const RTCP_WORD: usize = 4;

impl Profile {
    /// The profile of an SDES or DTLS-SRTP name: "AES128_CM_SHA1_80", "AEAD_AES_128_GCM" or "AEAD_AES_256_GCM".
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "AES128_CM_SHA1_80" => Some(Self::Aes128CmSha1_80),
            "AEAD_AES_128_GCM" => Some(Self::AeadAes128Gcm),
            "AEAD_AES_256_GCM" => Some(Self::AeadAes256Gcm),
            _ => None,
        }
    }

    /// Bytes of the master key, and of a session key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of the master salt, and of a session salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 10,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Bytes that sealing adds to an RTCP packet.
    #[must_use]
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + RTCP_WORD
    }
}

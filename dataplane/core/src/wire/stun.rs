//! STUN binding requests and their answers, as far as an ICE-lite agent and its clients need them (RFC 8489, RFC 8445).
//!
//! Integrity is a second step after [`parse`], because the password is known only when the user name has been read. Only
//! MESSAGE-INTEGRITY (SHA-1) exists in WebRTC.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::rtp::MAX_DATAGRAM;
use super::{Malformed, bytes_at, u16_at, u32_at};

/// The message type of a binding request.
pub const BINDING_REQUEST: u16 = 0x0001;
/// The message type of a binding success response.
pub const BINDING_SUCCESS: u16 = 0x0101;
/// The message type of a binding error response.
pub const BINDING_ERROR: u16 = 0x0111;
/// How many attributes a message may have.
pub const MAX_ATTRIBUTES: usize = 32;
/// The longest user name in bytes (RFC 8489 14.3).
pub const MAX_USERNAME: usize = 508;
/// What follows the message type and the length (RFC 8489 5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

const HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;
const DIGEST: usize = 20;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// A parsed message; it borrows from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message type, such as [`BINDING_REQUEST`].
    pub kind: u16,
    /// What the answer repeats.
    pub transaction_id: [u8; 12],
    /// USERNAME; empty where it is missing.
    pub username: &'a str,
    /// PRIORITY; 0 where it is missing (RFC 8445 7.1.1).
    pub priority: u32,
    /// USE-CANDIDATE is there (RFC 8445 7.1.2).
    pub use_candidate: bool,
    /// ICE-CONTROLLED is there (RFC 8445 7.1.3).
    pub ice_controlled: bool,
    /// XOR-MAPPED-ADDRESS: in an answer, the address that the request came from.
    pub mapped: Option<SocketAddr>,
    /// The offset of MESSAGE-INTEGRITY.
    pub integrity_at: Option<usize>,
    raw: &'a [u8],
}

/// The message in `data`.
///
/// # Errors
/// [`Malformed`] for a header that is not STUN's, an attribute that does not fit, more than [`MAX_ATTRIBUTES`], a user
/// name that is not UTF-8, a MESSAGE-INTEGRITY of another size than SHA-1's, and a FINGERPRINT that does not match.
pub fn parse(data: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut message = header(data)?;
    let mut at = HEADER;
    let mut seen = 0;
    while at < data.len() {
        let (Some(attribute), Some(length)) = (u16_at(data, at), u16_at(data, at + 2)) else {
            return Err(Malformed("an attribute is cut off"));
        };
        let begin = at + ATTRIBUTE_HEADER;
        let end = begin + usize::from(length);
        let value = data.get(begin..end).ok_or(Malformed("an attribute is longer than the message"))?;
        if seen >= MAX_ATTRIBUTES {
            return Err(Malformed("a message has at most 32 attributes"));
        }
        if attribute == FINGERPRINT {
            check_fingerprint(data.get(..at).unwrap_or_default(), value)?;
        } else if message.integrity_at.is_none() {
            // RFC 8489 14.5: what follows MESSAGE-INTEGRITY is ignored, except FINGERPRINT.
            message.take(attribute, at, value)?;
        }
        (at, seen) = (end.next_multiple_of(4), seen + 1);
    }
    Ok(message)
}

fn header(data: &[u8]) -> Result<Message<'_>, Malformed> {
    let wrong = Malformed("the header is not that of a STUN message");
    if data.len() > MAX_DATAGRAM {
        return Err(Malformed("the size is not that of a STUN message"));
    }
    let transaction_id = bytes_at(data, 8).ok_or(wrong)?;
    let (kind, length) = (u16_at(data, 0).ok_or(wrong)?, u16_at(data, 2).ok_or(wrong)?);
    if kind & 0xC000 != 0 || u32_at(data, 4) != Some(MAGIC_COOKIE) {
        return Err(wrong);
    }
    if !length.is_multiple_of(4) || usize::from(length) + HEADER != data.len() {
        return Err(Malformed("the length is not that of the message"));
    }
    Ok(Message {
        kind,
        transaction_id,
        username: "",
        priority: 0,
        use_candidate: false,
        ice_controlled: false,
        mapped: None,
        integrity_at: None,
        raw: data,
    })
}

fn check_fingerprint(covered: &[u8], value: &[u8]) -> Result<(), Malformed> {
    if value == (crc32fast::hash(covered) ^ FINGERPRINT_XOR).to_be_bytes() {
        Ok(())
    } else {
        Err(Malformed("FINGERPRINT does not match"))
    }
}

impl<'a> Message<'a> {
    fn take(&mut self, attribute: u16, at: usize, value: &'a [u8]) -> Result<(), Malformed> {
        match attribute {
            MESSAGE_INTEGRITY if value.len() != DIGEST => return Err(Malformed("MESSAGE-INTEGRITY has 20 bytes")),
            MESSAGE_INTEGRITY => self.integrity_at = Some(at),
            USERNAME => self.username = str::from_utf8(value).map_err(|_| Malformed("USERNAME is not UTF-8"))?,
            PRIORITY => self.priority = value.try_into().map_or(self.priority, u32::from_be_bytes),
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLED => self.ice_controlled = true,
            XOR_MAPPED_ADDRESS => self.mapped = unmask(value, &self.transaction_id),
            _ => {}
        }
        Ok(())
    }

    /// True for a binding success response.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.kind == BINDING_SUCCESS
    }

    /// True where MESSAGE-INTEGRITY is there and was made with `password` (RFC 8489 14.5). The time it takes does not
    /// depend on where the digests differ.
    #[must_use]
    pub fn has_integrity(&self, password: &str) -> bool {
        let Some(at) = self.integrity_at else { return false };
        let (Some(covered), Some(digest)) = (self.raw.get(..at), self.raw.get(at + ATTRIBUTE_HEADER..)) else {
            return false;
        };
        let digest = digest.get(..DIGEST).unwrap_or_default();
        authenticator(covered, password).is_some_and(|mac| mac.verify_slice(digest).is_ok())
    }
}

/// HMAC-SHA1 over a message up to its MESSAGE-INTEGRITY, whose length field counts up to and including that attribute,
/// whatever follows it.
fn authenticator(covered: &[u8], password: &str) -> Option<Hmac<Sha1>> {
    let length = u16::try_from(covered.len() + ATTRIBUTE_HEADER + DIGEST - HEADER).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).ok()?;
    mac.update(covered.get(..2)?);
    mac.update(&length.to_be_bytes());
    mac.update(covered.get(4..)?);
    Some(mac)
}

/// What an address is exclusive-ored with (RFC 8489 14.2).
fn mask(transaction_id: &[u8; 12]) -> u128 {
    let low = transaction_id.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    u128::from(MAGIC_COOKIE) << 96 | low
}

const PORT_MASK: u16 = (MAGIC_COOKIE >> 16) as u16;

fn unmask(value: &[u8], transaction_id: &[u8; 12]) -> Option<SocketAddr> {
    let port = u16_at(value, 2)? ^ PORT_MASK;
    let ip = match (value.get(1)?, value.len()) {
        (1, 8) => IpAddr::V4(Ipv4Addr::from_bits(u32_at(value, 4)? ^ MAGIC_COOKIE)),
        (2, 20) => IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(bytes_at(value, 4)?) ^ mask(transaction_id))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes the value of an XOR-MAPPED-ADDRESS and gives its length: 8 for IPv4, 20 for IPv6.
fn mask_address(value: &mut [u8; 20], address: SocketAddr, transaction_id: &[u8; 12]) -> usize {
    let port = u32::from(address.port() ^ PORT_MASK);
    let (head, body) = value.split_at_mut(ATTRIBUTE_HEADER);
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            head.copy_from_slice(&(1 << 16 | port).to_be_bytes());
            if let Some(field) = body.first_chunk_mut() {
                *field = (ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes();
            }
            8
        }
        IpAddr::V6(ip) => {
            head.copy_from_slice(&(2 << 16 | port).to_be_bytes());
            body.copy_from_slice(&(ip.to_bits() ^ mask(transaction_id)).to_be_bytes());
            20
        }
    }
}

/// A message to send, in a buffer of its own.
#[derive(Clone, Copy)]
pub struct Reply {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl core::fmt::Debug for Reply {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Reply").field(&self.as_slice()).finish()
    }
}

impl Reply {
    /// A request with the longest user name: header, USERNAME, PRIORITY, USE-CANDIDATE, ICE-CONTROLLING,
    /// MESSAGE-INTEGRITY, FINGERPRINT.
    const CAPACITY: usize = HEADER + (4 + MAX_USERNAME) + (4 + 4) + 4 + (4 + 8) + (4 + DIGEST) + (4 + 4);

    /// The bytes to send.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn begin(kind: u16, transaction_id: &[u8; 12]) -> Self {
        let mut reply = Self { bytes: [0; Self::CAPACITY], len: 0 };
        reply.append(&kind.to_be_bytes());
        reply.append(&[0, 0]);
        reply.append(&MAGIC_COOKIE.to_be_bytes());
        reply.append(transaction_id);
        reply
    }

    /// Every caller's bytes fit: `CAPACITY` counts them.
    fn append(&mut self, bytes: &[u8]) {
        debug_assert!(self.len + bytes.len() <= Self::CAPACITY, "the capacity counts all attributes");
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// An attribute of at most 508 bytes, with its padding.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        debug_assert!(value.len() <= MAX_USERNAME, "no attribute is longer than the longest user name");
        #[expect(clippy::cast_possible_truncation, reason = "at most 508")]
        let length = value.len() as u16;
        self.append(&kind.to_be_bytes());
        self.append(&length.to_be_bytes());
        self.append(value);
        self.append([0; 3].get(..value.len().next_multiple_of(4) - value.len()).unwrap_or_default());
    }

    /// The length field, for a message that ends `more` bytes after what is written.
    fn set_length(&mut self, more: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "at most the capacity")]
        let length = (self.len + more - HEADER) as u16;
        if let Some(field) = self.bytes.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Appends MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 14.5, 14.7).
    fn seal(mut self, password: &str) -> Self {
        if let Some(mac) = authenticator(self.as_slice(), password) {
            self.attribute(MESSAGE_INTEGRITY, &mac.finalize().into_bytes());
        }
        self.set_length(ATTRIBUTE_HEADER + 4);
        let crc = crc32fast::hash(self.as_slice()) ^ FINGERPRINT_XOR;
        self.attribute(FINGERPRINT, &crc.to_be_bytes());
        self
    }
}

/// The answer to a good check; `from` is where it came from. A mapped IPv6 address is told as IPv4.
#[must_use]
pub fn binding_success(request: &Message<'_>, from: SocketAddr, password: &str) -> Reply {
    let mut value = [0; 20];
    let len = mask_address(&mut value, from, &request.transaction_id);
    let mut reply = Reply::begin(BINDING_SUCCESS, &request.transaction_id);
    reply.attribute(XOR_MAPPED_ADDRESS, value.get(..len).unwrap_or_default());
    reply.seal(password)
}

/// 487 for a peer that claims the controlled role, which is always ours (RFC 8445 7.3.1.1).
#[must_use]
pub fn role_conflict(request: &Message<'_>, password: &str) -> Reply {
    let mut reply = Reply::begin(BINDING_ERROR, &request.transaction_id);
    reply.attribute(ERROR_CODE, b"\0\0\x04\x57Role Conflict");
    reply.seal(password)
}

/// A check as a full, controlling agent sends it (RFC 8445 7.1): for clients of ours. A `username` of more than
/// [`MAX_USERNAME`] bytes is cut at the last character that fits.
#[must_use]
pub fn binding_request(
    transaction_id: [u8; 12],
    username: &str,
    password: &str,
    priority: u32,
    use_candidate: bool,
    controlling_tie_breaker: u64,
) -> Reply {
    let mut reply = Reply::begin(BINDING_REQUEST, &transaction_id);
    let fits = username.floor_char_boundary(MAX_USERNAME);
    reply.attribute(USERNAME, username.get(..fits).unwrap_or_default().as_bytes());
    reply.attribute(PRIORITY, &priority.to_be_bytes());
    if use_candidate {
        reply.attribute(USE_CANDIDATE, &[]);
    }
    reply.attribute(ICE_CONTROLLING, &controlling_tie_breaker.to_be_bytes());
    reply.seal(password)
}

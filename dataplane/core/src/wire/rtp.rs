//! RTP packets: the header, header extensions in both forms, sequence arithmetic (RFC 3550, RFC 8285).

use super::{Malformed, u16_at, u32_at};

/// The longest datagram that is read, in bytes.
pub const MAX_DATAGRAM: usize = 1_500;
/// How many header extensions with different ids a packet may have.
pub const MAX_EXTENSIONS: u32 = 32;
/// The length of the fixed header in bytes (RFC 3550 5.1).
pub const FIXED_HEADER: usize = 12;
const ONE_BYTE: u16 = 0xBEDE;
const TWO_BYTE: u16 = 0x1000;
/// Its low four bits are the application's (RFC 8285 4.3).
const TWO_BYTE_MASK: u16 = 0xFFF0;
const BLOCK_HEADER: usize = 4;

/// The ids that the two sides have agreed on for the header extensions that a forwarder reads or writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    pub repaired_rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    pub audio_level: Option<u8>,
    /// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    pub transport_cc: Option<u8>,
    /// The dependency descriptor (AV1 RTP specification, appendix A).
    pub dependency_descriptor: Option<u8>,
    /// `urn:3gpp:video-orientation` (3GPP TS 26.114).
    pub orientation: Option<u8>,
    /// The absolute send time, 24 bits of 1/2^18 s.
    pub abs_send_time: Option<u8>,
}

/// The header of a packet, and where in the packet its parts are. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// 0 to 127.
    pub payload_type: u8,
    /// The meaning is the profile's; for video the last packet of a frame.
    pub marker: bool,
    /// The sequence number.
    pub sequence: u16,
    /// In units of the payload's clock.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
    /// The fixed header, the CSRCs and the extension block; here the payload begins.
    pub header_len: usize,
    /// Where the body of the extension block begins; `header_len` where there is none.
    pub extension_at: usize,
    /// The length of that body.
    pub extension_len: usize,
    /// "Defined by profile" of the extension block (RFC 3550 5.3.1); 0 where there is none.
    pub extension_profile: u16,
    /// Without padding.
    pub payload_len: usize,
    /// Bytes of padding that follow the payload, its count included.
    pub padding: u8,
}

/// The extension block of a packet: profile, where its body begins and how long that is.
#[derive(Clone, Copy)]
struct Block {
    profile: u16,
    at: usize,
    len: usize,
}

fn block(data: &[u8]) -> Result<Block, Malformed> {
    let first = *data.first().ok_or(Malformed("the packet is empty"))?;
    if data.len() < FIXED_HEADER {
        return Err(Malformed("the size is not that of an RTP packet"));
    }
    if first >> 6 != 2 {
        return Err(Malformed("the version is not 2"));
    }
    let start = FIXED_HEADER + 4 * usize::from(first & 0x0F);
    if start > data.len() {
        return Err(Malformed("the header is cut off"));
    }
    if first & 0x10 == 0 {
        return Ok(Block { profile: 0, at: start, len: 0 });
    }
    let (Some(profile), Some(words)) = (u16_at(data, start), u16_at(data, start + 2)) else {
        return Err(Malformed("the extension header is cut off"));
    };
    let (at, len) = (start + BLOCK_HEADER, 4 * usize::from(words));
    if at + len > data.len() {
        return Err(Malformed("the extension is longer than the packet"));
    }
    Ok(Block { profile, at, len })
}

/// The length in bytes of the header of `data`: fixed part, CSRCs and extension block. It reads nothing that SRTP
/// encrypts and does not look into the extension block; `data` may be longer than a datagram by SRTP's trailer.
///
/// # Errors
/// [`Malformed`] where the version is not 2 or the header is longer than `data`.
pub fn header_len(data: &[u8]) -> Result<usize, Malformed> {
    block(data).map(|block| block.at + block.len)
}

/// The header of the packet in `data`, SRTP already removed (RFC 3550 5.1). Where it succeeds, every extension element
/// lies within its block.
///
/// # Errors
/// [`Malformed`] for a size, version, extension, or padding that cannot be.
pub fn parse(data: &[u8]) -> Result<RtpHeader, Malformed> {
    if data.len() > MAX_DATAGRAM {
        return Err(Malformed("the size is not that of an RTP packet"));
    }
    let block = block(data)?;
    let header_len = block.at + block.len;
    check_extensions(block.profile, data.get(block.at..header_len).unwrap_or_default())?;
    let padding = padding(data, header_len)?;
    let cut = Malformed("the header is cut off");
    let [first, second] = *data.first_chunk().ok_or(cut)?;
    debug_assert_eq!(first >> 6, 2);
    Ok(RtpHeader {
        payload_type: second & 0x7F,
        marker: second & 0x80 != 0,
        sequence: u16_at(data, 2).ok_or(cut)?,
        timestamp: u32_at(data, 4).ok_or(cut)?,
        ssrc: u32_at(data, 8).ok_or(cut)?,
        header_len,
        extension_at: block.at,
        extension_len: block.len,
        extension_profile: block.profile,
        payload_len: data.len() - header_len - usize::from(padding),
        padding,
    })
}

/// The count of padding bytes, at most what follows the header (RFC 3550 5.1, "padding").
fn padding(data: &[u8], header_len: usize) -> Result<u8, Malformed> {
    if data.first().is_none_or(|first| first & 0x20 == 0) {
        return Ok(0);
    }
    match data.get(header_len..).and_then(|rest| Some((rest.len(), *rest.last()?))) {
        Some((room, count)) if count > 0 && usize::from(count) <= room => Ok(count),
        _ => Err(Malformed("the padding is longer than the payload")),
    }
}

fn check_extensions(profile: u16, body: &[u8]) -> Result<(), Malformed> {
    let mut elements = Extensions { form: Form::of(profile), body };
    let mut seen = [0_u64; 4];
    while let Some((id, _)) = elements.step()? {
        if seen.iter().map(|word| word.count_ones()).sum::<u32>() >= MAX_EXTENSIONS {
            return Err(Malformed("a packet has at most 32 header extensions"));
        }
        if let Some(word) = seen.get_mut(usize::from(id >> 6)) {
            *word |= 1 << (id & 63);
        }
    }
    Ok(())
}

impl RtpHeader {
    /// The header extensions of `data`, the packet that this header was parsed from.
    #[must_use]
    pub fn extensions<'a>(&self, data: &'a [u8]) -> Extensions<'a> {
        let body = data.get(self.extension_at..self.extension_at + self.extension_len).unwrap_or_default();
        Extensions { form: Form::of(self.extension_profile), body }
    }

    /// The payload of `data`, the packet that this header was parsed from; without padding.
    #[must_use]
    pub fn payload<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        data.get(self.header_len..self.header_len + self.payload_len).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
    /// Another profile's own header: not ours to read (RFC 3550 5.3.1).
    Foreign,
}

impl Form {
    const fn of(profile: u16) -> Self {
        match profile {
            ONE_BYTE => Self::OneByte,
            _ if profile & TWO_BYTE_MASK == TWO_BYTE => Self::TwoByte,
            _ => Self::Foreign,
        }
    }
}

/// The elements of an extension block in their order: id and value (RFC 8285). An id that comes twice is given twice;
/// the last one counts. Padding is skipped, and id 15 of the one-byte form ends the block.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    form: Form,
    body: &'a [u8],
}

impl<'a> Extensions<'a> {
    fn step(&mut self) -> Result<Option<(u8, &'a [u8])>, Malformed> {
        let longer = Malformed("a header extension is longer than its block");
        while let Some((&head, rest)) = self.body.split_first() {
            self.body = rest;
            if head == 0 {
                continue;
            }
            let (id, len, rest) = match self.form {
                Form::Foreign => break,
                Form::OneByte if head >> 4 == 15 => break,
                Form::OneByte => (head >> 4, usize::from(head & 0x0F) + 1, rest),
                Form::TwoByte => {
                    let (&len, rest) = rest.split_first().ok_or(longer)?;
                    (head, usize::from(len), rest)
                }
            };
            let (value, rest) = rest.split_at_checked(len).ok_or(longer)?;
            self.body = rest;
            return Ok(Some((id, value)));
        }
        self.body = &[];
        Ok(None)
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.step().ok().flatten()
    }
}

/// Writes an extension block into the front of a buffer (RFC 8285 4.2, 4.3).
#[derive(Debug)]
pub struct ExtensionWriter<'a> {
    buffer: &'a mut [u8],
    two_byte: bool,
    /// Bytes in use, the block's header included; 0 before the first element.
    len: usize,
}

impl<'a> ExtensionWriter<'a> {
    /// A writer of the two-byte form, or of the one-byte form.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], two_byte: bool) -> Self {
        Self { buffer, two_byte, len: 0 }
    }

    /// True where the one-byte form cannot hold such an element: all elements of its block then need the other form.
    #[must_use]
    pub const fn needs_two_byte(id: u8, len: usize) -> bool {
        id == 0 || id > 14 || len == 0 || len > 16
    }

    /// Appends an element and gives the offset of its value in the buffer. `None`, with nothing written, where the form
    /// cannot hold it (one-byte: ids 1 to 14 and 1 to 16 bytes; two-byte: ids 1 to 255 and 0 to 255 bytes), or where the
    /// buffer, the padding of the block counted in, is full.
    pub fn push(&mut self, id: u8, value: &[u8]) -> Option<usize> {
        let size = u8::try_from(value.len()).ok().filter(|_| id != 0)?;
        if !self.two_byte && Self::needs_two_byte(id, value.len()) {
            return None;
        }
        let head = self.len.max(BLOCK_HEADER);
        let at = head + 1 + usize::from(self.two_byte);
        let end = at + value.len();
        if end.next_multiple_of(4) > self.buffer.len() {
            return None;
        }
        match self.buffer.get_mut(head..at)? {
            [one] => *one = id << 4 | (size - 1),
            [first, second] => (*first, *second) = (id, size),
            _ => return None,
        }
        self.buffer.get_mut(at..end)?.copy_from_slice(value);
        self.len = end;
        Some(at)
    }

    /// Pads the block, writes its header, and gives its length in bytes; 0, with nothing written, for no element.
    #[must_use]
    pub fn finish(self) -> usize {
        if self.len == 0 {
            return 0;
        }
        let end = self.len.next_multiple_of(4);
        if let Some(rest) = self.buffer.get_mut(self.len..end) {
            rest.fill(0);
        }
        let Ok(words) = u16::try_from((end - BLOCK_HEADER) / 4) else { return 0 };
        let profile = if self.two_byte { TWO_BYTE } else { ONE_BYTE };
        if let Some(header) = self.buffer.first_chunk_mut::<BLOCK_HEADER>() {
            *header = (u32::from(profile) << 16 | u32::from(words)).to_be_bytes();
        }
        end
    }
}

/// The full number whose low 16 bits are `number` and that lies nearest to `near`; 0 where that would be negative.
#[must_use]
pub fn unroll(number: u16, near: u64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are wanted")]
    let distance = number.wrapping_sub(near as u16).cast_signed();
    near.saturating_add_signed(distance.into())
}

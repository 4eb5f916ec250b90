//! RTCP compound packets: what an SFU reads (RFC 3550, RFC 4585, RFC 5104, draft-alvestrand-rmcat-remb). Writers are in
//! [`super::rtcp_write`] and are given here too.
//!
//! [`parse`] validates a whole datagram once; what it returns walks over it again and cannot fail.

use core::slice::ChunksExact;

use super::twcc::Feedback;
use super::{Malformed, bytes_at, rtp, u16_at, u32_at, word};

pub use super::rtcp_write::{
    Buffer, write_bye, write_cname, write_full_intra, write_nack, write_picture_loss, write_receiver_report,
    write_remb, write_sender_report,
};

/// How many packets one datagram may hold.
pub const MAX_PACKETS: usize = 64;
/// How many of the sequence numbers in a NACK are read; the peer asks again for the rest.
pub const MAX_LOST: usize = 512;
pub(crate) const SENDER_REPORT: u8 = 200;
pub(crate) const RECEIVER_REPORT: u8 = 201;
pub(crate) const SOURCE_DESCRIPTION: u8 = 202;
pub(crate) const BYE: u8 = 203;
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;
pub(crate) const FORMAT_NACK: u8 = 1;
pub(crate) const FORMAT_TRANSPORT_WIDE: u8 = 15;
pub(crate) const FORMAT_PICTURE_LOSS: u8 = 1;
pub(crate) const FORMAT_FULL_INTRA: u8 = 4;
pub(crate) const FORMAT_APPLICATION: u8 = 15;
pub(crate) const HEADER: usize = 4;
pub(crate) const BLOCK: usize = 24;
const SENDER_INFO: usize = 24;
const FEEDBACK_HEADER: usize = 8;
const FULL_INTRA_ENTRY: usize = 8;

/// How one source was received (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that this is about.
    pub ssrc: u32,
    /// Of 256, since the last report.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; 24 bits, negative where packets came twice.
    pub lost: i32,
    /// The highest sequence number, with the count of its cycles in the upper 16 bits.
    pub highest_sequence: u32,
    /// In units of the payload's clock.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time stamp.
    pub last_sr: u32,
    /// From that report to this one, in 1/65536 s.
    pub delay: u32,
}

/// A packet of a compound packet.
#[derive(Debug, Clone)]
pub enum Packet<'a> {
    /// RFC 3550 6.4.1.
    SenderReport {
        /// Whose report it is.
        ssrc: u32,
        /// The NTP time stamp: seconds in the upper half, 1/2^32 s in the lower.
        ntp: u64,
        /// The same moment on the payload's clock.
        rtp_timestamp: u32,
        /// Packets sent since the beginning.
        packets: u32,
        /// Payload bytes sent since the beginning.
        octets: u32,
        /// What it received itself.
        blocks: Blocks<'a>,
    },
    /// RFC 3550 6.4.2.
    ReceiverReport {
        /// Whose report it is.
        ssrc: u32,
        /// What it received.
        blocks: Blocks<'a>,
    },
    /// A generic NACK (RFC 4585 6.2.1).
    Nack {
        /// The source that lost packets.
        media_ssrc: u32,
        /// Their sequence numbers.
        numbers: NackNumbers<'a>,
    },
    /// A PLI (RFC 4585 6.3.1).
    PictureLoss {
        /// The source of which a key frame is wanted.
        media_ssrc: u32,
    },
    /// A FIR (RFC 5104 4.3.1).
    FullIntra {
        /// The sources of which key frames are wanted.
        entries: FullIntraEntries<'a>,
    },
    /// Transport-wide feedback.
    TransportFeedback(Feedback<'a>),
    /// The receiver's estimate (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Bits per second; saturated where the exponent leads further.
        bitrate_bps: u64,
    },
    /// RFC 3550 6.6.
    Bye {
        /// The sources that leave.
        ssrcs: Ssrcs<'a>,
    },
}

/// A datagram of RTCP that has been validated. Iterating gives the packets of known types in their order.
#[derive(Debug, Clone, Copy)]
pub struct Compound<'a> {
    data: &'a [u8],
}

/// The packets of a compound (or reduced-size, RFC 5506) packet.
///
/// # Errors
/// [`Malformed`] for a datagram under 4 or over 1,500 bytes, over [`MAX_PACKETS`] packets, and for a packet of a known
/// type whose length, padding, counts, chunks or deltas lead out of it.
pub fn parse(data: &[u8]) -> Result<Compound<'_>, Malformed> {
    if data.len() < HEADER || data.len() > rtp::MAX_DATAGRAM {
        return Err(Malformed("the size is not that of an RTCP packet"));
    }
    let mut rest = data;
    let mut seen = 0;
    while !rest.is_empty() {
        if seen >= MAX_PACKETS {
            return Err(Malformed("a datagram has at most 64 packets"));
        }
        let (raw, tail) = split(rest)?;
        raw.read()?;
        (rest, seen) = (tail, seen + 1);
    }
    Ok(Compound { data })
}

impl<'a> IntoIterator for Compound<'a> {
    type Item = Packet<'a>;
    type IntoIter = Packets<'a>;

    fn into_iter(self) -> Packets<'a> {
        Packets { rest: self.data }
    }
}

/// The packets of a [`Compound`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        while !self.rest.is_empty() {
            let (raw, tail) = split(self.rest).ok()?;
            self.rest = tail;
            if let Some(packet) = raw.read().ok()? {
                return Some(packet);
            }
        }
        None
    }
}

/// One packet: the five bits beside the version (a count or a format), the type, and what follows the header without
/// padding.
struct Raw<'a> {
    count: u8,
    kind: u8,
    body: &'a [u8],
}

/// The first packet of `data`, and what follows it (RFC 3550 6.4.1).
fn split(data: &[u8]) -> Result<(Raw<'_>, &[u8]), Malformed> {
    let cut = Malformed("a packet is cut off");
    let [first, kind, high, low] = bytes_at(data, 0).ok_or(cut)?;
    let end = HEADER + 4 * usize::from(u16::from_be_bytes([high, low]));
    let (packet, rest) = data.split_at_checked(end).ok_or(Malformed("a packet is longer than the datagram"))?;
    if first >> 6 != 2 {
        return Err(Malformed("the version is not 2"));
    }
    let mut body = packet.get(HEADER..).unwrap_or_default();
    if first & 0x20 != 0 {
        body = without_padding(body).ok_or(Malformed("the padding is longer than the packet"))?;
    }
    Ok((Raw { count: first & 0x1F, kind, body }, rest))
}

fn without_padding(body: &[u8]) -> Option<&[u8]> {
    let count = usize::from(*body.last()?);
    body.get(..body.len().checked_sub(count)?).filter(|_| count > 0)
}

impl<'a> Raw<'a> {
    /// `None` for a type that is not known.
    fn read(&self) -> Result<Option<Packet<'a>>, Malformed> {
        let packet = match self.kind {
            SENDER_REPORT => self.sender_report(),
            RECEIVER_REPORT => self.receiver_report(),
            BYE => self.bye(),
            TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => return self.feedback(),
            _ => return Ok(None),
        };
        packet.map(Some).ok_or(Malformed("a report or BYE is cut off"))
    }

    fn sender_report(&self) -> Option<Packet<'a>> {
        let (info, blocks) = self.body.split_at_checked(SENDER_INFO)?;
        Some(Packet::SenderReport {
            ssrc: u32_at(info, 0)?,
            ntp: u64::from_be_bytes(bytes_at(info, 4)?),
            rtp_timestamp: u32_at(info, 12)?,
            packets: u32_at(info, 16)?,
            octets: u32_at(info, 20)?,
            blocks: self.blocks(blocks)?,
        })
    }

    fn receiver_report(&self) -> Option<Packet<'a>> {
        let (ssrc, blocks) = self.body.split_first_chunk()?;
        Some(Packet::ReceiverReport { ssrc: u32::from_be_bytes(*ssrc), blocks: self.blocks(blocks)? })
    }

    /// As many blocks as the header counts; a profile's extension may follow them.
    fn blocks(&self, data: &'a [u8]) -> Option<Blocks<'a>> {
        let blocks = data.get(..BLOCK * usize::from(self.count))?;
        Some(Blocks(blocks.chunks_exact(BLOCK)))
    }

    /// As many sources as the header counts; a reason may follow them.
    fn bye(&self) -> Option<Packet<'a>> {
        let ssrcs = self.body.get(..4 * usize::from(self.count))?;
        Some(Packet::Bye { ssrcs: Ssrcs(ssrcs.chunks_exact(4)) })
    }

    /// RFC 4585 6.1: the sender's SSRC, the media's SSRC, then what the format says.
    fn feedback(&self) -> Result<Option<Packet<'a>>, Malformed> {
        let (Some(media_ssrc), Some(control)) = (u32_at(self.body, 4), self.body.get(FEEDBACK_HEADER..)) else {
            return Err(Malformed("feedback is cut off"));
        };
        Ok(match (self.kind, self.count) {
            (TRANSPORT_FEEDBACK, FORMAT_NACK) => Some(Packet::Nack { media_ssrc, numbers: NackNumbers::new(control) }),
            (TRANSPORT_FEEDBACK, FORMAT_TRANSPORT_WIDE) => Some(Packet::TransportFeedback(Feedback::parse(self.body)?)),
            (PAYLOAD_FEEDBACK, FORMAT_PICTURE_LOSS) => Some(Packet::PictureLoss { media_ssrc }),
            (PAYLOAD_FEEDBACK, FORMAT_FULL_INTRA) => {
                Some(Packet::FullIntra { entries: FullIntraEntries(control.chunks_exact(FULL_INTRA_ENTRY)) })
            }
            (PAYLOAD_FEEDBACK, FORMAT_APPLICATION) => remb(control),
            _ => None,
        })
    }
}

/// `None` for another application's feedback, and where the count of SSRCs does not agree with the length.
fn remb(control: &[u8]) -> Option<Packet<'_>> {
    let (head, ssrcs) = control.split_first_chunk::<8>()?;
    let [b'R', b'E', b'M', b'B', count, high, middle, low] = *head else { return None };
    let mantissa = u128::from(u32::from_be_bytes([0, high & 3, middle, low]));
    let bitrate_bps = u64::try_from(mantissa << (high >> 2)).unwrap_or(u64::MAX);
    (ssrcs.len() == 4 * usize::from(count)).then_some(Packet::Remb { bitrate_bps })
}

/// The blocks of a report.
#[derive(Debug, Clone)]
pub struct Blocks<'a>(ChunksExact<'a, u8>);

impl Iterator for Blocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let block = self.0.next()?;
        let [fraction_lost, high, middle, low] = bytes_at(block, 4)?;
        Some(ReportBlock {
            ssrc: u32_at(block, 0)?,
            fraction_lost,
            lost: i32::from_be_bytes([high, middle, low, 0]) >> 8,
            highest_sequence: u32_at(block, 8)?,
            jitter: u32_at(block, 12)?,
            last_sr: u32_at(block, 16)?,
            delay: u32_at(block, 20)?,
        })
    }
}

/// The sources of a BYE.
#[derive(Debug, Clone)]
pub struct Ssrcs<'a>(ChunksExact<'a, u8>);

impl Iterator for Ssrcs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0.next().map(word)
    }
}

/// The sources of a FIR.
#[derive(Debug, Clone)]
pub struct FullIntraEntries<'a>(ChunksExact<'a, u8>);

impl Iterator for FullIntraEntries<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        u32_at(self.0.next()?, 0)
    }
}

/// The sequence numbers of a NACK in the order that it names them, at most [`MAX_LOST`].
#[derive(Debug, Clone)]
pub struct NackNumbers<'a> {
    pairs: ChunksExact<'a, u8>,
    /// The number that the lowest bit of `mask` stands for.
    next: u16,
    mask: u16,
    left: usize,
}

impl<'a> NackNumbers<'a> {
    fn new(control: &'a [u8]) -> Self {
        Self { pairs: control.chunks_exact(4), next: 0, mask: 0, left: MAX_LOST }
    }
}

impl Iterator for NackNumbers<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        if self.mask == 0 {
            let pair = self.pairs.next()?;
            let number = u16_at(pair, 0)?;
            (self.next, self.mask) = (number.wrapping_add(1), u16_at(pair, 2)?);
            return Some(number);
        }
        let skipped = self.mask.trailing_zeros();
        let number = self.next.wrapping_add(skipped as u16);
        self.next = number.wrapping_add(1);
        self.mask = self.mask.checked_shr(skipped + 1).unwrap_or(0);
        Some(number)
    }
}

//! How an outgoing packet is written: header, the subscriber's extensions, payload, into room that the batch gives.

use crate::engine::command::TrackCodec;
use crate::engine::sender::Planned;
use crate::engine::store::{ABSENT, Meta};
use crate::payload::rewrite_vp8;
use crate::time::Instant;
use crate::wire::rtp::{ExtensionIds, ExtensionWriter};

const FIXED: usize = 12;
const TEMPLATE: usize = 64;
/// Padding that stands for a packet that is not forwarded.
const FILLER: u8 = 1;

/// The extension block of a sender, ready but for what changes with each packet.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    ids: ExtensionIds,
    mid: [u8; 16],
    mid_len: u8,
    template: [u8; TEMPLATE],
    len: u8,
    wide_at: u8,
    level_at: u8,
    time_at: u8,
}

/// What a packet is sent under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    /// The number that an RTX packet repeats (RFC 4588 4).
    pub(crate) original: Option<u16>,
    /// The transport-wide number.
    pub(crate) wide: u16,
    /// The frame number of the dependency descriptor (AV1 RTP specification, A.8.1), which goes on over a switch.
    pub(crate) frame: u16,
    pub(crate) now: Instant,
}

impl Envelope {
    /// The media itself.
    #[expect(clippy::cast_possible_truncation, reason = "the wire has the low 16 bits")]
    pub(crate) fn media(planned: &Planned, ssrc: u32, codec: &TrackCodec, wide: u64, now: Instant) -> Self {
        Self {
            ssrc,
            payload_type: codec.payload_type,
            sequence: planned.out as u16,
            original: None,
            wide: wide as u16,
            frame: planned.picture,
            now,
        }
    }
}

impl Head {
    pub(crate) fn new(ids: &ExtensionIds, mid: &str) -> Self {
        let mut made = Self {
            ids: *ids,
            mid: [0; 16],
            mid_len: 0,
            template: [0; TEMPLATE],
            len: 0,
            wide_at: 0,
            level_at: 0,
            time_at: 0,
        };
        let bytes = mid.as_bytes();
        if let Some(room) = made.mid.get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            made.mid_len = u8::try_from(bytes.len()).unwrap_or(0);
        }
        let mut template = [0; TEMPLATE];
        let always = [ids.transport_cc, ids.audio_level, ids.mid, ids.abs_send_time];
        let mut writer = ExtensionWriter::new(&mut template, always.into_iter().flatten().any(|id| id > 14));
        let offset = |at: Option<usize>| at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
        made.wide_at = offset(ids.transport_cc.and_then(|id| writer.push(id, &[0, 0])));
        made.level_at = offset(ids.audio_level.and_then(|id| writer.push(id, &[0x7F])));
        if let (Some(id), 1..) = (ids.mid, made.mid_len) {
            writer.push(id, made.mid());
        }
        made.time_at = offset(ids.abs_send_time.and_then(|id| writer.push(id, &[0, 0, 0])));
        made.len = u8::try_from(writer.finish()).unwrap_or(0);
        made.template = template;
        made
    }

    fn mid(&self) -> &[u8] {
        self.mid.get(..usize::from(self.mid_len)).unwrap_or_default()
    }

    /// Whether packets carry transport-wide numbers.
    pub(crate) fn has_wide(&self) -> bool {
        self.wide_at > 0
    }

    /// Writes header and extensions; the length, `None` where there is no room.
    fn write(&self, out: &mut [u8], envelope: &Envelope, meta: &Meta, descriptor: &[u8]) -> Option<usize> {
        let has_more = (meta.orientation != ABSENT && self.ids.orientation.is_some())
            || (!descriptor.is_empty() && self.ids.dependency_descriptor.is_some());
        let room = out.get_mut(FIXED..)?;
        let len = if has_more {
            self.write_all(room, envelope, meta, descriptor)?
        } else {
            self.patch(room, envelope, meta)?
        };
        Some(FIXED + len)
    }

    fn patch(&self, room: &mut [u8], envelope: &Envelope, meta: &Meta) -> Option<usize> {
        let len = usize::from(self.len);
        room.get_mut(..len)?.copy_from_slice(self.template.get(..len)?);
        let mut put = |at: u8, value: &[u8]| {
            let at = usize::from(at);
            if at > 0
                && let Some(target) = room.get_mut(at..at + value.len())
            {
                target.copy_from_slice(value);
            }
        };
        put(self.wide_at, &envelope.wide.to_be_bytes());
        if self.time_at > 0 {
            put(self.time_at, &send_time(envelope.now));
        }
        if meta.level != ABSENT {
            put(self.level_at, &[meta.level]);
        }
        Some(len)
    }

    /// The slower way, for packets with a dependency descriptor or an orientation. A descriptor over 16 bytes needs the
    /// two-byte form (RFC 8285 4.3).
    fn write_all(&self, room: &mut [u8], envelope: &Envelope, meta: &Meta, descriptor: &[u8]) -> Option<usize> {
        let ids = &self.ids;
        let descriptor = ids.dependency_descriptor.map(|_| descriptor).unwrap_or_default();
        let largest =
            [ids.transport_cc, ids.audio_level, ids.mid, ids.abs_send_time, ids.orientation, ids.dependency_descriptor]
                .into_iter()
                .flatten()
                .max()?;
        let mut numbered_at = 0;
        let mut writer = ExtensionWriter::new(room, descriptor.len() > 16 || largest > 14);
        if let Some(id) = ids.transport_cc {
            writer.push(id, &envelope.wide.to_be_bytes())?;
        }
        if let Some(id) = ids.audio_level {
            writer.push(id, &[if meta.level == ABSENT { 0x7F } else { meta.level }])?;
        }
        if let (Some(id), 1..) = (ids.mid, self.mid_len) {
            writer.push(id, self.mid())?;
        }
        if let Some(id) = ids.abs_send_time {
            writer.push(id, &send_time(envelope.now))?;
        }
        if let (Some(id), true) = (ids.orientation, meta.orientation != ABSENT) {
            writer.push(id, &[meta.orientation])?;
        }
        if let (Some(id), false) = (ids.dependency_descriptor, descriptor.is_empty()) {
            numbered_at = writer.push(id, descriptor)?;
        }
        let len = writer.finish();
        if numbered_at > 0 && descriptor.len() >= 3 && meta.info.vp8.is_none() {
            // The mandatory fields: flags and template, then the frame number.
            room.get_mut(numbered_at + 1..numbered_at + 3)?.copy_from_slice(&envelope.frame.to_be_bytes());
        }
        Some(len)
    }
}

/// 24 bits of 6.18 fixed point seconds.
fn send_time(now: Instant) -> [u8; 3] {
    let value = (u128::from(now.as_micros()) << 18) / 1_000_000;
    let bytes = value.to_be_bytes();
    [bytes[13], bytes[14], bytes[15]]
}

fn write_fixed(
    out: &mut [u8],
    envelope: &Envelope,
    planned: &Planned,
    has_extensions: bool,
    has_padding: bool,
) -> Option<()> {
    let fixed = out.first_chunk_mut::<FIXED>()?;
    fixed[0] = 0x80 | if has_extensions { 0x10 } else { 0 } | if has_padding { 0x20 } else { 0 };
    fixed[1] = envelope.payload_type | if planned.marker { 0x80 } else { 0 };
    fixed[2..4].copy_from_slice(&envelope.sequence.to_be_bytes());
    fixed[4..8].copy_from_slice(&planned.timestamp.to_be_bytes());
    fixed[8..12].copy_from_slice(&envelope.ssrc.to_be_bytes());
    Some(())
}

/// A stored packet with its parts.
pub(crate) type Stored<'a> = (&'a Meta, &'a [u8], &'a [u8]);

/// Writes a packet; its header's length and its own, `None` where there is no room.
pub(crate) fn write_packet(
    out: &mut [u8],
    head: &Head,
    envelope: &Envelope,
    planned: &Planned,
    (meta, descriptor, payload): Stored<'_>,
) -> Option<(usize, usize)> {
    let (payload, descriptor) = if planned.is_filler { (&[][..], &[][..]) } else { (payload, descriptor) };
    let padding = if planned.is_filler { FILLER } else { meta.padding };
    let header_len = head.write(out, envelope, meta, descriptor)?;
    write_fixed(out, envelope, planned, header_len > FIXED, padding > 0)?;
    let mut at = header_len;
    if let Some(original) = envelope.original {
        out.get_mut(at..at + 2)?.copy_from_slice(&original.to_be_bytes());
        at += 2;
    }
    let body = out.get_mut(at..at + payload.len())?;
    body.copy_from_slice(payload);
    if let (Some(fields), false) = (&meta.info.vp8, planned.is_filler) {
        rewrite_vp8(body, fields, planned.picture, planned.tl0);
    }
    at += payload.len();
    pad(out, &mut at, padding)?;
    Some((header_len, at))
}

/// Writes a packet of padding alone (a probe by RTX); its header's length and its own.
pub(crate) fn write_padding(
    out: &mut [u8],
    head: &Head,
    envelope: &Envelope,
    timestamp: u32,
    padding: u8,
) -> Option<(usize, usize)> {
    let planned = Planned { timestamp, ..Planned::default() };
    let meta = Meta { level: ABSENT, orientation: ABSENT, ..Meta::default() };
    let header_len = head.write(out, envelope, &meta, &[])?;
    write_fixed(out, envelope, &planned, header_len > FIXED, true)?;
    let mut at = header_len;
    pad(out, &mut at, padding)?;
    Some((header_len, at))
}

fn pad(out: &mut [u8], at: &mut usize, padding: u8) -> Option<()> {
    if padding > 0 {
        let tail = out.get_mut(*at..*at + usize::from(padding))?;
        tail.fill(0);
        *tail.last_mut()? = padding;
        *at += usize::from(padding);
    }
    Some(())
}

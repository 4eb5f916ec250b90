//! VP8 (RFC 7741).

use super::PacketInfo;
use crate::wire::{bytes_at, u16_at};

/// The fields of a payload descriptor that a layer switch rewrites (RFC 7741 4.2). An offset of 0 says that the field is
/// absent: there the first byte of the descriptor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8Fields {
    /// PictureID, 7 or 15 bits.
    pub picture_id: u16,
    /// Its offset in the payload, in bytes.
    pub picture_id_at: u8,
    /// It has 15 bits.
    pub is_long: bool,
    /// TL0PICIDX.
    pub tl0: u8,
    /// Its offset in the payload, in bytes.
    pub tl0_at: u8,
    /// The length of the descriptor in bytes.
    pub descriptor_len: u8,
}

const EXTENDED: u8 = 0x80;
const NON_REFERENCE: u8 = 0x20;
const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0: u8 = 0x40;
const HAS_TEMPORAL: u8 = 0x20;
const HAS_KEY_INDEX: u8 = 0x10;
const LAYER_SYNC: u8 = 0x20;
const START_CODE: [u8; 3] = [0x9D, 0x01, 0x2A];

pub(super) fn inspect(payload: &[u8], marker: bool) -> PacketInfo {
    let mut info = PacketInfo { ends_frame: marker, ends_spatial_frame: marker, ..PacketInfo::default() };
    let (Some(first), Some((fields, layer))) = (payload.first(), descriptor(payload)) else { return info };
    info.vp8 = Some(fields);
    info.discardable = first & NON_REFERENCE != 0;
    // S is set, and the partition is the first.
    info.begins_frame = first & 0x17 == 0x10;
    if let Some(layer) = layer {
        info.temporal = layer >> 6;
        info.is_layer_sync = layer & LAYER_SYNC != 0;
    }
    let frame = payload.get(usize::from(fields.descriptor_len)..).unwrap_or_default();
    // The frame tag's lowest bit is clear for key frames (RFC 6386 9.1).
    if info.begins_frame && frame.first().is_some_and(|tag| tag & 1 == 0) {
        info.begins_key_frame = true;
        info.is_layer_sync = true;
        info.size = size(frame);
    }
    info
}

/// The fields, and the byte with TID, Y and KEYIDX where TID is there. `None` where the descriptor is cut off.
fn descriptor(payload: &[u8]) -> Option<(Vp8Fields, Option<u8>)> {
    let mut fields = Vp8Fields { descriptor_len: 1, ..Vp8Fields::default() };
    if payload.first()? & EXTENDED == 0 {
        return Some((fields, None));
    }
    let flags = *payload.get(1)?;
    let mut at = 2_u8;
    if flags & HAS_PICTURE_ID != 0 {
        let head = *payload.get(usize::from(at))?;
        fields.picture_id_at = at;
        fields.is_long = head & 0x80 != 0;
        fields.picture_id = if fields.is_long { u16_at(payload, usize::from(at))? & 0x7FFF } else { u16::from(head) };
        at += 1 + u8::from(fields.is_long);
    }
    if flags & HAS_TL0 != 0 {
        (fields.tl0_at, fields.tl0) = (at, *payload.get(usize::from(at))?);
        at += 1;
    }
    let mut layer = None;
    if flags & (HAS_TEMPORAL | HAS_KEY_INDEX) != 0 {
        let byte = *payload.get(usize::from(at))?;
        layer = (flags & HAS_TEMPORAL != 0).then_some(byte);
        at += 1;
    }
    fields.descriptor_len = at;
    Some((fields, layer))
}

/// Of a key frame's header: 3 bytes of tag, the start code, then twice 14 bits of size and 2 of scale (RFC 6386 9.1).
fn size(frame: &[u8]) -> Option<(u16, u16)> {
    if bytes_at(frame, 3)? != START_CODE {
        return None;
    }
    let width = u16::from_le_bytes(bytes_at(frame, 6)?) & 0x3FFF;
    let height = u16::from_le_bytes(bytes_at(frame, 8)?) & 0x3FFF;
    Some((width, height))
}

/// Writes another PictureID and TL0PICIDX into `payload`, in the field sizes that it has; `fields` are its own.
pub fn rewrite(payload: &mut [u8], fields: &Vp8Fields, picture_id: u16, tl0: u8) {
    let picture_id_at = usize::from(fields.picture_id_at);
    if fields.picture_id_at != 0 && fields.is_long {
        if let Some(field) = payload.get_mut(picture_id_at..picture_id_at + 2) {
            field.copy_from_slice(&(0x8000 | picture_id).to_be_bytes());
        }
    } else if fields.picture_id_at != 0
        && let Some(field) = payload.get_mut(picture_id_at)
    {
        *field = picture_id.to_be_bytes()[1] & 0x7F;
    }
    if fields.tl0_at != 0
        && let Some(field) = payload.get_mut(usize::from(fields.tl0_at))
    {
        *field = tl0;
    }
}

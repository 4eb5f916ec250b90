//! VP9 (RFC 9628).

use super::PacketInfo;
use super::bits::BitReader;
use crate::wire::u16_at;

const HAS_PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const HAS_LAYER: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS_FRAME: u8 = 0x08;
const ENDS_FRAME: u8 = 0x04;
const HAS_STRUCTURE: u8 = 0x02;
/// TID in the upper three bits, U, SID, D.
const SWITCHING_UP: u8 = 0x10;
/// At most so many reference differences follow each other (RFC 9628 4.2).
const MAX_REFERENCES: usize = 3;
const SYNC_CODE: u32 = 0x49_8342;
const SRGB: u32 = 7;

pub(super) fn inspect(payload: &[u8], marker: bool) -> PacketInfo {
    let mut info = PacketInfo { ends_frame: marker, ends_spatial_frame: marker, ..PacketInfo::default() };
    let Some(&flags) = payload.first() else { return info };
    info.begins_frame = flags & BEGINS_FRAME != 0;
    info.ends_spatial_frame = flags & ENDS_FRAME != 0;
    let at = after_picture_id(payload, flags);
    let layer = payload.get(at).copied().filter(|_| flags & HAS_LAYER != 0);
    if let Some(layer) = layer {
        (info.temporal, info.spatial) = (layer >> 5, layer >> 1 & 7);
        info.is_layer_sync = layer & SWITCHING_UP != 0;
    }
    let is_lowest = flags & HAS_LAYER == 0 || layer.is_some_and(|layer| layer >> 1 & 7 == 0);
    if info.begins_frame && flags & INTER_PREDICTED == 0 {
        info.begins_key_frame = is_lowest;
        info.is_layer_sync |= is_lowest;
        info.size = size(payload, flags, at, info.spatial);
    }
    info
}

/// The offset of what follows the picture id: of 7 bits, or of 15 with its first bit set.
fn after_picture_id(payload: &[u8], flags: u8) -> usize {
    match payload.get(1) {
        _ if flags & HAS_PICTURE_ID == 0 => 1,
        Some(head) if head & 0x80 != 0 => 3,
        _ => 2,
    }
}

/// Of the scalability structure where there is one with sizes, else of the frame's own header.
fn size(payload: &[u8], flags: u8, mut at: usize, spatial: u8) -> Option<(u16, u16)> {
    if flags & HAS_LAYER != 0 {
        // In the non-flexible mode TL0PICIDX follows.
        at += 1 + usize::from(flags & FLEXIBLE == 0);
    }
    if flags & FLEXIBLE != 0 && flags & INTER_PREDICTED != 0 {
        at += references(payload.get(at..)?)?;
    }
    if flags & HAS_STRUCTURE != 0 {
        let (listed, end) = structure(payload, at, spatial)?;
        if listed.is_some() {
            return listed;
        }
        at = end;
    }
    uncompressed_header(payload.get(at..)?)
}

/// How many bytes of P_DIFF there are: the lowest bit says that another follows.
fn references(data: &[u8]) -> Option<usize> {
    data.iter().take(MAX_REFERENCES).position(|byte| byte & 1 == 0).map(|last| last + 1)
}

/// The size of the layer in a scalability structure (RFC 9628 4.2.1), and where it ends.
fn structure(payload: &[u8], at: usize, spatial: u8) -> Option<(Option<(u16, u16)>, usize)> {
    let head = *payload.get(at)?;
    let (mut end, mut listed) = (at + 1, None);
    let layers = head >> 5;
    if head & 0x10 != 0 {
        if spatial <= layers {
            let size_at = end + 4 * usize::from(spatial);
            listed = Some((u16_at(payload, size_at)?, u16_at(payload, size_at + 2)?));
        }
        end += 4 * (usize::from(layers) + 1);
    }
    if head & 0x08 != 0 {
        let pictures = *payload.get(end)?;
        end += 1;
        for _ in 0..pictures {
            end += 1 + usize::from(payload.get(end)? >> 2 & 3);
        }
    }
    Some((listed, end))
}

/// The size in the uncompressed header of a key frame (VP9 bitstream specification, 6.2).
fn uncompressed_header(frame: &[u8]) -> Option<(u16, u16)> {
    let mut bits = BitReader::new(frame);
    if bits.read(2)? != 2 {
        return None;
    }
    let profile = bits.read(1)? | bits.read(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (is_repeat, is_inter) = (bits.flag()?, bits.flag()?);
    bits.skip(2)?; // show_frame, error_resilient_mode
    if is_repeat || is_inter || bits.read(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?; // twelve bits of depth, or ten
    }
    let has_subsampling = profile & 1 == 1;
    if bits.read(3)? == SRGB {
        bits.skip(usize::from(has_subsampling))?;
    } else {
        bits.skip(if has_subsampling { 4 } else { 1 })?;
    }
    let mut side = || Some(u16::try_from(bits.read(16)?).ok()?.saturating_add(1));
    Some((side()?, side()?))
}

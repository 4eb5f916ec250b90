//! AV1 (the AV1 RTP specification, 4): the aggregation header, the first unit's layers, and the sequence header's size.

use super::PacketInfo;
use super::bits::BitReader;

const CONTINUES: u8 = 0x80;
const NEW_SEQUENCE: u8 = 0x08;
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const METADATA: u8 = 5;
const FRAME: u8 = 6;
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

pub(super) fn inspect(payload: &[u8], marker: bool) -> PacketInfo {
    let mut info = PacketInfo { ends_frame: marker, ends_spatial_frame: marker, ..PacketInfo::default() };
    let Some((&aggregation, elements)) = payload.split_first() else { return info };
    if aggregation & CONTINUES != 0 {
        return info;
    }
    info.begins_key_frame = aggregation & NEW_SEQUENCE != 0;
    info.is_layer_sync = info.begins_key_frame;
    let count = aggregation >> 4 & 3;
    for (at, unit) in (Elements { rest: elements, left: count, is_counted: count > 0 }).filter_map(Unit::of).enumerate()
    {
        if at == 0 {
            info.begins_frame =
                matches!(unit.kind, SEQUENCE_HEADER | TEMPORAL_DELIMITER | FRAME_HEADER | METADATA | FRAME);
        }
        if let Some(extension) = unit.extension {
            (info.temporal, info.spatial) = (extension >> 5, extension >> 3 & 3);
        }
        if unit.kind == SEQUENCE_HEADER && info.begins_key_frame {
            info.size = info.size.or_else(|| sequence_size(unit.body));
        }
    }
    info
}

/// The elements of a payload. Each has its length before it; where they are counted, the last has none.
struct Elements<'a> {
    rest: &'a [u8],
    left: u8,
    is_counted: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        if self.is_counted {
            self.left = self.left.checked_sub(1)?;
            if self.left == 0 {
                return Some(core::mem::take(&mut self.rest));
            }
        }
        let (len, rest) = leb128(self.rest)?;
        // What is cut off is still worth its beginning.
        let (element, rest) = rest.split_at(len.min(rest.len()));
        self.rest = rest;
        Some(element)
    }
}

/// A length (AV1 specification, 4.10.5), and what follows it.
fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in data.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, data.get(at + 1..)?));
        }
    }
    None
}

/// An open bitstream unit (AV1 specification, 5.3).
struct Unit<'a> {
    kind: u8,
    extension: Option<u8>,
    body: &'a [u8],
}

impl<'a> Unit<'a> {
    fn of(element: &'a [u8]) -> Option<Self> {
        let (&header, mut body) = element.split_first()?;
        let mut extension = None;
        if header & HAS_EXTENSION != 0 {
            let (byte, rest) = body.split_first()?;
            (extension, body) = (Some(*byte), rest);
        }
        if header & HAS_SIZE != 0 {
            (_, body) = leb128(body)?;
        }
        Some(Self { kind: header >> 3 & 0x0F, extension, body })
    }
}

/// The largest frame that a sequence header allows (AV1 specification, 5.5.1).
fn sequence_size(body: &[u8]) -> Option<(u16, u16)> {
    let mut bits = BitReader::new(body);
    bits.skip(4)?; // seq_profile, still_picture
    if bits.flag()? {
        bits.skip(5)?; // a reduced header has a level, and no operating points
    } else {
        operating_points(&mut bits)?;
    }
    let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
    let width = u16::try_from(bits.read(width_bits)?).ok()?;
    let height = u16::try_from(bits.read(height_bits)?).ok()?;
    Some((width.saturating_add(1), height.saturating_add(1)))
}

fn operating_points(bits: &mut BitReader<'_>) -> Option<()> {
    let delay_bits = if bits.flag()? { timing(bits)? } else { None };
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.read(5)? {
        bits.skip(12)?; // operating_point_idc
        if bits.read(5)? > 7 {
            bits.skip(1)?; // seq_tier
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

/// timing_info and decoder_model_info; of the latter the length of its delays in bits.
fn timing(bits: &mut BitReader<'_>) -> Option<Option<usize>> {
    bits.skip(64)?; // num_units_in_display_tick, time_scale
    if bits.flag()? {
        bits.exp_golomb()?; // num_ticks_per_picture_minus_1
    }
    if !bits.flag()? {
        return Some(None);
    }
    let delay_bits = bits.read(5)? + 1;
    bits.skip(32 + 5 + 5)?;
    Some(Some(usize::try_from(delay_bits).ok()?))
}

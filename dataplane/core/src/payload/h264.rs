//! H.264 (RFC 6184): single NAL units, STAP-A and FU-A, which packetization modes 0 and 1 allow.

use super::PacketInfo;
use super::bits::BitReader;
use crate::wire::u16_at;

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const REFERENCE: u8 = 0x60;
/// No parameter set of a stream that is forwarded is longer; what follows is not read.
const MAX_SPS: usize = 128;

pub(super) fn inspect(payload: &[u8], marker: bool) -> PacketInfo {
    let mut info = PacketInfo { ends_frame: marker, ends_spatial_frame: marker, ..PacketInfo::default() };
    let Some((&indicator, rest)) = payload.split_first() else { return info };
    // STAP-A and FU-A have the importance of the units that they carry (RFC 6184 5.3).
    info.discardable = indicator & REFERENCE == 0;
    match kind(indicator) {
        FU_A => {
            if let Some((header, data)) = rest.split_first().filter(|(header, _)| **header & FU_START != 0) {
                note(&mut info, *header, data);
            }
        }
        STAP_A => {
            for (header, data) in Aggregated(rest) {
                note(&mut info, header, data);
            }
        }
        _ => note(&mut info, indicator, rest),
    }
    info.is_layer_sync = info.begins_key_frame;
    info
}

const fn kind(header: u8) -> u8 {
    header & 0x1F
}

/// What the beginning of a unit tells.
fn note(info: &mut PacketInfo, header: u8, data: &[u8]) {
    let kind = kind(header);
    info.begins_key_frame |= matches!(kind, SPS | IDR);
    info.begins_frame |= match kind {
        // first_mb_in_slice is 0: one bit of Exp-Golomb (ITU-T H.264, 7.3.3).
        SLICE | IDR => data.first().is_some_and(|byte| byte & 0x80 != 0),
        SEI | SPS | PPS | DELIMITER => true,
        _ => false,
    };
    if kind == SPS && info.size.is_none() {
        info.size = size(data);
    }
}

/// The units of a STAP-A: header, and as much of the rest as is there.
struct Aggregated<'a>(&'a [u8]);

impl<'a> Iterator for Aggregated<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let (&header, data) = self.0.get(2..)?.split_first()?;
        self.0 = self.0.get(2 + len..).unwrap_or_default();
        Some((header, data.get(..len.saturating_sub(1)).unwrap_or(data)))
    }
}

/// The cropped size of a sequence parameter set, whose header byte is gone (ITU-T H.264, 7.3.2.1.1).
fn size(data: &[u8]) -> Option<(u16, u16)> {
    let mut raw = [0; MAX_SPS];
    let len = unescape(data, &mut raw);
    let mut bits = BitReader::new(raw.get(..len)?);
    let profile = bits.read(8)?;
    bits.skip(16)?; // constraints and level
    bits.exp_golomb()?;
    let chroma = if HIGH_PROFILES.contains(&profile) { chroma_format(&mut bits)? } else { 1 };
    frame_numbers(&mut bits)?;
    bits.exp_golomb()?; // max_num_ref_frames
    bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
    let width = bits.exp_golomb()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.exp_golomb()?.checked_add(1)?.checked_mul(16)?;
    let has_frames_only = bits.flag()?;
    // Of interlaced pictures the map counts fields.
    let fields = if has_frames_only { 1 } else { 2 };
    bits.skip(1 + usize::from(!has_frames_only))?; // direct_8x8_inference_flag, mb_adaptive_frame_field_flag
    let [left, right, top, bottom] = cropping(&mut bits)?;
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2 * fields),
        2 => (2, fields),
        _ => (1, fields),
    };
    let width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
    let height = map_units.checked_mul(fields)?.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// Profiles with chroma_format_idc.
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Takes emulation_prevention_three_byte out (7.4.1), as far as `raw` has room, and gives the length.
fn unescape(data: &[u8], raw: &mut [u8; MAX_SPS]) -> usize {
    let (mut zeros, mut len) = (0, 0);
    for byte in data {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        let Some(place) = raw.get_mut(len) else { break };
        *place = *byte;
        len += 1;
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
    }
    len
}

/// From chroma_format_idc to the scaling matrices. Separate colour planes count as monochrome.
fn chroma_format(bits: &mut BitReader<'_>) -> Option<u32> {
    let chroma = bits.exp_golomb()?;
    let is_separate = chroma == 3 && bits.flag()?;
    bits.exp_golomb()?; // bit_depth_luma_minus8
    bits.exp_golomb()?; // bit_depth_chroma_minus8
    bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.flag()? {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(if is_separate { 0 } else { chroma })
}

fn scaling_list(bits: &mut BitReader<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + signed_exp_golomb(bits)?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// `se(v)` (9.1.1): 0, 1, -1, 2, -2 and so on.
fn signed_exp_golomb(bits: &mut BitReader<'_>) -> Option<i64> {
    let code = i64::from(bits.exp_golomb()?);
    Some(if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) })
}

/// log2_max_frame_num_minus4 and the picture order count.
fn frame_numbers(bits: &mut BitReader<'_>) -> Option<()> {
    bits.exp_golomb()?;
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?;
        }
        1 => {
            bits.skip(1)?;
            signed_exp_golomb(bits)?;
            signed_exp_golomb(bits)?;
            for _ in 0..bits.exp_golomb()?.min(255) {
                signed_exp_golomb(bits)?;
            }
        }
        _ => {}
    }
    Some(())
}

/// The cropping offsets: left, right, top, bottom.
fn cropping(bits: &mut BitReader<'_>) -> Option<[u32; 4]> {
    if !bits.flag()? {
        return Some([0; 4]);
    }
    Some([bits.exp_golomb()?, bits.exp_golomb()?, bits.exp_golomb()?, bits.exp_golomb()?])
}

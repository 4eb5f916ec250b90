//! What is read in payloads, beyond what the reference reads: layers, the ends of frames, sizes; and any bytes at all.

#![expect(clippy::unusual_byte_groupings, reason = "the groups are the fields of the formats")]

use parley_core::payload::{Codec, PacketInfo, inspect, rewrite_vp8};
use proptest::prelude::*;

const CODECS: [Codec; 6] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Red];

/// Bits from text; what is not a digit separates.
fn bits(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(char::is_ascii_digit).collect();
    digits
        .chunks(8)
        .map(|byte| byte.iter().zip((0..8).rev()).map(|(bit, at)| u8::from(*bit == '1') << at).sum())
        .collect()
}

/// `ue(v)` of H.264 and `uvlc()` of AV1, as digits.
fn golomb(number: u64) -> String {
    let binary = format!("{:b}", number + 1);
    "0".repeat(binary.len() - 1) + &binary
}

#[test]
fn codecs_have_the_names_of_session_descriptions() {
    for (name, codec) in ["opus", "VP8", "VP9", "H264", "AV1", "red"].into_iter().zip([
        Codec::Opus,
        Codec::Vp8,
        Codec::Vp9,
        Codec::H264,
        Codec::Av1,
        Codec::Red,
    ]) {
        assert_eq!(Codec::from_name(name), Some(codec));
        assert_eq!(codec.is_video(), !matches!(name, "opus" | "red"));
    }
    assert_eq!(Codec::from_name("H265"), None);
}

#[test]
fn each_packet_of_sound_is_a_frame() {
    let info = inspect(Codec::Opus, b"x", false);
    assert!(info.begins_frame && info.ends_frame && info.ends_spatial_frame && !info.begins_key_frame);
}

#[test]
fn a_key_frame_of_vp8_tells_its_size() {
    let frame = [0x10, 0x02, 0, 0x9D, 0x01, 0x2A, 0x80, 0x42, 0x68, 0x81];
    let payload = [&[0x90, 0xF0, 0x81, 0x02, 7, 0x00], &frame[..]].concat();
    let info = inspect(Codec::Vp8, &payload, true);
    assert!(info.begins_key_frame && info.begins_frame && info.ends_frame && info.ends_spatial_frame);
    assert!(info.is_layer_sync && !info.discardable);
    assert_eq!(info.size, Some((640, 360)), "the upper two bits scale");
    let fields = info.vp8.expect("a descriptor");
    assert_eq!((fields.picture_id, fields.is_long, fields.tl0, fields.descriptor_len), (0x102, true, 7, 6));
    assert_eq!((fields.picture_id_at, fields.tl0_at), (2, 4));
}

#[test]
fn the_layers_of_vp8_are_in_its_descriptor() {
    let info = inspect(Codec::Vp8, &[0xB0, 0x60, 9, 0xA5, 1], false);
    assert_eq!((info.temporal, info.is_layer_sync, info.discardable, info.begins_frame), (2, true, true, true));
    assert!(!info.begins_key_frame && !info.ends_frame);
    let without_tid = inspect(Codec::Vp8, &[0x90, 0x10, 0xA5, 1], false);
    assert_eq!((without_tid.temporal, without_tid.is_layer_sync), (0, false));
    let second_partition = inspect(Codec::Vp8, &[0x11, 0], false);
    assert!(!second_partition.begins_frame && !second_partition.begins_key_frame);
}

#[test]
fn a_vp8_payload_without_fields_is_not_rewritten() {
    let mut payload = [0x10, 0x00, 0x01];
    let fields = inspect(Codec::Vp8, &payload, false).vp8.expect("a descriptor");
    rewrite_vp8(&mut payload, &fields, 0x7FFF, 0xFF);
    assert_eq!(payload, [0x10, 0x00, 0x01]);
}

#[test]
fn vp9_tells_layers_in_both_modes() {
    // I, P, L, B; picture id of 15 bits; TID 1, U, SID 2, D; TL0PICIDX.
    let info = inspect(Codec::Vp9, &[0xE8, 0x81, 0x02, 0b001_1_010_1, 7, 0], false);
    assert_eq!((info.temporal, info.spatial, info.is_layer_sync), (1, 2, true));
    assert!(info.begins_frame && !info.begins_key_frame && !info.ends_spatial_frame);
    // L, F, E, and the marker.
    let info = inspect(Codec::Vp9, &[0x34, 0b010_0_001_0, 0], true);
    assert_eq!((info.temporal, info.spatial, info.is_layer_sync), (2, 1, false));
    assert!(info.ends_frame && info.ends_spatial_frame && !info.begins_frame);
    let upper_of_key_picture = inspect(Codec::Vp9, &[0x28, 0b000_0_001_1, 7, 0x82], false);
    assert!(!upper_of_key_picture.begins_key_frame);
}

#[test]
fn vp9_tells_the_size_in_its_structure() {
    // L, F, B, V; lowest layer; two layers, with sizes and a picture group.
    let head = [0b0011_1010, 0];
    let structure = [0b001_1_1000, 0x01, 0x40, 0x00, 0xB4, 0x02, 0x80, 0x01, 0x68, 1, 0b000_0_01_00, 4];
    let payload = [&head[..], &structure].concat();
    let info = inspect(Codec::Vp9, &payload, false);
    assert!(info.begins_key_frame);
    assert_eq!(info.size, Some((320, 180)));
    // The same for the layer above, which the structure names second.
    let upper = [&[head[0], 0b000_0_001_0], &structure[..]].concat();
    assert_eq!(inspect(Codec::Vp9, &upper, false).size, Some((640, 360)));
    let cut = inspect(Codec::Vp9, &payload[..6], false);
    assert!(cut.begins_key_frame);
    assert_eq!(cut.size, None);
}

#[test]
fn vp9_tells_the_size_in_the_frame_where_the_structure_has_none() {
    let sizes = "0000001001111111 0000000101100111";
    // Marker, profile 0, key frame, sync code, colours, 640 by 360.
    let profile_0 = bits(&format!("10 00 0 0 1 0 010010011000001101000010 001 0 {sizes}"));
    // Profile 2 has a depth, profile 1 subsampling, and sRGB neither range nor subsampling.
    let profile_2 = bits(&format!("10 01 0 0 1 0 010010011000001101000010 1 001 0 {sizes}"));
    let profile_1 = bits(&format!("10 10 0 0 1 0 010010011000001101000010 001 0 000 {sizes}"));
    let srgb = bits(&format!("10 10 0 0 1 0 010010011000001101000010 111 0 {sizes}"));
    let profile_3 = bits(&format!("10 11 0 0 0 1 0 010010011000001101000010 0 001 0 000 {sizes}"));
    for frame in [profile_0, profile_1, profile_2, profile_3, srgb] {
        for head in [&[0x08][..], &[0x88, 0x7F], &[0x0A, 0b000_0_1000, 1, 0b000_0_10_00, 4, 8]] {
            let info = inspect(Codec::Vp9, &[head, &frame].concat(), false);
            assert_eq!(info.size, Some((640, 360)), "{head:x?} {frame:x?}");
        }
    }
    let inter = bits(&format!("10 00 0 1 1 0 010010011000001101000010 001 0 {sizes}"));
    assert_eq!(inspect(Codec::Vp9, &[&[0x08], &inter[..]].concat(), false).size, None);
}

/// A parameter set of 640 by 360, which is 23 macroblocks less eight lines; of `profile`, with `extra` fields of high
/// profiles, and with `order` for the picture order count.
fn sps(profile: u8, extra: &str, order: &str) -> Vec<u8> {
    let (width, height) = (golomb(39), golomb(22));
    let cropped = format!("1 {}{}{}{}", golomb(0), golomb(0), golomb(0), golomb(4));
    let text = format!("1 {extra} {} {order} {} 0 {width} {height} 1 1 {cropped} 0 1", golomb(0), golomb(1));
    [&[0x67, profile, 0xE0, 0x1F], &bits(&text)[..]].concat()
}

#[test]
fn h264_tells_the_size_in_its_parameter_set() {
    let order = golomb(2);
    let order_0 = golomb(0) + &golomb(4);
    let order_1 = format!("{} 0 {}{}{}{}{}", golomb(1), golomb(1), golomb(2), golomb(2), golomb(7), golomb(8));
    let plain = sps(66, "", &order);
    for unit in [
        plain.clone(),
        sps(66, "", &order_0),
        sps(66, "", &order_1),
        sps(100, &format!("{}{}{} 0 0", golomb(1), golomb(0), golomb(0)), &order),
        // The first scaling list is there: its first delta ends it.
        sps(100, &format!("{}{}{} 0 1 1 {} 0000000", golomb(1), golomb(0), golomb(0), golomb(16)), &order),
    ] {
        let info = inspect(Codec::H264, &unit, false);
        assert!(info.begins_key_frame && info.begins_frame && info.is_layer_sync && !info.discardable);
        assert_eq!(info.size, Some((640, 360)), "{unit:x?}");
    }
    let parameters = u8::try_from(plain.len()).expect("short");
    let aggregated = [&[0x78, 0, 2, 0x09, 0xF0, 0, parameters], &plain[..], &[0, 2, 0x68, 0xCE]].concat();
    let info = inspect(Codec::H264, &aggregated, true);
    assert!(info.begins_key_frame && info.ends_frame);
    assert_eq!(info.size, Some((640, 360)));
}

#[test]
fn emulation_prevention_is_taken_out_of_a_parameter_set() {
    // Level and constraints of zero put two zeros before the three.
    let mut unit = sps(66, "", &golomb(2));
    (unit[2], unit[3]) = (0, 0);
    unit.insert(4, 3);
    assert_eq!(inspect(Codec::H264, &unit, false).size, Some((640, 360)));
}

#[test]
fn an_interlaced_parameter_set_counts_fields_and_crops_by_fields() {
    let text = format!(
        "1 {}{} {} 0 {} {} 0 0 1 1 {} 0 1",
        golomb(0),
        golomb(2),
        golomb(1),
        golomb(119),
        golomb(33),
        golomb(0).repeat(3) + &golomb(2)
    );
    let unit = [&[0x67, 77, 0, 40], &bits(&text)[..]].concat();
    assert_eq!(inspect(Codec::H264, &unit, false).size, Some((1_920, 1_080)));
}

#[test]
fn h264_frames_begin_at_the_first_slice_and_unreferenced_ones_are_discardable() {
    let info = |payload: &[u8]| inspect(Codec::H264, payload, false);
    assert!(info(&[0x61, 0x80]).begins_frame && !info(&[0x61, 0x80]).discardable);
    assert!(info(&[0x01, 0x80]).discardable);
    assert!(!info(&[0x61, 0x40]).begins_frame, "a later slice");
    assert!(info(&[0x7C, 0x85, 0x80]).begins_key_frame && info(&[0x7C, 0x85, 0x80]).begins_frame);
    assert!(!info(&[0x7C, 0x45, 0x80]).begins_frame, "the end of a fragmented unit");
}

/// A sequence header's body: `head`, then 1,280 by 720 in eleven and ten bits.
fn sequence_header(head: &str) -> Vec<u8> {
    bits(&format!("{head} 1010 1001 {:011b} {:010b}", 1_279, 719))
}

#[test]
fn av1_tells_the_size_in_its_sequence_header() {
    let timing = format!("1 {} {} 1 {}", "0".repeat(32), "1".repeat(32), golomb(5));
    let model = format!("1 01001 {} 00000 00000", "0".repeat(32));
    for head in [
        "000 0 0 0 0 00000 000000000000 00101".to_owned(),
        "000 1 1 00101".to_owned(),
        // Two operating points, one of a level with a tier, one with a display delay.
        "000 0 0 0 1 00001 000000000000 01001 1 1 1111 000000000001 00101 0".to_owned(),
        format!("000 0 0 {timing} 0 0 00000 000000000000 00101"),
        format!("000 0 0 {timing} {model} 0 00000 000000000000 00101 1 {} 1", "0".repeat(20)),
    ] {
        let unit = [&[0x08], &sequence_header(&head)[..]].concat();
        let sized = [&[0x0A, u8::try_from(unit.len() - 1).expect("short")], &unit[1..]].concat();
        let len = u8::try_from(unit.len()).expect("short");
        for payload in [
            [&[0x18], &unit[..]].concat(),                     // one element
            [&[0x28, len], &unit[..], &[0x30, 0]].concat(),    // two
            [&[0x08, len], &unit[..], &[2, 0x30, 0]].concat(), // as many as there are lengths
            [&[0x18], &sized[..]].concat(),                    // with a size of its own
        ] {
            let info = inspect(Codec::Av1, &payload, true);
            assert!(info.begins_key_frame && info.begins_frame && info.is_layer_sync && info.ends_frame);
            assert_eq!(info.size, Some((1_280, 720)), "{head}");
        }
    }
}

#[test]
fn av1_tells_the_layers_in_the_extension_of_a_unit() {
    // One element: a frame with an extension, temporal 2 and spatial 1.
    let info = inspect(Codec::Av1, &[0x10, 0x34, 0b010_01_000, 0], false);
    assert_eq!((info.temporal, info.spatial, info.begins_frame, info.begins_key_frame), (2, 1, true, false));
    assert!(!inspect(Codec::Av1, &[0x90, 0x34, 0b010_01_000, 0], false).begins_frame, "it continues a unit");
    assert!(!inspect(Codec::Av1, &[0x10, 0x20, 0], false).begins_frame, "a tile group");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn any_bytes_are_a_payload(head: u8, rest in prop::collection::vec(prop_oneof![Just(0_u8), Just(0xFF), any::<u8>()], 0..80), marker: bool) {
        let payload = [&[head], &rest[..]].concat();
        for codec in CODECS {
            let info = inspect(codec, &payload, marker);
            prop_assert!(info.ends_frame == marker || !codec.is_video());
            prop_assert!(!info.begins_key_frame || info.begins_frame || codec == Codec::H264 || codec == Codec::Av1);
            prop_assert!(info.temporal < 8 && info.spatial < 8);
        }
        prop_assert_eq!(inspect(Codec::Vp9, &[], false), PacketInfo::default());
    }

    #[test]
    fn a_rewritten_vp8_descriptor_reads_back_with_its_new_numbers(
        flags: u8, rest in prop::collection::vec(any::<u8>(), 4..12), picture_id: u16, tl0: u8,
    ) {
        let mut payload = [&[0x90, flags], &rest[..]].concat();
        let before = inspect(Codec::Vp8, &payload, false);
        let fields = before.vp8.expect("a whole descriptor");
        rewrite_vp8(&mut payload, &fields, picture_id, tl0);
        let after = inspect(Codec::Vp8, &payload, false);
        let read = after.vp8.expect("a whole descriptor");
        let mask = if fields.is_long { 0x7FFF } else { 0x7F };
        prop_assert_eq!(read.picture_id, if fields.picture_id_at == 0 { 0 } else { picture_id & mask });
        prop_assert_eq!(read.tl0, if fields.tl0_at == 0 { 0 } else { tl0 });
        prop_assert_eq!(PacketInfo { vp8: None, ..after }, PacketInfo { vp8: None, ..before });
    }
}

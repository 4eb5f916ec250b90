//! The dependency descriptor, from bits that a writer of the tests' own lays out (AV1 RTP specification, A.8.2).

use parley_core::payload::PacketInfo;
use parley_core::payload::descriptor::{DependencyDescriptorReader, Descriptor, Dti, apply};
use proptest::prelude::*;

#[derive(Default, Clone)]
struct Bits(Vec<bool>);

impl Bits {
    fn f(mut self, width: usize, value: u64) -> Self {
        self.0.extend((0..width).rev().map(|place| value >> place & 1 == 1));
        self
    }

    /// The specification's write_ns().
    fn ns(self, values: u64, value: u64) -> Self {
        let (mut width, mut left) = (0, values);
        while left != 0 {
            (left, width) = (left >> 1, width + 1);
        }
        let short = (1 << width) - values;
        if value < short { self.f(width - 1, value) } else { self.f(width, value + short) }
    }

    fn mandatory(self, first: bool, last: bool, template: u64, frame: u64) -> Self {
        self.f(1, u64::from(first)).f(1, u64::from(last)).f(6, template).f(16, frame)
    }

    /// structure, active targets, custom indications, differences and chains
    fn flags(self, flags: &str) -> Self {
        "sadfc".chars().fold(self, |bits, flag| bits.f(1, u64::from(flags.contains(flag))))
    }

    fn dtis(self, text: &str) -> Self {
        text.chars().fold(self, |bits, dti| bits.f(2, "-DSR".find(dti).expect("one of four") as u64))
    }

    fn structure(self, s: &Layout) -> Self {
        let mut bits = self.f(6, s.id_offset).f(5, s.targets() - 1);
        for next in s.templates.iter().skip(1).map(|template| template.next).chain([3]) {
            bits = bits.f(2, next);
        }
        for template in s.templates {
            bits = bits.dtis(template.dtis);
        }
        for template in s.templates {
            for difference in template.fdiffs {
                bits = bits.f(1, 1).f(4, difference - 1);
            }
            bits = bits.f(1, 0);
        }
        bits = bits.ns(s.targets() + 1, s.chains);
        if s.chains > 0 {
            for target in 0..s.targets() {
                bits = bits.ns(s.chains, target.min(s.chains - 1));
            }
            for at in 0..s.templates.len() as u64 * s.chains {
                bits = bits.f(4, at % 16);
            }
        }
        bits = bits.f(1, u64::from(!s.resolutions.is_empty()));
        s.resolutions.iter().fold(bits, |bits, (width, height)| bits.f(16, width - 1).f(16, height - 1))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.chunks(8).map(|bits| bits.iter().zip((0..8).rev()).map(|(bit, at)| u8::from(*bit) << at).sum()).collect()
    }
}

struct Template {
    /// next_layer_idc that leads here
    next: u64,
    dtis: &'static str,
    fdiffs: &'static [u64],
}

struct Layout {
    id_offset: u64,
    templates: &'static [Template],
    chains: u64,
    resolutions: &'static [(u64, u64)],
}

impl Layout {
    fn targets(&self) -> u64 {
        self.templates[0].dtis.len() as u64
    }
}

const fn template(next: u64, dtis: &'static str, fdiffs: &'static [u64]) -> Template {
    Template { next, dtis, fdiffs }
}

/// Two spatial and two temporal layers; the targets are S0T0, S0T1, S1T0, S1T1; the ids wrap.
const L2T2: Layout = Layout {
    id_offset: 61,
    templates: &[
        template(0, "SSSS", &[]),
        template(0, "SSRR", &[4]),
        template(1, "-D-R", &[2]),
        template(2, "--SS", &[1]),
        template(0, "--SS", &[4, 1]),
        template(1, "---D", &[2, 1]),
    ],
    chains: 2,
    resolutions: &[(640, 360), (1_280, 720)],
};

fn key_frame() -> Vec<u8> {
    Bits::default().mandatory(true, false, 61, 100).flags("s").structure(&L2T2).bytes()
}

fn started() -> DependencyDescriptorReader {
    let mut reader = DependencyDescriptorReader::new();
    reader.read(&key_frame()).expect("a key frame's descriptor");
    reader
}

fn dtis(descriptor: &Descriptor) -> Vec<Dti> {
    (0..descriptor.decode_targets).map(|target| descriptor.dti(target)).collect()
}

fn applied(descriptor: &Descriptor) -> PacketInfo {
    let mut info = PacketInfo { ends_frame: true, ..PacketInfo::default() };
    apply(descriptor, &mut info);
    info
}

#[test]
fn a_key_frame_brings_the_structure() {
    let descriptor = DependencyDescriptorReader::new().read(&key_frame()).expect("a key frame's descriptor");
    assert!(descriptor.first_packet && !descriptor.last_packet && descriptor.has_structure && descriptor.is_key);
    assert_eq!((descriptor.frame_number, descriptor.spatial, descriptor.temporal), (100, 0, 0));
    assert_eq!((descriptor.decode_targets, descriptor.active_decode_targets), (4, 0b1111));
    assert_eq!(dtis(&descriptor), [Dti::Switch; 4]);
    assert_eq!(descriptor.dti(4), Dti::NotPresent);
    assert_eq!(descriptor.dti(99), Dti::NotPresent);
    assert_eq!(descriptor.resolutions, [Some((640, 360)), Some((1_280, 720)), None, None]);
    let info = applied(&descriptor);
    assert!(info.begins_key_frame && info.begins_frame && info.is_layer_sync && !info.discardable);
    assert!(info.ends_frame && !info.ends_spatial_frame);
    assert_eq!(info.size, Some((640, 360)));
}

#[test]
fn three_bytes_refer_to_a_template() {
    let mut reader = started();
    // Template id 1 is the fifth of those that begin at 61: the upper layer of a later picture.
    let descriptor = reader.read(&[0x41, 0x00, 0x65]).expect("a known template");
    assert!(!descriptor.first_packet && descriptor.last_packet && !descriptor.has_structure && !descriptor.is_key);
    assert_eq!((descriptor.frame_number, descriptor.spatial, descriptor.temporal), (101, 1, 0));
    assert_eq!(descriptor.active_decode_targets, 0b1111);
    let info = applied(&descriptor);
    assert!(!info.begins_key_frame && info.is_layer_sync && info.ends_spatial_frame && !info.discardable);
    assert_eq!((info.spatial, info.size), (1, None));
}

#[test]
fn the_top_layer_is_discardable_and_the_layer_below_is_not() {
    let mut reader = started();
    let top = Bits::default().mandatory(true, true, 2, 105).bytes();
    let top = reader.read(&top).expect("a known template");
    assert_eq!((top.spatial, top.temporal), (1, 1));
    assert!(applied(&top).discardable && !applied(&top).is_layer_sync);
    let below = Bits::default().mandatory(true, true, 63, 104).bytes();
    let below = reader.read(&below).expect("a known template");
    assert_eq!((below.spatial, below.temporal), (0, 1));
    assert!(!applied(&below).discardable, "the upper spatial layer needs it");
}

#[test]
fn custom_fields_override_the_template() {
    let mut reader = started();
    let data = Bits::default().mandatory(true, true, 62, 200).flags("adfc").f(4, 0b0011);
    let data = data.dtis("DD--").f(2, 0).f(8, 4).f(8, 5);
    let descriptor = reader.read(&data.bytes()).expect("all fields");
    assert_eq!(dtis(&descriptor), [Dti::Discardable, Dti::Discardable, Dti::NotPresent, Dti::NotPresent]);
    assert!(descriptor.is_key && !descriptor.has_structure, "no difference: it refers to no frame");
    assert!(!applied(&descriptor).begins_key_frame, "a receiver cannot start without a structure");
    assert!(applied(&descriptor).discardable);
    assert_eq!(descriptor.active_decode_targets, 0b0011);
    let next = reader.read(&[0xC1, 0, 201]).expect("a known template");
    assert_eq!(next.active_decode_targets, 0b0011, "it holds until another comes");
}

#[test]
fn custom_differences_have_four_eight_or_twelve_bits() {
    let data = Bits::default().mandatory(true, true, 61, 200).flags("fc");
    let data = data.f(2, 1).f(4, 15).f(2, 2).f(8, 255).f(2, 3).f(12, 4_095).f(2, 0).f(16, 0xFFFF).bytes();
    assert!(!started().read(&data).expect("all fields").is_key);
    for len in 3..data.len() {
        assert_eq!(started().read(&data[..len]).is_ok(), len == 3, "cut at {len}");
    }
}

#[test]
fn targets_are_those_that_need_no_higher_layer() {
    let reader = started();
    assert_eq!(reader.targets_up_to(0, 0), 0b0001);
    assert_eq!(reader.targets_up_to(0, 7), 0b0011);
    assert_eq!(reader.targets_up_to(1, 0), 0b0101);
    assert_eq!(reader.targets_up_to(3, 7), 0b1111);
    assert_eq!(DependencyDescriptorReader::new().targets_up_to(3, 7), 0);
}

#[test]
fn a_descriptor_without_its_structure_or_with_an_unknown_template_is_refused() {
    assert!(DependencyDescriptorReader::new().read(&[0xFD, 0, 100]).is_err());
    let mut reader = started();
    assert!(reader.read(&[0x80 | 2, 0, 101]).is_ok());
    assert!(reader.read(&[0x80 | 3, 0, 101]).is_err());
    assert!(reader.read(&[0x80 | 60, 0, 101]).is_err());
    assert!(reader.read(&[0x80, 0]).is_err());
}

#[test]
fn a_structure_that_is_cut_off_changes_nothing() {
    let whole = key_frame();
    for len in 0..whole.len() {
        assert!(DependencyDescriptorReader::new().read(&whole[..len]).is_err(), "cut at {len}");
    }
    let mut reader = started();
    let other =
        Bits::default().mandatory(true, true, 10, 7).flags("s").structure(&Layout { id_offset: 9, ..L2T2 }).bytes();
    assert!(reader.read(&other[..other.len() - 8]).is_err());
    assert!(reader.read(&[0xC1, 0, 101]).is_ok(), "the old templates are known yet");
    assert!(reader.read(&other).is_ok());
    assert!(reader.read(&[0xC1, 0, 101]).is_err());
}

#[test]
fn too_many_layers_or_templates_are_refused() {
    let layers = |next: u64, count: usize| {
        let head = Bits::default().mandatory(true, true, 0, 1).flags("s").f(6, 0).f(5, 0);
        let bits = (1..count).fold(head, |bits, _| bits.f(2, next)).f(2, 3);
        // One target with indications, no differences, no chains and no resolutions.
        let bits = (0..count).fold(bits, |bits, _| bits.f(2, 2));
        (0..count).fold(bits, |bits, _| bits.f(1, 0)).ns(2, 0).f(1, 0).bytes()
    };
    for (next, most) in [(0, 64), (1, 8), (2, 4)] {
        assert!(DependencyDescriptorReader::new().read(&layers(next, most)).is_ok());
        assert!(DependencyDescriptorReader::new().read(&layers(next, most + 1)).is_err());
    }
}

#[test]
fn thirty_two_targets_and_as_many_chains_are_read() {
    const ALL: Layout = Layout {
        id_offset: 0,
        templates: &[template(0, "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS", &[1, 16])],
        chains: 32,
        resolutions: &[(65_536, 1)],
    };
    let data = Bits::default().mandatory(true, true, 0, 1).flags("s").structure(&ALL).bytes();
    let descriptor = DependencyDescriptorReader::new().read(&data).expect("the largest table");
    assert_eq!((descriptor.decode_targets, descriptor.active_decode_targets), (32, u32::MAX));
    assert!(!descriptor.is_key);
    assert_eq!(descriptor.resolutions[0], Some((65_535, 1)), "a size beyond 16 bits is saturated");
}

fn activated(mut descriptor: Descriptor, active: u32) -> Descriptor {
    descriptor.active_decode_targets = active;
    descriptor
}

/// Reads `data` after a key frame, before and after its mask is set.
fn with_active(data: &[u8], active: u32) -> (Descriptor, Vec<u8>, Descriptor) {
    let before = started().read(data).expect("a sound descriptor");
    let mut out = [0xAA; 255];
    let reader = started();
    let len = reader.write_active_targets(data, active, &mut out).expect("there is room");
    let after = started().read(&out[..len]).expect("a descriptor of ours");
    (before, out[..len].to_vec(), after)
}

#[test]
fn a_mask_is_put_into_a_descriptor_of_three_bytes() {
    let (before, written, after) = with_active(&[0xC1, 0, 101], 0b0001);
    assert_eq!(written, Bits::default().mandatory(true, true, 1, 101).flags("a").f(4, 1).bytes());
    assert_eq!(after, activated(before, 1));
}

#[test]
fn a_mask_is_put_behind_a_structure() {
    let (before, written, after) = with_active(&key_frame(), 0b0011);
    let expected = Bits::default().mandatory(true, false, 61, 100).flags("sa").structure(&L2T2).f(4, 3).bytes();
    assert_eq!(written, expected);
    assert_eq!(after, activated(before, 3));
}

#[test]
fn a_mask_replaces_another_before_the_custom_fields() {
    let custom = |mask| {
        let head = Bits::default().mandatory(true, true, 62, 7).flags("adfc").f(4, mask);
        head.dtis("DSR-").f(2, 1).f(4, 3).f(2, 0).f(16, 0x1234).bytes()
    };
    let (before, written, after) = with_active(&custom(0b1111), 0b0101);
    assert_eq!(written, custom(0b0101));
    assert_eq!(after, activated(before, 5));
}

#[test]
fn a_mask_needs_room_and_a_structure() {
    let mut out = [0; 4];
    assert_eq!(started().write_active_targets(&[0xC1, 0, 101], 1, &mut out), None);
    assert_eq!(DependencyDescriptorReader::new().write_active_targets(&[0xC1, 0, 101], 1, &mut [0; 9]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_descriptor_or_malformed(
        noise in prop::collection::vec(any::<u8>(), 0..255), with_structure: bool, flips in prop::collection::vec((0_usize..64, 0..8), 0..4),
    ) {
        let mut damaged = key_frame();
        for (at, bit) in flips {
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 1_u8 << bit;
            }
        }
        let mut reader = if with_structure { started() } else { DependencyDescriptorReader::new() };
        for data in [&damaged, &noise] {
            let mut out = [0; 270];
            let Ok(descriptor) = reader.read(data) else { continue };
            let len = reader.write_active_targets(data, 1, &mut out).expect("what can be read can be written");
            let again = reader.read(&out[..len]).expect("a descriptor of ours");
            prop_assert_eq!(again, activated(descriptor, 1));
            prop_assert!(len <= data.len() + 5);
            applied(&descriptor);
        }
    }
}

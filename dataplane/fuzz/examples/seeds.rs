//! Writes the seeds of all targets to `seeds/`: cargo run --example seeds, in this folder. The same bytes each time.

use std::fs;
use std::path::Path;

use parley_core::srtp::{Profile, Sealer};
use parley_core::time::Instant;
use parley_core::wire::rtcp::{self, Buffer, ReportBlock};
use parley_core::wire::rtp::ExtensionWriter;
use parley_core::wire::{stun, twcc};
use parley_fuzz::{KEY, world};

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn main() -> std::io::Result<()> {
    let targets = [
        ("rtp", rtp()),
        ("rtcp", rtcp()),
        ("stun", stun()),
        ("payload", payload()),
        ("dependency_descriptor", dependency_descriptor()),
        ("srtp_open", srtp_open()),
        ("engine", engine()),
    ];
    for (target, seeds) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

// --- RTP ------------------------------------------------------------------------------------------------------------
fn packet(payload_type: u8, sequence: u16, ssrc: u32, elements: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut block = [0; 512];
    let two_byte = elements.iter().any(|(id, value)| ExtensionWriter::needs_two_byte(*id, value.len()));
    let mut writer = ExtensionWriter::new(&mut block, two_byte);
    for (id, value) in elements {
        writer.push(*id, value).expect("there is room");
    }
    let len = writer.finish();
    let mut packet = vec![if len == 0 { 0x80 } else { 0x90 }, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 3_000).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(&block[..len]);
    packet.extend(payload);
    packet
}

/// The packet with `count` bytes of padding.
fn padded(mut packet: Vec<u8>, count: u8) -> Vec<u8> {
    packet[0] |= 0x20;
    packet.resize(packet.len() + usize::from(count) - 1, 0);
    packet.push(count);
    packet
}

/// Twelve bytes of header whose first byte is `first`, and `rest`.
fn raw(first: u8, rest: &[u8]) -> Vec<u8> {
    [&[first, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], rest].concat()
}

fn rtp() -> Seeds {
    vec![
        ("plain", packet(111, 1, 2, &[], b"opus")),
        ("one-byte", packet(96, 1, 2, &[(1, b"0"), (3, &[0, 1]), (14, &[7; 16])], b"payload")),
        ("two-byte", packet(96, 1, 2, &[(1, b"0"), (15, b""), (200, &[7; 40])], b"payload")),
        ("rtx-padding", padded(packet(97, 1, 2, &[(5, &[0, 9])], b""), 224)),
        ("padding-too-long", raw(0xA0, &[0, 0, 200])),
        ("padding-of-none", raw(0xA0, &[0, 0, 0])),
        ("sources", raw(0x8F, &[9; 60])),
        ("sources-cut", raw(0x8F, &[9; 59])),
        ("id-15-stops", raw(0x90, b"\xbe\xde\0\x02\x10\xaa\xf3\0\0\0\0\0payload")),
        ("element-too-long", raw(0x90, b"\xbe\xde\0\x01\x1f\0\0\0payload")),
        ("block-too-long", raw(0x90, b"\xbe\xde\xff\xff\x10\0\0\0payload")),
        ("other-profile", raw(0x90, b"\xab\xcd\0\x01\x01\x02\x03\x04")),
        ("client-hello", client_hello()),
    ]
}

/// The head of a DTLS record with a ClientHello (RFC 6347 4.1, 4.2.2): what comes on the same socket.
fn client_hello() -> Vec<u8> {
    let record = b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x36";
    let handshake = b"\x01\0\0\x2a\0\0\0\0\0\0\0\x2a\xfe\xfd";
    [&record[..], handshake, &[0x5A; 32], b"\0\0\0\x02\xc0\x2b\x01\0"].concat()
}

// --- RTCP -----------------------------------------------------------------------------------------------------------
fn written(write: impl Fn(&mut Buffer)) -> Vec<u8> {
    let mut buffer = Buffer::new();
    write(&mut buffer);
    buffer.as_slice().to_vec()
}

fn reports(ssrc: u32, about: u32) -> Vec<u8> {
    let block = ReportBlock { ssrc: about, fraction_lost: 9, lost: -2, highest_sequence: 70_000, ..Default::default() };
    written(|b| {
        rtcp::write_sender_report(b, ssrc, 0xE000_0000_0000_0000, 90_000, 10, 10_000);
        rtcp::write_receiver_report(b, ssrc, &[block, block]);
        rtcp::write_cname(b, ssrc, "someone");
    })
}

fn requests(ssrc: u32, about: u32) -> Vec<u8> {
    written(|b| {
        rtcp::write_receiver_report(b, ssrc, &[]);
        rtcp::write_nack(b, ssrc, about, &[1, 2, 17, 18, 65_535, 0]);
        rtcp::write_picture_loss(b, ssrc, about);
        rtcp::write_full_intra(b, ssrc, about, 3);
        rtcp::write_remb(b, ssrc, 2_500_000, &[about]);
    })
}

/// Feedback on every number from `base` but each seventh.
fn feedback(base: u64, count: u64) -> Vec<u8> {
    let came = (base..base + count).filter(|number| number % 7 != 3);
    let arrivals: Vec<_> =
        came.map(|number| (number, Instant::from_micros(5_000_000 + number * 900 + number % 5 * 70_000))).collect();
    written(|b| {
        twcc::write_feedback(b, 1, 2, 3, base, &arrivals);
    })
}

fn rtcp() -> Seeds {
    let nack = written(|b| {
        rtcp::write_nack(b, 1, 2, &[5, 6, 7]);
    });
    let mut longer = nack.clone();
    longer[3] = 0xFF;
    let mut fewer = reports(1, 2);
    fewer[0] = 0x9F;
    let mut padding = nack.clone();
    padding[0] |= 0x20;
    let mut counts_more = feedback(0, 30);
    counts_more[14] = 0xFF;
    vec![
        ("reports", reports(1, 2)),
        ("requests", requests(1, 2)),
        ("bye", written(|b| assert!(rtcp::write_bye(b, &[1, 2])))),
        ("feedback", feedback(65_500, 120)),
        ("feedback-one", feedback(9, 1)),
        ("feedback-counts-more", counts_more),
        (
            "feedback-one-bit",
            b"\x8f\xcd\0\x06\0\0\0\x01\0\0\0\x02\0\x09\0\x0e\0\0\x01\x07\xa8\0\x01\x02\x03\0\0\0".to_vec(),
        ),
        ("length-beyond", longer),
        ("more-blocks-than-bytes", fewer),
        ("padding-too-long", padding),
        ("padding-of-four", b"\xa0\xc9\0\x02\0\0\0\x05\0\0\0\x04".to_vec()),
        ("estimate-beyond", b"\x8f\xce\0\x04\0\0\0\x01\0\0\0\0REMB\0\xff\xff\xff".to_vec()),
        ("many", b"\x80\xc9\0\x01\0\0\0\x01".repeat(65)),
        ("unknown", b"\x81\xcc\0\x02\0\0\0\x05name".to_vec()),
    ]
}

// --- STUN -----------------------------------------------------------------------------------------------------------
fn stun() -> Seeds {
    let request = stun::binding_request([7; 12], "ours:theirs", "password", 0x6E00_01FF, true, 9);
    let parsed = stun::parse(request.as_slice()).expect("a request of ours");
    let answer = |from: &str| {
        let from = from.parse().expect("an address");
        stun::binding_success(&parsed, from, "password").as_slice().to_vec()
    };
    // Without FINGERPRINT a changed message is read on.
    let bare = |attributes: &[u8]| {
        let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
        [&[0, 1], &length[..], &[0x21, 0x12, 0xA4, 0x42], &[7; 12], attributes].concat()
    };
    let signed = &request.as_slice()[20..request.as_slice().len() - 8];
    vec![
        ("request", request.as_slice().to_vec()),
        ("answer-4", answer("192.0.2.1:7")),
        ("answer-6", answer("[2001:db8::1]:7")),
        ("conflict", stun::role_conflict(&parsed, "password").as_slice().to_vec()),
        ("no-fingerprint", bare(signed)),
        ("controlled", bare(&[0x80, 0x29, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x24, 0, 4, 0, 0, 0, 1])),
        ("length-beyond", bare(&[0, 6, 0xFF, 0xFF, b'x', b'x', b'x', b'x'])),
        ("not-text", bare(&[0, 6, 0, 2, 0xC0, 0x80, 0, 0])),
        ("short-integrity", bare(&[0, 8, 0, 4, 1, 2, 3, 4])),
        ("many", bare(&[0, 0x25, 0, 0].repeat(33))),
    ]
}

// --- payloads -------------------------------------------------------------------------------------------------------
const VP8_KEY: &[u8] = b"\x90\xf0\x81\x02\x07\x20\x10\x02\0\x9d\x01\x2a\x80\x02\x68\x01";
const VP9_KEY: &[u8] = b"\xaa\x81\x02\0\x07\x38\x01\x40\0\xb4\x02\x80\x01\x68\x01\x04\x04\x82\x49\x83\x42";
const H264_KEY: &[u8] =
    b"\x78\0\x0b\x67\x42\xe0\x1f\xda\x01\x40\x16\xe8\x06\xd0\0\x04\x68\xce\x06\xe2\0\x03\x65\x88\x80";
const AV1_KEY: &[u8] = b"\x28\x0b\x08\0\0\0\x24\xc4\xff\xdf\0\x9c\x20\x34\x48\0\x10";
const INTER: &[u8] = b"\x90\xf0\x81\x03\x08\x20\x11\x02";

fn payload() -> Seeds {
    let choose = |codec: u8, payload: &[u8]| [&[codec], payload].concat();
    vec![
        ("vp8-key", choose(0, VP8_KEY)),
        ("vp8-inter", choose(0x80, INTER)),
        ("vp9-key", choose(1, VP9_KEY)),
        ("vp9-flexible", choose(1, b"\xfc\x81\x02\x52\x05\x07\x02\0")),
        ("vp9-frame", choose(1, b"\x08\x82\x49\x83\x42\x20\x27\xf0\x16\x70")),
        ("h264-key", choose(2, H264_KEY)),
        ("h264-fragment", choose(2, b"\x7c\x85\x88\x80")),
        (
            "h264-high",
            choose(2, b"\x67\x64\0\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\0\0\x03\0\x10\0\0\x03\x03\xc0\xf1\x83\x19\x60"),
        ),
        ("av1-key", choose(3, AV1_KEY)),
        ("av1-layer", choose(0x83, b"\x10\x34\x48\0")),
        ("opus", choose(4, b"\xfc\xff\xfe")),
    ]
}

/// L1T2 with chains and a size: a key picture with the structure, one of each layer, a custom frame, active targets.
const DESCRIPTORS: [&[u8]; 5] = [
    b"\x80\x00\x01\x80\x01\x1e\xa8\x51\x41\x01\x0c\x13\xfc\x0b\x3c",
    b"\xc1\0\x02",
    b"\xc2\0\x03",
    b"\xc1\x00\x04\x3c\x22\x01\x80",
    b"\xc1\x00\x05\x42",
];

fn dependency_descriptor() -> Seeds {
    let listed = |all: &[&[u8]]| all.iter().flat_map(|one| [&[one.len() as u8], *one].concat()).collect();
    // Random enough to have templates, chains and sizes: bits count up.
    let counting: Vec<u8> = [0x80, 0, 1, 0x80].into_iter().chain((0..60_u8).map(|at| at.wrapping_mul(37))).collect();
    vec![
        ("stream", listed(&DESCRIPTORS)),
        ("without-structure", listed(&DESCRIPTORS[1..])),
        ("cut", listed(&[&DESCRIPTORS[0][..7], DESCRIPTORS[1]])),
        ("counting", listed(&[&counting, DESCRIPTORS[1]])),
        ("zeros", listed(&[&[0x80, 0, 1, 0x80, 0, 0, 0xC0, 0, 0, 0, 0], DESCRIPTORS[4]])),
    ]
}

// --- SRTP -----------------------------------------------------------------------------------------------------------
fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
    datagrams.iter().flat_map(|one| [&(one.len() as u16).to_be_bytes()[..], one].concat()).collect()
}

fn srtp_open() -> Seeds {
    let profiles =
        [("cm", Profile::Aes128CmSha1_80), ("gcm-128", Profile::AeadAes128Gcm), ("gcm-256", Profile::AeadAes256Gcm)];
    profiles.into_iter().zip(0_u8..).map(|((name, profile), choice)| (name, sealed(profile, choice))).collect()
}

/// Packets of a stream around the wrap of its numbers, one of them twice, RTCP, and plain noise.
fn sealed(profile: Profile, choice: u8) -> Vec<u8> {
    let key = &KEY[..profile.key_len() + profile.salt_len()];
    let mut sealer = Sealer::new(profile, key).expect("a key of the profile's length");
    let mut all = vec![raw(0x80, b"nobody sealed this packet"), client_hello()];
    for index in [65_534_u64, 65_535, 65_537, 65_536, 65_537, 67_000] {
        let mut data = packet(96, index as u16, 3, &[(1, b"0")], b"payload");
        let len = data.len();
        data.resize(len + 32, 0);
        let len = sealer.seal_rtp(&mut data, 20, len, index).expect("there is room");
        data.truncate(len);
        all.push(data);
    }
    let mut compound = reports(1, 2);
    let len = compound.len();
    compound.resize(len + 32, 0);
    let len = sealer.seal_rtcp(&mut compound, len).expect("there is room");
    compound.truncate(len);
    all.extend([compound.clone(), compound]);
    [vec![choice], framed(&all)].concat()
}

// --- the engine -----------------------------------------------------------------------------------------------------
fn step(operation: u8, datagram: &[u8]) -> Vec<u8> {
    [&[operation], &(datagram.len() as u16).to_be_bytes()[..], datagram].concat()
}

fn tick(millis: u16) -> Vec<u8> {
    [&[world::TICK], &millis.to_be_bytes()[..]].concat()
}

/// A second of one track: a key frame, later frames with gaps, what both peers report, and ticks between them.
fn second(track: usize, key: &[u8], later: &[u8]) -> Vec<u8> {
    let (mid, _, payload_type, ssrc, is_layered) = world::TRACKS[track];
    let mut steps = Vec::new();
    for at in (0..40_u16).filter(|at| at % 9 != 5) {
        let level = [(at % 128) as u8];
        let wide = at.to_be_bytes();
        let descriptor = DESCRIPTORS[if at == 0 { 0 } else { 1 + usize::from(at % 2) }];
        let mut elements = vec![(1, mid.as_bytes()), (4, &level[..]), (5, &wide[..]), (6, descriptor)];
        if is_layered {
            elements.push((2, if at % 2 == 0 { b"l" } else { b"h" }));
        }
        let ssrc = ssrc + if is_layered { u32::from(at % 2) * 2 } else { 0 };
        let payload = [if at < 2 || at == 20 { key } else { later }, &[0x5A; 200]].concat();
        steps.extend(step(world::PUBLISH, &packet(payload_type | 0x80, at, ssrc, &elements, &payload)));
        steps.push(world::FORWARD);
        steps.extend(tick(25));
    }
    steps.extend(step(world::PUBLISHER_RTCP, &reports(ssrc, ssrc)));
    steps.extend(step(world::SUBSCRIBER_RTCP, &reports(9, ssrc + 10)));
    steps.extend(step(world::SUBSCRIBER_RTCP, &requests(9, ssrc + 10)));
    steps.extend(step(world::SUBSCRIBER_RTCP, &feedback(0, 60)));
    steps.extend([world::COMMAND, 7, world::COMMAND, (track as u8) << 4 | 5]);
    steps.extend(tick(500));
    steps
}

fn engine() -> Seeds {
    let rtx = packet(97, 1, 201, &[(1, b"v8"), (5, &[0, 1])], &[&[0, 5], VP8_KEY].concat());
    let rtx_padding = padded(packet(97, 2, 201, &[(1, b"v8"), (5, &[0, 2])], b""), 224);
    let check = stun::binding_request([7; 12], "p:peer", "password", 2, true, 1);
    let strangers = [
        step(world::RAW, &client_hello()),
        step(world::STRANGER, &client_hello()),
        step(world::STRANGER, check.as_slice()),
        step(world::RAW, &raw(0x80, b"nobody sealed this packet")),
        step(world::RAW, &[0xFF; 40]),
        tick(7_000),
        tick(40_000),
    ];
    vec![
        ("audio", second(0, b"\xfc", b"\xfc")),
        ("vp8", second(1, VP8_KEY, INTER)),
        ("vp9", second(2, VP9_KEY, b"\xec\x81\x03\0\x07")),
        ("av1", second(3, AV1_KEY, b"\x10\x34\x48\0")),
        ("simulcast", second(4, VP8_KEY, INTER)),
        (
            "rtx",
            [step(world::PUBLISH, &rtx_padding), step(world::PUBLISH, &rtx), vec![world::FORWARD], tick(100)].concat(),
        ),
        ("strangers", strangers.concat()),
        ("lying-rtcp", rtcp().into_iter().flat_map(|(_, data)| step(world::SUBSCRIBER_RTCP, &data)).collect()),
    ]
}

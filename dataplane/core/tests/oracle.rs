//! The parsers and writers agree with the Python reference, line by line of its vectors (`oracle/generate.py`).

use std::fmt::Write as _;

use parley_core::payload::{Codec, inspect, rewrite_vp8};
use parley_core::time::Instant;
use parley_core::wire::{rtcp, rtp, stun, twcc};

fn unhex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).expect("hexadecimal") as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn hex(data: &[u8]) -> String {
    if data.is_empty() { "-".into() } else { bare_hex(data) }
}

fn bare_hex(data: &[u8]) -> String {
    data.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string grows");
        text
    })
}

/// Asserts that `describe` says of each line's datagram what the rest of the line says.
fn agrees(vectors: &str, describe: impl Fn(&[u8]) -> Option<String>) {
    assert!(vectors.lines().count() > 50);
    for line in vectors.lines() {
        let (datagram, verdict) = line.split_once(' ').expect("a datagram and a verdict");
        let ours = describe(&unhex(datagram)).unwrap_or_else(|| "bad".into());
        assert_eq!(ours, verdict, "of {datagram}");
    }
}

fn describe_rtp(data: &[u8]) -> Option<String> {
    let header = rtp::parse(data).ok()?;
    let mut elements: Vec<_> = header.extensions(data).map(|(id, value)| (id, bare_hex(value))).collect();
    // Of an id that comes twice the last one counts.
    elements.reverse();
    elements.sort_by_key(|(id, _)| *id);
    elements.dedup_by_key(|(id, _)| *id);
    let elements: Vec<_> = elements.iter().map(|(id, value)| format!("{id}:{value}")).collect();
    Some(format!(
        "{} {} {} {} {} {} [{}] {}",
        header.payload_type,
        u8::from(header.marker),
        header.sequence,
        header.timestamp,
        header.ssrc,
        header.padding,
        elements.join(","),
        hex(header.payload(data))
    ))
}

#[test]
fn rtp_is_read_as_the_reference_reads_it() {
    agrees(include_str!("oracle/rtp.txt"), describe_rtp);
}

fn joined<T: ToString>(numbers: impl Iterator<Item = T>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

fn blocks(blocks: rtcp::Blocks<'_>) -> String {
    blocks.fold(String::new(), |text, b| {
        let (loss, highest) = (b.fraction_lost, b.highest_sequence);
        format!("{text} {}/{loss}/{}/{highest}/{}/{}/{}", b.ssrc, b.lost, b.jitter, b.last_sr, b.delay)
    })
}

fn describe_rtcp_packet(packet: rtcp::Packet<'_>) -> Vec<String> {
    use rtcp::Packet;
    match packet {
        Packet::SenderReport { ssrc, ntp, rtp_timestamp, packets, octets, blocks: found } => {
            vec![format!("SR {ssrc} {ntp} {rtp_timestamp} {packets} {octets}{}", blocks(found))]
        }
        Packet::ReceiverReport { ssrc, blocks: found } => vec![format!("RR {ssrc}{}", blocks(found))],
        Packet::Nack { media_ssrc, numbers } => vec![format!("NACK {media_ssrc} {}", joined(numbers))],
        Packet::PictureLoss { media_ssrc } => vec![format!("KEY {media_ssrc}")],
        Packet::FullIntra { entries } => entries.map(|ssrc| format!("KEY {ssrc}")).collect(),
        Packet::Bye { ssrcs } => vec![format!("BYE {}", joined(ssrcs))],
        // The reference does not read these.
        Packet::TransportFeedback(_) | Packet::Remb { .. } => Vec::new(),
    }
}

#[test]
fn rtcp_is_read_as_the_reference_reads_it() {
    agrees(include_str!("oracle/rtcp.txt"), |data| {
        let parts: Vec<_> = rtcp::parse(data).ok()?.into_iter().flat_map(describe_rtcp_packet).collect();
        Some(if parts.is_empty() { "nothing".into() } else { parts.join("; ") })
    });
}

#[test]
fn stun_is_read_as_the_reference_reads_it() {
    agrees(include_str!("oracle/stun.txt"), |data| {
        let message = stun::parse(data).ok()?;
        Some(format!(
            "{} {} {} {} {} {} {} {}",
            message.kind,
            hex(&message.transaction_id),
            hex(message.username.as_bytes()),
            message.priority,
            u8::from(message.use_candidate),
            u8::from(message.ice_controlled),
            message.integrity_at.map_or("-".into(), |at| at.to_string()),
            u8::from(message.has_integrity("password")),
        ))
    });
}

#[test]
fn vp8_is_read_and_rewritten_as_the_reference_does() {
    agrees(include_str!("oracle/vp8.txt"), |data| {
        let info = inspect(Codec::Vp8, data, false);
        let key = u8::from(info.begins_key_frame);
        let Some(f) = info.vp8 else { return Some(format!("{key} -")) };
        let mut changed = data.to_vec();
        rewrite_vp8(&mut changed, &f, 0x1234, 0x56);
        let (at, id, long) = (f.picture_id_at, f.picture_id, u8::from(f.is_long));
        Some(format!("{key} {} {at} {id} {long} {} {} {}", f.descriptor_len, f.tl0_at, f.tl0, bare_hex(&changed)))
    });
}

#[test]
fn key_frames_of_vp9_begin_where_the_reference_says() {
    agrees(include_str!("oracle/vp9.txt"), |data| {
        Some(u8::from(inspect(Codec::Vp9, data, false).begins_key_frame).to_string())
    });
}

#[test]
fn key_frames_of_h264_begin_where_the_reference_says() {
    agrees(include_str!("oracle/h264.txt"), |data| {
        Some(u8::from(inspect(Codec::H264, data, false).begins_key_frame).to_string())
    });
}

/// A line of `feedback.txt`.
struct Case {
    base: u64,
    count: u8,
    arrivals: Vec<(u64, Instant)>,
    written: Vec<u8>,
    covered: usize,
}

fn cases() -> Vec<Case> {
    let line = |line: &str| {
        let [base, count, arrivals, written, covered] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("five fields, not {line}")
        };
        let arrival = |text: &str| {
            let (number, micros) = text.split_once(':').expect("a number and a moment");
            let micros = micros.parse().expect("microseconds");
            (number.parse().expect("a number"), Instant::from_micros(micros))
        };
        Case {
            base: base.parse().expect("a number"),
            count: count.parse().expect("a number"),
            arrivals: arrivals.split(',').map(arrival).collect(),
            written: unhex(written),
            covered: covered.parse().expect("a number"),
        }
    };
    include_str!("oracle/feedback.txt").lines().map(line).collect()
}

#[test]
fn transport_wide_feedback_is_written_as_the_reference_writes_it() {
    for case in cases() {
        let mut buffer = rtcp::Buffer::new();
        let covered = twcc::write_feedback(&mut buffer, 1, 2, case.count, case.base, &case.arrivals);
        assert_eq!(covered, case.covered);
        assert_eq!(bare_hex(buffer.as_slice()), bare_hex(&case.written));
    }
}

#[test]
fn what_the_reference_writes_as_feedback_reads_back_as_the_arrivals() {
    for case in cases() {
        let mut packets = rtcp::parse(&case.written).expect("sound feedback").into_iter();
        let Some(rtcp::Packet::TransportFeedback(feedback)) = packets.next() else {
            panic!("feedback, and nothing else")
        };
        let came: Vec<_> = feedback.statuses().filter_map(|(number, at)| Some((number, at?))).collect();
        let wraps = i64::from(1 << 24) * 64_000;
        assert_eq!(came.len(), case.covered);
        for ((number, at), (sent, moment)) in came.into_iter().zip(&case.arrivals) {
            assert_eq!(number, *sent as u16);
            let moment = i64::try_from(moment.as_micros()).expect("it fits");
            let off = (at - moment + wraps / 2).rem_euclid(wraps) - wraps / 2;
            assert!(off.abs() <= 125, "{off} us off");
        }
    }
}

/// Asserts that `ours` is what the reference writes under `name`.
fn assert_written(name: &str, ours: &[u8]) {
    let mut lines = include_str!("oracle/written.txt").lines().filter_map(|line| line.split_once(' '));
    let (_, theirs) = lines.find(|(known, _)| *known == name).expect("the reference writes it");
    assert_eq!(bare_hex(ours), theirs, "{name}");
}

#[test]
fn stun_answers_are_written_as_the_reference_writes_them() {
    let transaction = core::array::from_fn(|at| at as u8);
    let request = stun::binding_request(transaction, "ours:theirs", "password", 1, false, 0);
    let request = stun::parse(request.as_slice()).expect("a request of ours");
    for (name, from) in [
        ("success-ipv4", "192.0.2.9:4000"),
        ("success-ipv6", "[2001:db8::9]:4000"),
        ("success-mapped", "[::ffff:192.0.2.9]:4000"),
    ] {
        let from = from.parse().expect("an address");
        assert_written(name, stun::binding_success(&request, from, "secret").as_slice());
    }
    assert_written("role-conflict", stun::role_conflict(&request, "secret").as_slice());
}

#[test]
fn rtcp_is_written_as_the_reference_writes_it() {
    let written = |name, write: &dyn Fn(&mut rtcp::Buffer) -> bool| {
        let mut buffer = rtcp::Buffer::new();
        assert!(write(&mut buffer), "{name} fits");
        assert_written(name, buffer.as_slice());
    };
    let [first, second] = [
        rtcp::ReportBlock { ssrc: 1, fraction_lost: 2, lost: -3, highest_sequence: 4, jitter: 5, last_sr: 6, delay: 7 },
        rtcp::ReportBlock {
            ssrc: 8,
            fraction_lost: 255,
            lost: 1 << 24,
            highest_sequence: u32::MAX,
            jitter: 10,
            last_sr: 11,
            delay: 12,
        },
    ];
    written("sender-report", &|b| rtcp::write_sender_report(b, 1, 2 << 32 | 3, 4, 5, 6));
    written("receiver-report", &|b| rtcp::write_receiver_report(b, 1, &[first, second]));
    written("cname", &|b| rtcp::write_cname(b, 1, "someone"));
    written("cname-long", &|b| rtcp::write_cname(b, 1, &"x".repeat(300)));
    written("nack", &|b| rtcp::write_nack(b, 1, 2, &[65_530, 65_535, 3, 30, 47, 47]));
    written("nack-none", &|b| rtcp::write_nack(b, 1, 2, &[]));
    written("picture-loss", &|b| rtcp::write_picture_loss(b, 1, 2));
}

#[test]
fn extension_blocks_are_written_as_the_reference_writes_them() {
    let values: Vec<u8> = (0..17).collect();
    let written = |name, two_byte, elements: &[(u8, &[u8])]| {
        let mut buffer = [0xAA; 64];
        let mut writer = rtp::ExtensionWriter::new(&mut buffer, two_byte);
        for (id, value) in elements {
            assert!(writer.push(*id, value).is_some());
        }
        let len = writer.finish();
        assert_written(name, &buffer[..len]);
    };
    written("extensions-one-byte", false, &[(1, b"0"), (14, &values[..16])]);
    written("extensions-two-byte", true, &[(1, b"0"), (15, b""), (200, &values)]);
}

//! RTP, RTCP, transport-wide feedback and STUN: limits, round trips, the vectors of RFC 5769, and any bytes at all.

use std::net::SocketAddr;

use parley_core::time::Instant;
use parley_core::wire::rtcp::{self, Buffer, Packet, ReportBlock};
use parley_core::wire::{rtp, stun, twcc};
use proptest::prelude::*;

/// Twelve bytes of header, and `rest`.
fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    [&[first, 0xE0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9], rest].concat()
}

#[test]
fn an_rtp_packet_is_as_long_as_a_datagram_at_most() {
    assert_eq!(rtp::parse(&packet(0x80, &[0; 1_488])).map(|header| header.payload_len), Ok(1_488));
    assert!(rtp::parse(&packet(0x80, &[0; 1_489])).is_err());
}

#[test]
fn the_length_of_a_header_counts_sources_and_the_extension_block() {
    let block = [0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0];
    let data = packet(0x92, &[&[0; 8][..], &block, b"sealed"].concat());
    assert_eq!(rtp::header_len(&data), Ok(12 + 8 + 8));
    let header = rtp::parse(&data).expect("a sound packet");
    assert_eq!((header.header_len, header.extension_at, header.extension_len), (28, 24, 4));
    assert_eq!(header.extension_profile, 0xBEDE);
    assert_eq!(header.payload(&data), b"sealed");
}

#[test]
fn the_length_of_a_header_is_told_of_a_sealed_packet_that_is_longer_than_a_datagram() {
    // Padding and extension elements are SRTP's to protect: what they say is not looked at.
    assert_eq!(rtp::header_len(&packet(0xB0, &[&[0xBE, 0xDE, 0, 1, 0x1F, 0, 0, 0][..], &[0; 1_500]].concat())), Ok(20));
}

#[test]
fn an_extension_writer_refuses_what_its_form_or_its_buffer_cannot_hold() {
    let mut buffer = [0; 12];
    let mut writer = rtp::ExtensionWriter::new(&mut buffer, false);
    assert_eq!(writer.push(0, b"x"), None);
    assert_eq!(writer.push(15, b"x"), None);
    assert_eq!(writer.push(1, b""), None);
    assert_eq!(writer.push(1, &[0; 17]), None);
    assert_eq!(writer.push(1, b"seven b"), Some(5));
    assert_eq!(writer.push(2, b""), None);
    assert_eq!(writer.push(2, b"x"), None, "the buffer is full");
    assert_eq!(writer.finish(), 12);
    let mut writer = rtp::ExtensionWriter::new(&mut buffer, true);
    assert_eq!(writer.push(1, &[0; 256]), None);
    assert_eq!(writer.finish(), 0);
}

#[test]
fn padding_of_an_extension_block_needs_room_too() {
    let mut buffer = [0; 7];
    let mut writer = rtp::ExtensionWriter::new(&mut buffer, false);
    assert_eq!(writer.push(1, b"x"), None);
}

#[test]
fn a_number_is_unrolled_to_the_nearest_and_never_below_zero() {
    assert_eq!(rtp::unroll(2, 65_535), 65_538);
    assert_eq!(rtp::unroll(65_535, 65_538), 65_535);
    assert_eq!(rtp::unroll(65_530, 5), 0);
    assert_eq!(rtp::unroll(0x8000, 0x1_0000), 0x8000);
    assert_eq!(rtp::unroll(0, u64::MAX), u64::MAX);
}

/// The request of RFC 5769 2.1; its password follows.
const REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
    \x00\x06\x00\x09evtj:h6vY\x20\x20\x20\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\
    \x49\xc1\xb5\x71\xa2\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
/// The answers of RFC 5769 2.2 and 2.3.
const ANSWER_4: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector\x20\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\x00\x08\x00\x14\x2b\x91\xf5\x99\
    \xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\x80\x28\x00\x04\xc0\x7d\x4c\x96";
const ANSWER_6: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector\x20\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\
    \xbe\xd2\xb9\xd9\x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\
    \x80\x28\x00\x04\xc8\xfb\x0b\x4c";

#[test]
fn the_request_of_rfc_5769_is_read() {
    let message = stun::parse(REQUEST).expect("the vector");
    assert_eq!(message.kind, stun::BINDING_REQUEST);
    assert_eq!(message.username, "evtj:h6vY");
    assert_eq!(message.priority, 0x6e00_01ff);
    assert!(message.ice_controlled && !message.use_candidate && !message.is_success());
    assert!(message.has_integrity(PASSWORD));
    assert!(!message.has_integrity("another"));
}

#[test]
fn the_answers_of_rfc_5769_are_read() {
    for (answer, mapped) in [(ANSWER_4, "192.0.2.1:32853"), (ANSWER_6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let message = stun::parse(answer).expect("the vector");
        assert!(message.is_success() && message.has_integrity(PASSWORD));
        assert_eq!(message.mapped, mapped.parse().ok());
    }
}

#[test]
fn a_message_without_integrity_has_none() {
    let unsigned = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[0; 12]].concat();
    assert!(!stun::parse(&unsigned).expect("a bare header").has_integrity(""));
}

#[test]
fn a_user_name_that_is_too_long_is_cut_at_a_character() {
    let name = format!("{}{}", "x".repeat(507), "é".repeat(3));
    let request = stun::binding_request([1; 12], &name, "p", 1, true, u64::MAX);
    let message = stun::parse(request.as_slice()).expect("a request of ours");
    assert_eq!(message.username, "x".repeat(507));
    assert!(message.has_integrity("p") && message.use_candidate);
}

fn one(data: &[u8]) -> Packet<'_> {
    let mut packets = rtcp::parse(data).expect("a sound compound").into_iter();
    let packet = packets.next().expect("a packet of a known type");
    assert!(packets.next().is_none());
    packet
}

#[test]
fn a_nack_names_512_numbers_at_most() {
    let mut buffer = Buffer::new();
    let numbers: Vec<u16> = (0..600).collect();
    assert!(rtcp::write_nack(&mut buffer, 1, 2, &numbers));
    let Packet::Nack { numbers: read, .. } = one(buffer.as_slice()) else { panic!("a NACK") };
    assert!(read.eq(0..512));
}

#[test]
fn a_fir_names_its_source() {
    let mut buffer = Buffer::new();
    assert!(rtcp::write_full_intra(&mut buffer, 1, 0x0102_0304, 9));
    assert_eq!(buffer.as_slice(), b"\x84\xce\0\x04\0\0\0\x01\0\0\0\0\x01\x02\x03\x04\x09\0\0\0");
    let Packet::FullIntra { entries } = one(buffer.as_slice()) else { panic!("a FIR") };
    assert!(entries.eq([0x0102_0304]));
}

#[test]
fn a_receivers_estimate_is_written_with_18_bits_of_it() {
    for (bitrate_bps, read_bps) in
        [(0, 0), (1, 1), (262_143, 262_143), (262_145, 262_144), (5_000_001, 5_000_000), (u64::MAX, 0x3_FFFF << 46)]
    {
        let mut buffer = Buffer::new();
        assert!(rtcp::write_remb(&mut buffer, 1, bitrate_bps, &[2, 3]));
        let Packet::Remb { bitrate_bps: read } = one(buffer.as_slice()) else { panic!("an estimate") };
        assert_eq!(read, read_bps);
    }
    let mut buffer = Buffer::new();
    assert!(rtcp::write_remb(&mut buffer, 1, 1_000_000, &[2]));
    assert_eq!(buffer.as_slice(), b"\x8f\xce\0\x05\0\0\0\x01\0\0\0\0REMB\x01\x0b\xd0\x90\0\0\0\x02");
}

#[test]
fn an_estimate_beyond_64_bits_is_saturated_and_one_of_another_application_skipped() {
    let mut data = *b"\x8f\xce\0\x04\0\0\0\x01\0\0\0\0REMB\0\xff\xff\xff";
    let Packet::Remb { bitrate_bps } = one(&data) else { panic!("an estimate") };
    assert_eq!(bitrate_bps, u64::MAX);
    data[16] = 1; // a source that is not there
    assert!(rtcp::parse(&data).expect("a sound packet").into_iter().next().is_none());
    data[16] = 0;
    data[12] = b'X';
    assert!(rtcp::parse(&data).expect("a sound packet").into_iter().next().is_none());
}

#[test]
fn a_bye_names_its_sources() {
    let mut buffer = Buffer::new();
    assert!(rtcp::write_bye(&mut buffer, &[5, 6]));
    assert_eq!(buffer.as_slice(), b"\x82\xcb\0\x02\0\0\0\x05\0\0\0\x06");
    let Packet::Bye { ssrcs } = one(buffer.as_slice()) else { panic!("a BYE") };
    assert!(ssrcs.eq([5, 6]));
    assert!(!rtcp::write_bye(&mut buffer, &[0; 32]));
}

#[test]
fn what_does_not_fit_is_not_written_in_part() {
    let mut buffer = Buffer::new();
    let blocks = [ReportBlock::default(); 31];
    assert!(!rtcp::write_receiver_report(&mut buffer, 1, &[ReportBlock::default(); 32]));
    assert!(rtcp::write_receiver_report(&mut buffer, 1, &blocks));
    assert!(rtcp::write_cname(&mut buffer, 1, &"x".repeat(255)));
    let before = buffer.as_slice().to_vec();
    let far_apart: Vec<u16> = (0..100).map(|number| number * 20).collect();
    assert!(!rtcp::write_nack(&mut buffer, 1, 2, &far_apart));
    assert!(!rtcp::write_remb(&mut buffer, 1, 2, &[0; 256]));
    let arrivals: Vec<_> = (0..250).map(|number| (number * 2, Instant::from_micros(number * 100_000))).collect();
    assert_eq!(twcc::write_feedback(&mut buffer, 1, 2, 3, 0, &arrivals), 0);
    assert_eq!(buffer.as_slice(), before);
    assert_eq!(buffer.remaining(), Buffer::CAPACITY - before.len());
    assert!(buffer.as_mut().len() >= Buffer::CAPACITY + 20, "SRTCP's trailer has room");
    buffer.clear();
    assert!(buffer.is_empty());
}

/// Feedback about `count` numbers from 9 with a reference time of 1.
fn feedback(count: u16, chunks_and_deltas: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 1, 0, 0, 0, 2, 0, 9];
    body.extend(count.to_be_bytes());
    body.extend([0, 0, 1, 7]);
    body.extend(chunks_and_deltas);
    body.resize(body.len().next_multiple_of(4), 0);
    let words = u16::try_from(body.len() / 4).expect("short");
    [&[0x8F, 205], &words.to_be_bytes()[..], &body].concat()
}

fn statuses(data: &[u8]) -> Vec<(u16, Option<i64>)> {
    let Packet::TransportFeedback(feedback) = one(data) else { panic!("feedback") };
    assert_eq!((feedback.sender_ssrc, feedback.media_ssrc, feedback.feedback_count), (1, 2, 7));
    feedback.statuses().collect()
}

#[test]
fn a_run_is_cut_at_the_count_of_numbers() {
    // A run of 8,191 small deltas, of which three count.
    let data = feedback(3, &[0x3F, 0xFF, 4, 8, 0]);
    assert_eq!(statuses(&data), [(9, Some(65_000)), (10, Some(67_000)), (11, Some(67_000))]);
}

#[test]
fn vectors_of_one_and_of_two_bits_are_read() {
    // 1 0 1 of one bit; then large, none, small of two bits. The large delta is -1.
    let one_bit = 0x8000_u16 | 0b10_1000_0000_0000;
    let two_bits = 0xC000_u16 | 0b10_00_01_00_00_00_00;
    let data = feedback(17, &[&one_bit.to_be_bytes()[..], &two_bits.to_be_bytes(), &[1, 2, 0xFF, 0xFF, 4]].concat());
    let read = statuses(&data);
    assert_eq!(read.len(), 17);
    let came: Vec<_> = read.into_iter().filter_map(|(number, at)| Some((number, at?))).collect();
    assert_eq!(came, [(9, 64_250), (11, 64_750), (23, 64_500), (25, 65_500)]);
}

#[test]
fn a_reference_time_has_a_sign_and_numbers_wrap() {
    let mut data = feedback(2, &[0x20, 2, 0, 0]);
    data[12..14].copy_from_slice(&[0xFF, 0xFF]);
    data[16..19].copy_from_slice(&[0xFF, 0xFF, 0xFF]);
    assert_eq!(statuses(&data), [(65_535, Some(-64_000)), (0, Some(-64_000))]);
}

#[test]
fn a_run_of_no_length_is_passed_over() {
    assert_eq!(statuses(&feedback(1, &[0, 0, 0, 1])), [(9, None)]);
}

#[test]
fn feedback_whose_chunks_or_deltas_are_missing_or_reserved_is_malformed() {
    for bad in [
        feedback(8, &[0xC0, 0]),             // a vector of seven, for eight
        feedback(0xFFFF, &[0, 9, 0, 9]),     // many more numbers than chunks
        feedback(100, &[0x20, 100]),         // a hundred deltas that are not there
        feedback(1, &[0x60, 1, 0, 0, 0, 0]), // the reserved symbol
        feedback(1, &[0xF0, 0, 0, 0]),
    ] {
        assert!(rtcp::parse(&bad).is_err(), "{bad:x?}");
    }
    assert!(rtcp::parse(&[0x8F, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]).is_err());
}

#[test]
fn arrivals_out_of_order_end_a_feedback_packet() {
    let mut buffer = Buffer::new();
    let at = Instant::from_micros(1_000_000);
    assert_eq!(twcc::write_feedback(&mut buffer, 1, 2, 0, 5, &[]), 0);
    assert_eq!(twcc::write_feedback(&mut buffer, 1, 2, 0, 5, &[(4, at)]), 0);
    assert!(buffer.is_empty());
    assert_eq!(twcc::write_feedback(&mut buffer, 1, 2, 0, 5, &[(6, at), (6, at)]), 1);
}

/// Bytes that get past the first checks more often than plain noise.
fn datagram(heads: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(prop_oneof![Just(0_u8), Just(0xFF), any::<u8>()], 0..200);
    (prop::sample::select(heads), body).prop_map(|(head, body)| [head, &body].concat())
}

const RTP_HEADS: &[&[u8]] = &[
    b"",
    b"\x80",
    b"\xb0",
    b"\x90\x60\0\0\0\0\0\0\0\0\0\0\xbe\xde",
    b"\xb1\x60\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\x05",
];
const RTCP_HEADS: &[&[u8]] = &[
    b"",
    b"\x81\xc8",
    b"\xa1\xc9\0\x08",
    b"\x82\xcb\0\x01",
    b"\x81\xcd\0\x09",
    b"\x8f\xcd\0\x09",
    b"\x84\xce\0\x06",
    b"\x8f\xce\0\x05\0\0\0\0\0\0\0\0REMB",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_an_rtp_packet_whose_parts_are_its_bytes_or_malformed(data in datagram(RTP_HEADS)) {
        let Ok(header) = rtp::parse(&data) else { return Ok(()) };
        prop_assert_eq!(rtp::header_len(&data), Ok(header.header_len));
        prop_assert_eq!(header.header_len + header.payload_len + usize::from(header.padding), data.len());
        prop_assert_eq!(header.payload(&data).len(), header.payload_len);
        prop_assert_eq!(header.extension_at + header.extension_len, header.header_len);
        let listed: usize = header.extensions(&data).map(|(_, value)| value.len() + 1).sum();
        prop_assert!(listed <= header.extension_len);
        prop_assert!(header.extensions(&[]).next().is_none(), "of another datagram there is nothing");
    }

    #[test]
    fn any_bytes_are_rtcp_or_malformed_and_iterating_ends(data in datagram(RTCP_HEADS)) {
        let Ok(compound) = rtcp::parse(&data) else { return Ok(()) };
        for packet in compound {
            match packet {
                Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => prop_assert!(blocks.count() <= 31),
                Packet::Nack { numbers, .. } => prop_assert!(numbers.count() <= rtcp::MAX_LOST),
                Packet::FullIntra { entries } => prop_assert!(entries.count() <= data.len() / 8),
                Packet::Bye { ssrcs } => prop_assert!(ssrcs.count() <= 31),
                Packet::TransportFeedback(feedback) => {
                    prop_assert_eq!(feedback.statuses().count(), usize::from(feedback.count));
                }
                Packet::PictureLoss { .. } | Packet::Remb { .. } => {}
            }
        }
    }

    #[test]
    fn any_bytes_are_stun_or_malformed(body in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200)) {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        let data = [&[0, 1], &length[..], &[0x21, 0x12, 0xA4, 0x42], &[3; 12], &body].concat();
        if let Ok(message) = stun::parse(&data) {
            prop_assert!(!message.has_integrity("password"));
        }
        prop_assert!(stun::parse(&body).is_err());
    }

    #[test]
    fn extension_elements_read_back_as_they_were_written(
        two_byte: bool,
        elements in prop::collection::vec((1_u8..=14, prop::collection::vec(any::<u8>(), 1..=16)), 0..10),
    ) {
        let mut block = [0xAA; 200];
        let mut writer = rtp::ExtensionWriter::new(&mut block, two_byte);
        for (id, value) in &elements {
            let at = writer.push(*id, value);
            prop_assert!(at.is_some());
        }
        let len = writer.finish();
        let first = if len == 0 { 0x80 } else { 0x90 };
        let data = packet(first, &[&block[..len], b"payload"].concat());
        let header = rtp::parse(&data).expect("a packet of ours");
        prop_assert_eq!(header.payload(&data), b"payload");
        let read: Vec<_> = header.extensions(&data).map(|(id, value)| (id, value.to_vec())).collect();
        prop_assert_eq!(read, elements);
    }

    #[test]
    fn reports_read_back_as_they_were_written(
        ssrc: u32, ntp: u64, fields: [u32; 6], fraction_lost: u8, lost in -0x80_0000_i32..0x80_0000,
    ) {
        let [rtp_timestamp, packets, octets, highest_sequence, jitter, last_sr] = fields;
        let block = ReportBlock { ssrc, fraction_lost, lost, highest_sequence, jitter, last_sr, delay: packets };
        let mut buffer = Buffer::new();
        prop_assert!(rtcp::write_sender_report(&mut buffer, ssrc, ntp, rtp_timestamp, packets, octets));
        prop_assert!(rtcp::write_receiver_report(&mut buffer, ssrc, &[block]));
        let packets_read: Vec<_> = rtcp::parse(buffer.as_slice()).expect("reports of ours").into_iter().collect();
        let [Packet::SenderReport { ssrc: a, ntp: b, rtp_timestamp: c, packets: d, octets: e, .. }, Packet::ReceiverReport { blocks, .. }] = &packets_read[..] else {
            panic!("two reports")
        };
        prop_assert_eq!((*a, *b, *c, *d, *e), (ssrc, ntp, rtp_timestamp, packets, octets));
        prop_assert_eq!(blocks.clone().collect::<Vec<_>>(), vec![block]);
    }

    #[test]
    fn a_nack_reads_back_as_the_numbers_that_were_written(gaps in prop::collection::vec(1_u16..40, 1..200), first: u16) {
        let numbers: Vec<_> = gaps.iter().scan(first, |at, gap| { *at = at.wrapping_add(*gap); Some(*at) }).collect();
        let mut buffer = Buffer::new();
        prop_assert!(rtcp::write_nack(&mut buffer, 1, 2, &numbers));
        let Packet::Nack { media_ssrc, numbers: read } = one(buffer.as_slice()) else { panic!("a NACK") };
        prop_assert_eq!(media_ssrc, 2);
        prop_assert_eq!(read.collect::<Vec<_>>(), numbers);
    }

    #[test]
    fn requests_and_answers_read_back_as_they_were_written(
        transaction_id: [u8; 12], name in "\\PC{0,60}", password in "\\PC{0,80}", priority: u32, ip: u128, port: u16, tie_breaker: u64,
    ) {
        let request = stun::binding_request(transaction_id, &name, &password, priority, true, tie_breaker);
        let request = stun::parse(request.as_slice()).expect("a request of ours");
        prop_assert!(request.has_integrity(&password) && request.use_candidate && !request.ice_controlled);
        prop_assert_eq!((request.transaction_id, request.username, request.priority), (transaction_id, &name[..], priority));
        let from = SocketAddr::new(std::net::Ipv6Addr::from_bits(ip).into(), port);
        let answer = stun::binding_success(&request, from, &password);
        let answer = stun::parse(answer.as_slice()).expect("an answer of ours");
        prop_assert!(answer.is_success() && answer.has_integrity(&password));
        prop_assert_eq!(answer.mapped, Some(SocketAddr::new(from.ip().to_canonical(), port)));
    }
}

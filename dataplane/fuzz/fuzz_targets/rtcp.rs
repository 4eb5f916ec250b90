//! RTCP: any bytes are malformed, or packets whose lists end where the datagram does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parley_core::wire::rtcp::{self, Buffer, Packet};

fuzz_target!(|data: &[u8]| {
    let Ok(compound) = rtcp::parse(data) else { return };
    assert!(compound.into_iter().count() <= rtcp::MAX_PACKETS);
    for packet in compound {
        match packet {
            Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
                let blocks: Vec<_> = blocks.collect();
                assert!(rtcp::write_receiver_report(&mut Buffer::new(), 1, &blocks));
            }
            Packet::Nack { media_ssrc, numbers } => {
                let numbers: Vec<_> = numbers.collect();
                assert!(numbers.len() <= rtcp::MAX_LOST);
                rtcp::write_nack(&mut Buffer::new(), 1, media_ssrc, &numbers);
            }
            Packet::TransportFeedback(feedback) => {
                assert_eq!(feedback.statuses().count(), usize::from(feedback.count));
            }
            Packet::FullIntra { entries } => assert!(entries.count() <= data.len() / 8),
            Packet::Bye { ssrcs } => assert!(ssrcs.count() <= 31),
            Packet::Remb { bitrate_bps } => assert!(rtcp::write_remb(&mut Buffer::new(), 1, bitrate_bps, &[])),
            Packet::PictureLoss { .. } => {}
        }
    }
});

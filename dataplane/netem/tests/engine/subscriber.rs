//! A subscriber's end: opens what comes, reports on it, and says which layer it sees.

use crate::simulation::START;
use crate::simulation::receiver::{Receiver, VIDEO_SSRC};
use crate::wire::{AUDIO, End, TRANSPORT_CC, VIDEO, is_rtcp, seal_rtcp};
use core::time::Duration;
use parley_core::srtp::{Opener, Sealer};
use parley_core::time::Instant;
use parley_core::wire::{rtcp, rtp};

pub const AUDIO_SSRC: u32 = 1;
pub const RTX_SSRC: u32 = 3;
/// Video that has not come for so long does not flow.
const FLOWS: Duration = Duration::from_millis(500);
const REPORT: Duration = Duration::from_secs(1);
const CHECK: Duration = Duration::from_secs(1);

pub struct Subscriber {
    pub end: End,
    sealer: Sealer,
    opener: Opener,
    pub receiver: Receiver,
    layer: Option<(u8, Instant)>,
    sender_report: Option<(u32, Instant)>, // the middle of its NTP time, and when it came
    report_at: Instant,
    check_at: Instant,
}

impl Subscriber {
    pub fn new(end: End) -> Self {
        Self {
            sealer: end.sealer(),
            opener: end.opener(),
            end,
            receiver: Receiver::default(),
            layer: None,
            sender_report: None,
            report_at: START + REPORT,
            check_at: START + CHECK,
        }
    }

    /// The layer that flows.
    pub fn layer(&self, now: Instant) -> Option<u8> {
        self.layer.filter(|layer| now.since(layer.1) < FLOWS).map(|layer| layer.0)
    }

    pub fn receive(&mut self, now: Instant, datagram: &mut [u8]) {
        if datagram.first().is_none_or(|first| *first < 128) {
            return; // the answer to a check
        }
        if is_rtcp(datagram) {
            let len = self.opener.open_rtcp(datagram).expect("sealed by the engine");
            for packet in rtcp::parse(&datagram[..len]).expect("written by the engine") {
                if let rtcp::Packet::SenderReport { ssrc: VIDEO_SSRC, ntp, .. } = packet {
                    self.sender_report = Some(((ntp >> 16) as u32, now));
                }
            }
            return;
        }
        let len = self.opener.open_rtp(datagram).expect("sealed by the engine, once").len;
        self.receive_rtp(now, &datagram[..len]);
    }

    fn receive_rtp(&mut self, now: Instant, data: &[u8]) {
        let header = rtp::parse(data).expect("written by the engine");
        let wide = header.extensions(data).find(|(id, _)| *id == TRANSPORT_CC).expect("a transport-wide number");
        let wide = u16::from_be_bytes(wide.1.try_into().expect("two bytes"));
        self.receiver.arrived(rtp::unroll(wide, self.receiver.highest_number()), now);
        let payload = header.payload(data);
        match header.payload_type {
            kind if kind == AUDIO.payload_type => self.receiver.audio += 1,
            kind if kind == VIDEO.payload_type => {
                let number = self.unroll(header.sequence);
                if number >= self.receiver.highest_video() {
                    self.layer = payload.last().map(|layer| (*layer, now));
                }
                self.receiver.video(number, now);
            }
            _ if payload.len() >= 2 => {
                let number = self.unroll(u16::from_be_bytes([payload[0], payload[1]]));
                self.receiver.video(number, now);
            }
            _ => {} // padding
        }
    }

    /// The numbers of a stream begin anywhere.
    fn unroll(&self, number: u16) -> u64 {
        let near = self.receiver.highest_video();
        if near == 0 { 0x1_0000 + u64::from(number) } else { rtp::unroll(number, near) }
    }

    pub fn next_at(&self) -> Instant {
        self.receiver.next_at().min(self.report_at).min(self.check_at)
    }

    /// What is to be sent by `now`.
    pub fn due(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let mut reports = Vec::new();
        self.receiver.reports(now, &mut reports);
        if now >= self.report_at {
            self.report_at = now + REPORT;
            reports.push(self.receiver_report(now));
        }
        out.extend(reports.iter().map(|plain| seal_rtcp(&mut self.sealer, plain)));
        if now >= self.check_at {
            self.check_at = now + CHECK;
            out.push(self.end.check());
        }
    }

    fn receiver_report(&self, now: Instant) -> Vec<u8> {
        let (last_sr, delay) = self
            .sender_report
            .map_or((0, 0), |(last_sr, at)| (last_sr, (now.since(at).as_micros() * 65_536 / 1_000_000) as u32));
        let block = rtcp::ReportBlock {
            ssrc: VIDEO_SSRC,
            fraction_lost: 0,
            lost: 0,
            highest_sequence: self.receiver.highest_video() as u32,
            jitter: 0,
            last_sr,
            delay,
        };
        let mut buffer = rtcp::Buffer::new();
        rtcp::write_receiver_report(&mut buffer, 9, &[block]);
        rtcp::write_cname(&mut buffer, 9, &self.end.name);
        buffer.as_slice().to_vec()
    }
}

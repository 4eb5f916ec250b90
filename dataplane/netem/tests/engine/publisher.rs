//! The publisher's end: seals what is captured, sends again what is asked for, and takes requests for key frames.

use crate::simulation::START;
use crate::simulation::media::{Packet, Video};
use crate::wire::{AUDIO, End, MID, RID, TRANSPORT_CC, VIDEO, is_rtcp, seal_rtcp};
use core::time::Duration;
use parley_core::srtp::{MAX_OVERHEAD, Opener, Sealer};
use parley_core::time::Instant;
use parley_core::wire::rtcp;
use parley_core::wire::rtp::ExtensionWriter;
use std::collections::{HashMap, VecDeque};

pub const AUDIO_MID: &str = "0";
pub const VIDEO_MID: &str = "1";
pub const RIDS: [&str; 3] = ["q", "h", "f"];
const AUDIO_SSRC: u32 = 100;
const VIDEO_SSRC: u32 = 200;
const FIRST_NUMBER: u64 = 1_000;
const CACHED: usize = 2_000;
/// Until a packet that is asked for has come: two ways.
const REPAIR: Duration = Duration::from_millis(50);
const REPORT: Duration = Duration::from_secs(1);
const SIZES: [(u16, u16); 3] = [(320, 180), (640, 360), (1_280, 720)];
const NTP_UNITS: u64 = 1 << 32;

pub struct Publisher {
    pub end: End,
    sealer: Sealer,
    opener: Opener,
    wide: u16,
    captured: HashMap<(u32, u16), Packet>,
    order: VecDeque<(u32, u16)>,
    repairs: VecDeque<(Instant, Packet)>,
    reported_at: Instant,
    pub key_frames: VecDeque<u8>,
}

impl Publisher {
    pub fn new(end: End) -> Self {
        Self {
            sealer: end.sealer(),
            opener: end.opener(),
            end,
            wide: 0,
            captured: HashMap::new(),
            order: VecDeque::new(),
            repairs: VecDeque::new(),
            reported_at: START,
            key_frames: VecDeque::new(),
        }
    }

    /// Keeps a packet for a while, should it be lost.
    pub fn captured(&mut self, packet: &Packet) {
        let key = (ssrc(packet), number(packet) as u16);
        self.captured.insert(key, *packet);
        self.order.push_back(key);
        if self.order.len() > CACHED
            && let Some(old) = self.order.pop_front()
        {
            self.captured.remove(&old);
        }
    }

    /// The datagram of a packet.
    pub fn seal(&mut self, packet: &Packet) -> Vec<u8> {
        self.wide = self.wide.wrapping_add(1);
        let mut data = vec![0; 1_500];
        let number = number(packet);
        let header_len = write_header(&mut data, packet, self.wide);
        let payload_len = match packet {
            Packet::Audio { .. } => packet.bytes() - crate::simulation::media::OVERHEAD,
            Packet::Video(video) => write_vp8(&mut data[header_len..], video),
        };
        let len = header_len + payload_len;
        data.truncate(len + MAX_OVERHEAD);
        let sealed = self.sealer.seal_rtp(&mut data, header_len, len, number).expect("there is room");
        data.truncate(sealed);
        data
    }

    /// What is sent again, or reported, by `now`.
    pub fn due(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        while let Some((_, packet)) = self.repairs.pop_front_if(|repair| repair.0 <= now) {
            out.push(self.seal(&packet));
        }
        if now >= self.reported_at {
            self.reported_at = now + REPORT;
            out.push(self.end.check());
            let mut buffer = rtcp::Buffer::new();
            for (ssrc, clock_rate) in
                [(AUDIO_SSRC, 48_000), (VIDEO_SSRC, 90_000), (VIDEO_SSRC + 1, 90_000), (VIDEO_SSRC + 2, 90_000)]
            {
                buffer.clear();
                let passed = now.since(START).as_micros() as u64;
                let ntp = (3_900_000_000 * NTP_UNITS) + (passed as u128 * u128::from(NTP_UNITS) / 1_000_000) as u64;
                rtcp::write_sender_report(&mut buffer, ssrc, ntp, (passed * clock_rate / 1_000_000) as u32, 1, 1);
                rtcp::write_cname(&mut buffer, ssrc, "publisher");
                out.push(seal_rtcp(&mut self.sealer, buffer.as_slice()));
            }
        }
    }

    pub fn next_at(&self) -> Instant {
        self.repairs.front().map_or(self.reported_at, |repair| repair.0.min(self.reported_at))
    }

    /// What the engine sends to its publisher.
    pub fn receive(&mut self, now: Instant, datagram: &mut [u8]) {
        if !is_rtcp(datagram) {
            return;
        }
        let len = self.opener.open_rtcp(datagram).expect("sealed by the engine");
        for packet in rtcp::parse(&datagram[..len]).expect("written by the engine") {
            match packet {
                rtcp::Packet::PictureLoss { media_ssrc } => self.ask(media_ssrc),
                rtcp::Packet::FullIntra { entries } => entries.for_each(|ssrc| self.ask(ssrc)),
                rtcp::Packet::Nack { media_ssrc, numbers } => {
                    for number in numbers {
                        if let Some(packet) = self.captured.get(&(media_ssrc, number)) {
                            self.repairs.push_back((now + REPAIR, *packet));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, ssrc: u32) {
        if let Some(layer) = ssrc.checked_sub(VIDEO_SSRC).and_then(|layer| u8::try_from(layer).ok()) {
            self.key_frames.push_back(layer);
        }
    }
}

fn ssrc(packet: &Packet) -> u32 {
    match packet {
        Packet::Audio { .. } => AUDIO_SSRC,
        Packet::Video(video) => VIDEO_SSRC + u32::from(video.layer),
    }
}

fn number(packet: &Packet) -> u64 {
    match packet {
        Packet::Audio { sequence } => FIRST_NUMBER + sequence,
        Packet::Video(video) => FIRST_NUMBER + video.sequence,
    }
}

fn write_header(data: &mut [u8], packet: &Packet, wide: u16) -> usize {
    let (marker, payload_type, timestamp) = match packet {
        Packet::Audio { sequence } => (false, AUDIO.payload_type, (sequence * 960) as u32),
        Packet::Video(video) => (video.is_last, VIDEO.payload_type, (video.frame * 3_000) as u32),
    };
    data[0] = 0x90;
    data[1] = payload_type | u8::from(marker) << 7;
    data[2..4].copy_from_slice(&(number(packet) as u16).to_be_bytes());
    data[4..8].copy_from_slice(&timestamp.to_be_bytes());
    data[8..12].copy_from_slice(&ssrc(packet).to_be_bytes());
    let mut extensions = ExtensionWriter::new(&mut data[12..], false);
    match packet {
        Packet::Audio { .. } => {
            extensions.push(MID, AUDIO_MID.as_bytes());
        }
        Packet::Video(video) => {
            extensions.push(MID, VIDEO_MID.as_bytes());
            extensions.push(RID, RIDS[usize::from(video.layer)].as_bytes());
        }
    }
    extensions.push(TRANSPORT_CC, &wide.to_be_bytes());
    12 + extensions.finish()
}

/// A payload whose last byte names the layer, after the descriptor (RFC 7741 section 4.2) and, where a frame begins, the
/// frame's header (RFC 6386 section 9.1).
fn write_vp8(data: &mut [u8], video: &Video) -> usize {
    let picture = (video.frame as u16 & 0x7FFF) | 0x8000;
    let non_reference = u8::from(video.temporal > 0) << 5;
    data[0] = 0x80 | non_reference | u8::from(video.is_first) << 4;
    data[1] = 0xE0; // picture id, TL0PICIDX, temporal layer
    data[2..4].copy_from_slice(&picture.to_be_bytes());
    data[4] = (video.frame / 2) as u8;
    data[5] = video.temporal << 6 | u8::from(video.temporal > 0) << 5;
    if video.is_first {
        data[6] = u8::from(!video.is_key);
        if video.is_key {
            let (width, height) = SIZES[usize::from(video.layer)];
            data[9..12].copy_from_slice(&[0x9D, 0x01, 0x2A]);
            data[12..14].copy_from_slice(&width.to_le_bytes());
            data[14..16].copy_from_slice(&height.to_le_bytes());
        }
    }
    let len = video.payload.max(20);
    data[len - 1] = video.layer;
    len
}

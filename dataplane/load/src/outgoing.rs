//! What a publisher sends: frames of VP8 or packets of Opus that look like Chromium's, with their time of sending inside.

use parley_core::srtp::{MAX_OVERHEAD, Sealer};
use parley_core::time::Instant;
use parley_core::wire::rtcp::{self, Buffer};
use parley_core::wire::rtp::ExtensionWriter;

use crate::chance;
use crate::command::{Kind, StreamSpec};
use crate::stamp::{self, STAMP_LEN};

/// Packets that one frame has at most.
pub const MAX_FRAME: usize = 64;
const MAX_PACKET: usize = 1_600;
/// Two bytes of descriptor, a long picture id, TL0PICIDX, the temporal byte (RFC 7741 4.2).
const DESCRIPTOR_LEN: usize = 6;
/// Frame tag, start code, width and height of a key frame (RFC 6386 9.1).
const KEY_FRAME_HEADER: [u8; 10] = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
/// The frame tag of another frame.
const INTER_FRAME_HEADER: [u8; 3] = [0x11, 0x02, 0x00];
/// RFC 6464: voice, -30 dBov.
const LEVEL: u8 = 0x80 | 30;

/// Room for the sealed packets of a frame.
pub struct Frame {
    packets: Box<[[u8; MAX_PACKET]; MAX_FRAME]>,
    lengths: [usize; MAX_FRAME],
    count: usize,
}

impl Default for Frame {
    fn default() -> Self {
        Self { packets: Box::new([[0; MAX_PACKET]; MAX_FRAME]), lengths: [0; MAX_FRAME], count: 0 }
    }
}

impl Frame {
    /// The packets, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().zip(self.lengths).take(self.count).filter_map(|(packet, length)| packet.get(..length))
    }

    /// How many packets it has.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }
}

/// One stream with its numbers, which go on from load to load.
pub struct OutStream {
    spec: StreamSpec,
    index: u64,
    timestamp: u32,
    picture_id: u16,
    tl0: u8,
    is_key_frame_wanted: bool,
    packets: u32,
    octets: u32,
}

impl OutStream {
    /// Begins with a key frame.
    #[must_use]
    pub fn new(spec: StreamSpec) -> Self {
        Self {
            spec,
            index: u64::from(chance::number() >> 17),
            timestamp: chance::number(),
            picture_id: 0,
            tl0: 0,
            is_key_frame_wanted: true,
            packets: 0,
            octets: 0,
        }
    }

    /// The same stream at another rate.
    pub fn respecify(&mut self, spec: StreamSpec) {
        self.spec = spec;
    }

    /// The stream's SSRC.
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.spec.ssrc
    }

    /// Microseconds between frames.
    #[must_use]
    pub fn interval(&self) -> f64 {
        1e6 / self.spec.frames_per_s
    }

    /// How much of an interval the stream is late by.
    #[must_use]
    pub const fn phase(&self) -> f64 {
        self.spec.phase
    }

    /// The next frame of a video is a key frame.
    pub const fn want_key_frame(&mut self) {
        self.is_key_frame_wanted = true;
    }

    /// Writes the next frame, sealed. `wide` is the transport-wide number of the last packet. False where a packet does
    /// not fit or the stream has used up its key.
    pub fn write_frame(&mut self, now: Instant, wide: &mut u16, sealer: &Sealer, frame: &mut Frame) -> bool {
        let count = usize::from(self.spec.frame_packets).clamp(1, MAX_FRAME);
        let is_key_frame = std::mem::take(&mut self.is_key_frame_wanted);
        frame.count = 0;
        for place in 0..count {
            let Some(buffer) = frame.packets.get_mut(place) else { return false };
            let Some(length) = self.write_packet(buffer, now, wide, (place, count), is_key_frame, sealer) else {
                return false;
            };
            frame.lengths[place] = length;
            frame.count = place + 1;
        }
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(1);
        let clock_rate = if self.spec.kind == Kind::Video { 90_000.0 } else { 48_000.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let step = (clock_rate / self.spec.frames_per_s) as u32;
        self.timestamp = self.timestamp.wrapping_add(step);
        true
    }

    fn write_packet(
        &mut self,
        buffer: &mut [u8; MAX_PACKET],
        now: Instant,
        wide: &mut u16,
        (place, count): (usize, usize),
        is_key_frame: bool,
        sealer: &Sealer,
    ) -> Option<usize> {
        let is_video = self.spec.kind == Kind::Video;
        let marker = if is_video { place + 1 == count } else { false };
        self.index += 1;
        *wide = wide.wrapping_add(1);
        let [.., high, low] = self.index.to_be_bytes();
        buffer.get_mut(..12)?.copy_from_slice(&[
            0x80,
            self.spec.payload_type | u8::from(marker) << 7,
            high,
            low,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        buffer.get_mut(4..8)?.copy_from_slice(&self.timestamp.to_be_bytes());
        buffer.get_mut(8..12)?.copy_from_slice(&self.spec.ssrc.to_be_bytes());
        let header_len = 12 + self.write_extensions(buffer.get_mut(12..)?, *wide);
        if header_len > 12 {
            buffer[0] |= 0x10;
        }
        let length = usize::from(self.spec.packet_bytes).max(header_len + DESCRIPTOR_LEN + 10 + STAMP_LEN);
        let payload = buffer.get_mut(header_len..length)?;
        payload.fill(0x5a);
        if is_video {
            self.write_descriptor(payload, place == 0, is_key_frame)?;
        }
        stamp::write(payload, now);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(length - header_len).ok()?);
        sealer.seal_rtp(buffer.get_mut(..length + MAX_OVERHEAD)?, header_len, length, self.index)
    }

    /// Writes the header extensions; how many bytes they take.
    fn write_extensions(&self, out: &mut [u8], wide: u16) -> usize {
        let (spec, ids) = (&self.spec, &self.spec.extensions);
        let mut writer = ExtensionWriter::new(out, false);
        if let (Some(id), Some(mid)) = (ids.mid, &spec.mid) {
            writer.push(id, mid.as_bytes());
        }
        if let (Some(id), Some(rid)) = (ids.rid, &spec.rid) {
            writer.push(id, rid.as_bytes());
        }
        if let Some(id) = ids.transport_cc {
            writer.push(id, &wide.to_be_bytes());
        }
        if let (Some(id), Kind::Audio) = (ids.audio_level, spec.kind) {
            writer.push(id, &[LEVEL]);
        }
        writer.finish()
    }

    fn write_descriptor(&self, payload: &mut [u8], is_first: bool, is_key_frame: bool) -> Option<()> {
        let [high, low] = self.picture_id.to_be_bytes();
        let start = if is_first { 0x90 } else { 0x80 };
        let descriptor: [u8; DESCRIPTOR_LEN] = [start, 0xe0, 0x80 | high, low, self.tl0, 0x20];
        payload.get_mut(..DESCRIPTOR_LEN)?.copy_from_slice(&descriptor);
        if is_first {
            let header: &[u8] = if is_key_frame { &KEY_FRAME_HEADER } else { &INTER_FRAME_HEADER };
            payload.get_mut(DESCRIPTOR_LEN..DESCRIPTOR_LEN + header.len())?.copy_from_slice(header);
        }
        Some(())
    }

    /// Appends a sender report of now with the stream's CNAME.
    pub fn write_report(&self, buffer: &mut Buffer, ntp: u64) {
        rtcp::write_sender_report(buffer, self.spec.ssrc, ntp, self.timestamp, self.packets, self.octets);
        rtcp::write_cname(buffer, self.spec.ssrc, &self.spec.id);
    }
}

#[cfg(test)]
mod tests {
    use parley_core::payload::{self, Codec};
    use parley_core::srtp::{Opener, Profile};
    use parley_core::wire::rtp;

    use super::*;
    use crate::command::Extensions;

    fn spec(kind: Kind) -> StreamSpec {
        StreamSpec {
            id: "p".to_owned(),
            ssrc: 5,
            payload_type: 96,
            kind,
            mid: Some("0".to_owned()),
            rid: None,
            extensions: Extensions { mid: Some(4), rid: None, transport_cc: Some(3), audio_level: Some(1) },
            frames_per_s: 30.0,
            frame_packets: if kind == Kind::Video { 4 } else { 1 },
            packet_bytes: if kind == Kind::Video { 1_200 } else { 160 },
            phase: 0.0,
        }
    }

    fn open(frame: &Frame) -> Vec<Vec<u8>> {
        let mut opener = Opener::new(Profile::AeadAes128Gcm, &[7; 28]).unwrap();
        let opened = frame.datagrams().map(|datagram| {
            let mut data = datagram.to_vec();
            let length = opener.open_rtp(&mut data).unwrap().len;
            data.truncate(length);
            data
        });
        opened.collect()
    }

    fn frames(kind: Kind, count: usize) -> Vec<Vec<Vec<u8>>> {
        let sealer = Sealer::new(Profile::AeadAes128Gcm, &[7; 28]).unwrap();
        let (mut stream, mut wide, mut frame) = (OutStream::new(spec(kind)), u16::MAX, Frame::default());
        let made = (0..count).map(|place| {
            if place == 2 {
                stream.want_key_frame();
            }
            assert!(stream.write_frame(Instant::from_micros(77), &mut wide, &sealer, &mut frame));
            open(&frame)
        });
        made.collect()
    }

    #[test]
    fn a_frame_of_video_is_what_a_forwarder_takes_for_one() {
        for (number, frame) in frames(Kind::Video, 4).iter().enumerate() {
            assert_eq!(frame.iter().map(Vec::len).collect::<Vec<_>>(), [1_200; 4]);
            for (place, data) in frame.iter().enumerate() {
                let header = rtp::parse(data).unwrap();
                let info = payload::inspect(Codec::Vp8, header.payload(data), header.marker);
                assert_eq!(info.begins_frame, place == 0);
                assert_eq!(header.marker, place == 3);
                assert_eq!(info.begins_key_frame, place == 0 && (number == 0 || number == 2), "frame {number}");
                let fields = info.vp8.unwrap();
                assert_eq!((usize::from(fields.picture_id), usize::from(fields.tl0)), (number, number));
                assert_eq!(stamp::read(header.payload(data)), Some(Instant::from_micros(77)));
            }
        }
    }

    #[test]
    fn numbers_go_up_by_one_and_time_by_a_frame() {
        let packets: Vec<Vec<u8>> = frames(Kind::Video, 2).concat();
        let headers: Vec<_> = packets.iter().map(|data| rtp::parse(data).unwrap()).collect();
        let wide = |place: usize| headers[place].extensions(&packets[place]).find(|(id, _)| *id == 3).unwrap().1;
        for place in 1..headers.len() {
            assert_eq!(headers[place].sequence, headers[place - 1].sequence + 1);
        }
        assert_eq!((wide(0), wide(7)), (&[0, 0][..], &[0, 7][..]));
        assert_eq!(headers[4].timestamp.wrapping_sub(headers[0].timestamp), 3_000);
    }

    #[test]
    fn a_packet_of_sound_has_its_level_and_no_marker() {
        let data = &frames(Kind::Audio, 1)[0][0];
        let header = rtp::parse(data).unwrap();
        assert_eq!(data.len(), 160);
        assert!(!header.marker);
        assert_eq!(header.extensions(data).find(|(id, _)| *id == 1).unwrap().1, [0x80 | 30]);
    }
}

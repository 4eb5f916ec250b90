//! A publisher: a camera in three simulcast layers at 30 frames a second, two temporal layers each, and a microphone.

use core::time::Duration;
use parley_core::time::Instant;
use parley_netem::Random;

/// Bits per second of the layers (180p, 360p, 720p), and of the audio.
pub const LAYER_BPS: [u64; 3] = [150_000, 500_000, 1_500_000];
pub const AUDIO_BPS: u64 = 32_000;
/// RTP header with extensions, and the authentication tag.
pub const OVERHEAD: usize = 40;
pub const AUDIO_INTERVAL: Duration = Duration::from_millis(20);

const FRAME_INTERVAL: Duration = Duration::from_micros(33_333);
const MAX_PAYLOAD: usize = 1_150;
/// A key frame in frames of usual size; the encoder saves it on those that follow.
const KEY_FRAME: f64 = 6.0;
const SAVING: f64 = 0.75;
/// Sizes of the frames of the two temporal layers, in frames of usual size.
const TEMPORAL: [f64; 2] = [1.2, 0.8];
const NOISE: f64 = 0.15;
/// From the request at the publisher to the encoder's key frame, with the way of the request.
const KEY_FRAME_DELAY: Duration = Duration::from_millis(50);

/// One packet as it leaves the publisher.
#[derive(Clone, Copy, Debug)]
pub enum Packet {
    Audio { sequence: u64 },
    Video(Video),
}

#[derive(Clone, Copy, Debug)]
pub struct Video {
    pub layer: u8,
    pub temporal: u8,
    /// Counts the packets of the layer.
    pub sequence: u64,
    /// Counts the frames of all layers.
    pub frame: u64,
    pub is_key: bool,
    pub is_first: bool,
    pub is_last: bool,
    pub payload: usize,
}

impl Packet {
    /// The size of the datagram.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Audio { .. } => (AUDIO_BPS as usize / 8) / 50 + OVERHEAD,
            Self::Video(video) => video.payload + OVERHEAD,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Encoder {
    is_off: bool,
    sequence: u64,
    debt: f64, // bytes to be saved
    key_at: Option<Instant>,
}

#[derive(Debug)]
pub struct Publisher {
    random: Random,
    encoders: [Encoder; 3],
    audio_at: Instant,
    audio_sequence: u64,
    frame_at: Instant,
    frame: u64,
}

impl Publisher {
    pub fn new(seed: u64, start: Instant) -> Self {
        let encoder = Encoder { key_at: Some(start), ..Encoder::default() };
        Self {
            random: Random::new(seed),
            encoders: [encoder.clone(), encoder.clone(), encoder],
            audio_at: start,
            audio_sequence: 0,
            frame_at: start,
            frame: 0,
        }
    }

    pub fn next_at(&self) -> Instant {
        self.audio_at.min(self.frame_at)
    }

    pub fn ask_key_frame(&mut self, layer: u8, now: Instant) {
        self.encoders[usize::from(layer)].key_at.get_or_insert(now + KEY_FRAME_DELAY);
    }

    /// Stops a layer that nobody receives, or begins it anew.
    pub fn switch(&mut self, layer: u8, is_on: bool, now: Instant) {
        let encoder = &mut self.encoders[usize::from(layer)];
        if is_on && encoder.is_off {
            encoder.key_at = Some(now + KEY_FRAME_DELAY);
        }
        encoder.is_off = !is_on;
    }

    /// What is captured by `now`.
    pub fn packets(&mut self, now: Instant, out: &mut Vec<Packet>) {
        while self.audio_at <= now {
            out.push(Packet::Audio { sequence: self.audio_sequence });
            self.audio_sequence += 1;
            self.audio_at = self.audio_at + AUDIO_INTERVAL;
        }
        while self.frame_at <= now {
            for layer in 0..3 {
                self.encode(layer, now, out);
            }
            self.frame += 1;
            self.frame_at = self.frame_at + FRAME_INTERVAL;
        }
    }

    fn encode(&mut self, layer: u8, now: Instant, out: &mut Vec<Packet>) {
        let encoder = &mut self.encoders[usize::from(layer)];
        if encoder.is_off {
            return;
        }
        let is_key = encoder.key_at.take_if(|at| *at <= now).is_some();
        let temporal = if is_key { 0 } else { (self.frame % 2) as u8 };
        let usual = LAYER_BPS[usize::from(layer)] as f64 / 8.0 / 30.0;
        let noise = 1.0 + NOISE * (2.0 * self.random.fraction() - 1.0);
        let mut size = usual * TEMPORAL[usize::from(temporal)] * noise;
        if is_key {
            size = usual * KEY_FRAME * noise;
            encoder.debt += size - usual;
        } else if encoder.debt > 0.0 {
            encoder.debt -= size * (1.0 - SAVING);
            size *= SAVING;
        }
        let count = (size as usize).div_ceil(MAX_PAYLOAD).max(1);
        for index in 0..count {
            out.push(Packet::Video(Video {
                layer,
                temporal,
                sequence: encoder.sequence,
                frame: self.frame,
                is_key,
                is_first: index == 0,
                is_last: index + 1 == count,
                payload: (size as usize).div_ceil(count),
            }));
            encoder.sequence += 1;
        }
    }
}

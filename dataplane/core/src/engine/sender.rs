//! The subscriber's side: one track on its way to one transport, under its own SSRC.
//!
//! Law: an (ssrc, index) is sealed once. Outgoing numbers only grow at a switch; a late packet keeps the number that its
//! place gives it, or is dropped where that number is gone; a resend goes by RTX, under its own SSRC and numbers. What a
//! sender has planned it remembers, and builds from the stream's store when it is sent: at once, after its pacer, again.

use core::time::Duration;
use std::sync::Arc;

use crate::congestion::{LayerChoice, Pause};
use crate::engine::command::{SetSender, TrackCodec, Want};
use crate::engine::numbering::Numbering;
use crate::engine::rewrite::Head;
use crate::engine::store::Meta;
use crate::engine::stream::{Report, Stream};
use crate::engine::track::Pin;
use crate::time::Instant;
use crate::wire::rtp;

/// Packets that RTX can bring back; at 1 Mb/s about five seconds.
const HISTORY: usize = 512;
/// Where outgoing numbers begin: the receiver takes the first roll-over counter for zero.
pub(crate) const OUT_ORIGIN: u64 = 0x1_0000;
const RESEND_INTERVAL: Duration = Duration::from_millis(20);
const MAX_RESEND_INTERVAL: Duration = Duration::from_millis(300);
const MAX_RESENDS: u8 = 10;
/// Between a subscriber's requests for key frames, doubled by each that follows closely.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
const MAX_ASK_INTERVAL: Duration = Duration::from_secs(4);
const SR_INTERVAL: Duration = Duration::from_secs(1);
const REPORTS: usize = 8;

/// The key of a stream that is gone.
pub(crate) const GONE: usize = usize::MAX;

/// A packet that has its outgoing number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planned {
    pub(crate) out: u64,
    pub(crate) number: u64,
    pub(crate) stream: u32,
    pub(crate) timestamp: u32,
    pub(crate) picture: u16,
    pub(crate) tl0: u8,
    pub(crate) resends: u8,
    pub(crate) marker: bool,
    /// Stands for a packet that is not forwarded: padding only.
    pub(crate) is_filler: bool,
    pub(crate) sent_at: u32, // milliseconds, for resends
}

/// What to do with a packet of the track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Ignore,
    Forward,
    /// Of the current stream, but of a layer that is not forwarded.
    Skip,
    Switch,
}

/// Pictures whose late packets are told from others'.
const PICTURES: usize = 8;

/// State of one sender.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) id: Arc<str>,
    pub(crate) cname: Arc<str>,
    pub(crate) transport: usize,
    pub(crate) track: usize,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: Option<u32>,
    pub(crate) codec: TrackCodec,
    pub(crate) is_video: bool,
    pub(crate) is_connected: bool,
    /// By command.
    pub(crate) is_stopped: bool,
    /// By the allocation.
    pub(crate) pause: Pause,
    pub(crate) want: Want,
    pub(crate) pin: Option<Pin>,
    pub(crate) choice: Option<LayerChoice>,
    /// The choice leaves no temporal layer out.
    pub(crate) has_all_temporal: bool,
    pub(crate) current: Option<usize>,
    pub(crate) target: Option<usize>,
    /// Layers that are forwarded now, and what the allocation wants; a change waits for a picture that allows it.
    pub(crate) layers: (u8, u8),
    newest_picture: Option<u32>,
    /// The last pictures by their time stamp, and what is forwarded of each.
    pictures: [(u32, (u8, u8)); PICTURES],
    picture_at: usize,
    /// The stream holds spatial layers that may be left out (VP9 SVC, AV1 SVC).
    pub(crate) is_svc: bool,
    pub(crate) is_first_told: bool,
    pub(crate) told: Option<(Pause, u8, u8)>,
    pub(crate) head: Head,
    pub(crate) fraction_lost: f64,
    pub(crate) reported_at: Option<Instant>,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) forwarded: u64,
    pub(crate) octets: u64,
    pub(crate) retransmitted: u64,
    /// A key frame request that was held back, until the next key frame.
    pub(crate) is_ask_deferred: bool,
    pub(crate) is_waiting: bool, // for a key frame
    numbering: Numbering,
    clock_offset: u32,
    last_timestamp: u32,
    last_at: Option<Instant>,
    picture: Option<(u16, u8)>, // the newest that was sent
    dropped_picture: Option<u16>,
    history: Vec<Planned>,
    rtx_number: u64,
    asked_at: Option<Instant>,
    ask_interval: Duration,
    reports: [(u32, Instant); REPORTS],
    report_count: usize,
    next_report: Instant,
}

impl Sender {
    pub(crate) fn new(command: &SetSender, transport: usize, track: usize, random: [u32; 3]) -> Self {
        let is_video = command.codec.codec.is_video();
        Self {
            id: Arc::clone(&command.sender),
            cname: Arc::clone(&command.cname),
            transport,
            track,
            ssrc: command.ssrc,
            rtx_ssrc: command.rtx_ssrc,
            codec: command.codec,
            is_video,
            is_connected: false,
            is_stopped: false,
            pause: Pause::None,
            want: Want::default(),
            pin: None,
            choice: None,
            has_all_temporal: true,
            current: None,
            target: None,
            layers: (u8::MAX, u8::MAX),
            newest_picture: None,
            pictures: [(0, (u8::MAX, u8::MAX)); PICTURES],
            picture_at: 0,
            is_svc: false,
            is_first_told: false,
            told: None,
            head: Head::new(&command.extensions, &command.mid),
            fraction_lost: 0.0,
            reported_at: None,
            round_trip: None,
            forwarded: 0,
            octets: 0,
            retransmitted: 0,
            is_ask_deferred: false,
            is_waiting: true,
            numbering: Numbering::new(OUT_ORIGIN + 1 + u64::from(random[0] & 0x3FFF)),
            clock_offset: random[1],
            last_timestamp: 0,
            last_at: None,
            picture: None,
            dropped_picture: None,
            history: if is_video { vec![Planned::default(); HISTORY] } else { Vec::new() },
            rtx_number: u64::from(random[2] & 0x3FFF),
            asked_at: None,
            ask_interval: ASK_INTERVAL,
            reports: [(0, Instant::default()); REPORTS],
            report_count: 0,
            next_report: Instant::default(),
        }
    }

    /// True where nothing is to be forwarded.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.is_stopped || self.pause != Pause::None
    }

    /// True while the next packet that may be forwarded is the first of a key frame of `target`.
    pub(crate) fn wants_key_frame(&self) -> bool {
        self.is_video && self.target.is_some() && (self.is_waiting || self.target != self.current)
    }

    /// What comes next must begin with a key frame.
    pub(crate) fn interrupt(&mut self) {
        self.is_waiting = true;
    }

    /// What to do with a packet. Changes of layers within the stream take effect at the picture that allows them.
    #[inline]
    pub(crate) fn step(&mut self, stream: usize, place: u8, meta: &Meta) -> Step {
        let is_refused =
            self.pin.as_ref().is_some_and(|pin| pin.is_strict && pin.place.is_some_and(|pinned| pinned != place));
        if self.is_paused() || !self.is_connected || is_refused {
            return Step::Ignore;
        }
        if Some(stream) == self.current && !self.is_waiting {
            return if self.is_video { self.filter(meta) } else { Step::Forward };
        }
        if Some(stream) == self.target && (!self.is_video || meta.info.begins_key_frame) {
            return Step::Switch;
        }
        Step::Ignore
    }

    fn filter(&mut self, meta: &Meta) -> Step {
        let info = &meta.info;
        // The first packet that comes of a picture decides, whichever it is: every one says what the picture is.
        if self.newest_picture != Some(meta.timestamp) && self.numbering.is_in_order(meta.number) {
            self.newest_picture = Some(meta.timestamp);
            self.adapt(meta);
            self.picture_at = (self.picture_at + 1) % PICTURES;
            if let Some(slot) = self.pictures.get_mut(self.picture_at) {
                *slot = (meta.timestamp, self.layers);
            }
        }
        // A late packet has the fate of its picture; one of a picture that nothing has come of, that of the newest.
        let known = self.pictures.iter().find(|(timestamp, _)| *timestamp == meta.timestamp);
        let (spatial, temporal) = known.map_or(self.layers, |(_, layers)| *layers);
        if info.spatial <= spatial && info.temporal <= temporal { Step::Forward } else { Step::Skip }
    }

    /// Down at once; up where the picture begins anew or depends on nothing that was left out.
    fn adapt(&mut self, meta: &Meta) {
        let info = &meta.info;
        let (spatial, temporal) = self.wanted_layers();
        if info.begins_key_frame {
            self.layers = (spatial, temporal);
            return;
        }
        self.layers.0 = self.layers.0.min(spatial);
        self.layers.1 = self.layers.1.min(temporal);
        if temporal > self.layers.1 && info.temporal == self.layers.1 + 1 && info.is_layer_sync {
            self.layers.1 += 1;
        }
    }

    /// Layers within the stream: without SVC all spatial ones.
    fn wanted_layers(&self) -> (u8, u8) {
        let pin = self.pin.as_ref();
        let choice = self.choice.unwrap_or(LayerChoice { spatial: u8::MAX, temporal: u8::MAX });
        let spatial = if self.is_svc { choice.spatial } else { u8::MAX };
        // Nothing is chosen within a layer that is pinned: the choice is one from before.
        let has_all = self.has_all_temporal || pin.is_some_and(|pin| pin.place.is_some());
        let temporal = if has_all { u8::MAX } else { choice.temporal };
        (spatial, pin.and_then(|pin| pin.temporal).unwrap_or(temporal))
    }

    /// Whether a spatial layer above those forwarded is wanted: it needs a key frame.
    pub(crate) fn wants_spatial_up(&self) -> bool {
        self.is_svc && !self.is_waiting && self.wanted_layers().0 > self.layers.0 && self.layers.0 != u8::MAX
    }

    /// Takes a packet to forward: its outgoing number and fields. `None` for one whose number is gone.
    pub(crate) fn plan(&mut self, meta: &Meta, stream: u32, now: Instant) -> Option<Planned> {
        let newest = self.numbering.highest();
        let place = self.numbering.place(meta.number)?;
        let is_newest = place.number > newest;
        let is_last = self.is_svc && meta.info.ends_spatial_frame && meta.info.spatial >= self.layers.0;
        let mut planned = Planned {
            out: place.number,
            number: meta.number,
            stream,
            timestamp: meta.timestamp.wrapping_add(self.clock_offset),
            marker: meta.marker || is_last,
            ..Planned::default()
        };
        if let Some(fields) = &meta.info.vp8 {
            let mask = if fields.is_long { 0x7FFF } else { 0x7F };
            planned.picture = fields.picture_id.wrapping_add(place.picture) & mask;
            planned.tl0 = fields.tl0.wrapping_add(place.tl0);
            if is_newest {
                self.picture = Some((planned.picture, planned.tl0));
            }
        } else if meta.descriptor_len > 0 {
            planned.picture = meta.frame.wrapping_add(place.picture);
            if is_newest {
                self.picture = Some((planned.picture, 0));
            }
        }
        if !self.remember(&planned) {
            return None;
        }
        self.count(&planned, is_newest, now);
        self.octets += u64::from(meta.payload_len);
        Some(planned)
    }

    /// A packet goes out (without octets where it is padding alone, RFC 3550 6.4.1); what follows it goes on from there.
    fn count(&mut self, planned: &Planned, is_newest: bool, now: Instant) {
        if is_newest {
            self.last_timestamp = planned.timestamp;
            self.last_at = Some(now);
        }
        self.forwarded += 1;
    }

    /// A packet of a layer that is not forwarded. Where its number was kept for it, padding takes its place.
    pub(crate) fn skip(&mut self, meta: &Meta, stream: u32, now: Instant) -> Option<Planned> {
        if self.numbering.is_in_order(meta.number) {
            let picture = meta.info.vp8.map(|fields| fields.picture_id);
            let is_new = picture.is_some() && picture != self.dropped_picture;
            self.dropped_picture = picture;
            self.numbering.skip(meta.number, is_new);
            return None;
        }
        let newest = self.numbering.highest();
        let place = self.numbering.place(meta.number)?;
        let planned = Planned {
            out: place.number,
            number: meta.number,
            stream,
            timestamp: meta.timestamp.wrapping_add(self.clock_offset),
            is_filler: true,
            ..Planned::default()
        };
        if !self.remember(&planned) {
            return None;
        }
        self.count(&planned, place.number > newest, now);
        Some(planned)
    }

    fn slot(&mut self, out: u64) -> Option<&mut Planned> {
        #[expect(clippy::cast_possible_truncation, reason = "below HISTORY")]
        self.history.get_mut((out % HISTORY as u64) as usize)
    }

    /// False for a number that is taken or too old. (Without a history the numbering alone sees to it.)
    fn remember(&mut self, planned: &Planned) -> bool {
        if self.history.is_empty() {
            return true;
        }
        if planned.out + HISTORY as u64 <= self.numbering.highest() {
            return false;
        }
        match self.slot(planned.out) {
            Some(slot) if slot.out != planned.out => {
                *slot = *planned;
                true
            }
            _ => false,
        }
    }

    /// A packet that waits in the pacer, by its outgoing number.
    pub(crate) fn planned(&self, out: u64) -> Option<Planned> {
        #[expect(clippy::cast_possible_truncation, reason = "below HISTORY")]
        self.history.get((out % HISTORY as u64) as usize).copied().filter(|planned| planned.out == out)
    }

    /// A stream is gone, and its key will be another's.
    pub(crate) fn forget_stream(&mut self, key: usize) {
        self.current = self.current.map(|known| if known == key { GONE } else { known });
        self.target = self.target.filter(|&known| known != key);
        for planned in self.history.iter_mut().filter(|planned| planned.stream as usize == key) {
            *planned = Planned::default();
        }
    }

    // --- switching --------------------------------------------------------------------------------------------------
    /// Goes on with `stream` from the packet of `meta`. Numbers go on where they stopped. The clock goes on too: within
    /// a stream by itself, between streams by their sender reports, else by the time that has passed.
    pub(crate) fn switch(&mut self, key: usize, stream: &Stream, former: Option<&Stream>, meta: &Meta, now: Instant) {
        let is_other = self.current != Some(key);
        if is_other && self.current.is_some() {
            self.clock_offset = self.clock_for(meta.timestamp, stream, former, now);
        }
        let (mut picture, mut tl0) = self.numbering.pictures(meta.number);
        if let (Some(sent), true) = (self.picture, is_other) {
            let (first, first_tl0) = meta.info.vp8.map_or((meta.frame, 0), |fields| (fields.picture_id, fields.tl0));
            picture = sent.0.wrapping_add(1).wrapping_sub(first);
            tl0 = sent.1.wrapping_add(1).wrapping_sub(first_tl0);
        }
        self.numbering.restart(meta.number, picture, tl0);
        self.current = Some(key);
        self.is_waiting = false;
        self.dropped_picture = None;
        self.layers = self.wanted_layers();
        self.newest_picture = Some(meta.timestamp);
        self.pictures = [(meta.timestamp, self.layers); PICTURES];
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "time stamps wrap at 32 bits")]
    fn clock_for(&self, timestamp: u32, stream: &Stream, former: Option<&Stream>, now: Instant) -> u32 {
        let rate = u64::from(stream.clock_rate);
        let elapsed = self.last_at.map_or(Duration::ZERO, |at| now.since(at)).max(Duration::from_millis(1));
        let passed = ((elapsed.as_micros() as u64 * rate / 1_000_000) as u32).max(1);
        let expected = self.last_timestamp.wrapping_add(passed);
        if let (Some(new), Some(old)) = (stream.sr, former.and_then(|stream| stream.sr)) {
            let apart = (new.ntp.wrapping_sub(old.ntp) as i64 as i128 * i128::from(rate)) >> 32;
            let drift = new.rtp_timestamp.wrapping_sub(old.rtp_timestamp).wrapping_sub(apart as u32);
            let aligned = self.clock_offset.wrapping_sub(drift);
            let ahead = timestamp.wrapping_add(aligned).wrapping_sub(self.last_timestamp);
            if ahead > 0 && ahead < passed.saturating_add(stream.clock_rate / 2) {
                return aligned;
            }
        }
        expected.wrapping_sub(timestamp)
    }

    // --- feedback of the subscriber ---------------------------------------------------------------------------------
    /// The packet of a lost number, to be sent by RTX; `None` where it is gone or was resent just now.
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of seven weeks")]
    pub(crate) fn resend(&mut self, sequence: u16, now: Instant) -> Option<Planned> {
        self.rtx_ssrc.and(self.codec.rtx_payload_type)?;
        let out = rtp::unroll(sequence, self.numbering.highest());
        let wait = self.round_trip.unwrap_or_default().clamp(RESEND_INTERVAL, MAX_RESEND_INTERVAL);
        let millis = (now.as_micros() / 1_000) as u32;
        let slot = self.slot(out).filter(|slot| slot.out == out && slot.resends < MAX_RESENDS)?;
        if slot.resends > 0 && u128::from(millis.wrapping_sub(slot.sent_at)) < wait.as_millis() {
            return None; // the copy may be on its way
        }
        slot.sent_at = millis;
        slot.resends += 1;
        Some(*slot)
    }

    /// The next number of the RTX stream.
    pub(crate) fn next_rtx(&mut self) -> u64 {
        self.rtx_number += 1;
        self.rtx_number
    }

    /// The newest packet indexes under its SSRC and its RTX SSRC.
    pub(crate) fn indexes(&self) -> (u64, u64) {
        (self.numbering.highest() - OUT_ORIGIN, self.rtx_number)
    }

    /// Begins above these.
    pub(crate) fn begin_above(&mut self, media: u64, repairs: u64) {
        self.numbering = Numbering::new(OUT_ORIGIN + 1 + media);
        self.rtx_number = repairs;
    }

    /// The time stamp of what was sent last, for padding.
    pub(crate) fn last_timestamp(&self) -> u32 {
        self.last_timestamp
    }

    /// Whether the subscriber's request for a key frame goes through now. Every key frame costs everybody who receives
    /// the track, so one who asks all the time is served ever more slowly; what is held back comes due later.
    pub(crate) fn may_ask_key_frame(&mut self, now: Instant) -> bool {
        if let Some(asked_at) = self.asked_at {
            let quiet = now.since(asked_at);
            if quiet < self.ask_interval {
                self.is_ask_deferred = true;
                return false;
            }
            let is_close = quiet < 2 * MAX_ASK_INTERVAL;
            self.ask_interval = if is_close { (2 * self.ask_interval).min(MAX_ASK_INTERVAL) } else { ASK_INTERVAL };
        }
        self.asked_at = Some(now);
        self.is_ask_deferred = false;
        true
    }

    /// True once for a request that was held back.
    pub(crate) fn is_ask_due(&mut self, now: Instant) -> bool {
        self.is_ask_deferred && self.may_ask_key_frame(now)
    }

    /// The peer's view of this sender (RFC 3550 6.4.1): `delay` in 1/65536 s.
    pub(crate) fn reported(&mut self, fraction_lost: u8, last_sr: u32, delay: u32, now: Instant) {
        self.reported_at = Some(now);
        self.fraction_lost = f64::from(fraction_lost) / 256.0;
        let known = self.reports.get(..self.report_count.min(REPORTS)).unwrap_or_default();
        if let Some((_, sent_at)) = known.iter().find(|(ntp, _)| *ntp == last_sr) {
            let held = Duration::from_micros(u64::from(delay) * 1_000_000 / 65_536);
            self.round_trip = Some(now.since(*sent_at).saturating_sub(held));
        }
    }

    /// NTP and RTP time stamps of the sender report that is due: the publisher's clock, moved on to now, in our stamps.
    #[expect(clippy::cast_possible_truncation, reason = "fields of the wire")]
    pub(crate) fn report(&mut self, sr: Option<Report>, clock_rate: u32, now: Instant) -> Option<(u64, u32)> {
        let sr = sr.filter(|_| self.forwarded > 0 && now >= self.next_report)?;
        self.next_report = now + SR_INTERVAL;
        let passed = now.since(sr.arrival).as_micros();
        let ntp = sr.ntp.wrapping_add(((passed << 32) / 1_000_000) as u64);
        let ticks = (passed * u128::from(clock_rate) / 1_000_000) as u32;
        let timestamp = sr.rtp_timestamp.wrapping_add(ticks).wrapping_add(self.clock_offset);
        if let Some(slot) = self.reports.get_mut(self.report_count % REPORTS) {
            *slot = ((ntp >> 16) as u32, now);
        }
        self.report_count += 1;
        Some((ntp, timestamp))
    }
}

//! A published track: its streams (layers), its senders, and which layer each sender takes.

use core::time::Duration;
use std::sync::Arc;

use slab::Slab;

use crate::engine::command::{SetTrack, TrackCodec, Want};
use crate::engine::sender::Sender;
use crate::engine::stream::Stream;
use crate::time::Instant;

/// A layer that was silent for so long is not received any more.
pub(crate) const LAYER_ALIVE: Duration = Duration::from_millis(1_500);
/// Device pixels up to which the lowest layer is enough.
const THUMBNAIL: u32 = 240;
/// The width of a top layer whose size is not known.
const TOP_WIDTH: u32 = 1_280;
/// Simulcast layers.
pub(crate) const MAX_LAYERS: usize = 8;
/// Rank of a track whose people have not spoken.
pub(crate) const UNRANKED: u32 = u32::MAX;

/// The place of a pinned layer that the track does not have.
pub(crate) const NOWHERE: u8 = u8::MAX;

/// A layer that the control layer chose: its rid, and the place that this has among the track's layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) rid: Option<Arc<str>>,
    pub(crate) place: Option<u8>,
    pub(crate) temporal: Option<u8>,
    pub(crate) is_strict: bool,
}

/// Where a track's packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Transport(usize),
    Pipe(u32),
}

/// One track and who receives it.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: Arc<str>,
    pub(crate) origin: Origin,
    pub(crate) mid: Arc<str>,
    pub(crate) codec: TrackCodec,
    pub(crate) rids: Vec<Arc<str>>,
    pub(crate) is_video: bool,
    pub(crate) is_screen: bool,
    pub(crate) is_muted: bool,
    pub(crate) rank: u32,
    /// Loudest since the last event.
    pub(crate) level: u8,
    /// Streams by place; one without simulcast.
    pub(crate) streams: [Option<usize>; MAX_LAYERS],
    pub(crate) senders: Vec<usize>,
    /// Pipes that take its packets as well.
    pub(crate) pipes: Vec<u32>,
    /// What the publisher was last told to send, and since when less would do.
    pub(crate) wanted: u8,
    pub(crate) less_since: Option<Instant>,
}

impl Track {
    pub(crate) fn new(command: &SetTrack, origin: Origin) -> Self {
        let mut made = Self {
            id: Arc::clone(&command.track),
            origin,
            mid: Arc::clone(&command.mid),
            codec: command.codec,
            rids: Vec::new(),
            is_video: false,
            is_screen: false,
            is_muted: false,
            rank: UNRANKED,
            level: 127,
            streams: [None; MAX_LAYERS],
            senders: Vec::new(),
            pipes: Vec::new(),
            wanted: u8::MAX,
            less_since: None,
        };
        made.update(command);
        made
    }

    /// What the command says of it; the layers stay where they are.
    pub(crate) fn update(&mut self, command: &SetTrack) {
        self.mid = Arc::clone(&command.mid);
        self.codec = command.codec;
        self.rids.clone_from(&command.rids);
        self.rids.truncate(MAX_LAYERS);
        self.is_video = command.codec.codec.is_video();
        self.is_screen = command.is_screen;
    }

    /// Layers, at least one.
    pub(crate) fn layer_count(&self) -> usize {
        self.rids.len().max(1)
    }

    /// Where the layer is now that was at `place` among `former` rids; `None` where it is gone.
    pub(crate) fn place_now(&self, place: usize, former: &[Arc<str>]) -> Option<u8> {
        match former.get(place) {
            Some(rid) => self.place_of(rid),
            None => (place == 0 && former.is_empty() && self.rids.is_empty()).then_some(0),
        }
    }

    /// The place of a rid.
    pub(crate) fn place_of(&self, rid: &str) -> Option<u8> {
        self.rids.iter().position(|known| &**known == rid).and_then(|at| u8::try_from(at).ok())
    }

    /// The rid of a place; empty without simulcast.
    pub(crate) fn rid_of(&self, place: u8) -> Arc<str> {
        self.rids.get(usize::from(place)).cloned().unwrap_or_else(|| "".into())
    }

    /// The streams that are being received, with their places, lowest first.
    pub(crate) fn alive<'a>(
        &'a self,
        streams: &'a Slab<Stream>,
        now: Instant,
    ) -> impl Iterator<Item = (u8, usize)> + 'a {
        self.streams.iter().flatten().filter_map(move |&key| {
            let stream = streams.get(key)?;
            (stream.received > 0 && now.since(stream.last_arrival) < LAYER_ALIVE).then_some((stream.place, key))
        })
    }

    /// The stream to forward: the highest that is received up to `cap`, else the lowest above it.
    fn best(&self, cap: u8, is_strict: bool, streams: &Slab<Stream>, now: Instant) -> Option<usize> {
        let mut found = None;
        for (place, key) in self.alive(streams, now) {
            if place <= cap {
                found = Some((place, key));
            } else if found.is_none() && !is_strict {
                found = Some((place, key));
                break;
            }
        }
        found.filter(|(place, _)| !is_strict || *place == cap).map(|(_, key)| key)
    }

    /// The highest place that a tile of this size needs.
    pub(crate) fn place_for(&self, want: &Want, streams: &Slab<Stream>) -> u8 {
        let top = u8::try_from(self.layer_count() - 1).unwrap_or(0);
        if want.width == 0 || want.pinned || top == 0 {
            return top; // what a person pinned they want to see well
        }
        if want.width <= THUMBNAIL {
            return 0;
        }
        let longer = want.width.max(want.height);
        (0..top).find(|&place| self.longer_side(place, top, streams) * 8 >= longer * 7).unwrap_or(top)
    }

    fn longer_side(&self, place: u8, top: u8, streams: &Slab<Stream>) -> u32 {
        let key = self.streams.get(usize::from(place)).copied().flatten();
        let size = key.and_then(|key| streams.get(key)).map_or((0, 0), |stream| stream.size);
        match size.0.max(size.1) {
            0 => TOP_WIDTH >> (top - place),
            known => u32::from(known),
        }
    }

    /// Chooses the sender's target; asks for the key frame that a switch needs. True where a request may be pending.
    pub(crate) fn aim(&self, sender: &mut Sender, streams: &mut Slab<Stream>, now: Instant) -> Option<usize> {
        if sender.is_paused() || self.is_muted || !sender.is_connected {
            return None;
        }
        let pin = sender.pin.as_ref().and_then(|pin| pin.place.map(|place| (place, pin.is_strict)));
        let (cap, is_strict) = match pin {
            Some((place, is_strict)) => (place, is_strict),
            None if sender.is_svc => (0, false),
            None => (sender.choice.map_or(u8::MAX, |choice| choice.spatial), false),
        };
        // A pinned layer that is not received leaves the highest, as without a pin.
        let target = match self.best(cap, pin.is_some(), streams, now) {
            None if pin.is_some() && !is_strict => self.best(u8::MAX, false, streams, now),
            found => found,
        };
        let target = target?;
        if Some(target) == sender.target && sender.target == sender.current {
            return None;
        }
        let is_new = sender.target != Some(target);
        sender.target = Some(target);
        if is_new && sender.wants_key_frame() {
            let is_urgent = sender.current.is_none();
            streams.get_mut(target)?.key_frames.request(now, is_urgent);
            return Some(target);
        }
        None
    }

    /// A subscriber needs a key frame (PLI, resume). The stream that is asked.
    pub(crate) fn ask_key_frame(
        &self,
        sender: &Sender,
        streams: &mut Slab<Stream>,
        now: Instant,
        is_urgent: bool,
    ) -> Option<usize> {
        let key = sender.target.or(sender.current).filter(|_| self.is_video)?;
        streams.get_mut(key)?.key_frames.request(now, is_urgent);
        Some(key)
    }
}

//! The two ends of a pipe inside this process.

use crate::engine::batch::{Batch, Outlet};
use crate::engine::command::SetTrack;
use crate::engine::pipe::{PipeNotice, PipedPacket};
use crate::engine::store::Meta;
use crate::engine::stream::Report;
use crate::engine::track::Origin;
use crate::engine::{Engine, Io};
use crate::time::Instant;

impl Engine {
    pub(super) fn set_piped_track(&mut self, command: &SetTrack, pipe: u32) {
        let key = self.place_track(command, Origin::Pipe(pipe));
        self.index.pipes_in.insert(pipe, key);
    }

    pub(super) fn open_pipe(&mut self, key: usize, pipe: u32) {
        if let Some(track) = self.tracks.get_mut(key).filter(|track| !track.pipes.contains(&pipe)) {
            track.pipes.push(pipe);
            self.index.pipes_out.insert(pipe, key);
        }
    }

    pub(super) fn close_pipe(&mut self, key: usize, pipe: u32) {
        if let Some(track) = self.tracks.get_mut(key) {
            track.pipes.retain(|&known| known != pipe);
            self.index.pipes_out.remove(&pipe);
        }
    }

    /// Takes in a packet of a track that another worker receives. Forwarding waits for the end of the drain, as for
    /// datagrams.
    pub fn receive_piped(
        &mut self,
        now: Instant,
        pipe: u32,
        packet: &PipedPacket<'_>,
        _batch: &mut Batch,
        _outlet: &mut dyn Outlet,
    ) {
        let Some(&track_key) = self.index.pipes_in.get(&pipe) else { return };
        let Some(key) = self.piped_stream(track_key, packet.place, packet.ssrc) else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(number) = stream.receive_number(packet.number, packet.timestamp, now, false) else { return };
        let meta = Meta {
            number,
            timestamp: packet.timestamp,
            padding: packet.padding,
            marker: packet.marker,
            level: packet.level,
            orientation: packet.orientation,
            info: packet.info,
            frame: packet.frame,
            ..Meta::default()
        };
        self.store(key, track_key, meta, packet.descriptor, packet.payload, now);
    }

    fn piped_stream(&mut self, track_key: usize, place: u8, ssrc: u32) -> Option<usize> {
        let known = self.tracks.get(track_key)?.streams.get(usize::from(place)).copied().flatten();
        if let Some(key) = known.filter(|&key| self.streams.get(key).is_some_and(|stream| stream.ssrc == ssrc)) {
            return Some(key);
        }
        self.open_stream(track_key, place, ssrc)
    }

    /// Takes a notice of the other end.
    pub fn receive_notice(
        &mut self,
        now: Instant,
        pipe: u32,
        notice: PipeNotice,
        batch: &mut Batch,
        outlet: &mut dyn Outlet,
    ) {
        self.take_notice(now, pipe, notice);
        self.ask_key_frames(&mut Io { now, batch, outlet });
    }

    fn take_notice(&mut self, now: Instant, pipe: u32, notice: PipeNotice) {
        match notice {
            PipeNotice::KeyFrame { place } => {
                let Some(&track) = self.index.pipes_out.get(&pipe) else { return };
                let key = self.tracks.get(track).and_then(|t| t.streams.get(usize::from(place)).copied().flatten());
                if let Some(stream) = key.and_then(|key| self.streams.get_mut(key)) {
                    stream.key_frames.request(now, true);
                    self.note_asking(key);
                }
            }
            PipeNotice::SenderReport { place, ntp, rtp_timestamp, arrival } => {
                let Some(&track) = self.index.pipes_in.get(&pipe) else { return };
                let key = self.tracks.get(track).and_then(|t| t.streams.get(usize::from(place)).copied().flatten());
                if let Some(stream) = key.and_then(|key| self.streams.get_mut(key)) {
                    stream.sr = Some(Report { ntp, rtp_timestamp, arrival });
                }
            }
        }
    }
}

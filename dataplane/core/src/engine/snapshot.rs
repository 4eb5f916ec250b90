//! What an engine does at one moment, for metrics and for people.

use crate::congestion::Pause;
use crate::engine::Engine;
use crate::engine::event::{LayerStats, Snapshot, SubscriberStats, TrackStats};
use crate::engine::track::Track;
use crate::engine::transport::Transport;
use crate::time::Instant;

impl Engine {
    /// Every track and every transport that is sent to.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.schedule.now();
        Snapshot {
            tracks: self.tracks.iter().map(|(_, track)| self.track_stats(track, now)).collect(),
            subscribers: self
                .transports
                .iter()
                .filter(|(_, transport)| !transport.senders.is_empty())
                .map(|(_, transport)| self.subscriber_stats(transport))
                .collect(),
        }
    }

    fn track_stats(&self, track: &Track, now: Instant) -> TrackStats {
        let streams = || track.streams.iter().flatten().filter_map(|&key| self.streams.get(key));
        let layers = streams().map(|stream| LayerStats {
            rid: track.rid_of(stream.place),
            rate: stream.rates.total(now),
            packets_per_s: stream.rates.packets(),
            loss: stream.fraction_lost,
            jitter: stream.jitter(),
            packets: stream.received,
            lost: stream.lost(),
            size: stream.size,
        });
        TrackStats {
            track: track.id.clone(),
            codec: track.codec.codec,
            senders: track.senders.len(),
            key_frame_requests: streams().map(|stream| stream.key_frames.sent).sum(),
            layers: layers.collect(),
        }
    }

    fn subscriber_stats(&self, transport: &Transport) -> SubscriberStats {
        let senders = || transport.senders.values().filter_map(|&key| self.senders.get(key));
        let paused =
            [Pause::Hidden, Pause::LastN, Pause::Bandwidth].map(|why| senders().filter(|s| s.pause == why).count());
        let budget = transport.budget.as_ref().filter(|budget| budget.congestion.has_feedback());
        SubscriberStats {
            transport: transport.id.clone(),
            estimate: budget.map(|budget| budget.congestion.estimate()),
            sent: transport.sent.rate(|sent| sent.audio + sent.video + sent.repairs),
            loss: senders().map(|sender| sender.fraction_lost).fold(0.0, f64::max),
            round_trip: senders().filter_map(|sender| sender.round_trip).min(),
            senders: transport.senders.len(),
            retransmitted_packets: transport.retransmitted,
            paused,
        }
    }
}

"""What the reference engine's tracks, subscribers and its one worker do now, in the port's words."""

from collections import Counter

from conference.adapters.media.receiving import Stream
from conference.adapters.media.state import EngineState
from conference.adapters.media.tracks import Track
from conference.adapters.media.transport import Transport
from conference.ports.forwarding import EngineSnapshot, LayerStats, SubscriberStats, TrackStats, WorkerStats


def snapshot(state: EngineState, cpu_s: float) -> EngineSnapshot:
    """The snapshot of all of it. There is no pacer and no pipe between workers: nothing queues there."""
    subscribers = [transport for transport in state.transports.values() if transport.senders]
    return EngineSnapshot(
        tuple(_track(track) for track in state.tracks.values()),
        tuple(_subscriber(transport) for transport in subscribers),
        (WorkerStats(0, cpu_s, len(state.transports), 0, 0),),
    )


def _track(track: Track) -> TrackStats:
    layers = sorted(track.streams.values(), key=lambda stream: stream.place)
    return TrackStats(
        track.track_id,
        track.codec.name,
        len(track.senders),
        track.key_frame_requests,
        tuple(_layer(stream) for stream in layers),
    )


def _layer(stream: Stream) -> LayerStats:
    return LayerStats(
        rid=stream.rid,
        bitrate_bps=stream.rates.bitrate_bps,
        packets_per_s=stream.rates.packets_per_s,
        loss=stream.loss,
        jitter_s=stream.jitter_s,
        packets=stream.received,
        lost=stream.lost,
        width=stream.size[0],
        height=stream.size[1],
    )


def _subscriber(transport: Transport) -> SubscriberStats:
    senders = list(transport.senders.values())
    trips = [sender.round_trip_s for sender in senders if sender.round_trip_s is not None]
    paused = Counter(sender.pause_reason for sender in senders if sender.is_video and sender.is_paused)
    return SubscriberStats(
        transport_id=transport.transport_id,
        estimate_bps=None,
        sent_bps=transport.rates.bitrate_bps,
        loss=max((sender.fraction_lost for sender in senders), default=0.0),
        round_trip_s=min(trips, default=None),
        senders=len(senders),
        retransmitted_packets=transport.retransmitted,
        paused={str(reason): count for reason, count in paused.items()},
    )

//! Datagrams that come in: told apart (RFC 7983), opened, parsed, numbered and stored.
//!
//! Media and DTLS are taken from validated pairs only. Nothing is forwarded here: that waits for the end of the drain.

use core::net::SocketAddr;

use crate::engine::batch::{Batch, Outlet, Path};
use crate::engine::event::{Dropped, Event, LinkState};
use crate::engine::store::{ABSENT, Meta};
use crate::engine::stream::Stream;
use crate::engine::track::{Origin, Track};
use crate::engine::transport::{DISCONNECTED, Inbound, Kind, MAX_STREAMS, Transport};
use crate::engine::{Engine, Io, Pending, ensure_room};
use crate::payload::descriptor::DependencyDescriptorReader;
use crate::payload::{self, Codec};
use crate::srtp::OpenError;
use crate::time::Instant;
use crate::wire::rtp::{self, MAX_DATAGRAM, RtpHeader};
use crate::wire::stun;

/// Told to a peer whose address the socket layer does not know any more.
const UNKNOWN: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0);

/// The values of a packet's extensions that the engine reads; empty for those that are not there.
#[derive(Clone, Copy, Debug, Default)]
struct Values<'a> {
    mid: &'a [u8],
    rid: &'a [u8],
    repaired_rid: &'a [u8],
    descriptor: &'a [u8],
    level: Option<u8>,
    orientation: Option<u8>,
    wide: Option<u16>,
}

impl Engine {
    /// Takes one datagram in. What must be sent at once (an answer to a check) goes into the batch; `from` is where it
    /// came from. The datagram is decrypted in place.
    pub fn receive(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &mut [u8],
        batch: &mut Batch,
        outlet: &mut dyn Outlet,
    ) {
        let Some(&first) = datagram.first().filter(|_| datagram.len() <= MAX_DATAGRAM) else {
            self.dropped(Dropped::Oversize);
            return;
        };
        if first < 4 {
            self.receive_stun(from, datagram, &mut Io { now, batch, outlet });
            return;
        }
        let Some(&key) = self.index.by_path.get(&from) else {
            self.dropped(Dropped::Stranger);
            return;
        };
        match first {
            128..=191 => self.receive_media(key, datagram, &mut Io { now, batch, outlet }),
            20..=63 if let Some(transport) = self.transports.get(key).filter(|known| known.kind == Kind::Ice) => {
                let event = Event::DtlsReceived { transport: transport.id.clone(), datagram: datagram.to_vec() };
                self.emit(event);
            }
            _ => self.dropped(Dropped::UnknownProtocol),
        }
    }

    // --- STUN -------------------------------------------------------------------------------------------------------
    fn receive_stun(&mut self, from: Path, datagram: &[u8], io: &mut Io<'_>) {
        let Ok(request) = stun::parse(datagram) else {
            self.dropped(Dropped::BadStun);
            return;
        };
        if request.kind != stun::BINDING_REQUEST {
            return;
        }
        let ufrag = request.username.split(':').next().unwrap_or_default();
        let known = self.index.by_ufrag.get(ufrag).copied().filter(|&key| !self.is_held(from, key, io.now));
        let Some(key) = known else {
            self.dropped(Dropped::StunRefused);
            return;
        };
        let seen_as = match from {
            Path::Udp(address) => address,
            Path::Tcp(connection) => io.outlet.peer_of(connection).unwrap_or(UNKNOWN),
        };
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(answer) = transport.ice.answer(&request, from, seen_as, io.now) else {
            self.dropped(Dropped::StunRefused);
            return;
        };
        let has_pair = transport.ice.selected.is_some();
        ensure_room(io.batch, io.outlet);
        io.batch.push(from, answer.as_slice());
        self.reindex_ufrags(key);
        self.claim_paths(key, io.now);
        if has_pair {
            self.change_link(key, LinkState::Connected);
        }
    }

    /// A participant cannot take over the address of another's living transport by forged checks.
    fn is_held(&self, from: Path, by: usize, now: Instant) -> bool {
        let Some(owner) = self.index.by_path.get(&from).filter(|&&owner| owner != by) else { return false };
        self.transports.get(*owner).is_some_and(|owner| {
            matches!(owner.kind, Kind::Plain { .. })
                || owner.ice.pairs.iter().any(|pair| pair.path == from && now.since(pair.seen) < DISCONNECTED)
        })
    }

    // --- SRTP -------------------------------------------------------------------------------------------------------
    fn receive_media(&mut self, key: usize, datagram: &mut [u8], io: &mut Io<'_>) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(opener) = transport.opener.as_mut().filter(|_| datagram.len() >= 12) else {
            self.dropped(Dropped::NoKeys);
            return;
        };
        let is_rtcp = datagram.get(1).is_some_and(|kind| (192..=223).contains(kind)); // RFC 5761 4
        let size = datagram.len();
        let opened =
            if is_rtcp { opener.open_rtcp(datagram) } else { opener.open_rtp(datagram).map(|opened| opened.len) };
        let len = match opened {
            Ok(len) => len,
            Err(error) => {
                self.dropped(refusal(error, is_rtcp));
                return;
            }
        };
        if let Kind::Plain { heard } = &mut transport.kind {
            *heard = io.now;
            self.change_link(key, LinkState::Connected);
        }
        let plain = datagram.get(..len).unwrap_or_default();
        if is_rtcp {
            self.receive_rtcp(key, plain, io);
        } else {
            self.stats.received_packets += 1;
            self.stats.received_bytes += size as u64;
            self.receive_rtp(key, plain, io.now);
        }
    }

    fn receive_rtp(&mut self, key: usize, data: &[u8], now: Instant) {
        let Ok(header) = rtp::parse(data) else {
            self.dropped(Dropped::BadRtp);
            return;
        };
        let Some(transport) = self.transports.get_mut(key) else { return };
        let values = read_values(transport, &header, data);
        if let Some(wide) = values.wide {
            transport.arrivals.add(wide, now);
            transport.arrivals.media_ssrc = header.ssrc;
        }
        let Some(entry) = self.lookup(key, &header, &values) else {
            self.dropped(Dropped::UnknownStream);
            return;
        };
        let payload = header.payload(data);
        match entry {
            Inbound::Stream(stream) => self.receive_packet(key, stream, &header, &values, payload, now),
            Inbound::Former(_) => self.dropped(Dropped::UnknownStream),
            Inbound::Repair { track, place, primary } => {
                // Padding, or a repair of what was never seen, is nothing.
                let found = self.repaired(track, place, primary);
                if let (Some(stream), Some((original, payload))) = (found, payload.split_first_chunk::<2>()) {
                    let sequence = u16::from_be_bytes(*original);
                    let payload_type = self.tracks.get(track).map_or(0, |track| track.codec.payload_type);
                    let header = RtpHeader { sequence, payload_type, ..header };
                    self.receive_packet(key, stream, &header, &values, payload, now);
                }
            }
        }
    }

    fn repaired(&self, track: usize, place: u8, primary: Option<u32>) -> Option<usize> {
        let track = self.tracks.get(track)?;
        match primary {
            Some(ssrc) => track
                .streams
                .iter()
                .flatten()
                .copied()
                .find(|&key| self.streams.get(key).is_some_and(|s| s.ssrc == ssrc)),
            None => track.streams.get(usize::from(place)).copied().flatten(),
        }
    }

    fn receive_packet(
        &mut self,
        from: usize,
        key: usize,
        header: &RtpHeader,
        values: &Values<'_>,
        payload: &[u8],
        now: Instant,
    ) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(track) = self.tracks.get_mut(stream.track) else { return };
        if header.payload_type != track.codec.payload_type {
            self.dropped(Dropped::UnknownPayloadType);
            return;
        }
        let Some(number) = stream.receive(header.sequence, header.timestamp, now, track.codec.has_nack) else {
            self.dropped(Dropped::Duplicate);
            return;
        };
        let descriptor = values.descriptor;
        let mut meta = Meta {
            number,
            timestamp: header.timestamp,
            padding: header.padding,
            marker: header.marker,
            level: values.level.unwrap_or(ABSENT),
            orientation: values.orientation.unwrap_or(ABSENT),
            info: payload::inspect(track.codec.codec, payload, header.marker),
            ..Meta::default()
        };
        read_descriptor(stream, track, descriptor, &mut meta);
        if let Some(level) = values.level {
            track.level = track.level.min(level & 0x7F);
        }
        if let Some(transport) = self.transports.get_mut(from) {
            transport.media_at = Some(now);
        }
        let track = stream.track;
        self.store(key, track, meta, descriptor, payload, now);
    }

    /// Puts a packet into its stream's store and on the list of what is to be forwarded.
    pub(super) fn store(
        &mut self,
        key: usize,
        track_key: usize,
        meta: Meta,
        descriptor: &[u8],
        payload: &[u8],
        now: Instant,
    ) {
        let (Some(stream), Some(track)) = (self.streams.get_mut(key), self.tracks.get(track_key)) else { return };
        stream.rates.add(meta.info.spatial, meta.info.temporal, payload.len() + 40, now);
        if let Some(size) = meta.info.size {
            stream.size = size;
        }
        let has_begun = core::mem::take(&mut stream.has_begun);
        self.pending_sends += track.senders.len();
        self.is_mid_frame = track.is_video && !meta.marker;
        stream.store.insert(meta, descriptor, payload);
        let order = u64::from(!track.is_video) << 63 | (track_key as u64) << 32 | self.pending.len() as u64;
        if let Ok(stream) = u32::try_from(key) {
            self.pending.push(Pending { order, stream, number: meta.number });
        }
        if has_begun {
            self.stream_began(track_key, now);
        }
    }

    // --- which stream -----------------------------------------------------------------------------------------------
    fn lookup(&mut self, key: usize, header: &RtpHeader, values: &Values<'_>) -> Option<Inbound> {
        let transport = self.transports.get(key)?;
        if let Some(known) = transport.inbound.get(&header.ssrc) {
            return Some(*known);
        }
        if transport.inbound.len() >= MAX_STREAMS {
            return None;
        }
        let found = self.identify(key, header, values)?;
        self.transports.get_mut(key)?.inbound.insert(header.ssrc, found);
        Some(found)
    }

    fn identify(&mut self, key: usize, header: &RtpHeader, values: &Values<'_>) -> Option<Inbound> {
        let transport = self.transports.get(key)?;
        if let Some(named) = transport.named.get(&header.ssrc).copied() {
            return match named.primary {
                None => self.open_stream(named.track, named.place, header.ssrc).map(Inbound::Stream),
                primary => Some(Inbound::Repair { track: named.track, place: named.place, primary }),
            };
        }
        if matches!(transport.kind, Kind::Plain { .. }) {
            return None; // the control layer names every SSRC there
        }
        let track_key = self.track_for(transport, header, values.mid)?;
        let track = self.tracks.get(track_key)?;
        let is_repair = Some(header.payload_type) == track.codec.rtx_payload_type;
        let rid = if is_repair { values.repaired_rid } else { values.rid };
        let place = if track.rids.is_empty() {
            0
        } else {
            track.place_of(core::str::from_utf8(rid).ok()?)? // wait for a packet that says which layer this is
        };
        if is_repair {
            Some(Inbound::Repair { track: track_key, place, primary: None })
        } else {
            self.open_stream(track_key, place, header.ssrc).map(Inbound::Stream)
        }
    }

    fn track_for(&self, transport: &Transport, header: &RtpHeader, mid: &[u8]) -> Option<usize> {
        let fits = |track: &Track| {
            header.payload_type == track.codec.payload_type || Some(header.payload_type) == track.codec.rtx_payload_type
        };
        let mut fitting = transport.tracks.iter().copied().filter(|&key| self.tracks.get(key).is_some_and(fits));
        if mid.is_empty() {
            let only = fitting.next()?;
            return fitting.next().is_none().then_some(only);
        }
        fitting.find(|&key| self.tracks.get(key).is_some_and(|track| track.mid.as_bytes() == mid))
    }

    /// A new SSRC takes over its layer.
    pub(super) fn open_stream(&mut self, track_key: usize, place: u8, ssrc: u32) -> Option<usize> {
        let track = self.tracks.get_mut(track_key)?;
        let slot = track.streams.get_mut(usize::from(place))?;
        let mut made = Stream::new(ssrc, track_key, place, track.codec.clock_rate, track.is_video);
        if matches!(track.codec.codec, Codec::Av1 | Codec::Vp9) {
            made.descriptors = Some(Box::new(DependencyDescriptorReader::new()));
        }
        let key = self.streams.insert(made);
        let (former, origin) = (slot.replace(key), track.origin);
        if let Some(former) = former {
            let ssrc = self.streams.get(former).map(|stream| stream.ssrc);
            self.drop_stream(former);
            if let (Origin::Transport(owner), Some(ssrc)) = (origin, ssrc)
                && let Some(owner) = self.transports.get_mut(owner)
            {
                owner.inbound.insert(ssrc, Inbound::Former(track_key));
            }
        }
        Some(key)
    }
}

fn refusal(error: OpenError, is_rtcp: bool) -> Dropped {
    match error {
        OpenError::TooManySsrcs => Dropped::TooManySsrcs,
        _ if is_rtcp => Dropped::SrtcpRefused,
        _ => Dropped::SrtpRefused,
    }
}

fn read_values<'a>(transport: &Transport, header: &RtpHeader, data: &'a [u8]) -> Values<'a> {
    let ids = &transport.ids;
    let mut values = Values::default();
    for (id, value) in header.extensions(data) {
        let id = Some(id);
        if id == ids.transport_cc {
            values.wide = value.first_chunk::<2>().map(|number| u16::from_be_bytes(*number));
        } else if id == ids.mid {
            values.mid = value;
        } else if id == ids.audio_level {
            values.level = value.first().copied();
        } else if id == ids.rid {
            values.rid = value;
        } else if id == ids.repaired_rid {
            values.repaired_rid = value;
        } else if id == ids.dependency_descriptor {
            values.descriptor = value;
        } else if id == ids.orientation {
            values.orientation = value.first().copied();
        }
    }
    values
}

/// The dependency descriptor tells more, and more surely, than the payload.
fn read_descriptor(stream: &mut Stream, track: &Track, descriptor: &[u8], meta: &mut Meta) {
    if descriptor.is_empty() || !matches!(track.codec.codec, Codec::Av1 | Codec::Vp9) {
        return;
    }
    if let Some([_, high, low]) = descriptor.first_chunk::<3>() {
        meta.frame = u16::from_be_bytes([*high, *low]);
    }
    if let Some(reader) = &mut stream.descriptors
        && let Ok(read) = reader.read(descriptor)
    {
        payload::descriptor::apply(&read, &mut meta.info);
    }
}

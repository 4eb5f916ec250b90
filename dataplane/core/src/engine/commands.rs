//! Commands put into effect. Those that name something that is gone do nothing.

use std::sync::Arc;

use crate::congestion::Pause;
use crate::engine::batch::{Batch, Outlet, Path};
use crate::engine::command::{Command, Credentials, Keys, SetSender, SetTrack, Want};
use crate::engine::ice::IceAgent;
use crate::engine::sender::Sender;
use crate::engine::track::{NOWHERE, Origin, Pin, Track};
use crate::engine::transport::{Inbound, Kind, Named, TokenBucket, Transport};
use crate::engine::{Engine, Io, ensure_room};
use crate::srtp::{Opener, Sealer};
use crate::time::Instant;

impl Engine {
    /// Takes one command.
    pub fn apply(&mut self, now: Instant, command: Command, batch: &mut Batch, outlet: &mut dyn Outlet) {
        let mut io = Io { now, batch, outlet };
        let is_dtls = matches!(command, Command::SendDtls { .. });
        self.dispatch(command, &mut io);
        if !is_dtls {
            self.run_allocations(now);
            self.ask_key_frames(&mut io); // somebody may be waiting for a picture
        }
    }

    fn dispatch(&mut self, command: Command, io: &mut Io<'_>) {
        let now = io.now;
        match command {
            Command::AddTransport { transport, credentials } => {
                self.add_transport(Transport::new(transport, Kind::Ice, IceAgent::new(credentials)));
            }
            Command::AddPlainTransport { transport, address, keys } => {
                self.add_plain(transport, Path::Udp(address), &keys, now);
            }
            Command::RestartIce { transport, credentials } => self.restart_ice(&transport, credentials),
            Command::RemoveTransport { transport } => self.with_transport(&transport, Self::remove_transport),
            Command::SendDtls { transport, datagrams } => self.send_dtls(&transport, &datagrams, io),
            Command::SetKeys { transport, keys } => {
                self.with_transport(&transport, |engine, key| engine.set_keys(key, &keys, now));
            }
            Command::SetTrack(track) => self.set_track(&track),
            Command::SetPipedTrack { track, pipe } => self.set_piped_track(&track, pipe),
            Command::OpenPipe { track, pipe } => self.with_track(&track, |engine, key| engine.open_pipe(key, pipe)),
            Command::ClosePipe { track, pipe } => self.with_track(&track, |engine, key| engine.close_pipe(key, pipe)),
            Command::RemoveTrack { track } => self.with_track(&track, Self::remove_track),
            Command::MuteTrack { track, muted } => self.with_track(&track, |engine, key| engine.mute(key, muted, now)),
            Command::SetSender(sender) => self.set_sender(&sender, now),
            Command::RemoveSender { sender } => self.with_sender(&sender, Self::remove_sender),
            Command::PauseSender { sender, paused } => {
                self.with_sender(&sender, |engine, key| engine.stop(key, paused, now));
            }
            Command::SelectLayer { sender, rid, temporal, strict } => {
                self.with_sender(&sender, |engine, key| {
                    engine.select_layer(key, rid.as_deref(), temporal, strict, now);
                });
            }
            Command::WantTrack { sender, want } => self.with_sender(&sender, |engine, key| engine.want(key, want, now)),
            Command::RankTrack { track, rank } => self.with_track(&track, |engine, key| engine.rank(key, rank)),
            Command::SetLastN { transport, count } => {
                self.with_transport(&transport, |engine, key| {
                    engine.budget(key, now).last_n = count;
                    engine.allocation_due(key);
                });
            }
            Command::CapBandwidth { transport, rate } => self.with_transport(&transport, |engine, key| {
                if let Some(transport) = engine.transports.get_mut(key) {
                    transport.cap = rate.map(|rate| TokenBucket::new(rate, now));
                }
            }),
            Command::DropPairs { transport } => self.with_transport(&transport, |engine, key| {
                if let Some(transport) = engine.transports.get_mut(key) {
                    transport.ice.forget();
                }
                engine.forget_paths(key);
            }),
        }
    }

    fn with_transport(&mut self, id: &str, act: impl FnOnce(&mut Self, usize)) {
        if let Some(&key) = self.index.transports.get(id) {
            act(self, key);
        }
    }

    fn with_track(&mut self, id: &str, act: impl FnOnce(&mut Self, usize)) {
        if let Some(&key) = self.index.tracks.get(id) {
            act(self, key);
        }
    }

    fn with_sender(&mut self, id: &str, act: impl FnOnce(&mut Self, usize)) {
        if let Some(&key) = self.index.senders.get(id) {
            act(self, key);
        }
    }

    // --- transports -------------------------------------------------------------------------------------------------
    fn add_transport(&mut self, transport: Transport) -> usize {
        let id = Arc::clone(&transport.id);
        self.with_transport(&id, Self::remove_transport);
        let key = self.transports.insert(transport);
        self.index.transports.insert(id, key);
        self.reindex_ufrags(key);
        key
    }

    fn add_plain(&mut self, id: Arc<str>, path: Path, keys: &Keys, now: Instant) {
        let Path::Udp(address) = path else { return };
        let key = self.add_transport(Transport::new(id, Kind::Plain { heard: now }, IceAgent::fixed(address)));
        if let Some(former) = self.index.by_path.insert(path, key)
            && let Some(former) = self.transports.get_mut(former)
        {
            former.ice.release(path, now);
            former.addresses.retain(|known| *known != path);
            former.destination = former.ice.destination();
        }
        if let Some(transport) = self.transports.get_mut(key) {
            transport.addresses.push(path);
        }
        self.set_keys(key, keys, now);
    }

    fn restart_ice(&mut self, id: &str, credentials: Credentials) {
        self.with_transport(id, |engine, key| {
            if let Some(transport) = engine.transports.get_mut(key).filter(|t| t.kind == Kind::Ice) {
                transport.ice.restart(credentials);
                engine.reindex_ufrags(key);
            }
        });
    }

    fn send_dtls(&mut self, id: &str, datagrams: &[Vec<u8>], io: &mut Io<'_>) {
        let destination = self.index.transports.get(id).and_then(|&key| self.transports.get(key)?.destination);
        if let Some(to) = destination {
            for datagram in datagrams {
                ensure_room(io.batch, io.outlet);
                io.batch.push(to, datagram);
            }
        }
    }

    /// Forwarding begins when the subscriber can decrypt; a key frame sent before would be lost.
    fn set_keys(&mut self, key: usize, keys: &Keys, now: Instant) {
        let (Ok(opener), Ok(sealer)) =
            (Opener::new(keys.profile, &keys.receive), Sealer::new(keys.profile, &keys.send))
        else {
            return;
        };
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.opener = Some(opener);
        transport.sealer = Some(sealer.after(transport.sealer.as_ref()));
        for sender in transport.senders.values().copied().collect::<Vec<_>>() {
            self.connect(sender, now);
        }
        self.allocation_due(key);
    }

    fn connect(&mut self, key: usize, now: Instant) {
        if let Some(sender) = self.senders.get_mut(key) {
            sender.is_connected = true;
        }
        self.aim(key, now);
    }

    pub(super) fn aim(&mut self, key: usize, now: Instant) {
        let Some(sender) = self.senders.get_mut(key) else { return };
        let asked = self.tracks.get(sender.track).and_then(|track| track.aim(sender, &mut self.streams, now));
        self.note_asking(asked);
    }

    // --- tracks -----------------------------------------------------------------------------------------------------
    fn set_track(&mut self, command: &SetTrack) {
        let Some(&owner) = self.index.transports.get(&command.transport) else { return };
        let key = self.place_track(command, Origin::Transport(owner));
        let Some(transport) = self.transports.get_mut(owner) else { return };
        transport.named.retain(|_, named| named.track != key);
        transport.tracks.retain(|&known| known != key);
        transport.tracks.push(key);
        transport.learn_ids(&command.extensions);
        let has_places = command.ssrcs.len() == command.rids.len();
        for (at, (primary, rtx)) in command.ssrcs.iter().enumerate() {
            let place = if has_places { u8::try_from(at).unwrap_or(0) } else { 0 };
            transport.named.insert(*primary, Named { track: key, place, primary: None });
            if let Some(rtx) = rtx {
                transport.named.insert(*rtx, Named { track: key, place, primary: Some(*primary) });
            }
        }
    }

    /// The track of a command, new or changed; one that moved to another origin begins anew.
    pub(super) fn place_track(&mut self, command: &SetTrack, origin: Origin) -> usize {
        if let Some(&key) = self.index.tracks.get(&command.track) {
            if let Some(track) = self.tracks.get_mut(key).filter(|track| track.origin == origin) {
                let former = core::mem::take(&mut track.rids);
                track.update(command);
                if track.rids != former {
                    self.move_layers(key, &former);
                }
                return key;
            }
            self.remove_track(key);
        }
        let key = self.tracks.insert(Track::new(command, origin));
        self.index.tracks.insert(Arc::clone(&command.track), key);
        key
    }

    /// The layers of a changed track keep their streams, wherever their rids are now; those that are gone end.
    fn move_layers(&mut self, key: usize, former: &[Arc<str>]) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        for (place, stream) in core::mem::take(&mut track.streams).into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            let Some(track) = self.tracks.get_mut(key) else { return };
            let now = track.place_now(place, former);
            if let (Some(now), Some(stream)) = (now, self.streams.get_mut(stream)) {
                stream.place = now;
            }
            match now.and_then(|now| track.streams.get_mut(usize::from(now))) {
                Some(slot) => *slot = Some(stream),
                None => self.drop_stream(stream),
            }
        }
        let Some(track) = self.tracks.get(key) else { return };
        if let Origin::Transport(owner) = track.origin
            && let Some(owner) = self.transports.get_mut(owner)
        {
            owner.inbound.retain(|_, entry| match entry {
                Inbound::Repair { track: of, place, .. } if *of == key => {
                    let now = track.place_now(usize::from(*place), former);
                    *place = now.unwrap_or_default();
                    now.is_some()
                }
                _ => true,
            });
        }
        for &sender in &track.senders {
            if let Some(pin) = self.senders.get_mut(sender).and_then(|sender| sender.pin.as_mut()) {
                pin.place = pin.rid.as_deref().map(|rid| track.place_of(rid).unwrap_or(NOWHERE));
            }
        }
        self.allocate_for_track(key);
    }

    /// Muted, nothing is forwarded; a resumed video begins with a key frame.
    fn mute(&mut self, key: usize, muted: bool, now: Instant) {
        let Some(track) = self.tracks.get_mut(key).filter(|track| track.is_muted != muted) else { return };
        track.is_muted = muted;
        let senders = track.senders.clone();
        self.allocate_for_track(key);
        self.run_allocations(now); // who is beyond the last N asks for nothing
        for sender in senders {
            self.begin_again(sender, !muted, now);
        }
    }

    /// What the sender forwards next begins with a key frame, which is asked for where it is to come now.
    fn begin_again(&mut self, key: usize, is_now: bool, now: Instant) {
        let Some(sender) = self.senders.get_mut(key) else { return };
        let Some(track) = self.tracks.get(sender.track) else { return };
        sender.interrupt();
        if is_now && !track.is_muted && !sender.is_paused() && sender.want.visible {
            track.aim(sender, &mut self.streams, now);
            let asked = track.ask_key_frame(sender, &mut self.streams, now, true);
            self.note_asking(asked);
        }
    }

    fn rank(&mut self, key: usize, rank: u32) {
        if let Some(track) = self.tracks.get_mut(key).filter(|track| track.rank != rank) {
            track.rank = rank;
            self.allocate_for_track(key);
        }
    }

    // --- senders ----------------------------------------------------------------------------------------------------
    fn set_sender(&mut self, command: &SetSender, now: Instant) {
        let found = (self.index.transports.get(&command.transport), self.index.tracks.get(&command.track));
        let (Some(&transport_key), Some(&track_key)) = found else { return };
        if let Some(&known) = self.index.senders.get(&command.sender) {
            if self.senders.get(known).is_some_and(|sender| sender.ssrc == command.ssrc) {
                return;
            }
            self.remove_sender(known);
        }
        if let Some(&former) = self.transports.get(transport_key).and_then(|t| t.senders.get(&command.ssrc)) {
            self.remove_sender(former); // two senders never share an SSRC, and with it numbers
        }
        let random = [self.random.next(), self.random.next(), self.random.next()];
        let mut made = Sender::new(command, transport_key, track_key, random);
        if let Some(sealed) = self.transports.get(transport_key).map(|transport| &transport.sealed) {
            let (media, repairs) = made.indexes();
            let repaired = command.rtx_ssrc.and_then(|ssrc| sealed.get(&ssrc)).copied();
            made.begin_above(sealed.get(&command.ssrc).copied().unwrap_or(media), repaired.unwrap_or(repairs));
        }
        let key = self.senders.insert(made);
        self.index.senders.insert(Arc::clone(&command.sender), key);
        if let Some(track) = self.tracks.get_mut(track_key) {
            track.senders.push(key);
        }
        let Some(transport) = self.transports.get_mut(transport_key) else { return };
        let has_keys = transport.sealer.is_some();
        transport.senders.insert(command.ssrc, key);
        self.budget(transport_key, now);
        if has_keys {
            self.connect(key, now);
        }
        self.allocation_due(transport_key);
    }

    fn stop(&mut self, key: usize, stopped: bool, now: Instant) {
        let Some(sender) = self.senders.get_mut(key).filter(|sender| sender.is_stopped != stopped) else { return };
        sender.is_stopped = stopped;
        let transport = sender.transport;
        self.allocation_due(transport);
        self.run_allocations(now);
        self.begin_again(key, !stopped, now);
        self.tell_sender(key, now);
    }

    fn select_layer(&mut self, key: usize, rid: Option<&str>, temporal: Option<u8>, is_strict: bool, now: Instant) {
        let Some(sender) = self.senders.get_mut(key) else { return };
        let Some(track) = self.tracks.get(sender.track) else { return };
        let place = rid.map(|rid| track.place_of(rid).unwrap_or(NOWHERE));
        let is_pinned = place.is_some() || temporal.is_some() || is_strict;
        sender.pin = is_pinned.then(|| Pin { rid: rid.map(Arc::from), place, temporal, is_strict });
        if place.is_some() && sender.pause == Pause::Bandwidth {
            sender.pause = Pause::None; // what is pinned is not chosen by the link
        }
        let transport = sender.transport;
        self.aim(key, now);
        self.tell_sender(key, now);
        self.allocation_due(transport);
    }

    fn want(&mut self, key: usize, want: Want, _now: Instant) {
        if let Some(sender) = self.senders.get_mut(key).filter(|sender| sender.want != want) {
            sender.want = want;
            let (transport, track) = (sender.transport, sender.track);
            self.allocation_due(transport);
            self.update_wanted(track, _now);
        }
    }

    /// The budget of a transport.
    fn budget(&mut self, key: usize, now: Instant) -> &mut super::transport::Budgeting {
        let transport = &mut self.transports[key];
        transport.budget.get_or_insert_with(|| Box::new(super::transport::Budgeting::new(now)))
    }
}

//! Indexes that belong together, and removal, which keeps them in step.

use crate::engine::Engine;
use crate::engine::batch::Path;
use crate::engine::sender::GONE;
use crate::engine::track::Origin;
use crate::engine::transport::Inbound;
use crate::time::Instant;

impl Engine {
    /// Brings the index of user names in step with the agent's credentials.
    pub(super) fn reindex_ufrags(&mut self, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let ice = &transport.ice;
        for ufrag in &transport.ufrags {
            if !ice.ufrags().any(|known| known == ufrag) {
                self.index.by_ufrag.remove(ufrag);
            }
        }
        transport.ufrags.clear();
        transport.ufrags.extend(ice.ufrags().cloned());
        for ufrag in &transport.ufrags {
            self.index.by_ufrag.insert(ufrag.clone(), key);
        }
    }

    /// Brings the index of addresses in step with the transport's pairs: those it lost go, those it won are its alone.
    pub(super) fn claim_paths(&mut self, key: usize, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let (ice, index) = (&transport.ice, &mut self.index.by_path);
        transport.addresses.retain(|path| {
            let is_kept = ice.pairs.iter().any(|pair| pair.path == *path);
            if !is_kept && index.get(path) == Some(&key) {
                index.remove(path);
            }
            is_kept
        });
        transport.destination = ice.destination();
        let mut won = [None; super::ice::MAX_PAIRS];
        let new = ice.pairs.iter().map(|pair| pair.path).filter(|path| !transport.addresses.contains(path));
        for (slot, path) in won.iter_mut().zip(new) {
            *slot = Some(path);
        }
        for path in won.into_iter().flatten() {
            if let Some(former) = self.index.by_path.insert(path, key).filter(|&former| former != key)
                && let Some(former) = self.transports.get_mut(former)
            {
                former.ice.release(path, now);
                former.addresses.retain(|known| *known != path);
                former.destination = former.ice.destination();
            }
            if let Some(transport) = self.transports.get_mut(key) {
                transport.addresses.push(path);
            }
        }
    }

    /// A TCP connection has ended: nothing can be sent on it any more.
    pub fn tcp_closed(&mut self, now: Instant, connection: u32) {
        let path = Path::Tcp(connection);
        if let Some(key) = self.index.by_path.remove(&path)
            && let Some(transport) = self.transports.get_mut(key)
        {
            transport.ice.release(path, now);
            transport.addresses.retain(|known| *known != path);
            transport.destination = transport.ice.destination();
        }
    }

    pub(super) fn forget_paths(&mut self, key: usize) {
        if let Some(transport) = self.transports.get_mut(key) {
            for path in transport.addresses.drain(..) {
                if self.index.by_path.get(&path) == Some(&key) {
                    self.index.by_path.remove(&path);
                }
            }
            transport.destination = transport.ice.destination();
        }
    }

    pub(super) fn remove_transport(&mut self, key: usize) {
        self.forget_paths(key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        for ufrag in transport.ufrags.drain(..) {
            self.index.by_ufrag.remove(&ufrag);
        }
        let senders: Vec<usize> = transport.senders.values().copied().collect();
        for track in core::mem::take(&mut transport.tracks) {
            self.remove_track(track);
        }
        for sender in senders {
            self.remove_sender(sender);
        }
        if let Some(transport) = self.transports.try_remove(key) {
            self.index.transports.remove(&transport.id);
        }
        self.pacing.retain(|&known| known != key);
        self.due.retain(|&known| known != key);
    }

    pub(super) fn remove_track(&mut self, key: usize) {
        let Some(track) = self.tracks.get(key) else { return };
        for sender in track.senders.clone() {
            self.remove_sender(sender);
        }
        let Some(track) = self.tracks.get_mut(key) else { return };
        let (origin, streams) = (track.origin, core::mem::take(&mut track.streams));
        for stream in streams.into_iter().flatten() {
            self.drop_stream(stream);
        }
        match origin {
            Origin::Transport(owner) => self.forget_track_of(owner, key),
            Origin::Pipe(pipe) => {
                self.index.pipes_in.remove(&pipe);
            }
        }
        if let Some(track) = self.tracks.try_remove(key) {
            self.index.tracks.remove(&track.id);
            for pipe in track.pipes {
                self.index.pipes_out.remove(&pipe);
            }
        }
    }

    /// Takes a track's SSRCs from its publisher's transport.
    pub(super) fn forget_track_of(&mut self, owner: usize, track: usize) {
        let streams = &self.streams;
        if let Some(owner) = self.transports.get_mut(owner) {
            owner.tracks.retain(|&known| known != track);
            owner.named.retain(|_, named| named.track != track);
            owner.inbound.retain(|_, entry| match *entry {
                Inbound::Stream(stream) => streams.get(stream).is_some_and(|stream| stream.track != track),
                Inbound::Repair { track: of, .. } | Inbound::Former(of) => of != track,
            });
        }
    }

    /// Ends a stream. Its key may be used again, so nothing may remember it.
    pub(super) fn drop_stream(&mut self, key: usize) {
        let Some(stream) = self.streams.try_remove(key) else { return };
        self.pending.retain(|packet| packet.stream as usize != key);
        self.asking.retain(|&known| known != key);
        let Some(track) = self.tracks.get(stream.track) else { return };
        for sender in &track.senders {
            if let Some(sender) = self.senders.get_mut(*sender) {
                sender.forget_stream(key);
            }
        }
        if let Origin::Transport(owner) = track.origin
            && let Some(owner) = self.transports.get_mut(owner)
        {
            owner.inbound.retain(|_, entry| !matches!(*entry, Inbound::Stream(known) if known == key));
        }
    }

    pub(super) fn remove_sender(&mut self, key: usize) {
        let Some(sender) = self.senders.try_remove(key) else { return };
        self.index.senders.remove(&sender.id);
        if let Some(track) = self.tracks.get_mut(sender.track) {
            track.senders.retain(|&known| known != key);
        }
        let Some(transport) = self.transports.get_mut(sender.transport) else { return };
        if transport.senders.get(&sender.ssrc) == Some(&key) {
            transport.senders.remove(&sender.ssrc);
        }
        let (media, repairs) = sender.indexes();
        transport.sealed.insert(sender.ssrc, media);
        if let Some(ssrc) = sender.rtx_ssrc {
            transport.sealed.insert(ssrc, repairs);
        }
        if let Some(budget) = &mut transport.budget {
            budget.queue.retain(|waiting| waiting.sender as usize != key);
        }
        self.allocation_due(sender.transport);
    }
}

const _: () = assert!(GONE == usize::MAX, "no slab has this key");

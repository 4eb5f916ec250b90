//! Which worker a command is for, and which tracks have to travel between workers.
//!
//! A track lives on the worker of its publisher's transport. Where a subscriber's transport is on another worker, the
//! track is set there as a piped one, once for all subscribers, and its own worker is told to feed the pipe.

use std::sync::Arc;

use parley_core::engine::command::{SetSender, SetTrack};
use parley_core::engine::{Command, Event};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::layers::{Layers, Wanted};
use crate::pipes::{MAX_PIPES, pipe_id};

type Id = Arc<str>;

/// Commands with the worker that each is for, in order.
pub type Orders = Vec<(usize, Command)>;

/// In place of a worker: an event that is merged already.
pub const MERGED: usize = usize::MAX;

/// Where everything is. It holds what the control layer has named and not ended.
#[derive(Debug)]
pub struct Router {
    workers: usize,
    transports: FxHashMap<Id, Transport>,
    tracks: FxHashMap<Id, Track>,
    senders: FxHashMap<Id, Sender>,
    /// Numbers of the open pipes.
    numbers: FxHashSet<u32>,
    last_number: u32,
    /// What the control layer is to be told.
    events: Vec<Event>,
}

#[derive(Debug)]
struct Transport {
    worker: usize,
    tracks: FxHashSet<Id>,
    senders: FxHashSet<Id>,
}

#[derive(Debug)]
struct Track {
    worker: usize,
    set: SetTrack,
    is_muted: Option<bool>,
    rank: Option<u32>,
    pipes: Vec<Pipe>,
    wanted: Wanted,
}

/// A track's way to one other worker.
#[derive(Debug)]
struct Pipe {
    id: u32,
    to: usize,
    senders: usize,
}

#[derive(Debug)]
struct Sender {
    worker: usize,
    transport: Id,
    track: Id,
}

impl Router {
    /// A router for `workers` packet workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            transports: FxHashMap::default(),
            tracks: FxHashMap::default(),
            senders: FxHashMap::default(),
            numbers: FxHashSet::default(),
            last_number: 0,
            events: Vec::new(),
        }
    }

    /// The worker that receives a track.
    #[must_use]
    pub fn worker_of_track(&self, track: &str) -> Option<usize> {
        self.tracks.get(track).map(|track| track.worker)
    }

    /// Adds to `orders` what `command` means for the workers. `worker` is where a new transport is to live, modulo
    /// their number; other commands follow what they name, and do nothing where that is gone.
    pub fn route(&mut self, worker: usize, command: Command, orders: &mut Orders) {
        use Command as C;
        match command {
            C::AddTransport { ref transport, .. } | C::AddPlainTransport { ref transport, .. } => {
                let (id, worker) = (Arc::clone(transport), worker % self.workers);
                self.add_transport(id, worker, orders);
                orders.push((worker, command));
            }
            C::RestartIce { ref transport, .. }
            | C::SendDtls { ref transport, .. }
            | C::SetKeys { ref transport, .. }
            | C::SetLastN { ref transport, .. }
            | C::CapBandwidth { ref transport, .. }
            | C::DropPairs { ref transport } => {
                let worker = self.transports.get(transport).map(|transport| transport.worker);
                orders.extend(worker.map(|worker| (worker, command)));
            }
            C::RemoveTransport { transport } => self.remove_transport(&transport, orders),
            C::SetTrack(set) => self.set_track(set, orders),
            C::RemoveTrack { track } => self.remove_track(&track, orders),
            C::MuteTrack { .. } | C::RankTrack { .. } => self.change_track(command, orders),
            C::SetSender(set) => self.set_sender(set, orders),
            C::RemoveSender { sender } => self.remove_sender(&sender, orders),
            C::PauseSender { ref sender, .. } | C::SelectLayer { ref sender, .. } | C::WantTrack { ref sender, .. } => {
                let worker = self.senders.get(sender).map(|sender| sender.worker);
                orders.extend(worker.map(|worker| (worker, command)));
            }
            // these are the router's own
            C::SetPipedTrack { .. } | C::OpenPipe { .. } | C::ClosePipe { .. } => {}
        }
    }

    /// Forgets a transport that its engine ended, with its tracks and senders.
    pub fn transport_ended(&mut self, id: &str, orders: &mut Orders) {
        let Some(transport) = self.transports.remove(id) else { return };
        for sender in transport.senders {
            self.forget_sender(&sender, orders);
        }
        for track in transport.tracks {
            self.remove_track(&track, orders);
        }
    }

    // --- events -----------------------------------------------------------------------------------------------------
    /// What the control layer is told of a worker's event: of a track that is on several workers, what all want of it,
    /// and only what its own worker hears.
    pub fn merge(&mut self, worker: usize, event: Event) -> Option<Event> {
        match event {
            _ if worker == MERGED => Some(event),
            Event::LayersWanted { track: id, layers } => {
                let track = self.tracks.get_mut(&id)?;
                track.wanted.report(worker, layers);
                let layers = track.changed_layers()?;
                Some(Event::LayersWanted { track: id, layers })
            }
            Event::AudioLevels(mut levels) => {
                levels.retain(|(track, _)| self.worker_of_track(track).is_none_or(|owner| owner == worker));
                (!levels.is_empty()).then_some(Event::AudioLevels(levels))
            }
            other => Some(other),
        }
    }

    /// What commands have changed for the control layer.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    // --- transports -------------------------------------------------------------------------------------------------
    fn add_transport(&mut self, id: Id, worker: usize, orders: &mut Orders) {
        self.remove_transport(&id, orders);
        self.transports.insert(id, Transport { worker, tracks: FxHashSet::default(), senders: FxHashSet::default() });
    }

    fn remove_transport(&mut self, id: &str, orders: &mut Orders) {
        let Some((id, transport)) = self.transports.get_key_value(id) else { return };
        orders.push((transport.worker, Command::RemoveTransport { transport: Arc::clone(id) }));
        let id = Arc::clone(id);
        self.transport_ended(&id, orders);
    }

    // --- tracks -----------------------------------------------------------------------------------------------------
    fn set_track(&mut self, set: SetTrack, orders: &mut Orders) {
        if self.tracks.get(&set.track).is_some_and(|track| track.set.transport != set.transport) {
            self.remove_track(&set.track, orders);
        }
        let Some(transport) = self.transports.get_mut(&set.transport) else { return };
        transport.tracks.insert(Arc::clone(&set.track));
        let worker = transport.worker;
        orders.push((worker, Command::SetTrack(set.clone())));
        match self.tracks.get_mut(&set.track) {
            Some(track) => {
                for pipe in &track.pipes {
                    orders.push((pipe.to, Command::SetPipedTrack { track: set.clone(), pipe: pipe.id }));
                }
                track.set = set;
            }
            None => {
                let track =
                    Track { worker, set, is_muted: None, rank: None, pipes: Vec::new(), wanted: Wanted::default() };
                self.tracks.insert(Arc::clone(&track.set.track), track);
            }
        }
    }

    fn change_track(&mut self, command: Command, orders: &mut Orders) {
        let (Command::MuteTrack { track: id, .. } | Command::RankTrack { track: id, .. }) = &command else { return };
        let Some(track) = self.tracks.get_mut(id) else { return };
        match &command {
            Command::MuteTrack { muted, .. } => track.is_muted = Some(*muted),
            Command::RankTrack { rank, .. } => track.rank = Some(*rank),
            _ => {}
        }
        orders.extend(track.pipes.iter().map(|pipe| (pipe.to, command.clone())));
        orders.push((track.worker, command));
    }

    fn remove_track(&mut self, id: &str, orders: &mut Orders) {
        let Some((id, track)) = self.tracks.remove_entry(id) else { return };
        if let Some(transport) = self.transports.get_mut(&track.set.transport) {
            transport.tracks.remove(&id);
        }
        for pipe in &track.pipes {
            self.numbers.remove(&(pipe.id % MAX_PIPES));
            orders.push((pipe.to, Command::RemoveTrack { track: Arc::clone(&id) }));
        }
        orders.push((track.worker, Command::RemoveTrack { track: Arc::clone(&id) }));
        let transports = &mut self.transports;
        self.senders.retain(|sender_id, sender| {
            let stays = sender.track != id;
            if let Some(transport) = transports.get_mut(&sender.transport).filter(|_| !stays) {
                transport.senders.remove(sender_id);
            }
            stays
        });
    }

    // --- senders ----------------------------------------------------------------------------------------------------
    fn set_sender(&mut self, set: SetSender, orders: &mut Orders) {
        let moved = |sender: &Sender| sender.transport != set.transport || sender.track != set.track;
        if self.senders.get(&set.sender).is_some_and(moved) {
            self.remove_sender(&set.sender, orders);
        }
        let Some(worker) = self.transports.get(&set.transport).map(|transport| transport.worker) else { return };
        if !self.tracks.contains_key(&set.track) {
            return;
        }
        if !self.senders.contains_key(&set.sender) {
            self.join_pipe(&set.track, worker, orders);
            let sender = Sender { worker, transport: Arc::clone(&set.transport), track: Arc::clone(&set.track) };
            self.senders.insert(Arc::clone(&set.sender), sender);
            if let Some(transport) = self.transports.get_mut(&set.transport) {
                transport.senders.insert(Arc::clone(&set.sender));
            }
        }
        orders.push((worker, Command::SetSender(set)));
    }

    fn remove_sender(&mut self, id: &str, orders: &mut Orders) {
        let Some((id, sender)) = self.senders.get_key_value(id) else { return };
        orders.push((sender.worker, Command::RemoveSender { sender: Arc::clone(id) }));
        let id = Arc::clone(id);
        self.forget_sender(&id, orders);
    }

    fn forget_sender(&mut self, id: &str, orders: &mut Orders) {
        let Some(sender) = self.senders.remove(id) else { return };
        if let Some(transport) = self.transports.get_mut(&sender.transport) {
            transport.senders.remove(id);
        }
        self.leave_pipe(&sender.track, sender.worker, orders);
    }

    // --- pipes ------------------------------------------------------------------------------------------------------
    /// Counts a sender of a track on `worker`; the first one on another worker than the track's opens a pipe.
    fn join_pipe(&mut self, id: &str, worker: usize, orders: &mut Orders) {
        let number = self.free_number();
        let Some(track) = self.tracks.get_mut(id).filter(|track| track.worker != worker) else { return };
        if let Some(pipe) = track.pipes.iter_mut().find(|pipe| pipe.to == worker) {
            pipe.senders += 1;
            return;
        }
        let pipe = pipe_id(track.worker, worker, number);
        self.last_number = number;
        self.numbers.insert(number);
        track.pipes.push(Pipe { id: pipe, to: worker, senders: 1 });
        self.events.extend(track.wanted_event());
        let id = &track.set.track;
        orders.push((track.worker, Command::OpenPipe { track: Arc::clone(id), pipe }));
        orders.push((worker, Command::SetPipedTrack { track: track.set.clone(), pipe }));
        let muted = track.is_muted.map(|muted| Command::MuteTrack { track: Arc::clone(id), muted });
        let rank = track.rank.map(|rank| Command::RankTrack { track: Arc::clone(id), rank });
        orders.extend(muted.into_iter().chain(rank).map(|command| (worker, command)));
    }

    /// The last sender of a track on another worker closes the pipe.
    fn leave_pipe(&mut self, id: &str, worker: usize, orders: &mut Orders) {
        let Some(track) = self.tracks.get_mut(id) else { return };
        let Some(at) = track.pipes.iter().position(|pipe| pipe.to == worker) else { return };
        let Some(pipe) = track.pipes.get_mut(at) else { return };
        pipe.senders = pipe.senders.saturating_sub(1);
        if pipe.senders > 0 {
            return;
        }
        let pipe = track.pipes.swap_remove(at).id;
        track.wanted.forget(worker);
        self.events.extend(track.wanted_event());
        self.numbers.remove(&(pipe % MAX_PIPES));
        orders.push((track.worker, Command::ClosePipe { track: Arc::clone(&track.set.track), pipe }));
        orders.push((worker, Command::RemoveTrack { track: Arc::clone(&track.set.track) }));
    }

    /// A number that no pipe has. There are a million: it comes back long after the last packet of its former pipe.
    fn free_number(&self) -> u32 {
        let numbers = (1..=MAX_PIPES).map(|step| (self.last_number + step) % MAX_PIPES);
        numbers.into_iter().find(|number| !self.numbers.contains(number)).unwrap_or(self.last_number)
    }
}

impl Track {
    fn changed_layers(&mut self) -> Option<Layers> {
        let workers: Vec<usize> = self.pipes.iter().map(|pipe| pipe.to).chain([self.worker]).collect();
        self.wanted.changed(&workers)
    }

    fn wanted_event(&mut self) -> Option<Event> {
        let layers = self.changed_layers()?;
        Some(Event::LayersWanted { track: Arc::clone(&self.set.track), layers })
    }
}

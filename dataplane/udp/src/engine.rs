//! The engine as the workers run it.

use parley_core::engine::event::Snapshot;
use parley_core::engine::pipe::{PipeNotice, PipedPacket};
use parley_core::engine::{Batch, Command, Engine, Event, Outlet, Path, Stats};
use parley_core::time::Instant;

use crate::worker::PacketEngine;

impl PacketEngine for Engine {
    fn receive(&mut self, now: Instant, from: Path, datagram: &mut [u8], batch: &mut Batch, outlet: &mut dyn Outlet) {
        Self::receive(self, now, from, datagram, batch, outlet);
    }

    fn receive_piped(
        &mut self,
        now: Instant,
        pipe: u32,
        packet: &PipedPacket<'_>,
        batch: &mut Batch,
        outlet: &mut dyn Outlet,
    ) {
        Self::receive_piped(self, now, pipe, packet, batch, outlet);
    }

    fn receive_notice(
        &mut self,
        now: Instant,
        pipe: u32,
        notice: PipeNotice,
        batch: &mut Batch,
        outlet: &mut dyn Outlet,
    ) {
        Self::receive_notice(self, now, pipe, notice, batch, outlet);
    }

    fn forward(&mut self, now: Instant, batch: &mut Batch, outlet: &mut dyn Outlet) {
        Self::forward(self, now, batch, outlet);
    }

    fn apply(&mut self, now: Instant, command: Command, batch: &mut Batch, outlet: &mut dyn Outlet) {
        Self::apply(self, now, command, batch, outlet);
    }

    fn tick(&mut self, now: Instant, batch: &mut Batch, outlet: &mut dyn Outlet) {
        Self::tick(self, now, batch, outlet);
    }

    fn is_mid_frame(&self) -> bool {
        Self::is_mid_frame(self)
    }

    fn pending_sends(&self) -> usize {
        Self::pending_sends(self)
    }

    fn next_wakeup(&self) -> Instant {
        Self::next_wakeup(self)
    }

    fn poll_event(&mut self) -> Option<Event> {
        Self::poll_event(self)
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn snapshot(&self) -> Snapshot {
        Self::snapshot(self)
    }

    fn tcp_closed(&mut self, now: Instant, connection: u32) {
        Self::tcp_closed(self, now, connection);
    }
}

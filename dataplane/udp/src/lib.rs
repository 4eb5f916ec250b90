//! The sockets and threads around [`parley_core::engine`]: one thread, UDP socket and ICE/TCP listener a packet worker.
//!
//! [`node::Node`] is what a process starts. It routes commands to the worker of their transport, carries tracks between
//! workers through bounded rings, and collects events and counts. All unsafe code of the data plane is in `sys`.
#![deny(unsafe_code)]

pub mod counters;
mod engine;
mod events;
pub mod framing;
mod layers;
pub mod node;
pub mod pipes;
pub mod router;
pub mod socket;
mod sys;
pub mod tcp;
pub mod worker;

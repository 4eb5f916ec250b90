//! The packet engine of an SFU node without sockets and without a clock: datagrams, commands and time go in; datagrams,
//! events and the next time-out come out.
//!
//! One [`engine::Engine`] is one packet worker. It parses and seals everything itself (RTP, RTCP, STUN, SRTP), routes and
//! rewrites packets, answers and asks for repairs, estimates what each subscriber's link carries and chooses layers.
//! Nothing here allocates for a packet, and nothing a peer sends can make it panic.
#![forbid(unsafe_code)]

pub mod congestion;
pub mod engine;
pub mod payload;
pub mod srtp;
pub mod time;
pub mod units;
pub mod wire;

//! A load generator for SFUs, and the floor that they are measured against.
//!
//! [`driver::Driver`] makes peers that connect by ICE and DTLS and send and receive SRTP as browsers do. It knows no SDP:
//! whoever drives it negotiates, and tells it addresses, credentials, SSRCs and ids (the commands are in [`command`]).
//! [`floor`] is the least that a forwarder which sends one packet a call can do.

mod chance;
pub mod command;
pub mod driver;
mod dtls;
pub mod floor;
mod histogram;
mod ice;
mod incoming;
mod outgoing;
mod peer;
mod stamp;
pub mod sys;

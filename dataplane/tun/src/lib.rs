//! A bad network in real time: IP packets between two TUN devices, each direction through a link of `parley-netem`.
//!
//! [`Pump`] moves the packets of any two descriptors that give and take one packet a call. What the links do is said in
//! lines of JSON on the input ([`command`]); each is answered by what became of the packets so far. The same seed and the
//! same packets in the same order have the same losses.

pub mod command;
mod pump;
pub mod sys;

pub use pump::Pump;

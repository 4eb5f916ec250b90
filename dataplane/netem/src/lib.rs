//! A bad network in virtual time, for tests: a link with a rate, a queue, delay, jitter, reordering and losses, whose
//! parameters change at given moments. It has no sockets and no clock, and the same seed gives the same network.
//!
//! ```
//! use core::time::Duration;
//! use parley_core::{time::Instant, units::DataRate};
//! use parley_netem::{Link, Params};
//!
//! let params = Params { rate: Some(DataRate::from_bps(80_000)), delay: Duration::from_millis(20), ..Params::default() };
//! let mut link = Link::new(1, params);
//! link.push(Instant::from_micros(0), 100, "a datagram of 100 bytes");
//! // 10 ms on the wire and 20 ms of delay
//! assert_eq!(link.pop(Instant::from_micros(29_999)), None);
//! assert_eq!(link.pop(Instant::from_micros(30_000)), Some((Instant::from_micros(30_000), "a datagram of 100 bytes")));
//! ```
#![forbid(unsafe_code)]

mod link;
mod loss;
mod params;
mod random;

pub use link::{Counters, Link};
pub use loss::{GilbertElliott, Loss};
pub use params::{Params, Queue};
pub use random::Random;

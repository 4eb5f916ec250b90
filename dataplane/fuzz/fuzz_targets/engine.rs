//! The packet engine with a publisher and a subscriber, driven by any datagrams, commands and times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parley_fuzz::world::World;

fuzz_target!(|data: &[u8]| World::new().run(data));

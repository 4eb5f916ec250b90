//! The lines that come in and the answers that go out, in JSON.

use core::time::Duration;

use parley_core::units::DataRate;
use parley_netem::{Counters, Loss, Params, Queue};
use serde::{Deserialize, Serialize};

const LONGEST_MS: f64 = 60_000.0;

/// `{"near": {"delay_ms": 50, "loss": 0.01}, "far": {}}`: what becomes of the packets that are sent at an end from now on.
/// An end that is not named stays as it is, and `{}` only asks for the counts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The direction from the near device to the far one.
    pub near: Option<State>,
    /// The other one.
    pub far: Option<State>,
}

/// A direction's state; nothing named is a link that loses and delays nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Bits that the wire carries in a second; without it there is no limit.
    pub rate_bps: Option<u64>,
    /// How much of that rate waits for the wire at most; without it everything.
    pub queue_ms: Option<f64>,
    /// How long each packet is on its way.
    pub delay_ms: f64,
    /// Each packet takes up to so much longer.
    pub jitter_ms: f64,
    /// Whether jitter may turn the order around.
    pub jitter_reorders: bool,
    /// The share of packets that those behind pass.
    pub reorder: f64,
    /// How much longer such a packet takes.
    pub reorder_delay_ms: f64,
    /// The share of packets that is lost.
    pub loss: f64,
    /// Nothing passes.
    pub is_down: bool,
}

impl State {
    /// The state as `parley-netem` has it. Fails with a sentence for a number that cannot be one.
    pub fn params(&self) -> Result<Params, String> {
        let queue = match self.queue_ms {
            None => Queue::Unlimited,
            Some(milliseconds) => Queue::Time(time("queue_ms", milliseconds)?),
        };
        let loss = share("loss", self.loss)?;
        Ok(Params {
            rate: self.rate_bps.map(DataRate::from_bps),
            queue,
            delay: time("delay_ms", self.delay_ms)?,
            jitter: time("jitter_ms", self.jitter_ms)?,
            jitter_reorders: self.jitter_reorders,
            reorder: share("reorder", self.reorder)?,
            reorder_delay: time("reorder_delay_ms", self.reorder_delay_ms)?,
            loss: if loss > 0.0 { Loss::Random(loss) } else { Loss::None },
            is_down: self.is_down,
        })
    }
}

fn time(name: &str, milliseconds: f64) -> Result<Duration, String> {
    if (0.0..=LONGEST_MS).contains(&milliseconds) {
        Ok(Duration::from_secs_f64(milliseconds / 1000.0))
    } else {
        Err(format!("{name} is 0 to {LONGEST_MS} milliseconds"))
    }
}

fn share(name: &str, value: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(format!("{name} is 0 to 1")) }
}

/// What became of the packets of both directions so far.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Those sent at the near device.
    pub near: Counts,
    /// Those sent at the far device.
    pub far: Counts,
    /// How much later than its moment a packet left at most, in microseconds: how far the machine kept up.
    pub latest_us: u64,
}

/// Packets, then bytes of IP.
#[derive(Debug, Serialize)]
pub struct Counts {
    /// Sent into this direction.
    pub sent: (u64, u64),
    /// Brought to the other end, or on the way there.
    pub carried: (u64, u64),
    /// Left out by the queue.
    pub dropped: (u64, u64),
    /// Lost on the way.
    pub lost: (u64, u64),
    /// Not taken by the device at the other end, as one that is down.
    pub refused: (u64, u64),
}

impl Counts {
    pub(crate) const fn new(of_link: Counters, refused: (u64, u64)) -> Self {
        Self { sent: of_link.pushed, carried: of_link.carried, dropped: of_link.dropped, lost: of_link.lost, refused }
    }
}

/// A line of output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Both devices are there.
    Ready([String; 2]),
    /// The command was taken.
    Report(Report),
    /// The command was not taken, with the sentence that says why.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> State {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn nothing_named_is_a_link_that_does_nothing() {
        assert_eq!(parsed("{}").params(), Ok(Params::default()));
    }

    #[test]
    fn a_state_becomes_the_links_parameters() {
        let text = r#"{"rate_bps": 8000, "queue_ms": 300, "delay_ms": 50, "jitter_ms": 2.5, "reorder": 0.1,
            "reorder_delay_ms": 30, "loss": 0.01}"#;
        let expected = Params {
            reorder: 0.1,
            jitter: Duration::from_micros(2_500),
            reorder_delay: Duration::from_millis(30),
            loss: Loss::Random(0.01),
            ..Params::rated(DataRate::from_bps(8_000), Duration::from_millis(50), Duration::from_millis(300))
        };
        assert_eq!(parsed(text).params(), Ok(expected));
    }

    #[test]
    fn what_is_no_time_and_no_share_is_refused() {
        for text in [r#"{"delay_ms": -1}"#, r#"{"jitter_ms": 1e9}"#, r#"{"loss": 1.1}"#, r#"{"reorder": -0.1}"#] {
            assert!(parsed(text).params().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<State>(r#"{"los": 0.1}"#).is_err());
        assert!(serde_json::from_str::<Command>(r#"{"left": {}}"#).is_err());
    }
}

//! Which packets a link loses.

use crate::random::Random;

/// How losses are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// Nothing is lost.
    #[default]
    None,
    /// Each packet with this probability, independent of the others.
    Random(f64),
    /// In bursts.
    GilbertElliott(GilbertElliott),
}

/// A link that is good or bad and changes between the two from packet to packet (Elliott 1963).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GilbertElliott {
    /// Probability that a good link turns bad with the next packet.
    pub to_bad: f64,
    /// Probability that a bad link turns good with the next packet: 1 / the mean length of a burst.
    pub to_good: f64,
    /// Probability of a loss while the link is good.
    pub loss_when_good: f64,
    /// Probability of a loss while the link is bad.
    pub loss_when_bad: f64,
}

/// Draws the losses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dice {
    is_bad: bool,
}

impl Dice {
    pub fn is_lost(&mut self, loss: Loss, random: &mut Random) -> bool {
        match loss {
            Loss::None => false,
            Loss::Random(probability) => random.chance(probability),
            Loss::GilbertElliott(model) => {
                let change = if self.is_bad { model.to_good } else { model.to_bad };
                self.is_bad ^= random.chance(change);
                random.chance(if self.is_bad { model.loss_when_bad } else { model.loss_when_good })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_have_the_share_and_the_length_of_the_model() {
        let model = GilbertElliott { to_bad: 0.01, to_good: 0.2, loss_when_good: 0.0, loss_when_bad: 1.0 };
        let (mut dice, mut random) = (Dice::default(), Random::new(3));
        let lost: Vec<bool> = (0..200_000).map(|_| dice.is_lost(Loss::GilbertElliott(model), &mut random)).collect();
        let count = lost.iter().filter(|lost| **lost).count();
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        let share = count as f64 / lost.len() as f64;
        assert!((0.042..0.053).contains(&share), "{share}"); // 0.01 / 0.21
        let length = count as f64 / bursts as f64;
        assert!((4.7..5.3).contains(&length), "{length}");
    }
}

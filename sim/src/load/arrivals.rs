//! Arrivals: when jobs are submitted.
//!
//! A Poisson process whose rate changes over time, by thinning (Lewis and Shedler, 1979): candidates come at the
//! highest rate, and each is kept as likely as the rate of its instant is high. Only additions, multiplications,
//! divisions and comparisons are used, which every machine rounds alike, so a seed means the same run everywhere.

use super::event::Micros;
use crate::draw::Draw;
use serde::Deserialize;

/// Jobs per second, over time.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(tag = "shape", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rate {
    /// Always the same.
    Constant {
        /// The rate.
        per_sec: f64,
    },
    /// From one rate to another, evenly.
    Linear {
        /// At the beginning.
        from_per_sec: f64,
        /// At the end, and after it.
        to_per_sec: f64,
        /// How long that takes.
        over_sec: u64,
    },
    /// Up and down around a mean, which it has at the beginning.
    Sine {
        /// The mean.
        mean_per_sec: f64,
        /// How far it goes up and down.
        swing_per_sec: f64,
        /// From one height to the next.
        period_sec: u64,
    },
    /// A rate from each of these seconds on.
    Steps {
        /// Pairs of a second and a rate.
        steps: Vec<(u64, f64)>,
    },
}

impl Rate {
    /// Checks the parameters; the error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let fail = |why: &str| Err(why.to_owned());
        let highest = self.highest();
        if !(highest > 0.0 && highest <= 10_000_000.0) {
            return fail("the highest rate must be above 0 and at most 10000000 jobs per second");
        }
        match self {
            Rate::Constant { .. } => Ok(()),
            Rate::Linear { from_per_sec, to_per_sec, over_sec } => {
                if from_per_sec.min(*to_per_sec) < 0.0 || *over_sec == 0 {
                    return fail("both rates must be 0 or more, and over_sec 1 or more");
                }
                Ok(())
            }
            Rate::Sine { mean_per_sec, swing_per_sec, period_sec } => {
                if !(0.0..=*mean_per_sec).contains(swing_per_sec) || *period_sec == 0 {
                    return fail("swing_per_sec must be from 0 to mean_per_sec, and period_sec 1 or more");
                }
                Ok(())
            }
            Rate::Steps { steps } => {
                if steps.first().is_none_or(|(at, _)| *at != 0) || !steps.is_sorted_by(|a, b| a.0 < b.0) {
                    return fail("steps must begin at second 0, and each come after the one before it");
                }
                if steps.iter().any(|(_, rate)| *rate < 0.0) {
                    return fail("no step may have a rate below 0");
                }
                Ok(())
            }
        }
    }

    /// The rate at an instant.
    pub fn at(&self, at: Micros) -> f64 {
        let sec = at as f64 / 1e6;
        match self {
            Rate::Constant { per_sec } => *per_sec,
            Rate::Linear { from_per_sec, to_per_sec, over_sec } => {
                from_per_sec + (to_per_sec - from_per_sec) * (sec / *over_sec as f64).min(1.0)
            }
            Rate::Sine { mean_per_sec, swing_per_sec, period_sec } => {
                let turns = sec / *period_sec as f64;
                mean_per_sec + swing_per_sec * sine(turns - turns.floor())
            }
            Rate::Steps { steps } => {
                steps.iter().rev().find(|(from, _)| *from as f64 <= sec).map_or(0.0, |(_, rate)| *rate)
            }
        }
    }

    /// The highest rate there is.
    pub fn highest(&self) -> f64 {
        match self {
            Rate::Constant { per_sec } => *per_sec,
            Rate::Linear { from_per_sec, to_per_sec, .. } => from_per_sec.max(*to_per_sec),
            Rate::Sine { mean_per_sec, swing_per_sec, .. } => mean_per_sec + swing_per_sec,
            Rate::Steps { steps } => steps.iter().fold(0.0, |highest, (_, rate)| rate.max(highest)),
        }
    }

    /// The rate multiplied by `factor`, at each instant.
    pub fn scaled(&self, factor: f64) -> Rate {
        match self {
            Rate::Constant { per_sec } => Rate::Constant { per_sec: per_sec * factor },
            Rate::Linear { from_per_sec, to_per_sec, over_sec } => Rate::Linear {
                from_per_sec: from_per_sec * factor,
                to_per_sec: to_per_sec * factor,
                over_sec: *over_sec,
            },
            Rate::Sine { mean_per_sec, swing_per_sec, period_sec } => Rate::Sine {
                mean_per_sec: mean_per_sec * factor,
                swing_per_sec: swing_per_sec * factor,
                period_sec: *period_sec,
            },
            Rate::Steps { steps } => {
                Rate::Steps { steps: steps.iter().map(|(from, rate)| (*from, rate * factor)).collect() }
            }
        }
    }

    /// When the next batch arrives after `now`; `None` if that is after `until`.
    pub fn next(&self, draw: &mut Draw, now: Micros, until: Micros, batch: u64) -> Option<Micros> {
        let per_sec = self.highest() / batch as f64;
        let mut at = now as f64;
        loop {
            at += exponential(draw) * 1e6 / per_sec;
            if at > until as f64 {
                return None;
            }
            let at = at as Micros;
            if fraction(draw) * self.highest() < self.at(at) {
                return Some(at);
            }
        }
    }
}

/// An exponentially distributed number of mean 1, by von Neumann's method (1951), which compares uniform numbers and
/// needs no logarithm: a run of falling numbers has odd length with probability e^-x, where x is its first.
pub fn exponential(draw: &mut Draw) -> f64 {
    let mut whole = 0.0;
    loop {
        let first = fraction(draw);
        let mut last = first;
        let mut is_odd = true;
        loop {
            let next = fraction(draw);
            if next >= last {
                break;
            }
            last = next;
            is_odd = !is_odd;
        }
        if is_odd {
            return whole + first;
        }
        whole += 1.0;
    }
}

/// A number from 0 to below 1.
fn fraction(draw: &mut Draw) -> f64 {
    (draw.number() >> 11) as f64 / (1u64 << 53) as f64
}

/// The sine of a part of a turn, by the approximation of Bhaskara I: off by 0.002 at most.
fn sine(turn: f64) -> f64 {
    let half = |part: f64| 16.0 * part * (1.0 - part) / (5.0 - 4.0 * part * (1.0 - part));
    if turn < 0.5 { half(turn * 2.0) } else { -half(turn * 2.0 - 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Stream;

    #[test]
    fn exponential_numbers_have_mean_and_variance_1() {
        let mut draw = Draw::new(1, Stream::LoadArrivals);
        let numbers: Vec<_> = (0..20_000).map(|_| exponential(&mut draw)).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 20_000.0;
        assert!((mean - 1.0).abs() < 0.03 && (variance - 1.0).abs() < 0.08, "{mean} {variance}");
    }

    #[test]
    fn the_sine_is_close_to_the_sine() {
        for step in 0..1_000 {
            let turn = f64::from(step) / 1_000.0;
            assert!((sine(turn) - (turn * std::f64::consts::TAU).sin()).abs() < 0.002, "{turn}");
        }
    }

    #[test]
    fn as_many_jobs_come_as_the_rate_says() {
        let table = [
            (Rate::Constant { per_sec: 50.0 }, 5_000.0),
            (Rate::Linear { from_per_sec: 0.0, to_per_sec: 100.0, over_sec: 100 }, 5_000.0),
            (Rate::Sine { mean_per_sec: 50.0, swing_per_sec: 50.0, period_sec: 50 }, 5_000.0),
            (Rate::Steps { steps: vec![(0, 10.0), (50, 90.0)] }, 5_000.0),
        ];
        for (rate, expected) in table {
            let mut draw = Draw::new(2, Stream::LoadArrivals);
            let (mut now, mut count) = (0, 0.0_f64);
            while let Some(at) = rate.next(&mut draw, now, 100_000_000, 1) {
                (now, count) = (at, count + 1.0);
            }
            // Four standard deviations of a Poisson count.
            assert!((count - expected).abs() < 4.0 * 71.0, "{rate:?}: {count}");
        }
    }
}

//! Samples: a few measurements of one thing, and the one that stands for them.

/// Measurements of one thing.
#[derive(Default, Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        assert!(value.is_finite(), "a measurement is a number");
        self.0.push(value);
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one (the mean of the two in the middle of an even count): a pause of the machine does not move it.
    pub fn median(&self) -> f64 {
        assert!(!self.0.is_empty(), "something was measured");
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
    }

    /// The median of `self[i] / other[i]`: each pair was measured side by side, so what slowed one slowed the other.
    pub fn paired_ratio(&self, other: &Samples) -> f64 {
        self.ratios(other).median()
    }

    /// Each `self[i] / other[i]`.
    pub fn ratios(&self, other: &Samples) -> Samples {
        assert_eq!(self.0.len(), other.0.len(), "measured in pairs");
        Samples(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// The least and the most.
    pub fn range(&self) -> (f64, f64) {
        assert!(!self.0.is_empty(), "something was measured");
        self.0
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(*value), most.max(*value)))
    }

    /// All, in the order in which they were measured.
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        values.iter().for_each(|value| samples.push(*value));
        samples
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(samples(&[9.0, 1.0, 5.0]).median(), 5.0);
        assert_eq!(samples(&[4.0, 1000.0, 2.0, 1.0]).median(), 3.0);
        assert_eq!(samples(&[7.0]).median(), 7.0);
    }

    #[test]
    fn a_paired_ratio_ignores_what_slowed_both() {
        let (slow, fast) = (samples(&[2.0, 20.0, 3.0]), samples(&[1.0, 10.0, 1.0]));
        assert_eq!(slow.paired_ratio(&fast), 2.0);
        assert_eq!(slow.ratios(&fast).values(), [2.0, 2.0, 3.0]);
        assert_eq!(slow.range(), (2.0, 20.0));
    }
}

//! A family: one metric with all its series, as Prometheus knows it; and families, while they are collected.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use sheratan_core::telemetry::timing::{Timing, Totals};

/// One metric with all its series. The name is without prefix, unit and the `_total` of counters.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its description, without a full stop at the end.
    pub help: &'static str,
    /// The base unit, which ends the name.
    pub unit: Option<Unit>,
    /// Its type for Prometheus.
    pub kind: MetricType,
    /// The series.
    pub series: Vec<Series>,
}

/// One series: its labels and its value.
#[derive(Debug)]
pub struct Series {
    /// Label and value.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// A series' value.
#[derive(Debug)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(u64),
    /// An instant in seconds.
    Seconds(f64),
    /// Of a histogram.
    Totals(Totals),
}

impl Series {
    /// The only series of a family.
    pub fn one(value: u64) -> Series {
        Series { labels: Vec::new(), value: Value::Number(value) }
    }

    /// One of a family whose series differ in one label.
    pub fn labelled(label: &'static str, (word, value): (&str, u64)) -> Series {
        Series { labels: vec![(label, word.to_owned())], value: Value::Number(value) }
    }
}

/// Families under construction.
#[derive(Default)]
pub struct Families(Vec<Family>);

impl Families {
    pub fn add(
        &mut self,
        kind: MetricType,
        name: &'static str,
        unit: Option<Unit>,
        help: &'static str,
        series: Vec<Series>,
    ) {
        // A family without series is left out.
        if !series.is_empty() {
            self.0.push(Family { name, help, unit, kind, series });
        }
    }

    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(MetricType::Counter, name, None, help, vec![Series::one(value)]);
    }

    /// A counter with one series for each value of a label.
    pub fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) {
        self.add(MetricType::Counter, name, None, help, values.map(|value| Series::labelled(label, value)).into());
    }

    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(MetricType::Gauge, name, None, help, vec![Series::one(value)]);
    }

    pub fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) {
        self.add(MetricType::Gauge, name, None, help, values.map(|value| Series::labelled(label, value)).into());
    }

    pub fn bytes(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(MetricType::Gauge, name, Some(Unit::Bytes), help, vec![Series::one(value)]);
    }

    pub fn timing(&mut self, name: &'static str, help: &'static str, timing: &Timing) {
        let series = Series { labels: Vec::new(), value: Value::Totals(timing.totals()) };
        self.add(MetricType::Histogram, name, Some(Unit::Seconds), help, vec![series]);
    }

    pub fn into_vec(self) -> Vec<Family> {
        self.0
    }
}

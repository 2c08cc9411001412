//! A family: one metric with all its series, as Prometheus knows it.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use sheratan_core::telemetry::timing::Totals;

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

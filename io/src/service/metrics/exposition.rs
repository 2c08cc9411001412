//! Exposition: families as OpenMetrics 1.0.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), written by the
//! Prometheus project's own library, and in the older text format 0.0.4, which is derived from it.

use super::family::{Family, Series, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::fmt;

/// Gives the families to the library's encoder.
#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let mut metric = encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), family.kind)?;
            for series in &family.series {
                encode(&mut metric, family.kind, series)?;
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder, kind: MetricType, series: &Series) -> Result<(), fmt::Error> {
    match kind {
        MetricType::Info => metric.encode_info(&series.labels),
        // The library would write an empty pair of braces.
        _ if series.labels.is_empty() => encode_value(metric, kind, &series.value),
        _ => encode_value(&mut metric.encode_family(&series.labels)?, kind, &series.value),
    }
}

fn encode_value(metric: &mut MetricEncoder, kind: MetricType, value: &Value) -> Result<(), fmt::Error> {
    match (value, kind) {
        (Value::Number(value), MetricType::Counter) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
        (Value::Number(value), _) => metric.encode_gauge(value),
        (Value::Seconds(value), _) => metric.encode_gauge(value),
        (Value::Totals(totals), _) => {
            metric.encode_histogram::<NoLabelSet>(totals.sum_secs, totals.count, &totals.buckets, None)
        }
    }
}

/// OpenMetrics.
pub fn open_metrics(families: Vec<Family>) -> Vec<u8> {
    let mut registry = Registry::with_prefix("sheratan_hub");
    registry.register_collector(Box::new(Families(families)));
    let mut out = String::with_capacity(16 << 10);
    text::encode(&mut out, &registry).expect("a string takes all");
    out.into_bytes()
}

/// Prometheus' text format 0.0.4: names in descriptions include a counter's `_total` and an info's `_info`, an info is
/// a gauge, and there are no units and no end marker.
pub fn prometheus(families: Vec<Family>) -> Vec<u8> {
    let renamed = |family: &Family| {
        let suffix = match family.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => return None,
        };
        let unit = family.unit.as_ref().map_or(String::new(), |unit| format!("_{}", unit.as_str()));
        Some((format!("sheratan_hub_{}{unit}", family.name), suffix))
    };
    let renamed: BTreeSet<_> = families.iter().filter_map(renamed).collect();
    let text = String::from_utf8(open_metrics(families)).expect("the library writes text");
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let Some(described) = line.strip_prefix("# ") else {
            out.extend([line, "\n"]);
            continue;
        };
        let mut words = described.splitn(3, ' ');
        let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else { continue };
        if what == "UNIT" {
            continue;
        }
        let suffix = renamed.iter().find(|(of, _)| of == name).map_or("", |(_, suffix)| suffix);
        let rest = if what == "TYPE" && rest == "info" { "gauge" } else { rest };
        out.extend(["# ", what, " ", name, suffix, " ", rest, "\n"]);
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Unit;
    use sheratan_core::telemetry::timing::Totals;

    fn families() -> Vec<Family> {
        let series = |labels: &[(&'static str, &str)], value| Series {
            labels: labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect(),
            value,
        };
        let totals = Totals { buckets: vec![(0.005, 2), (f64::INFINITY, 1)], sum_secs: 1.25, count: 3 };
        let family = |name, unit, kind, series| Family { name, help: "Help", unit, kind, series: vec![series] };
        vec![
            family("build", None, MetricType::Info, series(&[("version", "2.0")], Value::Number(1))),
            family("jobs", None, MetricType::Counter, series(&[("kind", "a\"b\\c")], Value::Number(7))),
            family("trace", Some(Unit::Bytes), MetricType::Counter, series(&[], Value::Number(9))),
            family("queue", Some(Unit::Bytes), MetricType::Gauge, series(&[], Value::Number(u64::MAX))),
            family("run", Some(Unit::Seconds), MetricType::Histogram, series(&[], Value::Totals(totals))),
        ]
    }

    #[test]
    fn open_metrics_has_units_and_an_end() {
        let expected = r#"# HELP sheratan_hub_build Help
# TYPE sheratan_hub_build info
sheratan_hub_build_info{version="2.0"} 1
# HELP sheratan_hub_jobs Help
# TYPE sheratan_hub_jobs counter
sheratan_hub_jobs_total{kind="a\"b\\c"} 7
# HELP sheratan_hub_trace_bytes Help
# TYPE sheratan_hub_trace_bytes counter
# UNIT sheratan_hub_trace_bytes bytes
sheratan_hub_trace_bytes_total 9
# HELP sheratan_hub_queue_bytes Help
# TYPE sheratan_hub_queue_bytes gauge
# UNIT sheratan_hub_queue_bytes bytes
sheratan_hub_queue_bytes 18446744073709551615
# HELP sheratan_hub_run_seconds Help
# TYPE sheratan_hub_run_seconds histogram
# UNIT sheratan_hub_run_seconds seconds
sheratan_hub_run_seconds_sum 1.25
sheratan_hub_run_seconds_count 3
sheratan_hub_run_seconds_bucket{le="0.005"} 2
sheratan_hub_run_seconds_bucket{le="+Inf"} 3
# EOF
"#;
        assert_eq!(String::from_utf8(open_metrics(families())).unwrap(), expected);
    }

    #[test]
    fn the_older_format_describes_series_by_their_full_names() {
        let expected = r#"# HELP sheratan_hub_build_info Help
# TYPE sheratan_hub_build_info gauge
sheratan_hub_build_info{version="2.0"} 1
# HELP sheratan_hub_jobs_total Help
# TYPE sheratan_hub_jobs_total counter
sheratan_hub_jobs_total{kind="a\"b\\c"} 7
# HELP sheratan_hub_trace_bytes_total Help
# TYPE sheratan_hub_trace_bytes_total counter
sheratan_hub_trace_bytes_total 9
# HELP sheratan_hub_queue_bytes Help
# TYPE sheratan_hub_queue_bytes gauge
sheratan_hub_queue_bytes 18446744073709551615
# HELP sheratan_hub_run_seconds Help
# TYPE sheratan_hub_run_seconds histogram
sheratan_hub_run_seconds_sum 1.25
sheratan_hub_run_seconds_count 3
sheratan_hub_run_seconds_bucket{le="0.005"} 2
sheratan_hub_run_seconds_bucket{le="+Inf"} 3
"#;
        assert_eq!(String::from_utf8(prometheus(families())).unwrap(), expected);
    }
}

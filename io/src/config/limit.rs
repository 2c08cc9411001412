//! Limits by the names of their settings: the only place that maps settings to limits.

use super::ConfigError;
use super::table::{SETTINGS, ValueType};
use super::values;
use sheratan_core::Millis;
use sheratan_core::limits::Limits;

type Set = fn(&mut Limits, u64);

/// The settings that are limits of the hub, and the limit of each.
const LIMITS: &[(&str, Set)] = &[
    ("max_queue_depth", |limits, number| limits.queue_depth_max = number),
    ("max_queue_bytes", |limits, number| limits.queue_bytes_max = number),
    ("max_inflight", |limits, number| limits.inflight_max = number),
    ("max_inflight_bytes", |limits, number| limits.inflight_bytes_max = if number == 0 { u64::MAX } else { number }),
    ("max_leases_per_node", |limits, number| limits.leases_per_node_max = number),
    ("lease_timeout_sec", |limits, number| limits.lease_duration_ms = Millis::from_secs(number)),
    ("retry_max_attempts", |limits, number| limits.attempts_max = number as u32),
    ("retry_backoff_base_ms", |limits, number| limits.retry_delay_ms_base = Millis::new(number)),
    ("retry_backoff_cap_ms", |limits, number| limits.retry_delay_ms_cap = Millis::new(number)),
    ("node_ttl_sec", |limits, number| limits.node_ttl_ms = Millis::from_secs(number)),
    ("node_dead_sec", |limits, number| limits.node_dead_ms = Millis::from_secs(number)),
    ("job_retention_sec", |limits, number| limits.job_retention_ms = Millis::from_secs(number)),
    ("retained_jobs_max", |limits, number| limits.retained_jobs_max = number),
    ("retained_bytes_max", |limits, number| limits.retained_bytes_max = number),
    ("idempotency_ttl_sec", |limits, number| limits.idempotency_ttl_ms = Millis::from_secs(number)),
    ("idempotency_max_cached_bytes", |limits, number| limits.idempotency_cached_bytes_max = number),
    ("dlq_max_items", |limits, number| limits.dead_jobs_max = number),
    ("dlq_max_bytes", |limits, number| limits.dead_bytes_max = number),
    ("idempotency_floor_sec", |limits, number| limits.idempotency_floor_ms = Millis::from_secs(number)),
    ("idempotency_store_max_items", |limits, number| limits.idempotency_keys_max = number),
    ("idempotency_store_max_bytes", |limits, number| limits.answers_bytes_max = number),
    ("max_nodes", |limits, number| limits.nodes_max = number),
    ("max_node_bytes", |limits, number| limits.nodes_bytes_max = number),
    ("max_leases_per_zone", |limits, number| limits.leases_per_zone_max = if number == 0 { u64::MAX } else { number }),
    ("retry_max_losses", |limits, number| limits.losses_max = number as u32),
    ("retry_after_max_sec", |limits, number| limits.retry_after_ms_cap = Millis::from_secs(number)),
    ("retry_budget_percent", |limits, number| limits.retry_share_percent = number as u32),
    ("retry_budget_min_per_sec", |limits, number| limits.retries_per_sec_min = number as u32),
    ("dlq_enabled", |limits, number| limits.dead_letters_enabled = number as u32),
    ("dlq_retention_sec", |limits, number| limits.dead_retention_ms = Millis::from_secs(number)),
    ("dlq_when_full", |limits, number| limits.dead_full_refuses = number as u32),
    ("orphans_max", |limits, number| limits.orphans_max = number),
    ("fair_by", |limits, number| limits.fair_by = number as u32),
    ("priority_age_sec", |limits, number| limits.priority_age_ms = Millis::from_secs(number)),
    ("orphans_bytes_max", |limits, number| limits.orphans_bytes_max = number),
    ("attestation_flip_window_sec", |limits, number| limits.flip_window_ms = Millis::from_secs(number)),
    ("attestation_flip_threshold", |limits, number| limits.flip_threshold = number as u32),
];

/// Changes of some limits, as in `sheratan-sim replay --set`.
#[derive(Clone, Debug, Default)]
pub struct Changes(Vec<(&'static str, u64)>);

impl Changes {
    /// Reads `name=value` texts, as `max_queue_depth=500`.
    ///
    /// # Errors
    /// One line with the allowed values; for an unknown name with all limits.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, ConfigError> {
        texts.iter().map(|text| parse_one(text.as_ref())).collect::<Result<_, _>>().map(Changes)
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes, by the settings' names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    /// These limits with the changes.
    ///
    /// # Errors
    /// Two limits contradict each other.
    pub fn over(&self, limits: &Limits) -> Result<Limits, ConfigError> {
        let mut limits = limits.clone();
        for (name, number) in self.iter() {
            set_of(name).expect("a change is parsed by the table")(&mut limits, number);
        }
        check(&limits)?;
        Ok(limits)
    }
}

/// The limits whose settings have these numbers.
pub(super) fn limits(number: impl Fn(&str) -> u64) -> Result<Limits, ConfigError> {
    let mut limits = Limits::default();
    LIMITS.iter().for_each(|(name, set)| set(&mut limits, number(name)));
    check(&limits)?;
    Ok(limits)
}

/// Checks the pairs of limits of which one must not be above the other.
fn check(limits: &Limits) -> Result<(), ConfigError> {
    let (ttl_sec, dead_sec) = (limits.node_ttl_ms.get() / 1_000, limits.node_dead_ms.get() / 1_000);
    let (base_ms, cap_ms) = (limits.retry_delay_ms_base.get(), limits.retry_delay_ms_cap.get());
    let pairs = [
        ("node_ttl_sec", ttl_sec, "node_dead_sec", dead_sec),
        ("retry_backoff_base_ms", base_ms, "retry_backoff_cap_ms", cap_ms),
    ];
    match pairs.into_iter().find(|(_, small, _, large)| small > large) {
        Some((small_name, small, large_name, large)) => {
            Err(ConfigError::new(format!("{small_name} ({small}) must not be above {large_name} ({large})")))
        }
        None => Ok(()),
    }
}

fn parse_one(text: &str) -> Result<(&'static str, u64), ConfigError> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(ConfigError::new(format!("{text}: expected name=value, such as max_queue_depth=500")));
    };
    let setting = SETTINGS.iter().find(|setting| setting.name == name && set_of(name).is_some());
    let setting = setting.ok_or_else(|| {
        let names: Vec<_> = LIMITS.iter().map(|(name, _)| *name).collect();
        ConfigError::new(format!("{name} is no limit of the hub; these are: {}", names.join(", ")))
    })?;
    let number = values::limit_of(setting.value_type, value);
    let number = number.filter(|number| match setting.value_type {
        ValueType::Number(min, max) => (min..=max).contains(number) && value.parse::<u64>().is_ok(),
        ValueType::Bytes(min, max) => (min..=max).contains(number),
        _ => true,
    });
    let number = number.ok_or_else(|| ConfigError::new(format!("{name} must be {}", setting.value_type.words())))?;
    Ok((setting.name, number))
}

fn set_of(name: &str) -> Option<Set> {
    LIMITS.iter().find(|(limit, _)| *limit == name).map(|(_, set)| *set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_as_the_settings_are_and_leave_the_rest_alone() {
        let changes = Changes::parse(&["max_queue_depth=500", "max_queue_bytes=2MiB", "node_ttl_sec=9"]).unwrap();
        let limits = changes.over(&Limits::default()).unwrap();
        let expected = Limits {
            queue_depth_max: 500,
            queue_bytes_max: 2 << 20,
            node_ttl_ms: Millis::from_secs(9),
            ..Limits::default()
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn an_unknown_limit_is_refused_with_all_known_ones() {
        for text in ["queue=5", "hub_token=abc", "control_addr=127.0.0.1:1"] {
            let error = Changes::parse(&[text]).unwrap_err().to_string();
            assert!(LIMITS.iter().all(|(name, _)| error.contains(name)), "{error}");
        }
        for text in ["max_queue_depth", "max_queue_depth=", "max_queue_depth=0", "max_queue_depth=2MiB"] {
            assert!(Changes::parse(&[text]).is_err(), "{text}");
        }
        let contradiction = Changes::parse(&["node_ttl_sec=700"]).unwrap().over(&Limits::default());
        assert_eq!(contradiction.unwrap_err().to_string(), "node_ttl_sec (700) must not be above node_dead_sec (600)");
    }

    /// A field without a setting would always keep its default.
    #[test]
    fn each_limit_has_a_setting() {
        let fields = format!("{:?}", Limits::default()).matches(": ").count();
        assert_eq!(LIMITS.len(), fields);
    }
}

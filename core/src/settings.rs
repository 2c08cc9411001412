//! Settings: the operator's limits as a numbered list, so that a new limit needs no new kind of record.

use crate::encoding::{DecodeError, Encoded, Reader};
use crate::limits::Limits;
use crate::time::Millis;

/// A setting's value as a number.
trait Number: Copy + PartialEq {
    fn get(self) -> u64;
    fn of(number: u64) -> Result<Self, DecodeError>;
}

/// The table of settings: the number in records, the variant, the member of [`Limits`] and its type.
macro_rules! settings {
    ($($tag:literal $variant:ident $member:ident: $type:ty;)+) => {
        /// One limit and its value. The number of a setting never changes; a new setting gets the next one.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "each is described at its member of Limits")]
        pub enum Setting {
            $($variant($type),)+
        }

        impl Setting {
            /// The setting's name: that of its member of [`Limits`].
            pub const fn name(&self) -> &'static str {
                match self { $(Setting::$variant(_) => stringify!($member),)+ }
            }

            /// Its value as a number, in the unit that the name ends with.
            pub fn value(&self) -> u64 {
                match self { $(Setting::$variant(value) => Number::get(*value),)+ }
            }

            /// The setting of that name with that value.
            pub fn from_name(name: &str, value: u64) -> Option<Setting> {
                match name {
                    $(stringify!($member) => Number::of(value).ok().map(Setting::$variant),)+
                    _ => None,
                }
            }

            /// All settings, with their values in `limits`.
            pub fn all(limits: &Limits) -> Vec<Setting> {
                vec![$(Setting::$variant(limits.$member),)+]
            }
        }

        impl Limits {
            pub fn set(&mut self, setting: Setting) {
                match setting { $(Setting::$variant(value) => self.$member = value,)+ }
            }
        }

        impl Encoded for Setting {
            fn encode(&self, out: &mut Vec<u8>) {
                match self { $(Setting::$variant(value) => { out.push($tag); Number::get(*value).encode(out); })+ }
            }

            fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let tag = from.byte()?;
                let value = u64::decode(from)?;
                match tag {
                    $($tag => Number::of(value).map(Setting::$variant),)+
                    tag => Err(DecodeError::UnknownVariant("setting", tag.into())),
                }
            }
        }
    };
}

settings! {
    1 QueueDepthMax queue_depth_max: u64;
    2 QueueBytesMax queue_bytes_max: u64;
    3 InflightMax inflight_max: u64;
    4 LeasesPerNodeMax leases_per_node_max: u64;
    5 LeaseDuration lease_duration_ms: Millis;
    6 AttemptsMax attempts_max: u32;
    7 RetryDelayBase retry_delay_ms_base: Millis;
    8 RetryDelayCap retry_delay_ms_cap: Millis;
    9 NodeTtl node_ttl_ms: Millis;
    10 NodeDead node_dead_ms: Millis;
    11 JobRetention job_retention_ms: Millis;
    12 RetainedJobsMax retained_jobs_max: u64;
    13 RetainedBytesMax retained_bytes_max: u64;
    14 DeadJobsMax dead_jobs_max: u64;
    15 DeadBytesMax dead_bytes_max: u64;
    16 IdempotencyTtl idempotency_ttl_ms: Millis;
    17 IdempotencyFloor idempotency_floor_ms: Millis;
    18 IdempotencyCachedBytesMax idempotency_cached_bytes_max: u64;
    19 IdempotencyKeysMax idempotency_keys_max: u64;
    20 AnswersBytesMax answers_bytes_max: u64;
    21 NodesMax nodes_max: u64;
    22 NodesBytesMax nodes_bytes_max: u64;
    23 LeasesPerZoneMax leases_per_zone_max: u64;
    24 LossesMax losses_max: u32;
    25 RetryAfterCap retry_after_ms_cap: Millis;
    26 RetryShare retry_share_percent: u32;
    27 RetriesPerSecMin retries_per_sec_min: u32;
    28 DeadLettersEnabled dead_letters_enabled: u32;
    29 DeadRetention dead_retention_ms: Millis;
    30 DeadFullRefuses dead_full_refuses: u32;
    31 OrphansMax orphans_max: u64;
    32 OrphansBytesMax orphans_bytes_max: u64;
    33 FairBy fair_by: u32;
    34 PriorityAge priority_age_ms: Millis;
    35 InflightBytesMax inflight_bytes_max: u64;
    36 FlipWindow flip_window_ms: Millis;
    37 FlipThreshold flip_threshold: u32;
}

impl Limits {
    /// The settings of these limits whose values differ from those in `others`.
    pub fn differences(&self, others: &Limits) -> Vec<Setting> {
        let pairs = Setting::all(self).into_iter().zip(Setting::all(others));
        pairs.filter(|(own, other)| own != other).map(|(own, _)| own).collect()
    }
}

impl Number for u64 {
    fn get(self) -> u64 {
        self
    }
    fn of(number: u64) -> Result<Self, DecodeError> {
        Ok(number)
    }
}

impl Number for u32 {
    fn get(self) -> u64 {
        self.into()
    }
    fn of(number: u64) -> Result<Self, DecodeError> {
        u32::try_from(number).map_err(|_| DecodeError::Malformed("setting of 32 bits"))
    }
}

impl Number for Millis {
    fn get(self) -> u64 {
        Millis::get(self)
    }
    fn of(number: u64) -> Result<Self, DecodeError> {
        Ok(Millis::new(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_decodes_to_itself_and_sets_its_own_member() {
        let defaults = Limits::default();
        for setting in Setting::all(&defaults) {
            let changed = Setting::from_name(setting.name(), setting.value() ^ 1).expect("it has a name");
            let mut bytes = Vec::new();
            changed.encode(&mut bytes);
            assert_eq!(Setting::decode(&mut Reader::new(&bytes)), Ok(changed));
            let mut limits = defaults.clone();
            limits.set(changed);
            assert_eq!(limits.differences(&defaults), [changed]);
            assert_eq!(defaults.differences(&limits), [setting]);
        }
        assert_eq!(Setting::from_name("queue_depth", 1), None);
        assert_eq!(Setting::from_name("attempts_max", u64::MAX), None);
    }

    #[test]
    fn a_setting_that_this_build_does_not_know_is_refused() {
        let newest = Setting::all(&Limits::default()).len() as u8;
        assert!(Setting::decode(&mut Reader::new(&[newest, 1])).is_ok());
        let error = DecodeError::UnknownVariant("setting", u64::from(newest) + 1);
        assert_eq!(Setting::decode(&mut Reader::new(&[newest + 1, 1])), Err(error));
    }
}

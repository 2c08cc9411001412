//! Signatures of results: by which keys they are accepted now, and who still signs with a key that is being replaced.

use crate::object::Object;
use crate::result_keys::{KeyRole, ResultKeys, Window};
use crate::secret::Secret;
use crate::service::{Caller, Service};
use sheratan_core::telemetry::Observation;
use sheratan_core::{Millis, Name, Timestamp};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How often the audit log gets a line about a node and an address that use the old key.
const REPORT_EVERY: Millis = Millis::from_secs(60);

/// Nodes and addresses that are counted; further ones share one count.
const USERS_MAX: usize = 1_024;

/// A node that signs, by its name and address; `None` for all that there is no room for.
type User = Option<(Option<Name>, IpAddr)>;

/// Who signed with the old key in this window.
#[derive(Default, Debug)]
pub struct OldKeyUses {
    by_user: BTreeMap<User, Use>,
    total: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Use {
    reported_at: Option<Timestamp>,
    /// Results since then.
    count: u64,
}

impl OldKeyUses {
    /// Counts a result; returns how many the node sent since its last line, if it is time for one.
    fn count(&mut self, now: Timestamp, node: Option<&Name>, address: IpAddr) -> Option<u64> {
        self.total += 1;
        let user = Some((node.cloned(), address));
        let is_known = self.by_user.contains_key(&user) || self.by_user.len() < USERS_MAX;
        let uses = self.by_user.entry(user.filter(|_| is_known)).or_default();
        uses.count += 1;
        if uses.reported_at.is_some_and(|at| now < at + REPORT_EVERY) {
            return None;
        }
        uses.reported_at = Some(now);
        Some(std::mem::take(&mut uses.count))
    }
}

impl Service {
    /// The keys were read again.
    pub fn set_result_keys(&mut self, now: Timestamp, keys: ResultKeys) {
        if !self.settings.result_keys.replace(keys) {
            return;
        }
        let keys: Vec<_> = self.settings.result_keys.all().map(ToString::to_string).collect();
        self.audit(now, "RESULT_KEYS_CHANGED", |out| {
            out.array("keys", keys, |out, key| crate::object::write_text(out, &key));
        });
        self.end_rotation(now);
        self.report_rotation(now);
    }

    /// Reports a rotation that is under way. Call it at the start.
    pub fn begin_result_keys(&mut self, now: Timestamp) {
        // It ended before this start, and each start would report it again.
        if self.settings.result_keys.advance(self.hub.calendar().utc(now)) {
            tracing::warn!(
                "the rotation of the results' key is over, and only the next key is accepted: make it result_hmac_key, and take result_hmac_key_next and its instant out"
            );
        }
        self.report_rotation(now);
    }

    fn report_rotation(&mut self, now: Timestamp) {
        let Some(window) = self.settings.result_keys.window().filter(|window| !window.is_over) else { return };
        let details = details_of(&window);
        self.audit(now, "RESULT_KEY_ROTATION_BEGUN", |out| details.write(out));
    }

    /// Ends the window of a rotation at its instant.
    pub(in crate::service) fn end_rotation(&mut self, now: Timestamp) {
        if !self.settings.result_keys.advance(self.hub.calendar().utc(now)) {
            return;
        }
        let window = self.settings.result_keys.window().expect("its window has just ended");
        let (details, total) = (details_of(&window), self.old_key_uses.total);
        self.audit(now, "RESULT_KEY_ROTATION_FINALIZED", |out| {
            details.write(out);
            out.number("old_key_results", total);
        });
        self.old_key_uses = OldKeyUses::default();
    }

    /// When the window of a rotation ends.
    pub(in crate::service) fn rotation_ends_at(&self) -> Option<Timestamp> {
        self.settings.result_keys.ends_at().map(|until| self.hub.calendar().instant(until))
    }

    /// Counts a signed result by its key.
    pub(super) fn note_signed(&mut self, now: Timestamp, caller: &Caller, node: Option<&Name>, role: KeyRole) {
        let observation = match role {
            KeyRole::New => Observation::SignedByNewKey,
            KeyRole::Old => Observation::SignedByOldKey,
        };
        self.hub.observe(now, observation);
        if role == KeyRole::New {
            return;
        }
        let Some(count) = self.old_key_uses.count(now, node, caller.ip) else { return };
        let window = self.settings.result_keys.window().expect("only a rotation has an old key");
        let (old, until) = (window.old.map(Secret::to_string), window.until);
        self.audit(now, "RESULT_KEY_OLD_ACCEPTED_IN_WINDOW", |out| {
            if let Some(node) = node {
                out.text("node_id", node);
            }
            out.plain("ip", caller.ip).plain("old_key", old.unwrap_or_default()).time("until_utc", until);
            out.number("results", count);
        });
    }
}

/// A rotation, as audit events show it.
struct Details {
    old: Option<String>,
    new: String,
    until: sheratan_core::Utc,
}

fn details_of(window: &Window) -> Details {
    Details { old: window.old.map(Secret::to_string), new: window.new.to_string(), until: window.until }
}

impl Details {
    fn write(&self, out: &mut Object) {
        if let Some(old) = &self.old {
            out.plain("old_key", old);
        }
        out.plain("new_key", &self.new).time("until_utc", self.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_node_has_one_line_a_minute_with_its_results_since_the_last_one() {
        let mut uses = OldKeyUses::default();
        let names = ["a", "b"].map(|name| Name::new(name).unwrap());
        let mut count = |ms: u64, node: usize| {
            uses.count(Timestamp::from_millis(ms), Some(&names[node]), Ipv4Addr::LOCALHOST.into())
        };
        assert_eq!([count(0, 0), count(1, 0), count(2, 1), count(59_999, 0)], [Some(1), None, Some(1), None]);
        assert_eq!([count(60_000, 0), count(60_001, 0), count(60_002, 1)], [Some(3), None, Some(1)]);
        assert_eq!(uses.total, 7);
    }

    #[test]
    fn nodes_for_which_there_is_no_room_share_one_line() {
        let mut uses = OldKeyUses::default();
        for n in 0..USERS_MAX + 50 {
            let node = Name::new(&format!("n{n}")).unwrap();
            let line = uses.count(Timestamp::ZERO, Some(&node), Ipv4Addr::LOCALHOST.into());
            assert_eq!(line.is_some(), n <= USERS_MAX, "{n}");
        }
        assert_eq!(uses.by_user.len(), USERS_MAX + 1);
    }
}

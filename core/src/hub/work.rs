//! What nodes do: heartbeats, pulls, extensions, results, releases.

use super::Hub;
use super::policy::Permitted;
use crate::command::{Complete, Extend, Heartbeat, Pull, Release};
use crate::context::Context;
use crate::effect::{Audit, Effect};
use crate::ids::NodeIndex;
use crate::ledger::Account;
use crate::limits::{DEFER_MS, DRAINED_DEFER_MS, PULL_JOBS_MAX};
use crate::name::Name;
use crate::outcome::{Outcome, Pulled, Refusal, Withheld};
use crate::queue::ending::Ended;
use crate::queue::profile::{ProfileIndex, Profiles};
use crate::registry::Heard;
use crate::registry::node::{Liveness, Node};
use crate::rules;
use crate::time::Millis;
use crate::zone::Zone;

impl Hub {
    pub(super) fn heartbeat(&mut self, heartbeat: Heartbeat) -> Outcome {
        let (name, zone, capabilities) =
            (heartbeat.node.clone(), heartbeat.zone.clone(), heartbeat.capabilities.clone());
        let Heard { node: index, is_own, is_changed } =
            match self.with_registry(|registry, cx| registry.heartbeat(cx, heartbeat)) {
                Err(refusal) => return Outcome::Refused(refusal),
                Ok(heard) => heard,
            };
        if is_own {
            self.note_heartbeat(index);
        }
        if self.registry.get(index).is_some_and(|node| node.withheld().is_some()) {
            // Those that are parked are answered why.
            self.wake_waiters_of(&name);
        }
        if is_changed {
            let profile = self.queue.profiles_mut().acquire(&zone, &capabilities);
            let node = self.registry.get_mut(index).expect("its heartbeat was just accepted");
            let old = node.profile();
            node.set_profile(profile);
            self.queue.profiles_mut().release(old);
            self.wake_waiters_of(&name);
        }
        Outcome::Heard { node: index }
    }

    pub(super) fn pull(&mut self, pull: &Pull) -> Result<Pulled, Refusal> {
        let node = self.registry.by_name(&pull.node);
        if let Some(withheld) = node.and_then(rules::withheld) {
            let hits = node.and_then(Node::state).map_or(0, |state| state.hits);
            let defer_ms = match withheld {
                Withheld::Drained => DRAINED_DEFER_MS,
                Withheld::Quarantined => self.policies.node_states().defer(hits.saturating_sub(1)),
                Withheld::PolicyDenied => unreachable!("it depends on what the node asks for"),
            };
            return Ok(Pulled::nothing(defer_ms, Some(withheld)));
        }
        let permitted = match self.permitted_to(pull) {
            Permitted::All => return self.pull_permitted(pull),
            Permitted::Kinds(kinds) if kinds.is_empty() => None,
            Permitted::Kinds(kinds) => Some(Pull { kinds, ..pull.clone() }),
            Permitted::Nothing => return Ok(self.denied_pull()),
        };
        let pulled = match permitted {
            Some(permitted) => self.pull_permitted(&permitted)?,
            None => Pulled::nothing(Millis::ZERO, None),
        };
        let has_nothing = pulled.leases.is_empty() && pulled.defer_ms == Millis::ZERO;
        let profile = self.profile_of(&pull.node);
        let is_denied = has_nothing && self.queue.has_any(&pull.node, profile, &pull.kinds);
        Ok(if is_denied { self.denied_pull() } else { pulled })
    }

    fn denied_pull(&self) -> Pulled {
        Pulled::nothing(self.policies.node_states().defer(0), Some(Withheld::PolicyDenied))
    }

    /// A pull of a node that gets jobs, for kinds that the active policy lets it have.
    fn pull_permitted(&mut self, pull: &Pull) -> Result<Pulled, Refusal> {
        let nothing = |defer_ms| Ok(Pulled::nothing(defer_ms, None));
        let node = self.registry.by_name(&pull.node);
        let (held, profile) = node.map_or((0, Profiles::UNKNOWN), |node| (node.leases(), node.profile()));
        let (inflight, inflight_max) = (self.queue.counts().leased, self.limits.inflight_max);
        let held_max = self.limits.leases_per_node_max;
        let room_in_hub = rules::room_in_hub(inflight_max, inflight);
        let in_zone = self.queue.leases_in_zone(node.map_or(&Zone::DEFAULT, Node::zone));
        let in_zone_max = self.limits.leases_per_zone_max;
        let room_in_zone = rules::room_in_zone(in_zone_max, in_zone);
        let room = room_in_hub.min(room_in_zone).min(rules::room_at_node(held_max, held));
        if room == 0 {
            let (inflight, max) = match (room_in_hub, room_in_zone) {
                (0, _) => (inflight, inflight_max),
                (_, 0) => (in_zone, in_zone_max),
                _ => (held, held_max),
            };
            self.audit(Audit::InflightSaturated { node: pull.node.clone(), inflight, max });
            return nothing(DEFER_MS);
        }
        if self.queue.waits_for_bytes((&self.limits, &self.ledger), profile, pull) {
            let (bytes, bytes_max) = (self.ledger.get(Account::Leased), self.limits.inflight_bytes_max);
            self.audit(Audit::InflightBytesSaturated { node: pull.node.clone(), bytes, bytes_max });
            return nothing(DEFER_MS);
        }
        let jobs_max = room.min(u64::from(pull.jobs_max.clamp(1, PULL_JOBS_MAX))) as usize;
        let index = match node.map(Node::index) {
            Some(index) => index,
            // A node that sends no heartbeats is registered with its first lease.
            None if self.queue.has_any(&pull.node, profile, &pull.kinds) => {
                self.with_registry(|registry, cx| registry.register(cx, &pull.node))?
            }
            None => return nothing(Millis::ZERO),
        };
        let Hub { ids, now, rules, limits, registry, queue, timers, ledger, events, .. } = self;
        let name = registry.get(index).expect("it is registered").name();
        let cx = &mut Context { now: *now, key: ids.key(), rules: *rules, limits, timers, ledger, events };
        let leases = queue.lease(cx, (index, name), profile, pull, jobs_max);
        if leases.is_empty() {
            return nothing(Millis::ZERO);
        }
        self.ids.salts.note_lease();
        self.note_seen(index);
        Ok(Pulled { node: Some(index), leases, defer_ms: Millis::ZERO, withheld: None })
    }

    pub(super) fn extend(&mut self, extend: &Extend) -> Outcome {
        let drain_at = self.registry.by_name(&extend.node).and_then(|node| node.extensions_end_at(self.now));
        let outcome = Outcome::Extended(self.with_queue(|queue, cx| queue.extend(cx, extend, drain_at)));
        // An extension that changes nothing is not journaled, so it must not change when the node was last seen either.
        if outcome.is_durable()
            && let Some(index) = self.registry.by_name(&extend.node).map(Node::index)
        {
            self.note_seen(index);
        }
        outcome
    }

    pub(super) fn complete(&mut self, complete: Complete) -> Outcome {
        // Only a lease or a node name shows that the node itself sent the result; a v1.5 client sends neither.
        let is_from_node = complete.lease.is_some() || complete.node.is_some();
        let (job, name) = (complete.job, complete.node.clone());
        if rules::refiles_letters(self.rules) && self.queue.completes_letter(&complete) {
            self.revive_for_result(job);
        }
        let (completed, ended) = match self.with_queue(|queue, cx| queue.complete(cx, complete)) {
            Err(refusal) => return Outcome::Refused(refusal),
            Ok(accepted) => accepted,
        };
        let node = match ended {
            Ended::Nothing => None,
            Ended::Lease(node) => Some(node),
            Ended::Wait => {
                let node = name.as_ref().and_then(|name| self.registry.by_name(name)).map(Node::index);
                self.audit(Audit::ResultUnleased { job, node: name });
                node
            }
        };
        if let Some(node) = node.filter(|_| is_from_node) {
            self.note_seen(node);
        }
        Outcome::Completed(completed)
    }

    pub(super) fn release(&mut self, release: &Release) -> Outcome {
        let released = self.with_queue(|queue, cx| queue.release(cx, &release.node, &release.leases));
        let outcome = Outcome::Released(released);
        if outcome.is_durable()
            && let Some(index) = self.registry.by_name(&release.node).map(Node::index)
        {
            self.note_seen(index);
        }
        outcome
    }

    pub(super) fn note_heartbeat(&mut self, node: NodeIndex) {
        if rules::returns_leases_of_dead(self.rules) {
            self.registry.note_heartbeat(self.now, node);
        }
    }

    pub(super) fn note_seen(&mut self, node: NodeIndex) {
        self.with_registry(|registry, cx| registry.note_seen(cx, node));
    }

    pub(super) fn profile_of(&self, node: &Name) -> ProfileIndex {
        self.registry.by_name(node).map_or(Profiles::UNKNOWN, Node::profile)
    }

    pub(super) fn wake_waiters_of(&mut self, node: &Name) {
        let woken = self.queue.unpark_all_of_node(&mut self.ledger, node);
        self.effects.extend(woken.into_iter().map(Effect::Wake));
    }

    /// A node's timer fired. If it is dead now, the leases come back that it got before its last heartbeat: it would
    /// have sent another one. A node without heartbeats (of v1.5) keeps its leases to their ends.
    pub(super) fn check_liveness(&mut self, index: NodeIndex) {
        let before = self.registry.get(index).map(Node::liveness);
        self.with_registry(|registry, cx| registry.check_liveness(cx, index));
        let Some(node) = self.registry.get(index) else { return };
        let has_died = node.liveness() == Liveness::Dead && before != Some(Liveness::Dead);
        if let Some(heartbeat_at) =
            node.heartbeat_at().filter(|_| has_died && rules::returns_leases_of_dead(self.rules))
        {
            self.with_queue(|queue, cx| queue.return_leases(cx, index, heartbeat_at));
        }
    }
}

//! What operators do: jobs, kinds, weights, letters, orphans, nodes.

use super::{Hub, done_or_refused};
use crate::command::{Accept, AdoptOrphan, Complete, Drain, Quarantine, RekeyNode, SetKind, Weight};
use crate::dedup::KeyPlace;
use crate::effect::Audit;
use crate::envelope::Principal;
use crate::ids::JobSeq;
use crate::integrity::stored::ResultIntegrity;
use crate::limits::WEIGHTS_MAX;
use crate::name::Name;
use crate::orphans::ParkResult;
use crate::outcome::{Outcome, Refusal};
use crate::queue::event::LetterLeft;
use crate::queue::job::{JobView, State};
use crate::queue::turns::WEIGHT_MAX;
use crate::registry::node::{Drained, Liveness, Node};
use crate::rules;
use crate::tokens::TokenOrder;

impl Hub {
    pub(super) fn cancel(&mut self, job: JobSeq) -> Outcome {
        let outcome = done_or_refused(self.with_queue(|queue, cx| queue.cancel(cx, job)));
        if outcome == Outcome::Done {
            self.audit(Audit::JobCancelled { job, by: self.caller.by });
        }
        outcome
    }

    pub(super) fn set_weights(&mut self, weights: Vec<Weight>) -> Outcome {
        let weights = weights.into_iter().take(WEIGHTS_MAX);
        let weights = weights.map(|Weight { group, weight }| (group, weight.clamp(1, WEIGHT_MAX)));
        let weights = weights.collect();
        self.with_queue(|queue, cx| queue.set_weights(cx, weights));
        let groups = self.queue.weights().len() as u64;
        self.audit(Audit::WeightsChanged { groups, by: self.caller.by });
        Outcome::Done
    }

    pub(super) fn set_kind(&mut self, set: SetKind) -> Outcome {
        let SetKind { kind, rules, expected, configured } = set;
        let changed = Box::new((self.queue.kind_rules(&kind).0.clone(), rules.clone()));
        if let Err(refusal) =
            self.with_queue(|queue, cx| queue.set_kind_rules(cx, &kind, (rules, configured), expected))
        {
            return Outcome::Refused(refusal);
        }
        let version = self.queue.kind_rules(&kind).1;
        self.audit(Audit::KindChanged { kind, version, rules: changed, by: self.caller.by });
        Outcome::KindSet { version }
    }

    /// Requeues a dead letter; its idempotency key, if it is held still, is bound to it again.
    pub(super) fn requeue(&mut self, job: JobSeq, how: LetterLeft) -> Result<(), Refusal> {
        let place = self.place_of_dead_key(job)?;
        self.with_queue(|queue, cx| queue.admit_again(cx, job))?;
        self.with_queue(|queue, cx| queue.requeue(cx, job, how));
        self.bind_revived(job, place);
        Ok(())
    }

    /// A result of an attempt without a lease came for a dead letter: the work is done.
    pub(super) fn revive_for_result(&mut self, job: JobSeq) {
        let place = self.place_of_dead_key(job).unwrap_or(None);
        self.with_queue(|queue, cx| queue.revive_for_result(cx, job));
        self.bind_revived(job, place);
    }

    /// The place of the key that a dead letter had, if it is held still; a refusal if it belongs to another job.
    fn place_of_dead_key(&self, job: JobSeq) -> Result<Option<KeyPlace>, Refusal> {
        let Some(key) = self.queue.letter_key(job)? else { return Ok(None) };
        match self.dedup.get(key) {
            Some((place, entry)) if entry.job == job => Ok(Some(place)),
            Some((_, entry)) => Err(Refusal::KeyCollision { job: entry.job, old_hash_prefix: entry.hash_prefix() }),
            None => Ok(None),
        }
    }

    fn bind_revived(&mut self, job: JobSeq, place: Option<KeyPlace>) {
        if let Some(place) = place {
            let stores = (&mut self.timers, &mut self.ledger);
            let place = self.dedup.unspend(&self.limits, stores, place);
            self.queue.set_key(job, place);
        }
    }

    pub(super) fn park_result(&mut self, parked: ParkResult) -> Outcome {
        let (job_id, node) = (parked.job_id.clone(), parked.node.clone());
        let (orphan, is_duplicate, evicted) = self.orphans.park(&mut self.ledger, &self.limits, self.now, parked);
        if !is_duplicate {
            self.audit(Audit::ResultOrphaned { orphan, job_id, node, evicted });
        }
        Outcome::Parked { orphan, is_duplicate }
    }

    /// An operator adopts an orphan: it becomes the result of this job, as if its node had sent it now.
    pub(super) fn adopt_orphan(&mut self, adopt: &AdoptOrphan) -> Outcome {
        let Some(orphan) = self.orphans.get(adopt.orphan) else { return Outcome::Refused(Refusal::UnknownOrphan) };
        // No node learns by an operator's call that its job has ended.
        if let Some(job) = self.queue.get(adopt.job).filter(JobView::is_held)
            && let State::Final { status, .. } = job.state()
        {
            return Outcome::Refused(Refusal::AlreadyFinal { status });
        }
        let ParkResult { job_id, node, ok, result, error, mark, mut integrity } = orphan.parked.clone();
        let adopting = self.ids().job_id(adopt.job).to_string();
        if *job_id != *adopting {
            // The worker's checksum is of the job that it named.
            integrity = ResultIntegrity::of_hub(error.as_ref(), &adopting, ok, result.as_ref()).map(Box::new);
        }
        let complete = Complete {
            job: adopt.job,
            lease: None,
            node: None,
            ok,
            result,
            error,
            is_retryable: true,
            mark,
            integrity,
            retry_after_ms: None,
        };
        let outcome = self.complete(complete);
        if outcome.is_durable() {
            if rules::leaves_when_adopted() {
                self.orphans.remove(&mut self.ledger, adopt.orphan);
            }
            self.audit(Audit::OrphanAdopted { orphan: adopt.orphan, job: adopt.job, node, by: self.caller.by });
        }
        outcome
    }

    pub(super) fn discard_orphan(&mut self, orphan: u64) -> Outcome {
        if self.orphans.remove(&mut self.ledger, orphan).is_none() {
            return Outcome::Refused(Refusal::UnknownOrphan);
        }
        self.audit(Audit::OrphanDiscarded { orphan, by: self.caller.by });
        Outcome::Done
    }

    pub(super) fn order_tokens(&mut self, order: TokenOrder) -> Outcome {
        let by = self.caller.by;
        match self.tokens.order(self.now, by, order) {
            Ok(changes) => {
                changes.into_iter().for_each(|change| self.audit(Audit::TokenChanged { change, by }));
                Outcome::Done
            }
            Err(refusal) => Outcome::Refused(Refusal::Token(refusal)),
        }
    }

    /// The time of a rotation's window is over.
    pub(super) fn end_token_window(&mut self) {
        let change = self.tokens.finish(self.now).expect("its end was due");
        self.ended_at = self.now;
        self.audit(Audit::TokenChanged { change, by: Principal::Hub });
    }

    pub(super) fn drain(&mut self, drain: Drain) -> Outcome {
        let Drain { node, deadline_ms, reason } = drain;
        let Some(index) = self.registry.by_name(&node).map(Node::index) else {
            return Outcome::Refused(Refusal::UnknownNode);
        };
        let until = deadline_ms.map(|deadline| self.now + deadline);
        let drained = Drained { since: self.now, until, reason: reason.clone() };
        self.registry.set_drain(&mut self.ledger, index, Some(drained));
        if let Some(until) = until {
            self.with_queue(|queue, cx| queue.end_leases_by(cx, index, until));
        }
        self.wake_waiters_of(&node);
        self.audit(Audit::NodeDrained { node, until, reason, by: self.caller.by });
        Outcome::Done
    }

    pub(super) fn resume(&mut self, node: &Name) -> Outcome {
        let Some(index) = self.registry.by_name(node).map(Node::index) else {
            return Outcome::Refused(Refusal::UnknownNode);
        };
        self.registry.set_drain(&mut self.ledger, index, None);
        self.audit(Audit::NodeResumed { node: node.clone(), by: self.caller.by });
        Outcome::Done
    }

    pub(super) fn accept(&mut self, accept: &Accept) -> Outcome {
        let by = self.caller.by;
        done_or_refused(self.with_registry(|registry, cx| registry.accept(cx, by, accept)))
    }

    pub(super) fn quarantine(&mut self, order: Quarantine) -> Outcome {
        let (by, node) = (self.caller.by, order.node.clone());
        let outcome = done_or_refused(self.with_registry(|registry, cx| registry.quarantine(cx, by, order)));
        if outcome == Outcome::Done {
            self.wake_waiters_of(&node);
        }
        outcome
    }

    pub(super) fn clear_node(&mut self, node: &Name) -> Outcome {
        let by = self.caller.by;
        done_or_refused(self.with_registry(|registry, cx| registry.clear(cx, by, node)))
    }

    pub(super) fn rekey_node(&mut self, rekey: &RekeyNode) -> Outcome {
        let by = self.caller.by;
        done_or_refused(self.with_registry(|registry, cx| registry.rekey(cx, by, rekey)))
    }

    pub(super) fn remove_node(&mut self, node: &Name) -> Outcome {
        let Some(known) = self.registry.by_name(node) else { return Outcome::Refused(Refusal::UnknownNode) };
        if known.leases() > 0 || known.liveness() == Liveness::Online {
            return Outcome::Refused(Refusal::NodeInUse { leases: known.leases() });
        }
        let index = known.index();
        self.with_registry(|registry, cx| registry.forget(cx, index));
        self.audit(Audit::NodeRemoved { node: node.clone(), by: self.caller.by });
        Outcome::Done
    }
}

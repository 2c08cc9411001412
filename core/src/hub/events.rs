//! What follows from transitions: counts, effects, keys, reservations.

use super::Hub;
use crate::context::Context;
use crate::effect::{Audit, Effect};
use crate::outcome::FinalStatus;
use crate::queue::event::{Event, LetterLeft};
use crate::queue::job::EndReason;
use crate::rules;

impl Hub {
    /// Passes what happened to jobs on to nodes, keys, telemetry and clients: events are handled here and nowhere else.
    /// Retention is enforced last, so that a job's end is among the effects before the job may be dropped.
    pub(super) fn handle_events(&mut self) {
        loop {
            let mut events = std::mem::take(&mut self.events);
            events.drain(..).for_each(|event| self.handle_event(event));
            self.events = events;
            let Hub { ids, now, rules, limits, queue, timers, ledger, undelivered_ends: ends, effects, .. } = self;
            let (key, events) = (ids.key(), &mut self.events);
            let cx = &mut Context { now: *now, key, rules: *rules, limits, timers, ledger, events };
            queue.enforce_letters(cx, ends.first_number, |dropped| ends.attach_dropped(effects, dropped));
            if cx.events.is_empty() {
                queue.enforce_retention(cx, ends.first_number, |dropped| ends.attach_dropped(effects, dropped));
            }
            if self.events.is_empty() {
                break;
            }
        }
        self.queue.count_changes();
        self.note_dropped();
    }

    fn handle_event(&mut self, event: Event) {
        if matches!(event, Event::AttemptEnded { .. } | Event::Ended { .. } | Event::LetterLeft { .. }) {
            self.ended_at = self.now;
        }
        match event {
            Event::Submitted { kind } => {
                if self.is_serving {
                    if self.queue.counts().waiting() == 1 {
                        self.telemetry.begin_waiting(self.now);
                    }
                    let kind = self.queue.kinds_mut().row_mut(kind);
                    kind.count(|name, row_ref| self.telemetry.count_submitted(self.now, name, row_ref));
                }
            }
            Event::Leased { node, waited } => {
                self.registry.add_lease(node);
                if self.is_serving {
                    self.telemetry.count_leased(self.now, waited);
                }
            }
            Event::AttemptEnded { lease, node, ran, is_reaped, toll } => {
                if self.is_serving {
                    self.telemetry.count_attempt_ended(self.now, ran, toll);
                }
                if is_reaped {
                    let node = self.registry.get(node).expect("a node with a lease is known").name().clone();
                    self.audit(Audit::LeaseReap { job: lease.job, node, attempt: lease.generation });
                }
            }
            Event::LeaseFreed { node } => {
                let name = self.registry.remove_lease(node).name();
                self.queue.waiters_mut().note_freed(name);
            }
            Event::RetryScheduled { lease, delay } => {
                self.audit(Audit::RetryScheduled { job: lease.job, attempt: lease.generation, delay_ms: delay });
            }
            Event::Exhausted { job, attempts } => self.audit(Audit::RetryExhausted { job, attempts }),
            Event::Ended { job, kind, status, key } => {
                self.queue.add_result(job);
                if let Some(place) = key {
                    if status == FinalStatus::Dead && rules::refiles_letters(self.rules) {
                        let key = self.dedup.key_in(place);
                        self.with_queue(|queue, cx| queue.keep_dead_key(cx, job, key));
                    }
                    let outcome = self.queue.outcome_of(job);
                    let stores = (&mut self.timers, &mut self.ledger);
                    self.dedup.spend((self.now, &self.limits), stores, place, status, outcome);
                }
                if self.is_serving {
                    let kind = self.queue.kinds_mut().row_mut(kind);
                    kind.count(|name, row_ref| self.telemetry.count_ended(self.now, name, row_ref, status));
                    self.undelivered_ends.positions.push(Some(self.effects.len()));
                    self.effects.push(Effect::Ended { job, gone: None });
                }
                if status == FinalStatus::Dead {
                    let view = self.queue.get(job).expect("a job whose end is handled is held");
                    let (kind, attempts) = (view.kind().clone(), view.generation());
                    // Under older rules it is not kept.
                    let reason = view.end_reason().unwrap_or(EndReason::Attempts);
                    self.audit(Audit::DeadLetterAdded { job, kind, reason, attempts });
                }
            }
            Event::LetterLeft { job, kind, how, renumbered_from } => {
                if let Some(number) = renumbered_from
                    && self.is_serving
                {
                    self.undelivered_ends.renumber(number);
                }
                let (kind, by) = (self.queue.kinds_mut().name(kind).clone(), self.caller.by);
                match how {
                    LetterLeft::Requeued => self.audit(Audit::DeadLetterRequeued { job, kind, by }),
                    LetterLeft::Discarded => self.audit(Audit::DeadLetterDiscarded { job, kind, by }),
                    LetterLeft::Evicted if !rules::reports_evictions() => {}
                    LetterLeft::Evicted => self.audit(Audit::DeadLetterEvicted { job, kind, is_aged: false }),
                    LetterLeft::Aged => self.audit(Audit::DeadLetterEvicted { job, kind, is_aged: true }),
                    LetterLeft::Completed => self.audit(Audit::DeadLetterCompleted { job, kind }),
                    LetterLeft::ByAct { is_requeued } => {
                        if self.is_serving {
                            self.telemetry.count_left_by_act(self.now, is_requeued);
                        }
                    }
                }
            }
        }
    }

    /// Tells the keys which jobs were dropped.
    pub(super) fn note_dropped(&mut self) {
        let Hub { now, queue, dedup, .. } = self;
        queue.take_dropped().for_each(|job| dedup.note_dropped(*now, job));
    }
}

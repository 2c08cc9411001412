//! Acts on many dead letters, step by step.

use super::Hub;
use crate::acts::{Act, ActOn, BeginAct};
use crate::effect::Audit;
use crate::limits::{ACT_STEP_EXAMINED, ACT_WAIT_MS};
use crate::outcome::{Outcome, Refusal};
use crate::queue::event::LetterLeft;
use crate::rules;
use crate::time::Timestamp;
use crate::timers::Timer;

impl Hub {
    pub(super) fn begin_act(&mut self, begin: BeginAct) -> Outcome {
        let BeginAct { what, filter, rate_per_sec, count_max } = begin;
        if let Err(refusal) = self.acts.admit() {
            return Outcome::Refused(refusal);
        }
        let matched = self.count_letters(&filter);
        let audited = filter.clone();
        if let Some(max) = count_max.filter(|max| matched > *max) {
            return Outcome::Refused(Refusal::TooManyLetters { matched, max });
        }
        let (id, now) = (self.acts.next_id(), self.now);
        let act = Act {
            id,
            what,
            filter,
            rate_per_sec,
            by: self.caller.by,
            began_at: now,
            matched,
            done: 0,
            skipped: 0,
            first: None,
            last: None,
            ended_at: None,
            is_cancelled: false,
            next_number: 0,
            end_number: rules::act_ends_before(self.queue.next_numbers().1),
            step_at: now,
        };
        self.acts.insert(act);
        self.timers.set(now, Timer::ActSteps(id));
        self.audit(Audit::ActBegan { act: id, what, filter: audited, matched, by: self.caller.by });
        Outcome::ActBegun { act: id, matched }
    }

    pub(super) fn cancel_act(&mut self, id: u32) -> Outcome {
        match self.acts.get(id) {
            None => Outcome::Refused(Refusal::UnknownAct),
            Some(act) if !act.is_running() => Outcome::Refused(Refusal::ActEnded),
            Some(act) => {
                self.timers.cancel(act.step_at, Timer::ActSteps(id));
                self.end_act(id, true);
                Outcome::Done
            }
        }
    }

    /// The timer of an act fired: it handles the next letters.
    pub(super) fn step_act(&mut self, id: u32) {
        let act = self.acts.get(id).expect("an act with a timer runs").clone();
        let from = self.queue.letters_from(act.next_number, act.filter.kind.as_deref());
        let mut examined = from.take_while(|(number, _)| *number < act.end_number).peekable();
        let (mut chosen, mut next_number, mut count) = (Vec::new(), act.end_number, 0);
        while let Some((number, letter)) = examined.next() {
            count += 1;
            if act.filter.matches(&letter) {
                chosen.push((number, letter.seq()));
            }
            if chosen.len() as u64 >= act.step_letters() || count >= ACT_STEP_EXAMINED {
                next_number = examined.peek().map_or(act.end_number, |(number, _)| *number);
                break;
            }
        }
        drop(examined);
        let (mut changed, mut has_room) = (0, true);
        for (number, job) in chosen {
            let handled = match act.what {
                ActOn::Requeue => self.requeue(job, LetterLeft::ByAct { is_requeued: true }),
                ActOn::Discard => {
                    self.with_queue(|queue, cx| queue.discard(cx, job, LetterLeft::ByAct { is_requeued: false }))
                }
            };
            let act = self.acts.get_mut(id).expect("it runs");
            match handled {
                Ok(()) => {
                    act.done += 1;
                    changed += 1;
                    act.first = act.first.or(Some(job));
                    act.last = Some(job);
                }
                Err(refusal) if refusal.full().is_some() => {
                    (next_number, has_room) = (number, false);
                    break;
                }
                Err(_) => act.skipped += 1,
            }
        }
        let act = self.acts.get_mut(id).expect("it runs");
        if std::mem::replace(&mut act.next_number, next_number) != next_number {
            self.ended_at = self.now;
        }
        if has_room && next_number >= act.end_number {
            self.end_act(id, false);
        } else {
            act.step_at = self.now + if has_room { act.pause_after(changed) } else { ACT_WAIT_MS };
            self.timers.set(act.step_at, Timer::ActSteps(id));
        }
    }

    fn end_act(&mut self, id: u32, is_cancelled: bool) {
        let now = self.now;
        let act = self.acts.get_mut(id).expect("it runs");
        (act.ended_at, act.is_cancelled, act.step_at) = (Some(now), is_cancelled, Timestamp::NEVER);
        self.ended_at = now;
        let by = if is_cancelled { self.caller.by } else { act.by };
        let audit = Audit::ActEnded {
            act: id,
            what: act.what,
            filter: act.filter.clone(),
            done: act.done,
            skipped: act.skipped,
            jobs: act.first.zip(act.last),
            is_cancelled,
            by,
        };
        self.audit(audit);
    }
}

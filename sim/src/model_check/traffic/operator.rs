//! What operators do next: rules of kinds, dead letters, nodes in and out of service, results of unknown jobs.

use super::{Traffic, name};
use sheratan_core::{
    ActOn, AdoptOrphan, BeginAct, Command, Complete, Drain, EndReason, Hub, KindRules, LetterFilter, Millis, Name,
    OnExhausted, OnLettersFull, ParkResult, Pause, SetKind,
};

impl Traffic {
    /// Rules with a few members, or none. A pause lasts seconds, or until the next rules.
    pub(super) fn set_kind(&mut self, hub: &Hub) -> SetKind {
        let kind = self.kind();
        let version = hub.queue().kind_rules(&kind).1;
        let expected = self.draw.chance(200).then(|| version + self.draw.below(4) / 3);
        if self.draw.chance(350) {
            let configured = self.draw.chance(300).then_some(KindRules::NONE);
            return SetKind { kind, rules: KindRules::NONE, expected, configured };
        }
        let until = self.draw.chance(700).then(|| self.clock + Millis::new(self.draw.magnitude(20_000)));
        let pause = Pause { reason: self.draw.chance(300).then(|| name("reason", self.draw.below(20))), until };
        // At the end of time no instant comes at which a rate allows the next lease.
        let has_rate = !self.profile.reaches_end_of_time && self.draw.chance(200);
        let rules = KindRules {
            inflight_max: self.rarely(4),
            leases_per_1000_sec: has_rate.then(|| self.draw.magnitude(3_000_000)),
            burst: self.rarely(5).map(|burst| burst as u32),
            priority: self.draw.chance(150).then(|| self.priority()),
            lease_duration_ms: self.sometimes(100, 4_000),
            ttl_ms: self.sometimes(100, 20_000),
            attempts_max: self.rarely(4).map(|attempts| attempts as u32),
            losses_max: self.rarely(3).map(|losses| losses as u32),
            max_run_ms: self.sometimes(150, 6_000),
            retry_delay_ms_base: self.sometimes(150, 500),
            retry_delay_ms_cap: self.sometimes(150, 3_000),
            on_exhausted: self.draw.chance(200).then(|| *self.draw.pick(&[OnExhausted::Park, OnExhausted::Drop])),
            letters_max: self.rarely(4),
            on_letters_full: self
                .draw
                .chance(200)
                .then(|| *self.draw.pick(&[OnLettersFull::Evict, OnLettersFull::Refuse])),
            pause: self.draw.chance(150).then_some(pause),
        };
        let configured = self.draw.chance(150).then(|| rules.clone());
        SetKind { kind, rules, expected, configured }
    }

    /// A number up to `max`, in one of six cases.
    fn rarely(&mut self, max: u64) -> Option<u64> {
        self.draw.chance(170).then(|| self.draw.between(0, max))
    }

    /// What an operator does with dead letters: with one, most often, else with many.
    pub(super) fn letter(&mut self, hub: &Hub) -> Command {
        let letters: Vec<_> = hub.queue().letters_from(0, None).take(8).map(|(_, job)| job.seq()).collect();
        let job = match letters.is_empty() || self.draw.chance(100) {
            true => self.job(hub),
            false => *self.draw.pick(&letters),
        };
        match self.draw.below(20) {
            0..=9 => Command::Requeue(job),
            10..=13 => Command::Discard(job),
            // An act that waits for room does so every second, up to the end of time.
            14..=18 if !self.profile.reaches_end_of_time => Command::BeginAct(Box::new(self.begin_act())),
            _ => Command::CancelAct(self.draw.below(hub.acts().iter().count() as u64 + 1) as u32),
        }
    }

    fn begin_act(&mut self) -> BeginAct {
        let instant = |traffic: &mut Traffic| {
            traffic.draw.chance(100).then(|| traffic.clock - Millis::new(traffic.draw.magnitude(20_000)))
        };
        let reasons = [EndReason::Attempts, EndReason::NotRetryable, EndReason::Lost, EndReason::RetryBudget];
        let texts = ["e", "expired", "\""].map(|text| Name::new(text).expect("a name"));
        let filter = LetterFilter {
            kind: self.draw.chance(400).then(|| self.kind()),
            error: self.draw.chance(150).then(|| self.draw.pick(&texts).clone()),
            reason: self.draw.chance(150).then(|| *self.draw.pick(&reasons)),
            before: instant(self),
            after: instant(self),
        };
        BeginAct {
            what: *self.draw.pick(&[ActOn::Requeue, ActOn::Requeue, ActOn::Discard]),
            filter,
            rate_per_sec: self.draw.chance(600).then(|| self.draw.magnitude(3_000) as u32),
            count_max: self.draw.chance(600).then(|| self.draw.below(2)),
        }
    }

    pub(super) fn drain(&mut self) -> Command {
        let node = self.node();
        match self.draw.below(10) {
            // A drained node that is dead is looked at every week, up to the end of time.
            0..=3 if !self.profile.reaches_end_of_time => Command::Drain(Drain {
                node,
                deadline_ms: self.sometimes(500, 8_000),
                reason: self.draw.chance(300).then(|| name("reason", self.draw.below(20))),
            }),
            4..=7 => Command::Resume(node),
            _ => Command::RemoveNode(node),
        }
    }

    pub(super) fn orphan(&mut self, hub: &Hub) -> Command {
        let known: Vec<_> = hub.orphans().iter_from(0).take(6).map(|orphan| orphan.id).collect();
        let orphan = if known.is_empty() { self.draw.below(3) } else { *self.draw.pick(&known) };
        match self.draw.below(10) {
            0..=1 => Command::AdoptOrphan(AdoptOrphan { orphan, job: self.job(hub) }),
            2 => Command::DiscardOrphan(orphan),
            _ => {
                let Complete { node, ok, result, error, mark, integrity, .. } = self.complete(hub);
                let job_id = name("job", self.draw.below(6));
                Command::ParkResult(Box::new(ParkResult { job_id, node, ok, result, error, mark, integrity }))
            }
        }
    }
}

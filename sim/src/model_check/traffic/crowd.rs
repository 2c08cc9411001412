//! A crowd: more jobs than follow a change of their order at once.

use super::{Traffic, name};
use sheratan_core::limits::{Limits, VISITED_JOBS_MAX};
use sheratan_core::{Command, Millis, NameSet, Pull, Setting, Submit, Weight};
use sheratan_history::{SnapshotOf, Source, Step};
use std::collections::VecDeque;

impl Traffic {
    /// A crowd, once at most, in some of the runs in which jobs take turns.
    pub(super) fn begin_crowd(&mut self) -> Option<Step> {
        (self.crowd_left && self.crowd_draw.chance(10)).then(|| self.crowd())
    }

    /// More jobs than are visited in a millisecond, then changes of the order, with snapshots and crashes in the middle of
    /// visits. The jobs end soon, since the model is slow with many.
    fn crowd(&mut self) -> Step {
        self.crowd_left = false;
        let Limits { queue_depth_max, queue_bytes_max, .. } = Limits::default();
        let limits = Limits { queue_depth_max, queue_bytes_max, fair_by: 1, ..self.profile.limits.clone() };
        let mut steps = VecDeque::from([Step::Apply(self.clock, Command::Set(Setting::all(&limits)))]);
        let jobs = VISITED_JOBS_MAX as u64 + self.crowd_draw.between(1, 200);
        for number in 0..jobs {
            let client = (number % 3 > 0).then(|| name("client", number % 3));
            let ttl_ms = Some(Millis::new(20));
            let submit = Submit { client, ttl_ms, ..Submit::new(name("kind", number % self.profile.kinds), None) };
            steps.push_back(Step::Apply(self.clock, Command::Submit(Box::new(submit))));
        }
        for round in 1..8 {
            let weights = vec![Weight { group: name("client", 1), weight: 1 + round }];
            steps.push_back(Step::Apply(self.clock, Command::SetWeights(weights)));
            steps.push_back(Step::Apply(self.clock, Command::Pull(self.crowds_pull(round))));
            let of = *self.crowd_draw.pick(&[SnapshotOf::Live, SnapshotOf::Replay]);
            let from = *self.crowd_draw.pick(&[Source::Log, Source::Snapshot]);
            steps.extend([Step::Sync, Step::Snapshot(of), Step::Crash { kept: 0, from }]);
            steps.push_back(Step::Apply(self.clock, Command::Pull(self.crowds_pull(round))));
            self.clock = self.clock + Millis::new(1);
            steps.push_back(Step::Apply(self.clock, Command::Pull(self.crowds_pull(round))));
        }
        self.clock = self.clock + Millis::new(20);
        let first = steps.pop_front().expect("a crowd has many steps");
        self.ahead = steps;
        first
    }

    fn crowds_pull(&self, round: u32) -> Pull {
        Pull {
            node: name("node", u64::from(round) % self.profile.nodes),
            jobs_max: 7,
            kinds: NameSet::default(),
            lease_duration_ms: None,
        }
    }
}

//! Turns and ageing in the model: which of the ready jobs is first.
//!
//! Of each class and level the groups that had a turn since jobs waited there are kept with their latest one, and how many
//! jobs wait is counted anew whenever it matters.

use super::Model;
use super::job::{ModelJob, class_of};
use sheratan_core::limits::{AGEING_BYTES, VISITED_JOBS_MAX, WEIGHTS_MAX};
use sheratan_core::{ClassKey, JobSeq, Millis, Name, RulesVersion, State, Timestamp, WEIGHT_MAX, Weight};

/// From these rules on turns begin anew when weights change, and jobs that age are charged.
const BEGUN_ANEW: RulesVersion = RulesVersion::new(4);
/// What a turn takes of a group of weight 1.
const STEP: u64 = 1_024;
/// No turn is later.
const TURN_MAX: u64 = (1 << 56) - 1;
const LEVELS: usize = 4;

/// Who takes turns, and how far all are.
#[derive(Default, Debug)]
pub(super) struct ModelOrder {
    weights: Vec<(Name, u32)>,
    clocks: [u64; LEVELS],
    lines: Vec<Line>,
    visit: Option<Visit>,
}

/// The jobs of a class at a level.
#[derive(Debug)]
struct Line {
    class: ClassKey,
    level: usize,
    clock: u64,
    /// The latest turn of each group.
    latest: Vec<(Option<Name>, u64)>,
}

/// Jobs follow a change, in the order of their numbers.
#[derive(Clone, Copy, Debug)]
struct Visit {
    next: JobSeq,
    end: JobSeq,
    at: Timestamp,
}

impl ModelOrder {
    fn line(&mut self, class: &ClassKey, level: usize) -> &mut Line {
        let found = self.lines.iter().position(|line| line.class == *class && line.level == level);
        let at = found.unwrap_or_else(|| {
            self.lines.push(Line { class: class.clone(), level, clock: 0, latest: Vec::new() });
            self.lines.len() - 1
        });
        &mut self.lines[at]
    }

    /// Whether a job is not among those that still have to follow a change.
    fn has_visited(&self, seq: JobSeq) -> bool {
        self.visit.is_none_or(|visit| seq < visit.next || seq >= visit.end)
    }

    /// When the next jobs follow a change.
    pub fn visits_at(&self) -> Option<Timestamp> {
        self.visit.map(|visit| visit.at)
    }
}

impl ModelJob {
    /// Where it counts: its priority, or higher once it has aged.
    pub fn level(&self) -> usize {
        self.priority as usize - self.aged
    }

    fn is_in_lane(&self) -> bool {
        matches!(self.state, State::Queued { .. }) && self.withheld_from.is_none()
    }
}

impl Model {
    pub(super) fn has_turns(&self) -> bool {
        matches!(self.limits.fair_by, 1 | 2)
    }

    /// Sets all weights; jobs that wait follow.
    pub(super) fn set_weights(&mut self, weights: &[Weight]) {
        let mut new: Vec<(Name, u32)> = Vec::new();
        for Weight { group, weight } in weights.iter().take(WEIGHTS_MAX) {
            new.retain(|(name, _)| name != group);
            new.push((group.clone(), (*weight).clamp(1, WEIGHT_MAX)));
        }
        new.sort();
        let is_same = new == self.order.weights;
        self.order.weights = new;
        if self.rules >= BEGUN_ANEW && self.has_turns() && !is_same {
            self.begin_visit();
        }
    }

    /// The settings were changed.
    pub(super) fn reorder(&mut self, fair_by: u32, priority_age_ms: Millis) {
        if (fair_by, priority_age_ms) != (self.limits.fair_by, self.limits.priority_age_ms) {
            self.begin_visit();
        }
    }

    fn begin_visit(&mut self) {
        if self.rules >= BEGUN_ANEW {
            for level in 0..LEVELS {
                let lines = self.order.lines.iter().filter(|line| line.level == level);
                let turns = lines.flat_map(|line| line.latest.iter().map(|(_, turn)| *turn).chain([line.clock]));
                let latest = turns.chain([self.order.clocks[level]]).max().unwrap_or(0);
                self.order.clocks[level] = latest;
            }
            for at in 0..self.order.lines.len() {
                let Line { class, level, .. } = &self.order.lines[at];
                let clock = if self.waiting_in(class, *level) > 0 { self.order.clocks[*level] } else { 0 };
                let line = &mut self.order.lines[at];
                (line.clock, line.latest) = (clock, Vec::new());
            }
        }
        self.order.visit = Some(Visit { next: JobSeq::FIRST, end: self.next_seq, at: self.now });
    }

    /// The next jobs follow a change: those that are ready get new turns, or none any more.
    pub(super) fn visit_jobs(&mut self) {
        let visit = self.order.visit.expect("its timer has fired");
        let seqs: Vec<_> = self.jobs.iter().map(|job| job.seq).filter(|seq| *seq >= visit.next).collect();
        let seqs = &seqs[..seqs.len().min(VISITED_JOBS_MAX)];
        let next = seqs.last().map(|last| JobSeq::new(last.get() + 1));
        let is_full = seqs.len() == VISITED_JOBS_MAX;
        let at = self.now + Millis::new(1);
        self.order.visit = next.filter(|next| is_full && *next < visit.end).map(|next| Visit { next, at, ..visit });
        for seq in seqs.iter().copied().filter(|seq| *seq < visit.end) {
            if self.job(seq).is_in_lane() {
                let (class, level) = (self.job(seq).class(), self.job(seq).level());
                // It leaves its lane and comes back.
                let had_turn = self.job(seq).turn > 0;
                self.job_mut(seq).turn = 0;
                if had_turn {
                    self.note_left(&class, level);
                }
                if self.has_turns() {
                    self.give_turn(seq);
                }
            }
        }
    }

    /// Whether jobs are visited, some of which were already.
    pub fn is_visiting(&self) -> bool {
        self.order.visit.is_some_and(|visit| visit.next > JobSeq::FIRST)
    }

    /// What jobs that are ready show of turns and ageing.
    pub fn order_seen(&self) -> impl Iterator<Item = &'static str> {
        let is_any = |is_it: fn(&ModelJob) -> bool| self.jobs.iter().any(|job| job.is_in_lane() && is_it(job));
        let has_turns = is_any(|job| job.turn > 0);
        let seen = [
            ("job aged", is_any(|job| job.aged > 0)),
            ("turns taken", has_turns),
            ("weights count", has_turns && !self.order.weights.is_empty()),
        ];
        seen.into_iter().filter(|(_, is_seen)| *is_seen).map(|(what, _)| what)
    }

    /// A job becomes ready: it gets a turn, if it has none.
    pub(super) fn take_turn(&mut self, seq: JobSeq) {
        if self.has_turns() && self.job(seq).turn == 0 {
            self.give_turn(seq);
        }
    }

    fn give_turn(&mut self, seq: JobSeq) {
        let job = self.job(seq);
        let group = match self.limits.fair_by {
            1 => job.asked.client.clone(),
            _ => Some(job.asked.kind.clone()),
        };
        let weights = &self.order.weights;
        let weight = weights.iter().find(|(name, _)| Some(name) == group.as_ref()).map_or(1, |(_, weight)| *weight);
        let (class, level) = (job.class(), job.level());
        // Its own turn does not count while it gets another.
        self.job_mut(seq).turn = 0;
        let waiting = self.waiting_in(&class, level);
        let of_all = self.order.clocks[level];
        let line = self.order.line(&class, level);
        if waiting == 0 {
            (line.clock, line.latest) = (line.clock.max(of_all), Vec::new());
        }
        let latest = line.latest.iter().find(|(name, _)| *name == group).map_or(0, |(_, turn)| *turn);
        let turn = (latest.max(line.clock) + STEP / u64::from(weight)).min(TURN_MAX);
        line.latest.retain(|(name, _)| *name != group);
        line.latest.push((group, turn));
        self.job_mut(seq).turn = turn;
    }

    /// How many jobs with turns wait in a class at a level.
    fn waiting_in(&self, class: &ClassKey, level: usize) -> usize {
        let jobs = self.jobs.iter().filter(|job| job.is_in_lane() && job.turn > 0 && job.level() == level);
        jobs.filter(|job| job.asked.zone == class.zone && job.asked.requires == class.requires).count()
    }

    /// A job is leased: all are as far as its turn.
    pub(super) fn note_turn(&mut self, seq: JobSeq) {
        let job = self.job(seq);
        let (class, level, turn) = (job.class(), job.level(), job.turn);
        if turn > 0 {
            let line = self.order.line(&class, level);
            line.clock = line.clock.max(turn);
            self.order.clocks[level] = self.order.clocks[level].max(turn);
        }
    }

    /// A job with a turn left its lane: once none waits there, the groups are forgotten.
    fn note_left(&mut self, class: &ClassKey, level: usize) {
        if self.waiting_in(class, level) == 0 {
            self.order.line(class, level).latest.clear();
        }
    }

    /// As above, of a job that was in a lane before its state changed.
    pub(super) fn note_left_lane(&mut self, was_in_lane: bool, seq: JobSeq) {
        let (class, level, turn) = (self.job(seq).class(), self.job(seq).level(), self.job(seq).turn);
        if was_in_lane && turn > 0 {
            self.note_left(&class, level);
        }
    }

    pub(super) fn is_in_lane(&self, seq: JobSeq) -> bool {
        self.job(seq).is_in_lane()
    }

    /// A job ended: a class without unfinished jobs has no turns.
    pub(super) fn forget_lines(&mut self) {
        let jobs = &self.jobs;
        let is_used = |class: &ClassKey| jobs.iter().any(|job| !job.is_final() && class_of(&job.asked) == *class);
        self.order.lines.retain(|line| is_used(&line.class));
    }

    /// Since when a job has been at its level, if it ages.
    fn ages_from(&self, job: &ModelJob) -> Option<Timestamp> {
        let State::Queued { since } = job.state else { return None };
        let is_ageing = self.limits.priority_age_ms > Millis::ZERO && job.level() > 0 && job.is_in_lane();
        let before = Millis::new(self.limits.priority_age_ms.get().saturating_mul(job.aged as u64));
        (is_ageing && self.order.has_visited(job.seq)).then(|| since + before)
    }

    /// When the next job ages.
    pub(super) fn ages_at(&self) -> Option<Timestamp> {
        self.jobs.iter().filter_map(|job| self.ages_from(job)).min().map(|from| from + self.limits.priority_age_ms)
    }

    /// All jobs age that have been ready for long enough, one level after the other.
    pub(super) fn age_jobs(&mut self) {
        loop {
            let first = self.jobs.iter().filter_map(|job| Some((self.ages_from(job)?, job.seq))).min();
            let Some((_, seq)) = first.filter(|(from, _)| *from + self.limits.priority_age_ms <= self.now) else {
                return;
            };
            let (class, level, had_turn) = (self.job(seq).class(), self.job(seq).level(), self.job(seq).turn > 0);
            let turn = std::mem::take(&mut self.job_mut(seq).turn);
            if had_turn {
                self.note_left(&class, level);
            }
            let job = self.job_mut(seq);
            (job.aged, job.turn) = (job.aged + 1, turn);
            if self.has_turns() {
                self.give_turn(seq);
            }
        }
    }

    /// What a job that comes will be charged beside its own bytes, since it ages once it is ready.
    pub(super) fn ageing_bytes_of(&self, coming: &ModelJob) -> u64 {
        let is_ageing = self.limits.priority_age_ms > Millis::ZERO && coming.level() > 0;
        if self.rules >= BEGUN_ANEW && is_ageing { AGEING_BYTES } else { 0 }
    }

    /// What a job is charged, if it ages.
    pub(super) fn ageing_bytes_if(&self, job: &ModelJob) -> u64 {
        if self.rules >= BEGUN_ANEW && self.ages_from(job).is_some() { AGEING_BYTES } else { 0 }
    }

    /// What the jobs that age are charged beside their own bytes.
    pub(super) fn ageing_bytes(&self) -> u64 {
        self.jobs.iter().map(|job| self.ageing_bytes_if(job)).sum()
    }
}

//! A recording as it was: applied to a hub, compared with what the hub decided that wrote it, looked at at any moment.

use super::ReplayError;
use super::history::{Input, Recording, Told};
use super::timeline::{Row, Tally, Waits, Watched};
use sheratan_core::limits::Limits;
use sheratan_core::{Command, Counts, Hub, Leased, Millis, Name, Node, Outcome, Timestamp};
use sheratan_io::trace::{Coverage, Gap};
use std::collections::BTreeMap;
use std::path::Path;

/// Inputs between two reports of progress: a few milliseconds.
pub(super) const PROGRESS_INPUTS: u64 = 4_096;

/// What a replay found.
#[derive(Debug)]
pub struct Replay {
    /// Whose recording it is, in hex.
    pub hub_id: String,
    /// Whether a hub runs on the folder: what it did meanwhile is not in here.
    pub is_in_use: bool,
    /// The last record of the snapshot that it began with.
    pub snapshot_seq: Option<u64>,
    /// Records of the journal that were applied.
    pub records: u64,
    /// Records of the trace that were looked at.
    pub traced: u64,
    /// The first and the last instant.
    pub window: Option<(Timestamp, Timestamp)>,
    /// The state at the moment that was asked for.
    pub state: State,
    /// Why the replay is not what the hub decided; `None` if it is.
    pub diverged: Option<Divergence>,
    /// Places at which the two were compared.
    pub marks: u64,
    /// Minute by minute.
    pub rows: Vec<Row>,
    /// In all.
    pub total: Tally,
    /// In all.
    pub waits: Option<Waits>,
    /// Why submits were refused.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Pulls that found nothing.
    pub empty_pulls: u64,
    /// How much the trace has.
    pub covered: Covered,
    /// What "what if" takes from it.
    pub(super) measured: Measured,
}

/// A hub's state at a moment.
#[derive(Debug)]
pub struct State {
    /// The moment.
    pub now: Timestamp,
    /// The journal's last record then.
    pub seq: u64,
    /// How many jobs are where.
    pub counts: Counts,
    /// The limits.
    pub limits: Limits,
    /// The nodes, in the order of their names: name, liveness, leases.
    pub nodes: Vec<(String, &'static str, u64)>,
    /// SHA-256 over the durable state.
    pub digest: [u8; 32],
    /// The hash over all outcomes.
    pub outcome_hash: [u8; 16],
}

/// Where a replay is known to differ from what the hub decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// The record after which they differ, at the latest.
    pub seq: u64,
    /// The hub's outcome hash.
    pub expected: [u8; 16],
    /// The replay's.
    pub found: [u8; 16],
}

/// How much of a window the trace covers.
#[derive(Clone, PartialEq, Debug)]
pub struct Covered {
    /// What the trace says of itself.
    pub coverage: Coverage,
    /// From when to when it has what changed nothing; `None` without a trace in the window.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The part of the window's time, gaps taken off.
    pub percent: f64,
    window: Option<(Timestamp, Timestamp)>,
}

/// What the recorded history tells of nodes and jobs.
#[derive(Default, Debug)]
pub(super) struct Measured {
    /// By kind: milliseconds of all successful attempts, and their number.
    runs: BTreeMap<Name, (u64, u64)>,
    /// Leases that each node held at once, at most.
    peaks: BTreeMap<Name, u64>,
}

/// How far a replay is: records done, of so many.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Replays a data folder's recording, to its end or up to a moment.
pub fn replay(data_dir: &Path, until: Option<Timestamp>, progress: &mut Progress<'_>) -> Result<Replay, ReplayError> {
    let mut recording = Recording::open(data_dir)?;
    let mut watched = Watched::new(recording.take_hub());
    let first_seq = recording.snapshot_seq().unwrap_or(0);
    let (mut seq, mut records, mut traced, mut marks) = (first_seq, 0u64, 0u64, 0u64);
    let (mut window, mut diverged, mut state) = (None::<(Timestamp, Timestamp)>, None, None);
    let mut measured = Measured::default();
    while let Some(input) = recording.next()? {
        let told = match input {
            Input::Told(told) => told,
            Input::Mark(mark) => {
                marks += 1;
                let found = watched.hub().outcome_hash();
                if diverged.is_none() && found != mark.outcome_hash {
                    diverged = Some(Divergence { seq: mark.seq, expected: mark.outcome_hash, found });
                }
                continue;
            }
        };
        if let Some(until) = until.filter(|until| told.now > *until) {
            watched.advance(until);
            state = Some(State::of(watched.hub(), seq));
            break;
        }
        // The journal's own end, as `journal verify --replay` digests it: what is only traced lets time pass.
        if told.is_traced && seq == recording.last_seq() && state.is_none() {
            state = Some(State::of(watched.hub(), seq));
        }
        window = Some((window.map_or(told.now, |(first, _)| first), told.now));
        if told.is_traced {
            traced += 1;
        } else {
            (seq, records) = (told.seq, records + 1);
        }
        if (records + traced).is_multiple_of(PROGRESS_INPUTS) {
            progress(seq - first_seq, recording.last_seq() - first_seq);
        }
        measured.apply(&mut watched, told);
    }
    let covered = Covered::of(recording.coverage(), window, first_seq);
    Ok(Replay {
        hub_id: recording.hub_id(),
        is_in_use: recording.is_in_use(),
        snapshot_seq: recording.snapshot_seq(),
        records,
        traced,
        window,
        state: state.unwrap_or_else(|| State::of(watched.hub(), seq)),
        diverged,
        marks,
        rows: watched.rows(),
        total: watched.total(),
        waits: watched.total_waits(),
        refusals: watched.refusals().clone(),
        empty_pulls: watched.empty_pulls(),
        covered,
        measured,
    })
}

impl State {
    pub(super) fn of(hub: &Hub, seq: u64) -> State {
        let node = |node: &Node| (node.name().to_string(), node.liveness().as_str(), node.leases());
        State {
            now: hub.now(),
            seq,
            counts: hub.counts(),
            limits: hub.limits().clone(),
            nodes: hub.registry().iter().map(node).collect(),
            digest: hub.digest(),
            outcome_hash: hub.outcome_hash(),
        }
    }
}

impl Measured {
    fn apply(&mut self, watched: &mut Watched, told: Told) {
        let (puller, job) = match &told.command {
            Command::Pull(pull) => (Some(pull.node.clone()), None),
            Command::Complete(complete) if complete.ok => (None, Some(complete.job)),
            _ => (None, None),
        };
        let run = job.and_then(|job| {
            let job = watched.hub().queue().get(job)?;
            Some((job.kind().clone(), told.now.since(job.attempts().next_back()?.started_at)))
        });
        let outcome = watched.apply(told.now, told.command);
        if !outcome.is_durable() {
            return;
        }
        if let Some(node) = puller {
            let held = watched.hub().registry().by_name(&node).map_or(0, |node| node.leases());
            let peak = self.peaks.entry(node).or_default();
            *peak = held.max(*peak);
        }
        if let Some((kind, ran)) = run {
            let (sum, count) = self.runs.entry(kind).or_default();
            (*sum, *count) = (*sum + ran.get(), *count + 1);
        }
    }

    /// How long a job of a kind runs: as the kind's jobs did, or all, or `None` where none was recorded.
    pub fn run_of(&self, kind: &Name) -> Option<Millis> {
        let all = || self.runs.values().fold((0, 0), |(ms, runs), (more, count)| (ms + more, runs + count));
        let (ms, runs) = self.runs.get(kind).copied().unwrap_or_else(all);
        (runs > 0).then(|| Millis::new(ms / runs))
    }

    /// How many jobs a node works on at once.
    pub fn peak_of(&self, node: &Name) -> u64 {
        self.peaks.get(node).copied().unwrap_or(0).max(1)
    }
}

impl Covered {
    pub(super) fn of(coverage: &Coverage, window: Option<(Timestamp, Timestamp)>, first_seq: u64) -> Covered {
        let span = window.zip(coverage.begins).and_then(|((first, last), (after_seq, begins))| {
            // A trace that begins before the first record covers that one too, whatever the clocks said.
            let from = if after_seq <= first_seq { first } else { begins.max(first) };
            (from <= last).then_some((from, last))
        });
        let percent = match (window, span) {
            (Some((first, last)), Some((from, to))) if first < last => {
                let missing = missing_ms(coverage, from, to);
                100.0 * (to.since(from).get() - missing) as f64 / last.since(first).get() as f64
            }
            (Some(_), Some(_)) => 100.0,
            _ => 0.0,
        };
        Covered { coverage: coverage.clone(), span, percent, window }
    }

    /// Whether all that was refused in a minute is known, as far as the trace can tell.
    pub fn has_all_of(&self, row: &Row) -> bool {
        let (Some((first, last)), Some((from, to))) = (self.window, self.span) else { return false };
        let (start, end) = (row.minute.max(first), row.end().min(last));
        let is_clear = |gap: &Gap| gap.to < start || gap.from > end;
        from <= start && end <= to && self.coverage.gaps.iter().all(is_clear)
    }
}

/// Milliseconds of all gaps between two instants; where gaps overlap they count once.
fn missing_ms(coverage: &Coverage, from: Timestamp, to: Timestamp) -> u64 {
    let mut gaps: Vec<_> = coverage.gaps.iter().map(|gap| (gap.from.max(from), gap.to.min(to))).collect();
    gaps.sort();
    let (mut missing, mut end) = (0, from);
    for (start, stop) in gaps {
        missing += stop.since(start.max(end)).get();
        end = end.max(stop);
    }
    missing
}

/// The leases that an outcome gave.
pub(super) fn leases(outcome: &Outcome) -> &[Leased] {
    match outcome {
        Outcome::Pulled(pulled) => &pulled.leases,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_gaps_count_once_and_what_is_outside_the_window_not_at_all() {
        let at = Timestamp::from_millis;
        let gap = |from, to| Gap { from: at(from), to: at(to), records: 1 };
        let gaps = vec![gap(0, 120), gap(150, 160), gap(155, 170), gap(190, 500)];
        let coverage = Coverage { begins: Some((5, at(100))), gaps, ..Coverage::default() };
        let covered = Covered::of(&coverage, Some((at(0), at(200))), 1);
        assert_eq!(covered.span, Some((at(100), at(200))));
        assert_eq!(covered.percent, 25.0);
        let row = |minute| Row { minute: at(minute), tally: Tally::default(), depth: 0, waits: None };
        assert!(!covered.has_all_of(&row(0)), "it begins in that minute");
        let from_start = Covered::of(&Coverage { gaps: Vec::new(), ..coverage }, Some((at(50), at(200))), 5);
        assert_eq!((from_start.span, from_start.percent), (Some((at(50), at(200))), 100.0));
        assert!(from_start.has_all_of(&row(0)));
        assert_eq!(Covered::of(&Coverage::default(), Some((at(0), at(200))), 0).percent, 0.0);
    }
}

//! A recording as it was: applied to a hub, compared with what the recorded hub decided, with the state at any moment.

use super::ReplayError;
use super::history::{Input, RecordedCommand, Recording};
use super::timeline::{Row, Tally, Waits, Watched};
use sheratan_core::limits::Limits;
use sheratan_core::{Calendar, Command, Counts, Hub, Leased, Millis, Name, Node, Outcome, Timestamp, Utc};
use sheratan_io::trace::{Coverage, Gap};
use std::collections::BTreeMap;
use std::path::Path;

/// Inputs between two reports of progress: a few milliseconds.
pub(super) const PROGRESS_INPUTS: u64 = 4_096;

/// What a replay found.
#[derive(Debug)]
pub struct Replay {
    /// The id of the recorded hub, in hex.
    pub hub_id: String,
    /// Whether a hub runs on the folder; commands that it was given meanwhile are not included.
    pub is_in_use: bool,
    /// The last record of the snapshot that the replay began with.
    pub snapshot_seq: Option<u64>,
    /// Records of the journal that were applied.
    pub records: u64,
    /// Entries of the trace that were applied.
    pub traced: u64,
    /// The first and the last instant.
    pub window: Option<(Timestamp, Timestamp)>,
    /// The state at the requested moment.
    pub state: State,
    /// Where the replay first differs from what the hub decided.
    pub diverged: Option<Divergence>,
    /// How many outcome hashes were compared.
    pub marks: u64,
    /// One row for each minute in which something happened.
    pub rows: Vec<Row>,
    /// The sums of all rows.
    pub total: Tally,
    /// How long jobs waited, over all rows.
    pub waits: Option<Waits>,
    /// Refused submits by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Pulls that found nothing.
    pub empty_pulls: u64,
    /// Which part of the window the trace covers.
    pub covered: Covered,
    /// The measurements that "what if" makes assumptions from.
    pub(super) measured: Measured,
}

/// A hub's state at a moment.
#[derive(Debug)]
pub struct State {
    /// The moment.
    pub now: Timestamp,
    /// What the calendar shows of instants then.
    pub calendar: Calendar,
    /// The journal's last record then.
    pub seq: u64,
    /// Jobs by state.
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
    /// The recorded hub's outcome hash.
    pub expected: [u8; 16],
    /// The replay's.
    pub found: [u8; 16],
}

/// How much of a window the trace covers.
#[derive(Clone, PartialEq, Debug)]
pub struct Covered {
    /// The trace's own account of its gaps.
    pub coverage: Coverage,
    /// From when to when it has the commands that changed nothing; `None` without a trace in the window.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The covered part of the window's time, without gaps, in percent.
    pub percent: f64,
    window: Option<(Timestamp, Timestamp)>,
}

/// What was measured of nodes and jobs in a recording.
#[derive(Default, Debug)]
pub(super) struct Measured {
    /// By kind: the summed milliseconds of all successful attempts, and their count.
    runs: BTreeMap<Name, (u64, u64)>,
    /// The most leases that each node held at once.
    peaks: BTreeMap<Name, u64>,
}

/// Called with the records that were applied and the records in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Replays a data folder's recording, to its end or up to a moment.
pub fn replay(data_dir: &Path, until: Option<Utc>, progress: &mut Progress<'_>) -> Result<Replay, ReplayError> {
    let mut recording = Recording::open(data_dir)?;
    let mut watched = Watched::new(recording.take_hub());
    let first_seq = recording.snapshot_seq().unwrap_or(0);
    let (mut seq, mut records, mut traced, mut marks) = (first_seq, 0u64, 0u64, 0u64);
    let (mut window, mut diverged, mut state) = (None::<(Timestamp, Timestamp)>, None, None);
    let mut measured = Measured::default();
    while let Some(input) = recording.next()? {
        let recorded = match input {
            Input::Command(recorded) => recorded,
            Input::Mark(mark) => {
                marks += 1;
                let found = watched.hub().outcome_hash();
                if diverged.is_none() && found != mark.outcome_hash {
                    diverged = Some(Divergence { seq: mark.seq, expected: mark.outcome_hash, found });
                }
                continue;
            }
        };
        let until = until.map(|until| watched.hub().calendar().instant(until));
        if let Some(until) = until.filter(|until| recorded.now > *until) {
            watched.advance(until);
            state = Some(State::of(watched.hub(), seq));
            break;
        }
        // The state at the journal's end, as `journal verify --replay` digests it: entries of the trace would advance
        // time.
        if recorded.is_traced && seq == recording.last_seq() && state.is_none() {
            state = Some(State::of(watched.hub(), seq));
        }
        window = Some((window.map_or(recorded.now, |(first, _)| first), recorded.now));
        if recorded.is_traced {
            traced += 1;
        } else {
            (seq, records) = (recorded.seq, records + 1);
        }
        if (records + traced).is_multiple_of(PROGRESS_INPUTS) {
            progress(seq - first_seq, recording.last_seq() - first_seq);
        }
        measured.apply(&mut watched, recorded);
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
            calendar: hub.calendar(),
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
    fn apply(&mut self, watched: &mut Watched, recorded: RecordedCommand) {
        let (puller, job) = match &recorded.command {
            Command::Pull(pull) => (Some(pull.node.clone()), None),
            Command::Complete(complete) if complete.ok => (None, Some(complete.job)),
            _ => (None, None),
        };
        let run = job.and_then(|job| {
            let job = watched.hub().queue().get(job)?;
            Some((job.kind().clone(), recorded.now.since(job.attempts().next_back()?.started_at)))
        });
        let outcome = watched.apply(recorded.now, recorded.command);
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

    /// The mean run of a kind's jobs; of all jobs if none of the kind was recorded, `None` if none was.
    pub fn run_of(&self, kind: &Name) -> Option<Millis> {
        let all = || self.runs.values().fold((0, 0), |(ms, runs), (more, count)| (ms + more, runs + count));
        let (ms, runs) = self.runs.get(kind).copied().unwrap_or_else(all);
        (runs > 0).then(|| Millis::new(ms / runs))
    }

    /// The most jobs that a node worked on at once; at least 1.
    pub fn peak_of(&self, node: &Name) -> u64 {
        self.peaks.get(node).copied().unwrap_or(0).max(1)
    }
}

impl Covered {
    pub(super) fn of(coverage: &Coverage, window: Option<(Timestamp, Timestamp)>, first_seq: u64) -> Covered {
        let span = window.zip(coverage.begins).and_then(|((first, last), (after_seq, begins))| {
            // A trace that begins before the first record covers that one too, even if its clock was ahead.
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

    /// Whether the trace covers the whole minute, so that all its refusals are known.
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

/// The leases that an outcome granted.
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
    fn overlapping_gaps_count_once_and_gaps_outside_the_window_not_at_all() {
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

//! `sheratan-sim replay`: replays what a hub recorded, as it was or under other limits.

use super::terminal::{BAD, BOLD, DIM, GOOD, MISUSED, WARN, bar, ended, failed, line};
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use sheratan_core::{Calendar, Timestamp, Utc};
use sheratan_io::config::Changes;
use sheratan_io::rfc3339::{self, Rfc3339};
use sheratan_sim::production::ReplayError;
use sheratan_sim::production::replay::{Covered, Replay, State, replay};
use sheratan_sim::production::timeline::{Row, Tally, Waits};
use sheratan_sim::production::what_if::{RUN_MS_UNKNOWN, Side, WhatIf, what_if};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  sheratan-sim replay --journal .sheratan                            the state, and what happened minute by minute
  sheratan-sim replay --journal .sheratan --until 2026-01-15T20:52:03Z
                                                                     the state at that moment
  sheratan-sim replay --journal .sheratan --set max_queue_depth=500  what would have been let in, beside what was
  sheratan-sim replay --journal copy --set max_inflight=20 --set lease_timeout_sec=60 --json

The folder is only read: a copy will do, and so will the one of a running hub, up to what it has written.
Exit code 1: the folder cannot be read, or the replay is not what the hub decided.";

/// Nodes that are listed one by one for a person; `--json` has all.
const NODES_SHOWN: usize = 20;

/// The arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The hub's data folder
    #[arg(long, value_name = "DATA_DIR")]
    journal: PathBuf,
    /// Stop at this instant (RFC 3339)
    #[arg(long, value_name = "UTC", value_parser = instant)]
    until: Option<Utc>,
    /// What if this setting had been another one? Each limit of the configuration, by its name; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = NonEmptyStringValueParser::new())]
    sets: Vec<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Replays.
pub fn run(args: &Args) -> ExitCode {
    let changes = match Changes::parse(&args.sets) {
        Ok(changes) => changes,
        Err(error) => return failed(format_args!("--set: {error}"), MISUSED),
    };
    let (found, took) = match under_bar(|bar| replay(&args.journal, args.until, bar)) {
        Ok(found) => found,
        Err(error) => return failed(named(&args.journal, &error), 1),
    };
    let exit_code = ended(found.diverged.is_none());
    if changes.is_empty() {
        if args.json {
            line(format_args!("{}", replay_json(&found, took)));
        } else {
            show_replay(&args.journal, &found, took);
        }
        return exit_code;
    }
    let (other, took_more) = match under_bar(|bar| what_if(&args.journal, args.until, &changes, &found, bar)) {
        Ok(other) => other,
        // The user has to choose other values of the settings.
        Err(error @ ReplayError::Limits(_)) => return failed(format_args!("--set: {error}"), MISUSED),
        Err(error) => return failed(named(&args.journal, &error), 1),
    };
    if args.json {
        line(format_args!("{}", what_if_json(&found, &other, &changes, took + took_more)));
    } else {
        show_what_if(&args.journal, &found, &other, &changes, took + took_more);
    }
    exit_code
}

/// Runs a replay under a progress bar.
fn under_bar<T>(
    run: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<T, ReplayError>,
) -> Result<(T, Duration), ReplayError> {
    let bar = bar(0, "{wide_bar} {pos}/{len} records, {per_sec}, {eta} left");
    let started = Instant::now();
    let result = run(&mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    result.map(|result| (result, started.elapsed()))
}

fn named(folder: &Path, error: &ReplayError) -> String {
    format!("{} cannot be replayed: {error}", folder.display())
}

fn instant(text: &str) -> Result<Utc, String> {
    rfc3339::parse(text).map_err(|_| "expected an RFC 3339 instant such as 2026-01-15T20:52:03Z".to_owned())
}

fn show_replay(folder: &Path, replay: &Replay, took: Duration) {
    show_head(folder, replay, took);
    line("");
    line(format_args!(
        "{BOLD}{:<17}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{BOLD:#}",
        "minute", "submitted", "refused", "leased", "completed", "failed", "retried", "depth", "wait p50", "wait p99"
    ));
    for row in &replay.rows {
        let Row { minute, tally, depth, waits } = row;
        line(format_args!(
            "{}{}{depth:>10}{}",
            minute_text(replay.state.calendar, *minute),
            tally_text(tally, replay.covered.has_all_of(row)),
            waits_text(*waits)
        ));
    }
    let depth = replay.state.counts.waiting();
    let is_all_known = replay.rows.iter().all(|row| replay.covered.has_all_of(row));
    let (tally, waits) = (tally_text(&replay.total, is_all_known), waits_text(replay.waits));
    line(format_args!("{BOLD}{:<17}{tally}{depth:>10}{waits}{BOLD:#}", "in all"));
    show_refusals("refused", &replay.refusals);
    line(format_args!("{} pulls found nothing", replay.empty_pulls));
    show_covered(replay.state.calendar, &replay.covered);
}

fn show_head(folder: &Path, replay: &Replay, took: Duration) {
    let Replay { hub_id, records, traced, state, .. } = replay;
    let in_use =
        if replay.is_in_use { ", in use by a running hub: what it does from now on is not included" } else { "" };
    line(format_args!("{BOLD}{}{BOLD:#}: hub {hub_id}{in_use}", folder.display()));
    let from = replay.snapshot_seq.map_or(String::new(), |seq| format!(" behind the snapshot of record {seq}"));
    let secs = took.as_secs_f64();
    line(format_args!("replayed    {records} records{from} and {traced} of the trace in {secs:.2} s"));
    match replay.diverged {
        None => {
            line(format_args!("compared    {GOOD}agrees with what the hub decided{GOOD:#}, at {} places", replay.marks))
        }
        Some(diverged) => line(format_args!(
            "compared    {BAD}differs from what the hub decided{BAD:#} up to record {}: outcome hash {}, the hub had {}",
            diverged.seq,
            hex::encode(diverged.found),
            hex::encode(diverged.expected)
        )),
    }
    line(format_args!("state at    {}, after record {}", Rfc3339::new(state.calendar.utc(state.now)), state.seq));
    show_state(state);
}

fn show_state(state: &State) {
    let counts = state.counts;
    line(format_args!(
        "jobs        {} queued, {} scheduled, {} leased, {} final and still readable",
        counts.queued, counts.scheduled, counts.leased, counts.retained
    ));
    let mut liveness = BTreeMap::new();
    state.nodes.iter().for_each(|(_, word, _)| *liveness.entry(*word).or_insert(0) += 1);
    let liveness: Vec<_> = liveness.iter().map(|(word, count)| format!("{count} {word}")).collect();
    line(format_args!("nodes       {}", if liveness.is_empty() { "none".to_owned() } else { liveness.join(", ") }));
    for (name, word, leases) in state.nodes.iter().take(NODES_SHOWN) {
        line(format_args!("            {name}: {word}, {leases} leases"));
    }
    if state.nodes.len() > NODES_SHOWN {
        line(format_args!("            {DIM}and {} more (--json){DIM:#}", state.nodes.len() - NODES_SHOWN));
    }
    line(format_args!("digest      {}", hex::encode(state.digest)));
    line(format_args!("outcomes    {}", hex::encode(state.outcome_hash)));
}

fn show_what_if(folder: &Path, replay: &Replay, other: &WhatIf, changes: &Changes, took: Duration) {
    let WhatIf { recorded, changed, assumptions } = other;
    show_head(folder, replay, took);
    let sets: Vec<_> = changes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    line("");
    line(format_args!("{BOLD}what if {}{BOLD:#}: recorded | with it", sets.join(", ")));
    line(format_args!(
        "{BOLD}{:<17}{:>19}{:>19}{:>19}{:>19}{:>23}{BOLD:#}",
        "minute", "accepted", "refused", "completed", "depth", "wait p99"
    ));
    let mut is_all_known = true;
    for (minute, pair) in side_by_side(recorded, changed) {
        let is_known = replay.covered.has_all_of(&pair[0]);
        is_all_known &= is_known;
        let [a, b] = pair.map(|row| (row.tally, row.depth, row.waits));
        line(format_args!("{}{}", minute_text(replay.state.calendar, minute), pair_text(a, b, is_known)));
    }
    let of = |side: &Side| (side.total, side.state.counts.waiting(), side.waits);
    line(format_args!("{BOLD}{:<17}{}{BOLD:#}", "in all", pair_text(of(recorded), of(changed), is_all_known)));
    line("");
    let state = &changed.state;
    let counts = state.counts;
    line(format_args!(
        "with it     {} queued, {} scheduled, {} leased at the end; {} retries, {} pulls found nothing",
        counts.queued, counts.scheduled, counts.leased, changed.total.retried, changed.empty_pulls
    ));
    show_refusals("recorded", &recorded.refusals);
    show_refusals("with it", &changed.refusals);
    line(format_args!(
        "assumed     {} leases without a recorded result run as long as others of their kind ({} ms if there are none) and succeed; {} of them ended",
        assumptions.assumed_leases,
        RUN_MS_UNKNOWN.get(),
        assumptions.assumed_completions
    ));
    line(format_args!(
        "left out    {} results and {} extensions of leases that were not given, {} pulls of nodes that were busy",
        assumptions.results_left_out, assumptions.extensions_left_out, assumptions.pulls_left_out
    ));
    show_covered(replay.state.calendar, &replay.covered);
}

fn show_refusals(what: &str, refusals: &BTreeMap<&'static str, u64>) {
    if !refusals.is_empty() {
        let refusals: Vec<_> = refusals.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        line(format_args!("{what:<12}submits refused: {}", refusals.join(", ")));
    }
}

fn show_covered(calendar: Calendar, covered: &Covered) {
    let shown = |at: Timestamp| Rfc3339::new(calendar.utc(at));
    let Covered { coverage, span, percent, .. } = covered;
    let Some((from, to)) = span else {
        return line(format_args!(
            "{WARN}trace       none for this window{WARN:#}: what was refused is not known (trace_max_bytes)"
        ));
    };
    let (style, plus) = if *percent < 100.0 { (WARN, "; a + is for those it does not have") } else { (GOOD, "") };
    let (from, to) = (shown(*from), shown(*to));
    line(format_args!("trace       covers {style}{percent:.1} %{style:#} of the window, from {from} to {to}{plus}"));
    for gap in &coverage.gaps {
        let (from, to) = (shown(gap.from), shown(gap.to));
        let records = if gap.records == 0 { "an unknown number of".to_owned() } else { gap.records.to_string() };
        line(format_args!("            {WARN}a gap{WARN:#} from {from} to {to}: {records} records are missing"));
    }
    if coverage.crashes > 0 {
        line(format_args!(
            "            the hub ended without good order {} times: what came in its last moments may be missing",
            coverage.crashes
        ));
    }
    if coverage.ahead > 0 {
        line(format_args!("            {} records left out: they follow the journal's last one", coverage.ahead));
    }
    if coverage.orphans > 0 {
        line(format_args!(
            "            {} records left out: the journal lost what went before them in a crash",
            coverage.orphans
        ));
    }
}

fn minute_text(calendar: Calendar, minute: Timestamp) -> String {
    // `2026-01-15T20:52:00.000Z` without its seconds.
    format!("{:<17}", &Rfc3339::new(calendar.utc(minute)).to_string()[..16])
}

/// The number of refusals, with a plus sign if the trace may not have all.
fn refused_text(refused: u64, is_all_known: bool) -> String {
    format!("{refused}{}", if is_all_known { "" } else { "+" })
}

fn tally_text(tally: &Tally, is_all_known: bool) -> String {
    let Tally { accepted, refused, leased, completed, failed, retried } = tally;
    let refused = refused_text(*refused, is_all_known);
    format!("{accepted:>10}{refused:>10}{leased:>10}{completed:>10}{failed:>10}{retried:>10}")
}

fn waits_text(waits: Option<Waits>) -> String {
    let [p50, p99] = [waits.map(|waits| waits.p50_ms), waits.map(|waits| waits.p99_ms)].map(seconds);
    format!("{p50:>10}{p99:>10}")
}

type Seen = (Tally, u64, Option<Waits>);

fn pair_text((a, a_depth, a_waits): Seen, (b, b_depth, b_waits): Seen, is_all_known: bool) -> String {
    let pair = |a: &dyn Display, b: &dyn Display| format!("{a:>10} |{b:>7}");
    let refused = [a.refused, b.refused].map(|refused| refused_text(refused, is_all_known));
    let waits = [a_waits, b_waits].map(|waits| seconds(waits.map(|waits| waits.p99_ms)));
    format!(
        "{}{}{}{}{:>12} |{:>9}",
        pair(&a.accepted, &b.accepted),
        pair(&refused[0], &refused[1]),
        pair(&a.completed, &b.completed),
        pair(&a_depth, &b_depth),
        waits[0],
        waits[1]
    )
}

fn seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.3} s", ms as f64 / 1_000.0))
}

/// The minutes of both, with an empty row where one has none: the depth goes on from the row before.
fn side_by_side(recorded: &Side, changed: &Side) -> BTreeMap<Timestamp, [Row; 2]> {
    let mut minutes: Vec<_> = recorded.rows.iter().chain(&changed.rows).map(|row| row.minute).collect();
    minutes.sort_unstable();
    minutes.dedup();
    let sides = [recorded, changed].map(|side| {
        let mut rows = side.rows.iter().peekable();
        let mut depth = 0;
        let row_of = |minute: Timestamp| match rows.next_if(|row| row.minute == minute) {
            Some(row) => {
                depth = row.depth;
                *row
            }
            None => Row { minute, tally: Tally::default(), depth, waits: None },
        };
        minutes.iter().copied().map(row_of).collect::<Vec<_>>()
    });
    let [recorded, changed] = sides;
    recorded.into_iter().zip(changed).map(|(a, b)| (a.minute, [a, b])).collect()
}

fn replay_json(replay: &Replay, took: Duration) -> Value {
    let mut value = head_json(replay, took);
    value["minutes"] = replay.rows.iter().map(|row| row_json(replay.state.calendar, row, &replay.covered)).collect();
    value["total"] = total_json(&replay.total, replay.waits, &replay.refusals, replay.empty_pulls);
    value
}

fn what_if_json(replay: &Replay, other: &WhatIf, changes: &Changes, took: Duration) -> Value {
    let side = |side: &Side| {
        json!({
            "minutes": side.rows.iter().map(|row| row_json(replay.state.calendar, row, &replay.covered)).collect::<Vec<_>>(),
            "total": total_json(&side.total, side.waits, &side.refusals, side.empty_pulls),
            "state": state_json(&side.state),
        })
    };
    let assumptions = &other.assumptions;
    let mut value = head_json(replay, took);
    value["what_if"] = json!({
        "set": changes.iter().collect::<BTreeMap<_, _>>(),
        "recorded": side(&other.recorded),
        "changed": side(&other.changed),
        "assumed_leases": assumptions.assumed_leases,
        "assumed_completions": assumptions.assumed_completions,
        "results_left_out": assumptions.results_left_out,
        "extensions_left_out": assumptions.extensions_left_out,
        "pulls_left_out": assumptions.pulls_left_out,
    });
    value
}

fn head_json(replay: &Replay, took: Duration) -> Value {
    let instant = |at: Timestamp| Rfc3339::new(replay.state.calendar.utc(at)).to_string();
    let span =
        |span: Option<(Timestamp, Timestamp)>| span.map(|(from, to)| json!({"from": instant(from), "to": instant(to)}));
    let coverage = &replay.covered.coverage;
    let gap = |gap: &sheratan_io::trace::Gap| json!({"from": instant(gap.from), "to": instant(gap.to), "records": gap.records});
    let diverged = replay.diverged.map(
        |diverged| json!({"seq": diverged.seq, "expected": hex::encode(diverged.expected), "found": hex::encode(diverged.found)}),
    );
    json!({
        "ok": replay.diverged.is_none(),
        "hub_id": replay.hub_id,
        "is_in_use": replay.is_in_use,
        "snapshot_seq": replay.snapshot_seq,
        "records": replay.records,
        "traced": replay.traced,
        "took_ms": took.as_millis() as u64,
        "marks": replay.marks,
        "diverged": diverged,
        "window": span(replay.window),
        "state": state_json(&replay.state),
        "trace": {
            "span": span(replay.covered.span),
            "percent": replay.covered.percent,
            "gaps": coverage.gaps.iter().map(gap).collect::<Vec<_>>(),
            "crashes": coverage.crashes,
            "orphans": coverage.orphans,
            "ahead": coverage.ahead,
        },
    })
}

fn state_json(state: &State) -> Value {
    let node =
        |(name, liveness, leases): &(String, &str, u64)| json!({"node": name, "status": liveness, "leases": leases});
    let counts = state.counts;
    json!({
        "at": Rfc3339::new(state.calendar.utc(state.now)).to_string(),
        "seq": state.seq,
        "queued": counts.queued,
        "scheduled": counts.scheduled,
        "leased": counts.leased,
        "retained": counts.retained,
        "nodes": state.nodes.iter().map(node).collect::<Vec<_>>(),
        "digest": hex::encode(state.digest),
        "outcome_hash": hex::encode(state.outcome_hash),
    })
}

fn row_json(calendar: Calendar, row: &Row, covered: &Covered) -> Value {
    let mut value = tally_json(&row.tally, row.waits);
    value["is_covered"] = covered.has_all_of(row).into();
    value["minute"] = Rfc3339::new(calendar.utc(row.minute)).to_string().into();
    value["depth"] = row.depth.into();
    value
}

fn total_json(tally: &Tally, waits: Option<Waits>, refusals: &BTreeMap<&'static str, u64>, empty_pulls: u64) -> Value {
    let mut value = tally_json(tally, waits);
    value["refusals"] = json!(refusals);
    value["empty_pulls"] = empty_pulls.into();
    value
}

fn tally_json(tally: &Tally, waits: Option<Waits>) -> Value {
    json!({
        "accepted": tally.accepted,
        "refused": tally.refused,
        "leased": tally.leased,
        "completed": tally.completed,
        "failed": tally.failed,
        "retried": tally.retried,
        "wait_ms_p50": waits.map(|waits| waits.p50_ms),
        "wait_ms_p99": waits.map(|waits| waits.p99_ms),
    })
}

//! Words: reports of runs of the mesh, as text and as JSON.

use super::{Found, Kind, Source};
use crate::cli::terminal::{BAD, GOOD};
use serde_json::{Value, json};
use sheratan_sim::agenda::MINUTE;
use sheratan_sim::mesh::run::{Failure, Report, Totals};
use std::fmt::Write;

/// The report of a run without a violation, with its real time.
pub fn report_text(report: &Report, seconds: f64) -> String {
    let tally = &report.tally;
    let virtual_s = tally.virtual_us as f64 / 1e6;
    format!(
        "{}\n\
         {GOOD}seed {}: well{GOOD:#}\n\
         virtual time  {virtual_s:.0} s in {seconds:.3} s ({:.0} virtual minutes a second)\n\
         events        {} ({:.0} a second), {} requests, {} records, {} audit lines\n\
         hub           {} starts\n\
         jobs          {} acknowledged, {} ended\n\
         faults        {}\n\
         marks         {}\n\
         trail         {:032x}\n\
         digest        {}",
        report.plan,
        report.plan.seed,
        virtual_s / 60.0 / seconds,
        tally.events,
        tally.events as f64 / seconds,
        tally.requests,
        tally.records,
        tally.audit_lines,
        tally.hub_starts,
        tally.acknowledged,
        tally.ended,
        listed(tally.injected.iter()),
        listed(tally.marks.iter()),
        report.trail_hash,
        hex::encode(report.digest),
    )
}

/// The same as one JSON object.
pub fn report_json(report: &Report, seconds: f64) -> Value {
    let tally = &report.tally;
    json!({
        "ok": true,
        "seed": report.plan.seed,
        "plan": report.plan,
        "virtual_sec": tally.virtual_us as f64 / 1e6,
        "wall_sec": seconds,
        "events": tally.events,
        "requests": tally.requests,
        "records": tally.records,
        "audit_lines": tally.audit_lines,
        "lives": tally.hub_starts,
        "acknowledged": tally.acknowledged,
        "ended": tally.ended,
        "faults": tally.injected,
        "marks": tally.marks,
        "trail_hash": format!("{:032x}", report.trail_hash),
        "digest": hex::encode(report.digest),
    })
}

/// A failure; `again` is the command that runs it again.
pub fn failure_text(failure: &Failure, again: &str) -> String {
    let bad = BAD.bold();
    format!(
        "{}\n\n{}\n\n{bad}{failure}{bad:#}\n\
         reproduce it: {again}\n\
         look at it:   {again} --html failure.html\n\
         shorten it:   {again} --shrink",
        failure.plan,
        last(failure),
    )
}

/// The same as one JSON object.
pub fn failure_json(failure: &Failure, again: &str) -> Value {
    json!({
        "ok": false,
        "seed": failure.plan.seed,
        "plan": failure.plan,
        "at_sec": failure.tally.virtual_us as f64 / 1e6,
        "invariant": failure.violation.invariant,
        "detail": failure.violation.detail,
        "reproduce": again,
        "last": failure.last.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The totals of many runs, with their failures by invariant.
pub fn totals_text(totals: &Totals, seconds: f64, jobs: usize, found: &Found, source: &Source) -> String {
    let virtual_min = totals.virtual_us as f64 / MINUTE as f64;
    let mut text = format!(
        "{GOOD}{} seeds well{GOOD:#} in {seconds:.1} s on {jobs} threads\n\
         virtual time  {virtual_min:.0} minutes ({:.0} a second and thread)\n\
         events        {} ({:.0} a second), {} requests\n\
         hub           {} starts\n\
         jobs          {} ended\n\
         faults        {}\n\
         marks         {}\n\
         trail         {:032x}",
        totals.runs,
        virtual_min / seconds / jobs as f64,
        totals.events,
        totals.events as f64 / seconds,
        totals.requests,
        totals.hub_starts,
        totals.ended,
        listed(totals.injected.iter()),
        listed(totals.marks.iter()),
        totals.trail_hash,
    );
    if !found.is_empty() {
        write!(text, "\n{BAD}{} seeds failed{BAD:#}", found.seeds()).expect("a string takes all");
    }
    for (invariant, Kind { seeds, first }) in &found.0 {
        let (detail, again) = (&first.violation.detail, source.again(first.plan.seed));
        write!(text, "\n{seeds} violate: {invariant}\n  first: {detail}\n  {again}").expect("a string takes all");
    }
    text
}

/// The same as one object; `next_seed` is the first of those that an interrupt left out.
pub fn totals_json(totals: &Totals, seconds: f64, next_seed: Option<u64>, found: &Found, source: &Source) -> Value {
    let failures = found.0.iter().map(|(invariant, Kind { seeds, first })| {
        json!({
            "invariant": invariant,
            "seeds": seeds,
            "seed": first.plan.seed,
            "detail": first.violation.detail,
            "reproduce": source.again(first.plan.seed),
        })
    });
    let mut json = json!({
        "ok": next_seed.is_none() && found.is_empty(),
        "seeds": totals.runs,
        "failed": found.seeds(),
        "failures": failures.collect::<Vec<_>>(),
        "wall_sec": seconds,
        "virtual_sec": totals.virtual_us as f64 / 1e6,
        "events": totals.events,
        "requests": totals.requests,
        "lives": totals.hub_starts,
        "ended": totals.ended,
        "faults": totals.injected,
        "marks": totals.marks,
        "trail_hash": format!("{:032x}", totals.trail_hash),
    });
    if let Some(next_seed) = next_seed {
        json["interrupted"] = true.into();
        json["next_seed"] = next_seed.into();
    }
    json
}

fn last(failure: &Failure) -> String {
    let lines: Vec<_> = failure.last.iter().map(ToString::to_string).collect();
    format!("the last events before it:\n{}", lines.join("\n"))
}

fn listed<'a>(counts: impl Iterator<Item = (&'a &'static str, &'a u64)>) -> String {
    let words: Vec<_> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

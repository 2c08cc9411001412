//! What an operation costs with few and with many queued jobs.
//!
//! Operations are timed in batches of 100 commands, after which the hub is settled once: a round of the shell under
//! load. The same is timed with the hub settled after each command, as for a single client.
//!
//! The target is for jobs as such. With idempotency keys the figures are shown without one: keys are looked up by a
//! keyed hash, so in a table of millions a lookup waits for memory, and in a small one it does not.

use super::backlog::{Backlog, Settles, Shape};
use crate::report::{Bound, Report};
use crate::sample::Samples;
use serde_json::json;
use std::time::Duration;

/// How the two hubs are compared.
#[derive(Clone, Copy)]
pub struct Comparison {
    /// Jobs queued in the small hub.
    pub few: u64,
    /// Jobs queued in the large hub.
    pub many: u64,
    /// How often the hubs take turns.
    pub rounds: u32,
}

/// Operations of one kind that are timed together: reading the clock costs 1/100 of 50 ns each.
const BATCH: u64 = 100;
/// Timed cycles of a turn.
const CYCLES: u32 = 30;
/// Cycles before them that are not counted, which load the hub's memory into the cache.
const WARM_CYCLES: u32 = 10;
/// The cost in the large hub may be so many times that in the small one.
const RATIO_MAX: f64 = 1.5;

/// As the JSON names them, in the order in which a job goes through them.
pub const OPERATIONS: [&str; 5] = ["submit", "pull", "result", "lease expiry", "retry falls due"];

/// Nanoseconds an operation, a sample a round, in the order of [`OPERATIONS`].
type Costs = [Samples; OPERATIONS.len()];

/// Compares the hubs, which take turns, so that what slows the machine slows both.
pub fn measure(report: &mut Report, shape: Shape, comparison: Comparison) {
    let mut few = Backlog::new(shape, comparison.few);
    let mut many = Backlog::new(shape, comparison.many);
    let (mut by_batch, mut by_command) = <([Costs; 2], [Costs; 2])>::default();
    for _ in 0..comparison.rounds {
        for (settles, costs) in [(Settles::EachBatch, &mut by_batch), (Settles::EachCommand, &mut by_command)] {
            turn(&mut few, settles, &mut costs[0]);
            turn(&mut many, settles, &mut costs[1]);
        }
    }
    describe(report, shape, comparison, &by_batch, &by_command);
}

fn turn(backlog: &mut Backlog, settles: Settles, costs: &mut Costs) {
    backlog.set_settles(settles);
    let mut sums = [Duration::ZERO; OPERATIONS.len()];
    for cycle in 0..WARM_CYCLES + CYCLES {
        let times = cycle_times(backlog);
        if cycle >= WARM_CYCLES {
            sums.iter_mut().zip(times).for_each(|(sum, time)| *sum += time);
        }
    }
    for (samples, sum) in costs.iter_mut().zip(sums) {
        samples.push(sum.as_secs_f64() * 1e9 / (f64::from(CYCLES) * BATCH as f64));
    }
}

/// Submits and completes two batches: one at its first attempt, one after an expired lease and a retry.
fn cycle_times(backlog: &mut Backlog) -> [Duration; OPERATIONS.len()] {
    let submit = backlog.submit(BATCH);
    let pull = backlog.pull(BATCH);
    let complete = backlog.complete();
    backlog.submit(BATCH);
    backlog.pull(BATCH);
    let expire = backlog.expire();
    let retry = backlog.retry();
    backlog.pull(BATCH);
    backlog.complete();
    [submit, pull, complete, expire, retry]
}

fn describe(
    report: &mut Report,
    shape: Shape,
    comparison: Comparison,
    [few, many]: &[Costs; 2],
    by_command: &[Costs; 2],
) {
    let Comparison { few: few_jobs, many: many_jobs, rounds } = comparison;
    let (word, title) = match shape {
        Shape::Plain => ("plain", "Cost per operation"),
        Shape::Keyed => {
            ("keyed", "Cost per operation, each job with an idempotency key and a time to live, the table of keys full")
        }
    };
    let mut rows = Vec::new();
    let mut figures = serde_json::Map::new();
    for (index, operation) in OPERATIONS.iter().enumerate() {
        let (few, many) = (&few[index], &many[index]);
        let [few_alone_ns, many_alone_ns] = by_command.each_ref().map(|costs| costs[index].median());
        let (few_ns, many_ns, ratio) = (few.median(), many.median(), many.paired_ratio(few));
        rows.push(vec![
            (*operation).to_owned(),
            format!("{few_ns:.0} ns"),
            format!("{many_ns:.0} ns"),
            format!("{ratio:.2}"),
            format!("{few_alone_ns:.0} ns"),
            format!("{many_alone_ns:.0} ns"),
        ]);
        let figure = json!({
            "few_ns": few_ns, "many_ns": many_ns, "ratio": ratio,
            "few_alone_ns": few_alone_ns, "many_alone_ns": many_alone_ns,
        });
        figures.insert((*operation).to_owned(), figure);
    }
    let heads = ["operation", &format!("{few_jobs} queued"), &format!("{many_jobs} queued"), "ratio"];
    let heads: Vec<_> = heads.into_iter().chain(["few, settled after each", "many, settled after each"]).collect();
    report.table(format!("{title} (medians of {rounds} rounds)"), &heads, rows);
    report.figure(&format!("cost_{word}"), figures);
    if shape == Shape::Plain {
        let worst = many.iter().zip(few).map(|(many, few)| many.paired_ratio(few)).fold(0.0, f64::max);
        report.target("worst ratio of an operation's cost, many to few", worst, Bound::AtMost(RATIO_MAX));
    }
}

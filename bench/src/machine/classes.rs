//! What a pull costs by how many classes of jobs are ready and how many kinds it names.
//!
//! A class is a set of requirements. A node that may serve many has to find the first job among all of them; one that
//! may serve a single class must not pay for the others.

use super::backlog::{Backlog, Served, Variety};
use crate::report::Report;
use crate::sample::Samples;
use serde_json::{Value, json};
use std::time::Duration;

/// Ready classes and kinds named. The first is the plain pull, of which the others' costs are multiples.
const CASES: [(usize, usize); 7] = [(1, 0), (16, 0), (16, 4), (128, 0), (128, 16), (1_024, 0), (1_024, 64)];
/// Pulls that are timed together, at most.
const BATCH_MAX: u64 = 100;
/// About how long such a batch may take: pulls that cost 100,000 times as much are timed one by one.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// Batches that are not counted.
const WARM_BATCHES: u32 = 3;

/// A case's cost: nanoseconds a pull, and as a multiple of the plain pull beside it.
struct Cost {
    ns: f64,
    multiple: f64,
}

/// Each case takes turns with the plain pull, so that what slows the machine slows both.
pub fn measure(report: &mut Report, rounds: u32) {
    let mut plain = Puller::new(CASES[0], Served::All);
    let (mut rows, mut figures) = (Vec::new(), Vec::<Value>::new());
    for case @ (classes, kinds) in CASES {
        let mut row = vec![format!("{classes} × {kinds}")];
        for served in [Served::All, Served::One] {
            let Cost { ns, multiple } = compare(&mut plain, case, served, rounds);
            row.extend([format!("{ns:.0} ns"), format!("{multiple:.2}")]);
            let may_serve = served == Served::All;
            figures.push(json!({
                "classes": classes, "kinds": kinds, "may_serve_all": may_serve, "ns": ns, "of_plain": multiple,
            }));
        }
        rows.push(row);
    }
    let title =
        format!("A pull by classes ready × kinds named, as a multiple of the plain one (medians of {rounds} rounds)");
    let heads = ["", "may serve all", "of plain", "may serve one", "of plain"];
    report.table(title, &heads, rows);
    report.figure("pull_by_classes", figures);
}

fn compare(plain: &mut Puller, case: (usize, usize), served: Served, rounds: u32) -> Cost {
    let mut puller = Puller::new(case, served);
    let (mut plain_ns, mut ns) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        plain_ns.push(plain.pull_ns());
        ns.push(puller.pull_ns());
    }
    Cost { ns: ns.median(), multiple: ns.paired_ratio(&plain_ns) }
}

/// A hub and how many pulls of it are timed together.
struct Puller {
    backlog: Backlog,
    batch: u64,
}

impl Puller {
    fn new((classes, kinds_named): (usize, usize), served: Served) -> Self {
        let mut puller = Puller { backlog: Backlog::varied(Variety { classes, kinds_named, served }), batch: 1 };
        // The first pull builds the profile that the hub keeps for the others.
        puller.batch_time();
        let second = puller.batch_time();
        puller.batch = (BATCH_TIME.as_nanos() / second.as_nanos().max(1)).clamp(1, BATCH_MAX.into()) as u64;
        if puller.batch > 1 {
            (0..WARM_BATCHES).for_each(|_| _ = puller.batch_time());
        }
        puller
    }

    fn pull_ns(&mut self) -> f64 {
        self.batch_time().as_secs_f64() * 1e9 / self.batch as f64
    }

    fn batch_time(&mut self) -> Duration {
        let time = self.backlog.pull(self.batch);
        self.backlog.complete();
        self.backlog.submit(self.batch);
        time
    }
}

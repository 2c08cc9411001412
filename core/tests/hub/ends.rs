//! The ends of jobs: each is delivered once, also if the job was dropped meanwhile.

use crate::scene::{Scene, job};
use sheratan_core::limits::Limits;
use sheratan_core::{Millis, Submit};

#[test]
fn a_job_that_is_dropped_before_its_end_is_delivered_is_delivered_with_it() {
    let by_count = |limits: &mut Limits| limits.retained_jobs_max = 1;
    let by_age = |limits: &mut Limits| limits.job_retention_ms = Millis::ZERO;
    for set in [by_count as fn(&mut Limits), by_age] {
        let mut scene = Scene::with(set);
        let jobs: Vec<_> =
            (1..=3).map(|ms| scene.submit(Submit { ttl_ms: Some(Millis::new(ms)), ..job("k") })).collect();
        scene.ends();
        // All three end before the shell settles.
        scene.at(5);
        let ends = scene.ends();
        assert_eq!(ends.iter().map(|(job, _)| *job).collect::<Vec<_>>(), jobs);
        for (job, gone) in ends {
            assert_eq!(gone.is_none(), scene.hub.queue().get(job).is_some(), "{job:?}");
            assert!(gone.is_none_or(|gone| gone.view().seq() == job && gone.view().status() == "expired"));
        }
    }
}

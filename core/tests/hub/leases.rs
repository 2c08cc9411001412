//! Many leases at once.

use crate::scene::{Scene, job};
use sheratan_core::limits::PULL_JOBS_MAX;

#[test]
fn a_pull_gets_at_most_what_it_asks_for_and_the_limit_of_one_pull() {
    let mut scene = Scene::new();
    for _ in 0..PULL_JOBS_MAX + 10 {
        scene.submit(job("k"));
    }
    scene.limit(|limits| limits.leases_per_node_max = u64::from(PULL_JOBS_MAX) + 10);
    assert_eq!(scene.pull("a", 3).len(), 3);
    assert_eq!(scene.pull("a", 0).len(), 1, "a pull for 0 jobs counts as a pull for 1");
    assert_eq!(scene.pull("b", u32::MAX).len(), PULL_JOBS_MAX as usize);
    assert_eq!(scene.pull("a", u32::MAX).len(), 6);
}

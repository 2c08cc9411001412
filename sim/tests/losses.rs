//! Losses: after repairs, returns to a snapshot and restored copies, no id names another job or lease.

use sheratan_sim::loss_check::{Losses, run_seed};

#[test]
fn no_id_that_was_shown_names_anything_else_after_a_loss() {
    let mut sum = Losses::default();
    for seed in 0..200 {
        let losses = run_seed(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        sum.copies += losses.copies;
        sum.repairs += losses.repairs;
        sum.rewinds += losses.rewinds;
        sum.orphaned_ids += losses.orphaned_ids;
    }
    assert!(sum.copies > 20 && sum.repairs > 20 && sum.rewinds > 20 && sum.orphaned_ids > 1_000, "{sum:?}");
}

//! Long polls up to their limit.

use crate::scene::{Scene, pull};
use sheratan_core::WaiterId;
use sheratan_core::limits::WAITERS_MAX;

fn park(scene: &mut Scene, id: u64, node: &str) {
    assert!(scene.hub.park(WaiterId(id), &pull(node, 1)));
}

#[test]
fn polls_are_parked_up_to_their_limit() {
    let mut scene = Scene::new();
    for id in 0..WAITERS_MAX as u64 {
        park(&mut scene, id, "a");
    }
    assert!(!scene.hub.park(WaiterId(u64::MAX), &pull("a", 1)));
    scene.hub.unpark(WaiterId(7));
    park(&mut scene, u64::MAX, "a");
}

//! Online nodes by what they can do: whether another node than one could run a job.

use crate::limits::PROFILES_EXAMINED_MAX;
use crate::name_set::NameSet;
use crate::queue::class::ClassKey;
use crate::registry::node::{Liveness, Node};
use crate::zone::Zone;
use std::collections::BTreeMap;

/// How many online nodes there are of each zone and set of capabilities.
#[derive(Default, Debug)]
pub(super) struct OnlineNodes {
    by_profile: BTreeMap<(Zone, NameSet), u64>,
}

impl OnlineNodes {
    /// Counts a node that came or changed, if it is online.
    pub fn add(&mut self, node: &Node) {
        if node.liveness() == Liveness::Online {
            *self.by_profile.entry(profile_of(node)).or_default() += 1;
        }
    }

    /// Uncounts a node before it leaves or changes, if it is online.
    pub fn remove(&mut self, node: &Node) {
        if node.liveness() == Liveness::Online {
            let profile = profile_of(node);
            let count = self.by_profile.get_mut(&profile).expect("an online node is counted");
            *count -= 1;
            if *count == 0 {
                self.by_profile.remove(&profile);
            }
        }
    }

    /// Whether another online node than this one may run jobs of a class. Of a zone with more than
    /// [`PROFILES_EXAMINED_MAX`] sets of capabilities only the nodes with the first of these count.
    pub fn has_other(&self, class: &ClassKey, node: &Node) -> bool {
        let own = profile_of(node);
        let of_zone = self.by_profile.range((class.zone.clone(), NameSet::EMPTY)..);
        let mut examined = of_zone.take_while(|((zone, _), _)| *zone == class.zone).take(PROFILES_EXAMINED_MAX);
        examined.any(|(profile, count)| class.admits(&profile.0, &profile.1) && *count > u64::from(*profile == own))
    }
}

fn profile_of(node: &Node) -> (Zone, NameSet) {
    (node.zone().clone(), node.capabilities().clone())
}

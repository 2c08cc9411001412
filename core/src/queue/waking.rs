//! Waking: long polls are parked while there is no job for them, and woken for as many ready jobs as there are.

use super::Queue;
use crate::command::Pull;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::name::Name;
use crate::queue::profile::{ProfileIndex, Wanted};
use crate::queue::waiter::{Offer, Waiter, WaiterId};
use crate::rules;
use crate::time::Timestamp;
use crate::zone::Zone;
use std::collections::BTreeMap;

impl Queue {
    /// Parks a long poll; `false` if too many are.
    pub(crate) fn park(&mut self, ledger: &mut Ledger, id: WaiterId, pull: &Pull, profile: ProfileIndex) -> bool {
        let mut known: Vec<_> = pull.kinds.iter().filter_map(|name| self.kinds.find(name)).map(Wanted::Kind).collect();
        let unknown_count = pull.kinds.len() - known.len();
        known.extend(pull.kinds.is_empty().then_some(Wanted::Any));
        if !self.waiters.has_room_for(profile, &known, unknown_count) {
            return false;
        }
        let wanted = if pull.kinds.is_empty() {
            vec![Wanted::Any]
        } else {
            pull.kinds.iter().map(|name| Wanted::Kind(self.kinds.add_place(ledger, name))).collect()
        };
        self.profiles.acquire_again(profile);
        let jobs_max = u64::from(pull.jobs_max).max(1);
        self.waiters.park(ledger, id, Waiter { node: pull.node.clone(), profile, wanted, jobs_max });
        true
    }

    /// Removes a long poll; returns whether it was parked.
    pub(crate) fn unpark(&mut self, ledger: &mut Ledger, id: WaiterId) -> bool {
        let Some(waiter) = self.waiters.unpark(ledger, id) else { return false };
        for kind in waiter.wanted.iter().filter_map(|wanted| wanted.kind()) {
            if self.kinds.remove_place(ledger, kind) {
                self.profiles.drop_views_of(kind);
            }
        }
        self.profiles.release(waiter.profile);
        true
    }

    /// Removes and returns the long polls of a node whose profile changed: it may run other jobs now.
    pub(crate) fn unpark_all_of_node(&mut self, ledger: &mut Ledger, node: &Name) -> Vec<WaiterId> {
        let ids = self.waiters.of_node(node);
        ids.iter().for_each(|id| _ = self.unpark(ledger, *id));
        ids
    }

    /// Removes and returns the long polls to wake: as many as there are ready jobs that they may lease and room for
    /// leases, the longest waiting first. `room_at` is the room at a node.
    pub(crate) fn unpark_waiters_to_wake(
        &mut self,
        ledger: &mut Ledger,
        now: Timestamp,
        (room_in_hub, limits): (u64, &Limits),
        room_at: impl Fn(&Name) -> u64,
    ) -> Vec<WaiterId> {
        let leases_per_zone_max = limits.leases_per_zone_max;
        let mut woken = Vec::new();
        let mut granted: BTreeMap<Name, u64> = BTreeMap::new();
        let mut granted_in_zones: BTreeMap<Zone, u64> = BTreeMap::new();
        if room_in_hub == 0 || self.waiters.is_empty() {
            if self.waiters.is_empty() {
                self.waiters.clear_marked_lanes();
            }
            return woken;
        }
        let mut room = room_in_hub;
        for node in self.waiters.drain_freed_nodes() {
            let id = if room > 0 && room_at(&node) > 0 { self.first_with_job(&node) } else { None };
            if let Some(id) = id {
                self.unpark(ledger, id);
                woken.push(id);
                granted.insert(node.clone(), 1);
                room -= 1;
            }
            // The node may have room for more leases, and the woken poll may lease nothing.
            if id.is_some() || room == 0 {
                self.waiters.note_freed(&node);
            }
        }
        // Lanes for which there is no room stay marked, so that a full hub does not walk them at each result.
        let mut marked_again = Vec::new();
        while room > 0
            && let Some((slot, kind)) = self.waiters.pop_marked_lane()
        {
            let head = self.classes.head(slot, Some(kind));
            if head.is_some_and(|(_, seq)| !self.fits_under_lease((limits, ledger), seq, 0)) {
                marked_again.push((slot, kind));
                continue;
            }
            let zone = self.classes.key_in(slot).map_or(Zone::DEFAULT, |key| key.zone.clone());
            let granted_there = granted_in_zones.get(&zone).copied().unwrap_or(0);
            let room_in_zone = rules::room_in_zone(leases_per_zone_max, self.leases.in_zone(&zone) + granted_there);
            if room_in_zone == 0 {
                self.waiters.set_aside(&zone, (slot, kind));
                continue;
            }
            let room_here = room.min(room_in_zone).min(self.kinds.row(kind).room(now));
            let mut left = rules::jobs_to_wake_for(self.classes.ready(slot, kind), room_here);
            let offered = left;
            let (mut chosen, mut full, mut is_any_passed_over) = (Vec::new(), Vec::new(), false);
            if left > 0 {
                self.waiters.offer_jobs(&self.classes, &mut self.profiles, (slot, kind), |id, waiter| {
                    if left == 0 {
                        return Offer::NoneLeft;
                    }
                    let (room_here, used) = (room_at(&waiter.node), granted.get(&waiter.node).copied().unwrap_or(0));
                    if room_here == 0 {
                        full.push(waiter.node.clone());
                        return Offer::NodeFull;
                    }
                    let jobs = room_here.saturating_sub(used).min(waiter.jobs_max).min(left);
                    if jobs == 0 {
                        is_any_passed_over = true;
                        return Offer::PassedOver;
                    }
                    left -= jobs;
                    *granted.entry(waiter.node.clone()).or_default() += jobs;
                    chosen.push(id);
                    Offer::Accepted
                });
            }
            full.iter().for_each(|node| self.waiters.note_full(node));
            room -= offered - left;
            if leases_per_zone_max != u64::MAX {
                *granted_in_zones.entry(zone).or_default() += offered - left;
            }
            // A woken poll may lease nothing, also one for which another of its node was passed over.
            if rules::stays_marked(!chosen.is_empty() || is_any_passed_over) {
                marked_again.push((slot, kind));
            }
            chosen.iter().for_each(|id| _ = self.unpark(ledger, *id));
            woken.extend(chosen);
        }
        marked_again.into_iter().for_each(|(slot, kind)| self.waiters.mark_lane(slot, kind));
        self.unpark_for_reserved(ledger, (room, limits), &room_at, &mut granted, &mut woken);
        woken
    }

    /// Removes the long polls to wake for reserved jobs, one for each, and adds them to `woken`. A job for which one is
    /// woken stays marked, since that poll may lease nothing.
    fn unpark_for_reserved(
        &mut self,
        ledger: &mut Ledger,
        (mut room, limits): (u64, &Limits),
        room_at: &impl Fn(&Name) -> u64,
        granted: &mut BTreeMap<Name, u64>,
        woken: &mut Vec<WaiterId>,
    ) {
        let mut examined = None;
        while room > 0
            && let Some((rank, reservation)) = self.reserved.next_marked(&self.kinds, examined)
        {
            examined = Some(rank);
            if !self.fits_under_lease((limits, ledger), reservation.job, 0) {
                continue;
            }
            let lane = (self.classes.slot_of(reservation.place.class), reservation.place.kind);
            let (mut chosen, mut full, mut is_any_passed_over) = (None, Vec::new(), false);
            self.waiters.offer_jobs(&self.classes, &mut self.profiles, lane, |id, waiter| {
                if chosen.is_some() {
                    return Offer::NoneLeft;
                }
                let (room_here, used) = (room_at(&waiter.node), granted.get(&waiter.node).copied().unwrap_or(0));
                if room_here == 0 {
                    full.push(waiter.node.clone());
                    return Offer::NodeFull;
                }
                if waiter.node == reservation.node {
                    return Offer::PassedOver;
                }
                if room_here <= used {
                    is_any_passed_over = true;
                    return Offer::PassedOver;
                }
                chosen = Some((id, waiter.node.clone()));
                Offer::Accepted
            });
            full.iter().for_each(|node| self.waiters.note_full(node));
            if !rules::stays_marked(chosen.is_some() || is_any_passed_over) {
                self.reserved.unmark(rank);
            }
            if let Some((id, node)) = chosen {
                self.unpark(ledger, id);
                woken.push(id);
                *granted.entry(node).or_default() += 1;
                room -= 1;
            }
        }
    }

    /// The longest waiting poll of a node that may lease a ready job.
    fn first_with_job(&mut self, node: &Name) -> Option<WaiterId> {
        let Queue { waiters, profiles, classes, kinds, reserved, .. } = self;
        waiters.first_of_node(node, |profile, wanted| {
            profiles.first(classes, kinds, profile, wanted).is_some()
                || reserved
                    .first_for(
                        (classes, kinds),
                        profiles,
                        (node, profile),
                        wanted.kind().as_ref().map(std::slice::from_ref),
                    )
                    .is_some()
        })
    }
}

//! Reserved retries: ready jobs that all nodes may lease but the one of their last attempt, which gets them later.
//!
//! A node that fails every job at once is also the one that asks for jobs most often, so it would use up the attempts
//! of all. A reservation ends at an instant, when its job enters its lane: no job waits for a node that does not come.
//! There are few of them at most times, so they are kept in one map by rank, and a pull examines only the first
//! [`RESERVED_EXAMINED_MAX`]: nothing without reservations, some microseconds with many.

use crate::ids::JobSeq;
use crate::limits::{RESERVED_EXAMINED_MAX, RESERVED_JOBS_MAX};
use crate::name::Name;
use crate::queue::class::{Classes, JobPlace};
use crate::queue::kind::{KindIndex, Kinds};
use crate::queue::lane::Rank;
use crate::queue::profile::{ProfileIndex, Profiles};
use std::collections::BTreeMap;

/// All reserved jobs.
#[derive(Default, Debug)]
pub(super) struct Reserved {
    by_rank: BTreeMap<Rank, Reservation>,
}

/// One reserved job.
#[derive(Clone, Debug)]
pub(super) struct Reservation {
    pub job: JobSeq,
    pub place: JobPlace,
    /// The node that does not get it yet.
    pub node: Name,
    /// Whether a long poll may have to be woken for it. Ephemeral.
    is_marked: bool,
}

impl Reservation {
    pub fn new(job: JobSeq, place: JobPlace, node: Name) -> Reservation {
        Reservation { job, place, node, is_marked: true }
    }
}

impl Reserved {
    /// Whether one more job may be reserved.
    pub fn has_room(&self) -> bool {
        self.by_rank.len() < RESERVED_JOBS_MAX
    }

    pub fn has_any(&self) -> bool {
        !self.by_rank.is_empty()
    }

    pub fn insert(&mut self, rank: Rank, reservation: Reservation) {
        let old = self.by_rank.insert(rank, reservation);
        assert!(old.is_none(), "a job is reserved once");
    }

    /// Removes a job that is leased, ends, or enters its lane.
    pub fn remove(&mut self, rank: Rank) {
        let removed = self.by_rank.remove(&rank);
        assert!(removed.is_some(), "only a reserved job is removed");
        // The next one is examined from now on, also for long polls that were parked before.
        if let Some(next) = self.by_rank.values_mut().nth(RESERVED_EXAMINED_MAX - 1) {
            next.is_marked = true;
        }
    }

    /// The first job that this node may lease; of these kinds, or of any if there is no list. Jobs of kinds whose gates
    /// are closed are passed over, and not counted as examined: about 10 ns for each.
    pub fn first_for(
        &self,
        (classes, rows): (&Classes, &Kinds),
        profiles: &mut Profiles,
        (node, profile): (&Name, ProfileIndex),
        kinds: Option<&[KindIndex]>,
    ) -> Option<(Rank, JobSeq)> {
        let is_wanted = |kind: KindIndex| kinds.is_none_or(|kinds| kinds.contains(&kind));
        let mut examined = self.open(rows).take(RESERVED_EXAMINED_MAX);
        let found = examined.find(|(_, reservation)| {
            let place = reservation.place;
            reservation.node != *node
                && is_wanted(place.kind)
                && profiles.may_serve(classes, profile, classes.slot_of(place.class))
        });
        found.map(|(rank, reservation)| (*rank, reservation.job))
    }

    /// Jobs of a class before a rank, those of other kinds whose gates are closed not counted.
    pub fn ahead_of(&self, rows: &Kinds, place: JobPlace, rank: Rank) -> u64 {
        let before = self.by_rank.range(..rank).map(|(_, reservation)| reservation.place);
        let of_class = before.filter(|other| other.class == place.class);
        of_class.filter(|other| other.kind == place.kind || rows.row(other.kind).is_open).count() as u64
    }

    /// The next of the examined jobs after `after` for which a long poll may have to be woken.
    pub fn next_marked(&self, rows: &Kinds, after: Option<Rank>) -> Option<(Rank, &Reservation)> {
        let mut examined = self.open(rows).take(RESERVED_EXAMINED_MAX);
        let next =
            examined.find(|(rank, reservation)| reservation.is_marked && after.is_none_or(|after| **rank > after));
        next.map(|(rank, reservation)| (*rank, reservation))
    }

    /// A kind's gate opened: long polls may have to be woken for its jobs, and for fewer of the others.
    pub fn mark_all(&mut self) {
        self.by_rank.values_mut().for_each(|reservation| reservation.is_marked = true);
    }

    fn open(&self, rows: &Kinds) -> impl Iterator<Item = (&Rank, &Reservation)> {
        self.by_rank.iter().filter(|(_, reservation)| rows.row(reservation.place.kind).is_open)
    }

    /// No long poll has to be woken for it (any more).
    pub fn unmark(&mut self, rank: Rank) {
        self.by_rank.get_mut(&rank).expect("a job that was examined is reserved").is_marked = false;
    }
}

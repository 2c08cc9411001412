//! Salts: which salt the id of a job or lease is made with.
//!
//! A hub may start without records that ids were given from: its journal was cut by a repair, or an older copy of its
//! folder was restored. It cannot know that, and gives the same numbers again. So each start begins a salt, by a record
//! of its own: ids that it gives are made with it, those given before keep theirs, and an id given from a record that is
//! gone is nobody's: its salt is in no record that is left.
//!
//! A job has the salt of its submission, found by its number; a lease that of its start, found by the instant.
//! `Command::BeginSalt` therefore advances the hub's time by a millisecond: no lease started at the instant at which a
//! salt begins or later has an older one. Finding a salt is O(log n) in salts; each takes 32 bytes.

use crate::encoding::{DecodeError, Encoded, Reader, members};
use crate::ids::JobSeq;
use crate::limits::SALTS_MAX;
use crate::time::Timestamp;

/// Eight random bytes of which no other start has the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Salt([u8; 8]);

/// The salts, oldest first.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Salts(Vec<Salted>);

/// The ids that one salt is for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Salted {
    /// The first job that has it.
    first_job: JobSeq,
    /// Leases that start at this instant or later have it.
    since: Timestamp,
    salt: Salt,
    /// Whether a lease has it.
    has_leases: bool,
}

members!(Salted {
    1 first_job: required,
    2 since: required,
    3 salt: required,
    4 has_leases,
});

impl Salt {
    pub const fn new(bytes: [u8; 8]) -> Self {
        Salt(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl Salts {
    /// From now on ids are made with `salt`. A salt that no id was made with is replaced. Beyond the limit the two
    /// oldest become one under the new salt, so that the ids made with them name nothing from then on.
    pub fn begin(&mut self, first_job: JobSeq, since: Timestamp, salt: Salt) {
        // Time does not advance only at its very end.
        let is_replaced = |last: &Salted| last.since >= since || (last.first_job == first_job && !last.has_leases);
        if self.0.last().is_some_and(is_replaced) {
            self.0.pop();
        }
        if self.0.len() == SALTS_MAX {
            self.0.remove(1);
            self.0[0].salt = salt;
        }
        self.0.push(Salted { first_job, since, salt, has_leases: false });
    }

    /// A lease was given.
    pub fn note_lease(&mut self) {
        if let Some(last) = self.0.last_mut() {
            last.has_leases = true;
        }
    }

    /// The salt of a job's ids; `None` for jobs from before the first salt.
    pub fn of_job(&self, job: JobSeq) -> Option<Salt> {
        self.last_before(self.0.partition_point(|salted| salted.first_job <= job))
    }

    /// The salt of the id of a lease that started at this instant.
    pub fn of_lease(&self, started_at: Timestamp) -> Option<Salt> {
        self.last_before(self.0.partition_point(|salted| salted.since <= started_at))
    }

    pub fn records(&self) -> Vec<Salted> {
        self.0.clone()
    }

    /// The salts of a snapshot; the error says how they contradict each other.
    pub fn restore(records: Vec<Salted>) -> Result<Salts, &'static str> {
        let is_in_order = |pair: &[Salted]| pair[0].first_job <= pair[1].first_job && pair[0].since < pair[1].since;
        if records.len() > SALTS_MAX || !records.windows(2).all(is_in_order) {
            return Err("the salts of ids are not in the order of their beginning, or there are too many");
        }
        Ok(Salts(records))
    }

    fn last_before(&self, end: usize) -> Option<Salt> {
        end.checked_sub(1).map(|at| self.0[at].salt)
    }
}

impl Encoded for Salt {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Encoded::decode(from).map(Salt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn salt(number: u64) -> Salt {
        Salt::new(number.to_le_bytes())
    }

    #[test]
    fn a_job_has_the_salt_of_its_submission_and_a_lease_that_of_its_start() {
        let mut salts = Salts::default();
        salts.begin(JobSeq::new(3), at(10), salt(1));
        salts.note_lease();
        salts.begin(JobSeq::new(3), at(20), salt(2));
        salts.begin(JobSeq::new(5), at(30), salt(3));
        let of_jobs = [1, 2, 3, 4, 5, 6].map(|job| salts.of_job(JobSeq::new(job)));
        assert_eq!(of_jobs, [None, None, Some(salt(2)), Some(salt(2)), Some(salt(3)), Some(salt(3))]);
        let of_leases = [9, 10, 19, 20, 29, 30].map(|ms| salts.of_lease(at(ms)));
        assert_eq!(of_leases, [None, Some(salt(1)), Some(salt(1)), Some(salt(2)), Some(salt(2)), Some(salt(3))]);
        assert_eq!(Salts::restore(salts.records()), Ok(salts));
    }

    #[test]
    fn a_salt_without_ids_is_replaced() {
        let mut salts = Salts::default();
        for start in 1..=1_000 {
            salts.begin(JobSeq::FIRST, at(start), salt(start));
        }
        assert_eq!((salts.0.len(), salts.of_job(JobSeq::FIRST)), (1, Some(salt(1_000))));
    }

    #[test]
    fn beyond_the_limit_the_oldest_ids_name_nothing_and_no_id_names_another_job() {
        let mut salts = Salts::default();
        let count = SALTS_MAX as u64 + 1;
        for start in 1..=count {
            salts.begin(JobSeq::new(start + 10), at(start), salt(start));
        }
        assert_eq!(salts.0.len(), SALTS_MAX);
        let of_jobs = [10, 11, 12, 13].map(|job| salts.of_job(JobSeq::new(job)));
        assert_eq!(of_jobs, [None, Some(salt(count)), Some(salt(count)), Some(salt(3))]);
    }

    #[test]
    fn salts_out_of_order_are_refused() {
        let salted = |job, ms| Salted { first_job: JobSeq::new(job), since: at(ms), salt: salt(1), has_leases: false };
        for records in [[salted(2, 1), salted(1, 2)], [salted(1, 2), salted(2, 2)]] {
            assert!(Salts::restore(records.to_vec()).is_err());
        }
    }
}

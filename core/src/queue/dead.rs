//! How dead letters leave: requeued, completed after all, discarded, or evicted.
//!
//! A letter that is requeued begins anew: its clocks and counts start again, and only its attempts stay readable. One
//! that is discarded or evicted ends as failed and is retained like other final jobs. No letter leaves without an event.

use super::Queue;
use crate::command::Complete;
use crate::context::Context;
use crate::ids::JobSeq;
use crate::ledger::{Account, Ledger};
use crate::limits::{Limits, RUN_BYTES};
use crate::outcome::{FinalStatus, Refusal};
use crate::queue::event::{Event, LetterLeft};
use crate::queue::job::{Job, JobView, ResultMatch, Stage};
use crate::queue::kind::KindIndex;
use crate::queue::kind_rules::OnLettersFull;
use crate::rules;
use crate::timers::Timer;

impl Queue {
    /// The dead letters from a final number on, in the order of ending; of one kind, or of all.
    pub fn letters_from(&self, number: u64, kind: Option<&str>) -> Box<dyn Iterator<Item = (u64, JobView<'_>)> + '_> {
        let kind = match kind.map(|kind| self.kinds.find(kind)) {
            Some(None) => return Box::new(std::iter::empty()),
            Some(Some(kind)) => Some(kind),
            None => None,
        };
        let letters = self.retention.letters().from(number, kind);
        Box::new(letters.map(|(number, letter)| {
            let job = self.table.get(letter.job).expect("a letter is held");
            (number, self.view(job))
        }))
    }

    /// The job of a dead letter; a refusal if it is unknown or not dead.
    pub(super) fn letter(&self, seq: JobSeq) -> Result<&Job, Refusal> {
        let job = self.table.get(seq).ok_or(Refusal::UnknownJob)?;
        match &job.stage {
            Stage::Final(run) if run.outcome.status == FinalStatus::Dead => Ok(job),
            Stage::Final(run) => Err(Refusal::AlreadyFinal { status: run.outcome.status }),
            _ => Err(Refusal::NotDead),
        }
    }

    /// Whether a job of `own_bytes` may be submitted of a kind that refuses work rather than give up dead letters: it and
    /// all that are unfinished may become such, but for the one that it supersedes. `kind` is its row, if it exists.
    pub(super) fn admit_letters(
        &self,
        (limits, ledger): (&Limits, &Ledger),
        kind: Option<KindIndex>,
        own_bytes: u64,
        leaving: Option<&Job>,
    ) -> Result<(), Refusal> {
        if self.gives_up_letters(limits, kind) {
            return Ok(());
        }
        let (as_own_letter, bytes_max) = (own_bytes + RUN_BYTES, limits.dead_bytes_max);
        if as_own_letter > bytes_max {
            return Err(Refusal::JobTooLarge { bytes: as_own_letter, bytes_max });
        }
        let counts = self.counts();
        let unfinished = counts.waiting() + counts.leased - counts.held;
        let (letters, letters_max) = (rules::possible_letters(unfinished, counts.dead), limits.dead_jobs_max);
        if letters - u64::from(leaving.is_some()) >= letters_max {
            return Err(Refusal::LettersFull { letters, letters_max, kind: None });
        }
        // A letter has a run; its errors are not known yet.
        let as_letter = |job: &Job| job.charge().1 + if job.is_waiting() { RUN_BYTES } else { 0 };
        let bytes = ledger.unfinished() + ledger.get(Account::Dead) + counts.waiting() * RUN_BYTES;
        if rules::bytes_after(bytes, leaving.map_or(0, as_letter), as_own_letter) > bytes_max {
            return Err(Refusal::LetterBytesFull { bytes, bytes_max });
        }
        let Some(kind) = kind else { return Ok(()) };
        let Some(letters_max) = self.kinds.row(kind).rules().letters_max else { return Ok(()) };
        let unfinished: u64 =
            self.kinds.row(kind).lanes().iter().map(|slot| self.classes.unfinished(*slot, kind)).sum();
        let letters = rules::possible_letters(unfinished, self.retention.letters().count_of(kind));
        let leaves = u64::from(leaving.is_some_and(|job| job.kind == kind));
        if letters - leaves < letters_max {
            return Ok(());
        }
        Err(Refusal::LettersFull { letters, letters_max, kind: Some(self.kinds.name(kind).clone()) })
    }

    /// Whether a kind's letters go when there is no room. If not, its jobs find their places among the letters, however
    /// many there are: its limit holds when they are submitted.
    pub(super) fn gives_up_letters(&self, limits: &Limits, kind: Option<KindIndex>) -> bool {
        match kind.and_then(|kind| self.kinds.row(kind).rules().on_letters_full) {
            Some(on_full) => on_full == OnLettersFull::Evict,
            None => limits.dead_full_refuses == 0,
        }
    }

    /// A kind has one more dead letter than it may have: its oldest goes.
    pub(super) fn enforce_letters_of(&mut self, cx: &mut Context, kind: KindIndex) {
        let Some(letters_max) = self.kinds.row(kind).rules().letters_max else { return };
        if !self.gives_up_letters(cx.limits, Some(kind)) {
            return;
        }
        while rules::has_too_many_letters(self.retention.letters().count_of(kind), letters_max) {
            let oldest = self.retention.letters().oldest_of(kind).expect("it has some");
            self.refile_letter(cx, oldest, LetterLeft::Evicted);
        }
    }

    /// The hash of the idempotency key that a dead letter had, and what it had said when it was bound.
    pub(crate) fn letter_key(&self, seq: JobSeq) -> Result<Option<u128>, Refusal> {
        Ok(self.letter(seq)?.dead_key())
    }

    /// Keeps the hash of a key with the dead job to which it was bound.
    pub(crate) fn keep_dead_key(&mut self, cx: &mut Context, seq: JobSeq, key: u128) {
        let job = self.table.get_mut(seq).expect("a job that has just ended is held");
        let before = job.charge();
        job.set_dead_key(Some(key));
        let number = job.final_number().expect("it is final");
        let after = job.charge();
        cx.ledger.transfer(before, after);
        self.retention.letters_mut().resize(number, after.1);
    }

    /// Whether a dead letter may be requeued: an admitted one is never refused afterwards.
    pub(crate) fn admit_again(&self, cx: &Context, seq: JobSeq) -> Result<(), Refusal> {
        let job = self.letter(seq)?;
        let (depth, depth_max) = (self.counts().waiting(), cx.limits.queue_depth_max);
        if rules::is_full(depth, depth_max) {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let (bytes, bytes_max) = (cx.ledger.unfinished(), cx.limits.queue_bytes_max);
        let own_bytes = job.charge().1;
        let own_bytes_max = cx.limits.job_bytes_max();
        if own_bytes > own_bytes_max {
            return Err(Refusal::JobTooLarge { bytes: own_bytes, bytes_max: own_bytes_max });
        }
        let after = rules::bytes_after(bytes, 0, own_bytes);
        if after > bytes_max {
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth, over: after - bytes_max });
        }
        self.classes.admit(self.classes.key(job.class), None).map(|_| ())
    }

    /// Requeues a dead letter that was admitted: it waits at the end of its lane.
    pub(crate) fn requeue(&mut self, cx: &mut Context, seq: JobSeq, how: LetterLeft) {
        self.revive(cx, seq, how);
        self.enqueue_scheduled(cx, seq);
    }

    /// Lets a dead letter wait again, and begin anew. Its stage is scheduled, without a timer.
    pub(super) fn revive(&mut self, cx: &mut Context, seq: JobSeq, how: LetterLeft) {
        let number = self.table.get(seq).and_then(Job::final_number).expect("a letter is final");
        self.retention.letters_mut().remove(number);
        let place = self.next_seq;
        self.next_seq = place.next();
        let job = self.table.get_mut(seq).expect("a letter is held");
        if let Some(client) = job.client() {
            self.clients.renumber_result(client, number, None);
        }
        let before = job.charge();
        let has_room = cx.ledger.unfinished() + before.1 <= cx.limits.queue_bytes_max;
        let (kind, class, expires_at) = (job.kind, job.class, job.begin_anew(cx.now, place, has_room));
        let spare = expires_at.1;
        cx.timers.set(expires_at.0, Timer::JobExpires(seq));
        let lane = self.classes.revive(cx.ledger, &mut self.kinds, class, kind);
        let job = self.table.get_mut(seq).expect("a letter is held");
        job.lane = lane;
        let after = job.charge();
        assert!(after.0 == Account::Waiting, "a job that is revived waits");
        cx.ledger.transfer(before, after);
        self.scheduled += 1;
        self.keep_spare(spare);
        cx.events.push(Event::LetterLeft { job: seq, kind, how, renumbered_from: None });
    }

    /// Whether a result is that of an attempt without a lease for a dead letter, and says that the work is done. If no
    /// further class may have unfinished jobs, it cannot be accepted.
    pub(crate) fn completes_letter(&self, complete: &Complete) -> bool {
        let is_work = complete.ok && complete.lease.is_none();
        is_work
            && self.letter(complete.job).is_ok_and(|job| {
                !matches!(job.match_result(complete), ResultMatch::Repeat(_))
                    && self.classes.admit(self.classes.key(job.class), None).is_ok()
            })
    }

    /// Lets a dead letter wait whose result has come: it ends at once.
    pub(crate) fn revive_for_result(&mut self, cx: &mut Context, seq: JobSeq) {
        self.revive(cx, seq, LetterLeft::Completed);
        cx.timers.set(cx.now, Timer::JobDue(seq));
    }

    /// Ends a dead letter as failed.
    pub(crate) fn discard(&mut self, cx: &mut Context, seq: JobSeq, how: LetterLeft) -> Result<(), Refusal> {
        let number = self.letter(seq)?.final_number().expect("a letter is final");
        self.refile_letter(cx, number, how);
        Ok(())
    }

    /// A dead letter becomes a failed job.
    pub(super) fn refile_letter(&mut self, cx: &mut Context, number: u64, how: LetterLeft) {
        let letter = self.retention.letters_mut().remove(number);
        let old_number = number;
        let number = self.retention.number();
        let job = self.table.get_mut(letter.job).expect("a letter is held");
        if let Some(client) = job.client() {
            self.clients.renumber_result(client, old_number, Some(number));
        }
        let before = job.charge();
        job.refile(cx.now, number);
        cx.ledger.transfer(before, job.charge());
        self.retention.push(cx.now, letter.job);
        let renumbered_from = Some(old_number);
        cx.events.push(Event::LetterLeft { job: letter.job, kind: letter.kind, how, renumbered_from });
    }
}

//! Cancelling: jobs that end because someone no longer wants them, and leases whose nodes have not learnt of it yet.
//!
//! A job ends at once. Its lease is *held*: it goes on counting on the limits of its node, kind, zone and of the hub until the
//! node acknowledges (by an extension, a release or a result, which are all answered as lost or cancelled), or the lease
//! ends. Otherwise cancelling would let more jobs of a kind run at once than the kind's limit.

use super::Queue;
use super::ending::Ending;
use crate::context::Context;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::name::Name;
use crate::outcome::{FinalStatus, Refusal, Released};
use crate::queue::event::Event;
use crate::queue::job::{EndedLease, Stage};
use crate::queue::lease::{AttemptEnd, Revocation};
use crate::queue::successor::Taken;
use crate::rules;

impl Queue {
    /// Cancels a job that is not final.
    pub(crate) fn cancel(&mut self, cx: &mut Context, seq: JobSeq) -> Result<(), Refusal> {
        let job = self.table.get(seq).ok_or(Refusal::UnknownJob)?;
        if let Stage::Final(run) = &job.stage {
            return Err(Refusal::AlreadyFinal { status: run.outcome.status });
        }
        let before = job.charge();
        if job.is_waiting() {
            self.stop_waiting(cx, seq);
        } else {
            self.hold_lease(cx, seq, Revocation::Cancelled);
        }
        self.finish(cx, seq, before, Ending::without_result(FinalStatus::Cancelled));
        Ok(())
    }

    /// Ends a job that a newer one supersedes; returns what the newer one takes from it.
    pub(crate) fn supersede(&mut self, cx: &mut Context, seq: JobSeq) -> Taken {
        let job = self.table.get_mut(seq).expect("the job of a key that is not spent is held");
        let before = job.charge();
        // The key belongs to the newer job: the end of this one must not spend it.
        job.set_key(None);
        let rank = job.is_waiting().then(|| job.rank());
        let is_counted = rules::bounds_revocations(cx.rules) && rank.is_none();
        let revocations = job.standing.revocations() + u8::from(is_counted);
        let taken = Taken { rank, revocations, after: self.successors.older(seq) };
        if job.is_waiting() {
            self.stop_waiting(cx, seq);
        } else if rules::holds_revoked_leases(cx.rules) {
            self.hold_lease(cx, seq, Revocation::Superseded);
        } else {
            self.end_lease(cx, seq, AttemptEnd::Revoked { at: cx.now, why: Revocation::Superseded }, false);
        }
        self.finish(cx, seq, before, Ending::without_result(FinalStatus::Superseded));
        taken
    }

    /// A node gives leases back: their jobs wait again, uncharged.
    pub(crate) fn release(&mut self, cx: &mut Context, node: &Name, leases: &[LeaseRef]) -> Vec<Released> {
        leases.iter().map(|lease| self.release_one(cx, node, *lease)).collect()
    }

    fn release_one(&mut self, cx: &mut Context, node: &Name, lease: LeaseRef) -> Released {
        let holder = self.table.get(lease.job).filter(|job| job.lease() == lease).and_then(|job| job.holder());
        if holder != Some(node) {
            return Released::LeaseLost;
        }
        if self.table.get(lease.job).is_some_and(|job| job.final_number().is_some()) {
            self.end_hold(cx, lease.job);
            return Released::Acknowledged;
        }
        self.take_lease(cx, lease.job, AttemptEnd::Revoked { at: cx.now, why: Revocation::Released }, false);
        Released::Given
    }

    /// Ends the attempt of a leased job that ends now; its lease goes on counting.
    fn hold_lease(&mut self, cx: &mut Context, seq: JobSeq, why: Revocation) {
        let job = self.table.get_mut(seq).expect("a leased job is held");
        let end = AttemptEnd::Revoked { at: cx.now, why };
        let toll = end.toll(cx.rules);
        let lease = job.end_attempt(end, toll);
        let Stage::Leased(run) = &mut job.stage else { unreachable!("its attempt has just ended") };
        run.outcome.is_held = true;
        self.leases.held += 1;
        let ran = cx.now.since(lease.started_at);
        cx.events.push(Event::AttemptEnded { lease: job.lease(), node: lease.node, ran, is_reaped: false, toll });
    }

    /// The node of a held lease learnt that it is lost; returns the node.
    pub(super) fn end_hold(&mut self, cx: &mut Context, seq: JobSeq) -> NodeIndex {
        self.free_hold(cx, seq, false)
    }

    /// A held lease ends; `is_reaped` if by its timer.
    pub(super) fn free_hold(&mut self, cx: &mut Context, seq: JobSeq, is_reaped: bool) -> NodeIndex {
        let job = self.table.get_mut(seq).expect("a job with a held lease is held");
        let Stage::Final(run) = &mut job.stage else { unreachable!("only a final job's lease is held") };
        assert!(run.outcome.is_held, "a held lease ends once");
        run.outcome.is_held = false;
        self.leases.held -= 1;
        let started_at = run.attempt.as_ref().map_or(cx.now, |attempt| attempt.started_at);
        let lease = EndedLease { node: run.node, place: run.place, until: run.until, started_at };
        let job = (seq, job.kind, job.class);
        self.free_lease(cx, job, &lease, is_reaped);
        lease.node
    }
}

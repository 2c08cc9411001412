//! Releasing: a node gives back leases whose jobs it did not begin. Their jobs wait again, at their old places, and the
//! attempts are not counted.

use crate::http::{Reply, Request};
use crate::object::object;
use crate::service::body::Fields;
use crate::service::problem::Problem;
use crate::service::{Caller, Service, reply};
use sheratan_core::{Command, LeaseRef, Name, Outcome, Timestamp};

impl Service {
    pub(super) fn release_leases(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Reply, Problem> {
        let fields = Fields::parse(request.body(), &["node_id", "leases"])?;
        let node = fields.required_name("node_id")?;
        let texts = super::read_leases(&fields)?;
        let parsed: Vec<_> = texts.iter().map(|text| self.hub.parse_lease_id(text)).collect();
        let held: Vec<_> = parsed.iter().flatten().copied().filter(|lease| self.holds(&node, *lease)).collect();
        let mut released = Vec::new();
        if !held.is_empty() {
            let outcome = self.execute(now, self.asker(caller), Command::Reclaim(held.clone()))?;
            let Outcome::Reclaimed(jobs) = outcome else { unreachable!("a release is answered as one") };
            released = jobs;
        }
        Ok(reply::ok(|out| {
            out.flag("ok", true).array("leases", texts.iter().zip(&parsed), |out, (text, lease)| {
                let lease = lease.filter(|lease| held.contains(lease));
                object(out, |out| {
                    out.text("lease_id", text);
                    match lease {
                        Some(lease) if released.contains(&lease.job) => _ = out.flag("ok", true),
                        // It was given back too often, and runs to its end.
                        Some(_) => _ = out.flag("ok", false).plain("error", "not_released"),
                        None => _ = out.flag("ok", false).plain("error", "lease_lost"),
                    }
                });
            });
        }))
    }

    /// Whether a node holds a lease.
    fn holds(&self, node: &Name, lease: LeaseRef) -> bool {
        let job = self.hub.queue().get(lease.job);
        job.is_some_and(|job| job.lease() == lease && job.leased_to() == Some(node))
    }
}

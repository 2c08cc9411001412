//! Releasing: a node gives back leases whose jobs it does not finish. Their jobs wait again, and no attempt is charged.

use crate::http::{Reply, Request};
use crate::object::object;
use crate::service::body::Fields;
use crate::service::problem::Problem;
use crate::service::{Caller, Service, reply};
use sheratan_core::{Command, Outcome, Release, Released, Timestamp};

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
        // A text that is not a lease id of this hub counts as a lost lease; the command carries only the others.
        let parsed: Vec<_> = texts.iter().map(|text| self.hub.parse_lease_id(text)).collect();
        let leases = parsed.iter().flatten().copied().collect();
        let release = Release { node: node.clone(), leases };
        let outcome = self.execute(now, self.asker(caller), Command::Release(release))?;
        if !outcome.is_durable() {
            self.note_liveness(now, &node);
        }
        let Outcome::Released(released) = outcome else { unreachable!("a release is answered as one") };
        let mut released = released.into_iter();
        Ok(reply::ok(|out| {
            out.flag("ok", true).array("leases", texts.iter().zip(&parsed), |out, (text, parsed)| {
                let outcome = match parsed {
                    Some(_) => released.next().expect("one outcome for each lease of the command"),
                    None => Released::LeaseLost,
                };
                object(out, |out| {
                    out.text("lease_id", text);
                    match outcome {
                        Released::Given => _ = out.flag("ok", true),
                        // It had been cancelled or superseded: it counts no more, and there is nothing to give back.
                        Released::Acknowledged | Released::LeaseLost => {
                            _ = out.flag("ok", false).plain("error", "lease_lost");
                        }
                    }
                });
            });
        }))
    }
}

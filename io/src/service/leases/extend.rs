//! Extending: a node prolongs the leases that it names.

use crate::http::{Reply, Request};
use crate::object::object;
use crate::service::body::Fields;
use crate::service::problem::Problem;
use crate::service::{Caller, Service, reply};
use sheratan_core::{Calendar, Command, Extend, Extended, Outcome, Timestamp};

impl Service {
    pub(super) fn extend_leases(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Reply, Problem> {
        let fields = Fields::parse(request.body(), &["node_id", "leases", "lease_sec", "progress", "note"])?;
        let node = fields.required_name("node_id")?;
        let lease_duration_ms = super::read_lease_duration(&fields)?;
        let texts = super::read_leases(&fields)?;
        // A text that is not a lease id of this hub counts as a lost lease; the command carries only the others.
        let parsed: Vec<_> = texts.iter().map(|text| self.hub.parse_lease_id(text)).collect();
        let leases = parsed.iter().flatten().copied().collect();
        let progress = fields.number("progress", 0..=100)?.map(|percent| percent as u8);
        let note = fields.key("note")?;
        self.note_token_of_node(now, caller, &node);
        let extend = Extend { node: node.clone(), leases, lease_duration_ms, progress, note };
        let outcome = self.execute(now, self.asker(caller), Command::Extend(extend))?;
        if !outcome.is_durable() {
            self.note_liveness(now, &node);
        }
        let (calendar, now) = (self.hub.calendar(), self.hub.now());
        let Outcome::Extended(extended) = outcome else { unreachable!("an extension is answered as one") };
        let mut extended = extended.into_iter();
        Ok(reply::ok(|out| {
            out.flag("ok", true).array("leases", texts.iter().zip(&parsed), |out, (text, parsed)| {
                let outcome = match parsed {
                    Some(_) => extended.next().expect("one outcome for each lease of the command"),
                    None => Extended::LeaseLost,
                };
                write_extended(out, calendar, now, text, outcome);
            });
        }))
    }
}

/// One entry of the reply to an extension.
fn write_extended(out: &mut Vec<u8>, calendar: Calendar, now: Timestamp, lease_id: &str, extended: Extended) {
    object(out, |out| {
        out.text("lease_id", lease_id);
        match extended {
            Extended::Until { until, is_last } => {
                out.flag("ok", true).time("lease_until_utc", calendar.utc(until));
                out.number("lease_ms", until.since(now).get());
                if is_last { out.flag("last", true) } else { out }
            }
            Extended::LeaseLost | Extended::Revoked => out.flag("ok", false).plain("error", "lease_lost"),
            Extended::Cancelled => out.flag("ok", false).plain("error", "cancelled"),
        };
    });
}

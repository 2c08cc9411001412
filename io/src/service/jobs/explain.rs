//! Explaining a job: why it does not run now, in sentences and in members.

use super::super::problem::Problem;
use super::super::{Service, reply};
use crate::http::Reply;
use crate::object::{Object, object};
use sheratan_core::explain::{Hindrance, Nodes, Reason};
use sheratan_core::{Hub, Name, Timestamp};

impl Service {
    pub(in crate::service) fn explain_job(&self, id: &str) -> Result<Reply, Problem> {
        let seq = self.parse_job(id)?;
        let job = self.hub.queue().get(seq).ok_or_else(Problem::unknown_job)?;
        let explanation = self.hub.explain(seq).expect("the job is known");
        Ok(reply::ok(|out| {
            out.flag("ok", true).plain("job_id", self.hub.ids().job_id(seq)).plain("status", job.status());
            out.array("reasons", &explanation.reasons, |out, reason| {
                object(out, |out| write_reason(out, &self.hub, reason));
            });
            if let Some(ahead) = explanation.ahead {
                out.number("ahead", ahead);
            }
            if !job.is_final() {
                match explanation.starts_at {
                    Some(at) => out.time("estimated_start_utc", self.hub.calendar().utc(at)),
                    None => out.raw("estimated_start_utc", b"null"),
                };
            }
        }))
    }
}

fn write_reason(out: &mut Object, hub: &Hub, reason: &Reason) {
    out.plain("code", reason.code()).text("detail", &detail(reason));
    if let Some(lifted_by) = lifted_by(reason) {
        out.plain("lifted_by", lifted_by);
    }
    if let Some(until) = reason.until(hub) {
        out.time("until_utc", hub.calendar().utc(until));
    }
    match reason {
        Reason::Leased { node, .. } | Reason::Reserved { node, .. } => _ = out.text("node_id", node),
        Reason::PreviousRun { job } => _ = out.plain("after_job_id", hub.ids().job_id(*job)),
        Reason::Backoff { attempts, .. } => _ = out.number("attempts", u64::from(*attempts)),
        Reason::RetryBudget { ahead, .. } => _ = out.number("retries_ahead", *ahead),
        Reason::KindPaused { reason: Some(reason), .. } => _ = out.text("pause_reason", reason),
        Reason::KindFull { leased, max } | Reason::HubFull { leased, max } | Reason::ZoneFull { leased, max } => {
            out.number("leased", *leased).number("max", *max);
        }
        Reason::HubBytesFull { bytes, bytes_max } => _ = out.number("leased_bytes", *bytes).number("max", *bytes_max),
        Reason::NoNode { nodes, .. } => write_nodes(out, nodes),
        Reason::Turn { nodes } => _ = out.number("nodes", *nodes),
        _ => {}
    }
}

fn write_nodes(out: &mut Object, nodes: &Nodes) {
    out.number("nodes_in_zone", nodes.in_zone).number("nodes_full", nodes.full);
    out.number("nodes_drained", nodes.drained)
        .number("nodes_quarantined", nodes.quarantined)
        .number("nodes_offline", nodes.offline);
    out.array("nodes_lacking", &nodes.lacking, |out, (name, count): &(Name, u64)| {
        object(out, |out| _ = out.text("capability", name).number("nodes", *count));
    });
}

/// The reason in a sentence.
fn detail(reason: &Reason) -> String {
    match reason {
        Reason::Ended(status) => format!("It has ended: it is {}.", status.as_str()),
        Reason::Leased { node, .. } => format!("It runs on node '{node}'."),
        Reason::RunAt { .. } => "It was submitted with `run_at_utc`, which is not yet.".to_owned(),
        Reason::PreviousRun { .. } => {
            "An older job of its key runs, and newer ones have taken too many leases from such jobs in a row."
                .to_owned()
        }
        Reason::Delayed { .. } => "It was submitted with a delay, which is not over.".to_owned(),
        Reason::Backoff { attempts, .. } => {
            format!("Attempt {attempts} did not succeed; the delay before the next one is not over.")
        }
        Reason::Released { .. } => {
            "Nodes gave it back without working on it; the delay until it is offered again is not over.".to_owned()
        }
        Reason::RetryBudget { ahead: 0, .. } => {
            "It is the next retry of its kind, and the retry budget is spent.".to_owned()
        }
        Reason::RetryBudget { ahead, .. } => {
            format!("It is a retry, the retry budget is spent, and {ahead} retries of its kind have waited longer.")
        }
        Reason::Reserved { node, .. } => {
            format!("Its last attempt was on node '{node}', so that another node gets it first.")
        }
        Reason::KindPaused { reason: None, .. } => "Its kind is paused.".to_owned(),
        Reason::KindPaused { reason: Some(reason), .. } => format!("Its kind is paused: {reason}."),
        Reason::KindFull { leased, max } => {
            format!("{leased} jobs of its kind are under lease; at most {max} may be (`max_inflight`).")
        }
        Reason::KindRate { until: Timestamp::NEVER } => {
            "The rate of its kind is 0 (`rate_per_sec`): none of its jobs is leased.".to_owned()
        }
        Reason::KindRate { .. } => "Its kind has used up its rate (`rate_per_sec`).".to_owned(),
        Reason::HubFull { leased, max } => {
            format!("{leased} jobs are under lease in the hub; at most {max} may be (`max_inflight`).")
        }
        Reason::HubBytesFull { bytes, bytes_max } => {
            format!(
                "The jobs under lease take {bytes} bytes, and with it they would take more than {bytes_max} (`max_inflight_bytes`)."
            )
        }
        Reason::ZoneFull { leased, max } => {
            format!("{leased} jobs of its zone are under lease; at most {max} may be (`max_leases_per_zone`).")
        }
        Reason::NoNode { nodes, kept_by } => detail_of_nodes(nodes, *kept_by),
        Reason::Turn { nodes } => {
            format!("It is ready, and {nodes} nodes may take it: those before it are leased first.")
        }
    }
}

fn detail_of_nodes(nodes: &Nodes, kept_by: Option<Hindrance>) -> String {
    let could_run_it = |count: u64| match count {
        1 => "A node that could run it".to_owned(),
        _ => format!("{count} nodes that could run it"),
    };
    let is_are = |count: u64| if count == 1 { "is" } else { "are" };
    match kept_by {
        Some(Hindrance::Full) => {
            let has = if nodes.full == 1 { "has" } else { "have" };
            format!("{} {has} as many leases as a node may have.", could_run_it(nodes.full))
        }
        Some(Hindrance::Drained) => format!("{} {} drained.", could_run_it(nodes.drained), is_are(nodes.drained)),
        Some(Hindrance::Quarantined) => {
            format!("{} {} in quarantine.", could_run_it(nodes.quarantined), is_are(nodes.quarantined))
        }
        Some(Hindrance::Offline) => format!("{} {} not online.", could_run_it(nodes.offline), is_are(nodes.offline)),
        None if nodes.in_zone == 0 => "No node is registered in its zone.".to_owned(),
        None => match nodes.lacking.first() {
            Some((name, count)) => {
                format!("No node of its zone has all that it requires: {count} online ones lack '{name}'.")
            }
            None => "No node of its zone is online and has all that it requires.".to_owned(),
        },
    }
}

/// What lifts the reason, beside its time.
fn lifted_by(reason: &Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Ended(_) => return None,
        Reason::Leased { .. } => "its result, or the end of its lease",
        Reason::RunAt { .. } | Reason::Delayed { .. } | Reason::Backoff { .. } | Reason::Released { .. } => "time",
        Reason::KindRate { until: Timestamp::NEVER } => "a larger rate_per_sec of the kind",
        Reason::KindRate { .. } => "time, or a larger rate_per_sec of the kind",
        Reason::RetryBudget { .. } => "time, fresh jobs of its kind, or a larger retry_budget_percent",
        Reason::PreviousRun { .. } => "the end of that job's lease",
        Reason::Reserved { .. } => "another node's pull, or time",
        Reason::KindPaused { .. } => "resuming the kind, or the end of its pause",
        Reason::KindFull { .. } => "the end of a lease of its kind, or a larger max_inflight of the kind",
        Reason::HubFull { .. } => "the end of a lease, or a larger max_inflight",
        Reason::HubBytesFull { .. } => "the end of other leases, or a larger max_inflight_bytes",
        Reason::ZoneFull { .. } => "the end of a lease of its zone, or a larger max_leases_per_zone",
        Reason::NoNode { kept_by, .. } => match kept_by {
            Some(Hindrance::Full) => "the end of a lease of such a node, or a larger max_leases_per_node",
            Some(Hindrance::Drained) => "resuming such a node",
            Some(Hindrance::Quarantined) => "the end of the quarantine of such a node, or its release",
            Some(Hindrance::Offline) => "a heartbeat or pull of such a node",
            None => "a node of its zone with all that it requires",
        },
        Reason::Turn { .. } => "a pull of such a node",
    })
}

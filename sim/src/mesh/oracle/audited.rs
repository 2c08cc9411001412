//! The audit log's lines of acts: what operators did and what became of dead letters is in the log, once and in order.
//!
//! The shadow reports an event when its record is durable, the running hub when it has applied the command. So the hub
//! is ahead, by as much as it has not made durable; what a process did not report before it died, no log has.

use super::{Oracle, Violation, holds};
use sheratan_core::{Audit, Ids};
use sheratan_io::audit::Event;
use std::collections::VecDeque;

const LOGGED: &str = "what operators did and what became of letters is in the audit log";

/// Events of the running process, by what their lines must say.
#[derive(Debug, Default)]
pub struct Audited {
    /// What the hub has reported, and the shadow not yet.
    logged: VecDeque<String>,
    /// Whether all records are the running process's.
    is_followed: bool,
}

impl Oracle {
    /// The hub reports events for the audit log.
    pub fn logged(&mut self, lines: impl IntoIterator<Item = String>) {
        self.audited.logged.extend(lines);
    }

    /// The records that follow are of a process that has ended or of a second hub: what they do may be in no log.
    pub fn unfollow_log(&mut self) {
        self.audited.is_followed = false;
    }

    /// A process begins: what the one before has reported no longer counts.
    pub(super) fn follow_log(&mut self) {
        self.audited = Audited { is_followed: true, ..Audited::default() };
    }

    /// The shadow reports an event: the hub must have reported it too.
    pub(super) fn check_logged(&mut self, audit: &Audit) -> Result<(), Violation> {
        if !self.audited.is_followed {
            return Ok(());
        }
        let Some(expected) = line_of(self.shadow.ids(), audit) else { return Ok(()) };
        let logged = self.audited.logged.pop_front();
        holds(logged.as_ref() == Some(&expected), LOGGED, || {
            format!("record {} does `{expected}`, the log's next line is {logged:?}", self.seq)
        })
    }
}

/// What the line of an event must say, if it is one of those that are followed.
fn line_of(ids: &Ids, audit: &Audit) -> Option<String> {
    Some(match audit {
        Audit::JobCancelled { job, by } => format!("JOB_CANCELLED {} {}", ids.job_id(*job), by.as_str()),
        Audit::KindChanged { kind, version, by, .. } => {
            format!("ADMIN_KIND_CHANGED {} {version} {}", kind, by.as_str())
        }
        Audit::WeightsChanged { groups, by } => format!("ADMIN_WEIGHTS_CHANGED {groups} {}", by.as_str()),
        Audit::KindResumed { kind } => format!("KIND_RESUMED {}", kind),
        Audit::NodeDrained { node, by, .. } => format!("NODE_DRAINED {} {}", node, by.as_str()),
        Audit::NodeResumed { node, by } => format!("NODE_RESUMED {} {}", node, by.as_str()),
        Audit::NodeRemoved { node, by } => format!("NODE_REMOVED {} {}", node, by.as_str()),
        Audit::DeadLetterAdded { job, kind, .. } => format!("DLQ_ENQUEUE {} {}", ids.job_id(*job), kind),
        Audit::DeadLetterRequeued { job, kind, by } => {
            format!("DLQ_REQUEUE {} {} {}", ids.job_id(*job), kind, by.as_str())
        }
        Audit::DeadLetterDiscarded { job, kind, by } => {
            format!("DLQ_DISCARD {} {} {}", ids.job_id(*job), kind, by.as_str())
        }
        Audit::DeadLetterEvicted { job, kind, .. } => format!("DLQ_EVICT {} {}", ids.job_id(*job), kind),
        Audit::DeadLetterCompleted { job, kind } => format!("DLQ_COMPLETED {} {}", ids.job_id(*job), kind),
        Audit::ActBegan { act, matched, by, .. } => format!("DLQ_ACT_BEGAN {act} {matched} {}", by.as_str()),
        Audit::ActEnded { act, done, skipped, is_cancelled, by, .. } => {
            format!("DLQ_ACT_ENDED {act} {done} {skipped} {is_cancelled} {}", by.as_str())
        }
        Audit::ResultOrphaned { orphan, job_id, evicted, .. } => {
            format!("RESULT_ORPHANED {orphan} {} {evicted}", job_id)
        }
        Audit::OrphansEvicted { orphans } => format!("ORPHANS_EVICTED {orphans}"),
        Audit::OrphanAdopted { orphan, job, by, .. } => {
            format!("ORPHAN_ADOPTED {orphan} {} {}", ids.job_id(*job), by.as_str())
        }
        Audit::OrphanDiscarded { orphan, by } => format!("ORPHAN_DISCARDED {orphan} {}", by.as_str()),
        _ => return None,
    })
}

/// What the line of an event says, if it is one of those that are followed: the members of its details that name it.
pub fn line_of_event(event: &Event) -> Option<String> {
    let members: &[&str] = match event.event {
        "JOB_CANCELLED" => &["job_id", "by"],
        "ADMIN_KIND_CHANGED" => &["kind", "version", "by"],
        "ADMIN_WEIGHTS_CHANGED" => &["groups", "by"],
        "KIND_RESUMED" => &["kind"],
        "NODE_DRAINED" | "NODE_RESUMED" | "NODE_REMOVED" => &["node_id", "by"],
        "DLQ_ENQUEUE" | "DLQ_EVICT" | "DLQ_COMPLETED" => &["job_id", "kind"],
        "DLQ_REQUEUE" | "DLQ_DISCARD" => &["job_id", "kind", "by"],
        "DLQ_ACT_BEGAN" => &["act_id", "matched", "by"],
        "DLQ_ACT_ENDED" => &["act_id", "done", "skipped", "cancelled", "by"],
        "RESULT_ORPHANED" => &["orphan_id", "job_id", "evicted"],
        "ORPHANS_EVICTED" => &["evicted"],
        "ORPHAN_ADOPTED" => &["orphan_id", "job_id", "by"],
        "ORPHAN_DISCARDED" => &["orphan_id", "by"],
        _ => return None,
    };
    let details: serde_json::Value = serde_json::from_slice(&event.details).expect("details are JSON");
    let mut line = event.event.to_owned();
    for member in members {
        line.push(' ');
        match &details[*member] {
            serde_json::Value::String(text) => line += text,
            value => line += &value.to_string(),
        }
    }
    Some(line)
}

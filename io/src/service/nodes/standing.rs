//! What nodes attest and sign, and what follows from it, as the registry shows it.

use super::signing::key_prefix;
use crate::object::{Object, object};
use sheratan_core::{Attestation, Attested, Calendar, Change, Hub, Node, PublicKey, Timestamp};

/// The members of a node's state.
pub fn write_state(out: &mut Object, node: &Node, calendar: Calendar) {
    out.plain("policy_state", node.policy_state().as_str());
    let Some(state) = node.state() else {
        out.raw("policy_reason", b"null").raw("policy_until_utc", b"null").number("policy_hits", 0);
        out.raw("policy_updated_utc", b"null").raw("policy_by", b"null");
        return;
    };
    match state.reason {
        Some(reason) => out.plain("policy_reason", reason.as_str()),
        None => out.raw("policy_reason", b"null"),
    };
    match state.until {
        Some(until) => out.time("policy_until_utc", calendar.utc(until)),
        None => out.raw("policy_until_utc", b"null"),
    };
    out.number("policy_hits", state.hits.into());
    out.time("policy_updated_utc", calendar.utc(state.updated_at)).plain("policy_by", state.by.as_str());
    if let Some(note) = &state.note {
        out.text("policy_note", note);
    }
}

/// What a node attests; with the history of its changes if `is_whole`.
pub fn write_attestation(out: &mut Object, hub: &Hub, node: &Node, is_whole: bool) {
    let calendar = hub.calendar();
    out.object("attestation", |out| {
        out.plain("status", node.attestation_status().as_str());
        let Some(attested) = node.attested() else {
            out.raw("first_seen", b"null").raw("last_seen", b"null").number("drift_count", 0);
            out.number("spoof_count", 0).raw("last_change_utc", b"null");
            return;
        };
        out.object("first_seen", |out| {
            write_claims(out, &attested.baseline);
            out.time("ts_utc", calendar.utc(attested.baseline_at));
            if let Some(by) = attested.accepted_by {
                out.plain("accepted_by", by.as_str());
            }
        });
        out.object("last_seen", |out| {
            write_claims(out, &attested.latest);
            out.time("ts_utc", calendar.utc(last_attested_at(node, attested)));
        });
        out.number("drift_count", attested.drifts.into()).number("spoof_count", attested.flips.into());
        out.time("last_change_utc", calendar.utc(attested.changed_at));
        if is_whole {
            out.array("changes", attested.changes.iter(), |out, change: &Change| {
                object(out, |out| {
                    out.time("ts_utc", calendar.utc(change.at)).plain("status", change.status.as_str());
                    out.text_or_null("build_id", change.build_id.as_deref());
                    out.text_or_null("capability_hash", change.capability_hash.as_deref());
                });
            });
        }
    });
}

/// Which key is pinned for a node, and whether it signs; with the whole key if `is_whole`.
pub fn write_identity(out: &mut Object, calendar: Calendar, node: &Node, is_whole: bool) {
    let identity = node.identity();
    let key = identity.and_then(|identity| identity.key);
    out.object("identity", |out| {
        out.plain("status", node.identity_status().as_str());
        out.text_or_null("key_prefix", key.as_ref().map(key_prefix).as_deref());
        match identity.and_then(|identity| identity.pinned_at) {
            Some(at) => out.time("pinned_utc", calendar.utc(at)),
            None => out.raw("pinned_utc", b"null"),
        };
        let Some(identity) = identity else {
            out.raw("last_change_utc", b"null").number("fault_count", 0);
            return;
        };
        if key.is_some() {
            out.plain("pinned_by", identity.pinned_by.as_str());
        }
        out.time("last_change_utc", calendar.utc(identity.changed_at)).number("fault_count", identity.faults.into());
        if identity.is_replayed {
            out.plain("reason", "replayed");
        }
        if let Some(next) = &identity.next {
            out.plain("next_key_prefix", key_prefix(next));
        }
        if is_whole {
            let whole = |key: PublicKey| hex::encode(key.as_bytes());
            out.text_or_null("public_key", key.map(whole).as_deref());
            if let Some(at) = identity.signed_at() {
                out.time("signed_utc", at);
            }
            if let Some(counter) = identity.counter() {
                out.number("counter", counter);
            }
        }
    });
}

/// When a node attested last: with its latest heartbeat, unless its heartbeats have had no attestation since.
fn last_attested_at(node: &Node, attested: &Attested) -> Timestamp {
    let latest = attested.silent_since.or(node.heartbeat_at());
    latest.map_or(attested.latest_at, |at| at.max(attested.latest_at))
}

fn write_claims(out: &mut Object, attestation: &Attestation) {
    out.text_or_null("build_id", attestation.build_id.as_deref());
    out.text_or_null("capability_hash", attestation.capability_hash.as_deref());
    if let Some(runtime) = &attestation.runtime {
        out.raw("runtime", runtime.as_bytes());
    }
}

//! Problems: every refusal that a client can get, with its status, code and text in one place (RFC 9457).

use super::plane::{Plane, PlaneAddrs};
use crate::http::{self, Reply};
use crate::object::{self, Object};
use crate::rfc3339::Rfc3339;
use sheratan_core::integrity::checksum::Failure;
use sheratan_core::limits::{CLASSES_MAX, CLASSES_PER_ZONE_MAX, POLICIES_BYTES_MAX, POLICIES_MAX};
use sheratan_core::policy::Denial;
use sheratan_core::{Hub, JobSeq, Millis, Refusal, TokenRefusal};

/// A refusal of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The code, `error` on the wire.
    pub code: &'static str,
    /// What is wrong, and the next step.
    pub detail: String,
    /// How long to wait before a retry.
    pub retry_after_ms: Option<Millis>,
    /// Additional members: `,"name":value` for each.
    extra: String,
    /// The value of `Allow`, for a method that a path does not have.
    allow: Option<&'static str>,
}

/// Why a token was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthReason {
    /// The request has no token.
    MissingToken,
    /// The token is not the hub's.
    BadToken,
    /// A rotation has replaced the token.
    Retired,
}

/// What a hub has to check a signature with that it refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureKeys {
    None,
    /// Keys by none of which it is.
    Other,
    /// It is by a key that was replaced.
    Replaced,
}

/// Whether a request that `503 journal_unavailable` answers was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It was refused before: it is certainly not done, and may be repeated.
    No,
    /// It was applied, and may become durable.
    Unknown,
}

impl Applied {
    /// The word as the wire spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Applied::No => "no",
            Applied::Unknown => "unknown",
        }
    }
}

impl AuthReason {
    /// The reason as the wire and the audit log spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthReason::MissingToken => "missing_token",
            AuthReason::BadToken => "bad_token",
            AuthReason::Retired => "old_token_after_rotation",
        }
    }
}

impl Problem {
    /// A refusal with a status, a code and a text.
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, code, detail: detail.into(), retry_after_ms: None, extra: String::new(), allow: None }
    }

    /// The request's body or query is not valid for the route.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(400, "bad_request", detail)
    }

    /// Neither plane has the path.
    pub fn unknown_path() -> Self {
        Problem::new(404, "unknown_path", "neither plane has this path")
    }

    /// A path of this plane that this release does not serve.
    pub fn unserved_path() -> Self {
        Problem::new(404, "unknown_path", "this release of the hub does not serve this path")
    }

    /// The job is unknown: never submitted, or dropped after its retention.
    pub fn unknown_job() -> Self {
        let detail = "the hub knows no job of this id: it was never submitted here, or its retention is over";
        Problem::new(404, "unknown_job", detail)
    }

    /// The hub holds no policy of this version.
    pub fn unknown_policy() -> Self {
        Problem::new(404, "unknown_policy", "the hub holds no policy of this version: list them with GET /api/policies")
    }

    /// The active policy denies the request.
    pub fn denied_by(denial: &Denial) -> Self {
        let Denial { version, rule, reason, .. } = denial;
        Problem::new(403, "policy_denied", denial.to_string()).with_extra(extra(|out| {
            out.number("policy_version", *version).text_or_null("rule", rule.as_deref()).text("reason", reason);
        }))
    }

    /// The path does not have the request's method.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path takes {allow}");
        Problem { allow: Some(allow), ..Problem::new(405, "method_not_allowed", detail) }
    }

    /// The body's media type is not JSON.
    pub fn unsupported_media_type() -> Self {
        Problem::new(415, "unsupported_media_type", "the body must be JSON, with Content-Type: application/json")
    }

    /// The body is compressed.
    pub fn unsupported_encoding() -> Self {
        Problem::new(415, "unsupported_media_type", "the body must be sent as it is, without a Content-Encoding")
    }

    /// The frozen reply to a path of the other plane.
    pub fn port_mismatch(plane: Plane, addrs: &PlaneAddrs) -> Self {
        let other = plane.other();
        let port = addrs.of(other).port();
        let detail = format!("this path belongs to the {} plane on port {port}", other.as_str());
        Problem { extra: format!(",\"expected_port\":{port}"), ..Problem::new(410, "port_mismatch", detail) }
    }

    /// The frozen reply to a missing or wrong token.
    pub fn auth_failure(reason: AuthReason) -> Self {
        let detail = match reason {
            AuthReason::MissingToken => {
                "send the hub's token as X-Sheratan-Token or Authorization: Bearer; it is in <data-dir>/secrets/hub_token"
            }
            AuthReason::BadToken => "the token is not this hub's",
            AuthReason::Retired => {
                "the token was this hub's until it was replaced by another one: get the new one from the hub's operator"
            }
        };
        let extra = format!(",\"reason\":\"{}\"", reason.as_str());
        Problem { extra, ..Problem::new(403, "auth_failure", detail) }
    }

    /// The token begins like one that hubs make, and its checksum is wrong.
    pub fn mistyped_token() -> Self {
        let mut problem = Problem::auth_failure(AuthReason::BadToken);
        problem.extra.push_str(",\"hint\":\"malformed\"");
        problem.detail = "the token has a typing error: its last characters do not fit the others".into();
        problem
    }

    /// Orders about a token of a hub that requires none.
    pub fn no_token() -> Self {
        Problem::of_token(&TokenRefusal::NoToken)
    }

    /// A token is still used.
    pub fn token_in_use(which: &str, write_users: impl FnOnce(&mut Object)) -> Self {
        let detail = format!("some still use {which} (\"users\"): give them the other one, or send \"force\":true");
        let mut users = Vec::new();
        crate::object::object(&mut users, write_users);
        let members = String::from_utf8_lossy(&users[1..users.len() - 1]);
        Problem { extra: format!(",{members}"), ..Problem::new(409, "token_in_use", detail) }
    }

    /// An order about the shared token is refused.
    fn of_token(refusal: &TokenRefusal) -> Self {
        match refusal {
            TokenRefusal::NoToken => {
                Problem::new(409, "no_token", "this hub requires no token (hub_token_required is 0)")
            }
            TokenRefusal::SameToken => {
                Problem::new(409, "same_token", "the next token is the active one: a rotation needs another one")
            }
            TokenRefusal::Retired => {
                Problem::new(409, "retired_token", "a rotation has replaced this token, and it is never accepted again")
            }
            TokenRefusal::WindowOpen(rotation) => {
                let (next, until) = (rotation.next, Rfc3339::new(rotation.until));
                let detail = format!("a rotation to token {next} is under way until {until}: finish or abort it first");
                let extra = format!(",\"next\":\"{next}\",\"rotation_until_utc\":\"{until}\"");
                Problem { extra, ..Problem::new(409, "rotation_open", detail) }
            }
            TokenRefusal::NoWindow => Problem::new(409, "no_rotation", "no rotation is under way"),
        }
    }

    /// A web page that is not the hub's asks, without a token.
    pub fn foreign_origin(header: &'static str) -> Self {
        let detail = format!(
            "without a token a request must come from this hub's own pages or from no page at all: its {header} names another; send the token, or add the name to host_names"
        );
        Problem::new(403, "foreign_origin", detail)
    }

    /// The address had too many authentication failures.
    pub fn auth_blocked(wait: Millis) -> Self {
        let detail = format!("too many authentication failures from this address; retry in {} s", wait.as_secs_ceil());
        Problem { retry_after_ms: Some(wait), ..Problem::new(429, "rate_limited", detail) }
    }

    /// A result's checksum or signature is missing or wrong.
    pub fn integrity(failure: Failure, keys: SignatureKeys) -> Self {
        let reason = failure.as_str();
        let rule = match failure {
            Failure::SigMismatch if keys == SignatureKeys::Replaced => {
                "it is signed with the key that was replaced (the rotation of result_hmac_key is over): give the worker the next one"
            }
            Failure::SigMismatch if keys == SignatureKeys::None => {
                "the result is signed, and this hub has no key to check that: give it the workers' key (result_hmac_key), or do not sign"
            }
            Failure::SigMismatch => {
                "sig must be the HMAC-SHA256 of what sha256 is over, under the hub's result_hmac_key"
            }
            Failure::ShaMismatch | Failure::MissingIntegrity => {
                "sha256 must be over the canonical JSON of error, job_id, ok and result"
            }
        };
        let detail = format!("the result's integrity is not right ({reason}): {rule}");
        let extra = format!(",\"reason\":\"{reason}\"");
        Problem { extra, ..Problem::new(403, "result_integrity_fail", detail) }
    }

    /// A stored result no longer matches its checksum; `extra` is what is shown besides.
    pub fn result_corrupt(extra: String) -> Self {
        let detail = "the stored result no longer matches the checksum that it came with: memory or disk changed it, and it is not shown; submit the job again, and have the hub's machine checked";
        Problem { extra, ..Problem::new(500, "result_corrupt", detail) }
    }

    /// As [`Problem::result_corrupt`], of the result of an unknown job.
    pub fn orphan_corrupt(extra: String) -> Self {
        let detail = "the stored result no longer matches the checksum that it came with: memory or disk changed it, and it is neither shown nor adopted; discard it, and have the hub's machine checked";
        Problem { extra, ..Problem::new(500, "result_corrupt", detail) }
    }

    /// An orphan is to be the result of a job that has ended.
    pub fn adopted_by_ended(status: &str) -> Self {
        let detail = format!(
            "the job has ended already, with the status {status}, and takes no result: adopt the orphan for another job, or discard it"
        );
        Problem::new(409, "already_final", detail).with_extra(format!(",\"job_status\":\"{status}\""))
    }

    /// The request cannot be served yet.
    pub fn not_ready(detail: impl Into<String>, wait: Millis) -> Self {
        Problem { retry_after_ms: Some(wait), ..Problem::new(503, "not_ready", detail) }
    }

    /// The hub is stopping.
    pub fn stopping() -> Self {
        Problem::new(503, "not_ready", "the hub is stopping")
    }

    /// The journal cannot be written, so the command was refused before it was applied.
    pub fn journal_unavailable(reason: &str) -> Self {
        let detail = format!("the journal cannot be written ({reason}): nothing was done; retry in 1 s");
        Problem::of_journal(Applied::No, detail)
    }

    /// The reply would show changes that the journal could not be written with, and that a crash may undo.
    pub fn not_durable(reason: &str) -> Self {
        let detail =
            format!("the journal cannot be written ({reason}), and does not hold what this would show; retry in 1 s");
        Problem::of_journal(Applied::No, detail)
    }

    /// A result of an unknown job is not kept: no results are, or it alone has more `bytes` than all may.
    pub fn orphan_not_kept(bytes: u64, (count_max, bytes_max): (u64, u64)) -> Self {
        if count_max == 0 {
            let detail = "the hub knows no such job, and keeps no results of unknown jobs (orphans_max)";
            return Problem::new(404, "unknown_job", detail);
        }
        let detail = format!(
            "the hub knows no such job, and the result alone takes {bytes} bytes of the {bytes_max} that those of unknown jobs may (orphans_bytes_max): it is not kept"
        );
        Problem::new(413, "payload_too_large", detail)
    }

    /// A dead letter cannot be requeued: its idempotency key belongs to another job by now.
    pub fn letter_key_taken(hub: &Hub, newer: JobSeq) -> Self {
        let newer = hub.ids().job_id(newer);
        let detail = format!(
            "the idempotency_key of the dead letter belongs to {newer} by now: the letter stays; discard it, or submit it again under another key"
        );
        let problem = Problem::new(409, "idempotency_key_collision", detail);
        problem.with_extra(format!(",\"existing_job_id\":\"{newer}\""))
    }

    /// The command was applied, and the journal did not take it in time: it may become durable, or a crash may undo it.
    pub fn not_acknowledged(reason: &str, applied: Applied) -> Self {
        let detail = format!(
            "the journal cannot be written ({reason}): what was asked for may have been done or not; look before you repeat it without an idempotency key"
        );
        Problem::of_journal(applied, detail)
    }

    fn of_journal(applied: Applied, detail: String) -> Self {
        let extra = format!(",\"applied\":\"{}\"", applied.as_str());
        let retry_after_ms = Some(Millis::new(1_000));
        Problem { retry_after_ms, extra, ..Problem::new(503, "journal_unavailable", detail) }
    }

    /// All connections together hold too many bytes.
    pub fn overloaded() -> Self {
        let detail = "the hub's clients send more than it may hold, or read less than it answers (max_buffered_bytes): nothing was done; retry in 1 s";
        let extra = format!(",\"applied\":\"{}\"", Applied::No.as_str());
        Problem { retry_after_ms: Some(Millis::new(1_000)), extra, ..Problem::new(503, "overloaded", detail) }
    }

    /// Submits and long polls hold the share of connections or bytes that they may hold.
    pub fn share_is_used() -> Self {
        let detail = "submits and long polls hold four fifths of the connections or of max_buffered_bytes, and the rest is kept for results, extensions and heartbeats (max_connections): nothing was done; retry in 1 s";
        let extra = format!(",\"applied\":\"{}\"", Applied::No.as_str());
        Problem { retry_after_ms: Some(Millis::new(1_000)), extra, ..Problem::new(503, "overloaded", detail) }
    }

    /// The request would leave an event in the audit log, which cannot be written and has no more room.
    pub fn audit_full() -> Self {
        let detail = "the audit log cannot be written, and too many events wait for it: nothing was done; retry in 1 s";
        let extra = format!(",\"applied\":\"{}\"", Applied::No.as_str());
        Problem { retry_after_ms: Some(Millis::new(1_000)), extra, ..Problem::new(503, "overloaded", detail) }
    }

    /// What only an administrator may do is asked for from another machine.
    pub fn admin_local_only() -> Self {
        Problem::new(403, "admin_local_only", "this is allowed from the hub's own machine only (loopback)")
    }

    pub fn unknown_node() -> Self {
        Problem::new(404, "unknown_node", "the hub knows no such node: GET /api/registry lists all")
    }

    pub fn version_mismatch(what_has: &str, version: u64) -> Self {
        let detail = format!("{what_has} version {version} by now: read them, then send If-Match: \"{version}\"");
        Problem::new(412, "version_mismatch", detail)
    }

    pub fn unknown_act() -> Self {
        Problem::new(404, "unknown_act", "the hub knows no such act (any more): GET /mesh/dlq/acts lists all")
    }

    pub fn unknown_orphan() -> Self {
        Problem::new(404, "unknown_orphan", "the hub has no such orphan (any more): GET /mesh/orphans lists all")
    }

    /// A refusal of the core; `retry_after_ms` is when there may be room, if the reason is that something is full.
    pub fn of_refusal(refusal: &Refusal, hub: &Hub, retry_after_ms: Option<Millis>, backpressure_status: u16) -> Self {
        let secs = retry_after_ms.map_or(0, Millis::as_secs_ceil);
        let full = |what: String, max: u64| {
            let detail = format!("{what}; retry in {secs} s");
            let reason = refusal.full().map_or("", |full| full.reason.as_str());
            let depth = hub.counts().waiting();
            let extra = format!(",\"queue_depth\":{depth},\"max\":{max},\"reason\":\"{reason}\"");
            Problem { retry_after_ms, extra, ..Problem::new(backpressure_status, "backpressure", detail) }
        };
        match refusal {
            Refusal::QueueFull { depth, depth_max } => {
                full(format!("the queue is full: {depth} of {depth_max} jobs wait (max_queue_depth)"), *depth_max)
            }
            Refusal::QueueBytesFull { bytes, bytes_max, .. } => full(
                format!("the queue is full: unfinished jobs have {bytes} of {bytes_max} bytes (max_queue_bytes)"),
                hub.limits().queue_depth_max,
            ),
            Refusal::SharedBytesFull { bytes, bytes_max } => full(
                format!("the names of kinds, zones and requirements have {bytes} of {bytes_max} bytes; use fewer"),
                *bytes_max,
            ),
            Refusal::ClassesFull { classes, zone, zone_classes } => full(
                format!(
                    "unfinished jobs have {classes} of {CLASSES_MAX} distinct pairs of zone and requirements, {zone_classes} of {CLASSES_PER_ZONE_MAX} in zone {zone}; use fewer"
                ),
                refusal.full().map_or(CLASSES_MAX as u64, |full| full.max),
            ),
            Refusal::NodesFull { nodes, nodes_max } => full(
                format!(
                    "the registry is full: {nodes} of {nodes_max} nodes, none of them dead without leases (max_nodes)"
                ),
                *nodes_max,
            ),
            Refusal::NodeBytesFull { bytes, bytes_max } => full(
                format!(
                    "what nodes say of themselves has {bytes} of {bytes_max} bytes; send shorter labels (max_node_bytes)"
                ),
                *bytes_max,
            ),
            Refusal::KeysFull { keys, keys_max } => full(
                format!(
                    "{keys} of {keys_max} idempotency keys are held, and none of a job that ended idempotency_floor_sec ago (idempotency_store_max_items)"
                ),
                *keys_max,
            ),
            Refusal::JobTooLarge { bytes, bytes_max } => {
                let limits = hub.limits();
                let (what, setting) = if *bytes_max == limits.dead_bytes_max && *bytes_max < limits.queue_bytes_max {
                    ("all dead letters together, of which none is given up,", "dlq_max_bytes")
                } else if *bytes_max == limits.inflight_bytes_max && *bytes_max < limits.queue_bytes_max {
                    ("all jobs under lease together", "max_inflight_bytes")
                } else {
                    ("all unfinished jobs together", "max_queue_bytes")
                };
                Problem::new(
                    413,
                    "payload_too_large",
                    format!(
                        "the job alone takes {bytes} bytes, and {what} may take {bytes_max} ({setting}): it never fits"
                    ),
                )
            }
            Refusal::NodeTooLarge { bytes, bytes_max } => Problem::new(
                413,
                "payload_too_large",
                format!(
                    "what the node says of itself takes {bytes} bytes, and that of all nodes together may take {bytes_max} (max_node_bytes): it never fits"
                ),
            ),
            Refusal::RulesNotTaken => unreachable!("only the hub itself adopts rules"),
            Refusal::KeyCollision { job, old_hash_prefix } => {
                let hash = hex::encode(old_hash_prefix);
                let detail = format!(
                    "the idempotency_key belongs to a job with another payload (hash {hash}…); use another key, or on_duplicate \"latest_wins\""
                );
                let extra = format!(",\"existing_job_id\":\"{}\"", hub.ids().job_id(*job));
                Problem { extra, ..Problem::new(409, "idempotency_key_collision", detail) }
            }
            Refusal::UnknownJob => Problem::unknown_job(),
            Refusal::LeaseLost => Problem::new(
                409,
                "lease_lost",
                "the job is not under this lease (any more): drop the result and pull again",
            ),
            Refusal::AlreadyFinal { status } => Problem::new(
                409,
                "already_final",
                format!("the job has ended already, with the status {}", status.as_str()),
            )
            // `status` is the problem's own.
            .with_extra(format!(",\"job_status\":\"{}\"", status.as_str())),
            Refusal::LettersFull { letters, letters_max, .. } => full(
                format!(
                    "{letters} of {letters_max} jobs are dead letters or may become such, and none is given up for others (dlq_when_full, or the kind's on_letters_full) until an operator requeues or discards some"
                ),
                *letters_max,
            ),
            Refusal::LetterBytesFull { bytes, bytes_max } => full(
                format!(
                    "dead letters and jobs that may become such have {bytes} of {bytes_max} bytes, and none is given up for others (dlq_when_full, or the kind's on_letters_full) until an operator requeues or discards some"
                ),
                *bytes_max,
            ),
            Refusal::TooManyLetters { matched, max } => Problem::new(
                409,
                "too_many_matches",
                format!("{matched} dead letters match, more than max_count, which is {max}: nothing was done"),
            )
            .with_extra(format!(",\"matched\":{matched}")),
            Refusal::TooManyActs { running } => Problem::new(
                409,
                "too_many_acts",
                format!("{running} acts run, which is the limit: wait for one, or cancel it"),
            ),
            Refusal::UnknownAct => Problem::unknown_act(),
            Refusal::ActEnded => Problem::new(409, "already_final", "the act has ended"),
            Refusal::UnknownOrphan => Problem::unknown_orphan(),
            Refusal::NotDead => Problem::new(409, "not_dead", "the job has not ended, so it is no dead letter"),
            Refusal::KindChanged { version } => Problem::version_mismatch("the rules of the kind have", *version),
            Refusal::RuledKindsFull { kinds } => Problem::new(
                409,
                "too_many_kinds",
                format!(
                    "{kinds} kinds have rules, which is the limit: remove those of another kind (PUT with all members null)"
                ),
            ),
            Refusal::UnknownNode => Problem::unknown_node(),
            Refusal::NeverAttested => {
                Problem::new(409, "never_attested", "the node has sent no attestation: there is nothing to accept")
            }
            Refusal::AttestationChanged => Problem::new(
                409,
                "attestation_changed",
                "the node attests something else than `expect` names: look at it again",
            ),
            Refusal::Token(refusal) => Problem::of_token(refusal),
            Refusal::SpoofSuspect => Problem::new(
                409,
                "spoof_suspect",
                "the node's capability hash changes too often: two programs may use its name. \"force\":true accepts it even so",
            ),
            Refusal::PolicyDenied(denial) => Problem::denied_by(denial),
            Refusal::PolicyMalformed(error) => Problem::bad_request(format!("the policy is not valid: {error}"))
                .with_extra(extra(|out| _ = out.text("pointer", &error.pointer).text("reason", &error.reason))),
            Refusal::PolicyVersionExists { version, sha256 } => Problem::new(
                409,
                "policy_version_exists",
                format!(
                    "version {version} is held with another content (sha256 {}): a change is a new version",
                    hex::encode(sha256)
                ),
            ),
            Refusal::PolicyVersionTooLow { version, highest } => Problem::new(
                409,
                "policy_version_too_low",
                format!(
                    "version {version} is not above {highest}, the highest that was ever added: give it a higher one"
                ),
            )
            .with_extra(format!(",\"highest\":{highest}")),
            Refusal::PoliciesFull { policies, bytes } => Problem::new(
                409,
                "too_many_policies",
                format!(
                    "{policies} of {POLICIES_MAX} policies are held, with {bytes} of {POLICIES_BYTES_MAX} bytes; those that are held can be activated still"
                ),
            ),
            Refusal::UnknownPolicy => Problem::unknown_policy(),
            Refusal::PolicyNotActive { active } => Problem::new(
                409,
                "policy_not_active",
                format!("version {active} is active, not the one that `expect_active` names: look at it again"),
            )
            .with_extra(format!(",\"active\":{active}")),
            Refusal::PolicyLocksOut => Problem::new(
                409,
                "policy_locks_out",
                "under this policy nobody could activate another one from the hub's own machine: let hub_token or no_token have the role admin in local_roles, and deny no admin there",
            ),
            Refusal::NodeInUse { leases: 0 } => {
                Problem::new(409, "node_in_use", "the node is online: drain it and stop it, then remove it")
            }
            Refusal::NodeInUse { leases } => Problem::new(
                409,
                "node_in_use",
                format!("the node has {leases} leases: drain it and wait until they have ended"),
            ),
        }
    }

    fn with_extra(self, extra: String) -> Self {
        Problem { extra, ..self }
    }

    /// The members beside `type`, `title`, `status`, `detail`, `ok` and `error`.
    pub fn extra(&self) -> &str {
        &self.extra
    }

    /// The reply to the request.
    pub fn into_reply(self) -> Reply {
        let mut reply = http::problem(self.status, self.code, &self.detail, &self.extra);
        if let Some(wait) = self.retry_after_ms {
            reply = reply.with_header("Retry-After", wait.as_secs_ceil().max(1).to_string());
        }
        if let Some(allow) = self.allow {
            reply = reply.with_header("Allow", allow.to_owned());
        }
        reply
    }
}

/// Additional members of a problem: `,"name":value` for each.
fn extra(fill: impl FnOnce(&mut Object)) -> String {
    let mut members = Vec::new();
    object::object(&mut members, fill);
    let members = String::from_utf8(members).expect("JSON is text");
    format!(",{}", &members[1..members.len() - 1])
}

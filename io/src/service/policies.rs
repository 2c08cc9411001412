//! Policies: the versions that the hub holds, which one is active, and what it decides.

use super::nodes::fields_of;
use super::path;
use super::problem::Problem;
use super::{Answer, Caller, Service, body, reply, rules};
use crate::http::{Method, Reply, Request};
use crate::object::{Object, object};
use crate::policy_files::PolicyFile;
use sheratan_core::policy::limits::{DOCUMENT_BYTES_MAX, VERSION_MAX};
use sheratan_core::policy::{CaseRequest, Decision, Policy, Snapshot};
use sheratan_core::{ActivatePolicy, Calendar, Command, HeldPolicy, Hub, Node, Outcome, Payload, Timestamp};

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// All versions.
    List,
    /// One version, as it is encoded in the path.
    One(&'a str),
    /// It is active from now on.
    Activate(&'a str),
    /// What a policy decides about a request.
    Explain,
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/api/policies" => Some(Route::List),
            "/api/policies/explain" => Some(Route::Explain),
            _ => {
                let of = |path| path::parameter(path, "/api/policies/");
                let activate = path.strip_suffix("/activate").and_then(of).map(Route::Activate);
                activate.or_else(|| of(path).map(Route::One))
            }
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::List => "policies",
            Route::One(_) => "policy",
            Route::Activate(_) => "policy_activate",
            Route::Explain => "policy_explain",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::List => "GET, HEAD, POST",
            Route::One(_) => "GET, HEAD",
            Route::Activate(_) | Route::Explain => "POST",
        }
    }
}

impl Service {
    pub(super) fn handle_policies(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::List if *request.method() == Method::Post => self.add_policy(now, caller, request),
            Route::Activate(version) => self.activate_policy(now, caller, request, version),
            Route::Explain => self.explain_policy(request),
            Route::List => self.show_policies(None),
            Route::One(version) => self.show_policies(Some(version)),
        }
    }

    /// Adds the documents that a start found, those that are not held; returns warnings, a line each. What is refused is
    /// in the audit log too, and what is active stays so.
    pub fn add_policies(&mut self, now: Timestamp, files: Vec<PolicyFile>) -> Vec<String> {
        let mut warnings = Vec::new();
        for PolicyFile { path, bytes, .. } in files {
            let added = self.command(now, Command::AddPolicy(Payload::new(&bytes)));
            let refused = match added.expect("the journal has not failed yet") {
                Outcome::Refused(refusal) => self.problem_of_refusal(now, &refusal),
                _ => continue,
            };
            warnings.push(format!("{}: {}", path.display(), refused.detail));
        }
        warnings
    }

    fn add_policy(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Answer, Problem> {
        self.require_local(caller)?;
        let document = request.body();
        if document.len() > DOCUMENT_BYTES_MAX {
            let detail = format!("a policy has at most {DOCUMENT_BYTES_MAX} bytes, this one has {}", document.len());
            return Err(Problem::new(413, "payload_too_large", detail));
        }
        match self.execute(now, self.asker(caller), Command::AddPolicy(Payload::new(document)))? {
            Outcome::PolicyAdded { version, is_duplicate } => {
                let held = self.hub.policies().get(version).expect("it was just added, or was there");
                Ok(rules::acknowledgement(reply::ok(|out| {
                    out.flag("ok", true);
                    write_held(out, &self.hub, held);
                    out.flag("duplicate", is_duplicate);
                })))
            }
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    fn activate_policy(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        version: &str,
    ) -> Result<Answer, Problem> {
        self.require_local(caller)?;
        let fields = fields_of(request, &["expect_active", "sha256"])?;
        let version = version_of(version)?;
        let expect_active = fields.number("expect_active", 1..=VERSION_MAX)?;
        let sha256 = match fields.key("sha256")? {
            Some(text) => read_sha256(&text)?,
            None => self.hub.policies().get(version).ok_or_else(Problem::unknown_policy)?.sha256,
        };
        let order = ActivatePolicy { version, sha256, expect_active };
        match self.execute(now, self.asker(caller), Command::ActivatePolicy(Box::new(order)))? {
            Outcome::PolicyActivated { version, previous } => {
                let activated_at = self.hub.policies().activated_at();
                let activated_utc = self.hub.calendar().utc(activated_at);
                Ok(rules::acknowledgement(reply::ok(|out| {
                    out.flag("ok", true).number("version", version).plain("sha256", hex::encode(sha256));
                    out.number("previous", previous).time("activated_utc", activated_utc);
                })))
            }
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    /// One version with its document, or all without. A version that is not durable is not shown: whoever saw it active
    /// would count on it.
    fn show_policies(&self, version: Option<&str>) -> Result<Answer, Problem> {
        if let Some(reason) = self.uncommitted.hidden_because(self.hub.ended_at()) {
            return Err(Problem::not_durable(reason));
        }
        let Some(version) = version else { return Ok(Answer::Reply(list(&self.hub))) };
        let held = self.hub.policies().get(version_of(version)?).ok_or_else(Problem::unknown_policy)?;
        Ok(Answer::Reply(reply::ok(|out| {
            out.flag("ok", true);
            write_held(out, &self.hub, held);
            out.raw("document", held.document.as_bytes());
        })))
    }

    fn explain_policy(&self, request: &Request) -> Result<Answer, Problem> {
        let fields = fields_of(request, &["version", "request"])?;
        let policies = self.hub.policies();
        let other = match fields.number("version", 1..=VERSION_MAX)? {
            Some(version) => {
                let held = policies.get(version).ok_or_else(Problem::unknown_policy)?;
                let snapshot = Snapshot::parse(held.document.as_bytes());
                Some(Policy::compile(&snapshot.map_err(|error| Problem::bad_request(error.to_string()))?))
            }
            None => None,
        };
        let policy = other.as_ref().unwrap_or(policies.active());
        let asked = fields.raw("request").ok_or_else(|| body::missing("request"))?;
        let hub_token = &policy.snapshot().document().hub_token;
        let mut asked = CaseRequest::parse(asked.as_bytes(), hub_token)
            .map_err(|error| Problem::bad_request(format!("request: {error}")))?;
        let node = asked.node.as_deref().and_then(|node| self.hub.registry().by_name(node));
        complete(&mut asked, node);
        Ok(Answer::Now(explanation(policy, &asked, node)))
    }
}

/// What the request leaves open of its node is what the hub knows of it.
fn complete(asked: &mut CaseRequest, node: Option<&Node>) {
    use sheratan_core::policy::Operation;
    let Some(node) = node else { return };
    if matches!(asked.operation, Operation::Pull | Operation::Heartbeat) {
        asked.zone.get_or_insert_with(|| node.zone().as_str().to_owned());
        if asked.capabilities.is_empty() {
            asked.capabilities = node.capabilities().to_vec();
        }
    }
    asked.attestation = asked.attestation.or(Some(node.attestation_status()));
}

fn explanation(policy: &Policy, asked: &CaseRequest, node: Option<&Node>) -> Reply {
    let decision = policy.decide_case(asked);
    let rule = decision.rule().map(|rule| policy.rule(rule));
    let reason = match decision {
        Decision::Deny { by } => policy.denial(asked.operation, by).reason,
        Decision::Allow { .. } => match rule {
            Some(rule) => rule.reason.clone().unwrap_or_else(|| "a rule allows it".to_owned()),
            None => "nothing denies it".to_owned(),
        },
    };
    reply::ok(|out| {
        out.flag("ok", true).number("policy_version", policy.version()).flag("allowed", decision.is_allowed());
        out.text_or_null("rule", rule.map(|rule| &*rule.id)).text("reason", &reason);
        out.plain("operation", asked.operation).text_or_null("zone", asked.zone.as_deref());
        out.text_or_null("attestation", asked.attestation.map(|status| status.as_str()));
        out.array("roles", asked.roles.iter(), |out, role| crate::object::write_text(out, role.as_str()));
        if let Some(node) = node {
            // A node in quarantine gets no jobs, whatever the rules allow.
            out.plain("node_state", node.policy_state().as_str());
        }
    })
}

/// All versions in order, and the activations that are kept.
fn list(hub: &Hub) -> Reply {
    let policies = hub.policies();
    let calendar = hub.calendar();
    reply::ok(|out| {
        out.flag("ok", true).number("active", policies.active().version());
        out.array("policies", policies.iter(), |out, held| object(out, |out| write_held(out, hub, held)));
        out.array("history", policies.history(), |out, activation| {
            object(out, |out| {
                out.number("version", activation.version).number("previous", activation.previous);
                out.time("activated_utc", calendar.utc(activation.at)).plain("by", activation.by.as_str());
            });
        });
    })
}

/// A version without its document.
fn write_held(out: &mut Object, hub: &Hub, held: &HeldPolicy) {
    let is_active = held.version == hub.policies().active().version();
    out.number("version", held.version).plain("sha256", hex::encode(held.sha256)).flag("active", is_active);
    out.number("bytes", held.document.len() as u64);
    write_instant(out, "added_utc", held.added_at, hub.calendar());
    out.plain("by", held.by.as_str());
}

/// An instant; null for what was always so.
fn write_instant(out: &mut Object, key: &str, at: Timestamp, calendar: Calendar) {
    match at {
        Timestamp::ZERO => out.raw(key, b"null"),
        at => out.time(key, calendar.utc(at)),
    };
}

fn version_of(encoded: &str) -> Result<u64, Problem> {
    let is_number = encoded.bytes().all(|byte| byte.is_ascii_digit());
    let version = encoded.parse().ok().filter(|version| is_number && (1..=VERSION_MAX).contains(version));
    version.ok_or_else(Problem::unknown_policy)
}

fn read_sha256(text: &str) -> Result<[u8; 32], Problem> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Problem::bad_request("sha256 must be 64 hex digits"))
}

//! Checks: the guarantees of the baseline, in the order in which they build on each other.

mod letters;
mod repeated;
mod tampered;
mod throttled;

use crate::client::calls::{Attestation, Heartbeat, JobResult, LeasedJob, Submit};
use crate::client::integrity::Integrity;
use crate::client::{Answer, Auth, CallError, Client, Plane, Request};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sheratan_io::audit::ChainCheck;
use sheratan_io::integrity::Signer;
use std::time::{Duration, Instant};

/// The smoke's own node: the same each time, so that the registry does not fill up with one for each run.
const NODE: &str = "SHERATAN_SMOKE";

/// A capability of only that node, so that no other node gets the smoke's jobs.
const CAPABILITY: &str = "sheratan_smoke";

/// How long the smoke's leases last, and its jobs if it is interrupted.
const LEASE_SEC: u64 = 30;
const JOB_TTL_SEC: u64 = 60;

/// How long an audit line may take to be written, since another thread of the hub writes it.
const AUDIT_MAX: Duration = Duration::from_secs(3);

/// Lines of the audit log whose chain is checked: one page.
const CHAIN_LINES: u64 = 1_000;

/// How often a condition that takes a moment is polled.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The result of a check.
pub enum Verdict {
    /// The guarantee holds; what was observed.
    Passed(String),
    /// It does not hold; what was observed instead.
    Failed(String),
    /// It could not be checked, and the next step.
    Skipped(String),
}

/// One check.
pub type Check = fn(&mut Checks) -> Verdict;

/// All checks, by name.
pub const ALL: &[(&str, Check)] = &[
    ("both planes say that they are healthy", |checks| verdict(checks.health())),
    ("the control plane refuses the data plane's paths with 410 and its port", |checks| {
        verdict(checks.isolation(Plane::Control))
    }),
    ("the data plane refuses the control plane's paths with 410 and its port", |checks| {
        verdict(checks.isolation(Plane::Data))
    }),
    ("a missing token is refused with 403", Checks::missing_token),
    ("a wrong token is refused with 403", Checks::wrong_token),
    ("the token is taken as X-Sheratan-Token", |checks| verdict(checks.right_token(Auth::Own))),
    ("the token is taken as Authorization: Bearer", Checks::bearer_token),
    ("a heartbeat registers a node", |checks| verdict(checks.registry())),
    ("a job that was submitted is leased, the more urgent first", |checks| verdict(checks.lease())),
    ("a result under another lease is refused with 409", |checks| verdict(checks.fencing())),
    ("a result with a wrong checksum is refused with 403", Checks::integrity),
    ("a tampered result is refused, audited and counted, and changes nothing", Checks::tampered),
    ("a result completes its job, and repeating it changes nothing", |checks| verdict(checks.complete())),
    ("a job that is submitted ten times under one key is one job with the same answers", |checks| {
        verdict(checks.idempotency())
    }),
    ("a job that failed for good is a dead letter, and completes once it is requeued", Checks::letter),
    ("a full queue refuses with 429, and accepts when there is room", |_| throttled::check()),
    ("AUTH_FAILURE is in the audit log, without the token", Checks::audit_auth_failure),
    ("PORT_MISMATCH is in the audit log, without the query", Checks::audit_port_mismatch),
    ("the lines of the audit log are one chain", |checks| verdict(checks.audit_chain())),
    ("the control plane's metrics are reachable", |checks| verdict(checks.metrics(Plane::Control))),
    ("the data plane's metrics are reachable", |checks| verdict(checks.metrics(Plane::Data))),
    ("the active policy is shown, and where", |checks| verdict(checks.policy())),
    ("the token's rotation is shown, without the token", Checks::rotation),
    ("a node that fell silent becomes STALE", Checks::stale),
];

/// A run of the checks.
pub struct Checks {
    client: Client,
    signer: Signer,
    ttl_wait: Duration,
    run: String,
    has_tokens: bool,
    leases: Vec<LeasedJob>,
    heard_at: Option<Instant>,
}

impl Checks {
    /// Checks of the hub that the client is for.
    pub fn new(client: Client, signer: Signer, ttl_wait: Duration) -> Self {
        let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        Checks {
            client,
            signer,
            ttl_wait,
            run: format!("sheratan_smoke_{random:016x}"),
            has_tokens: true,
            leases: Vec::new(),
            heard_at: None,
        }
    }

    /// Whether both planes answer, and accept this token.
    pub fn reach(&mut self) -> Result<(), CallError> {
        for (plane, path) in [(Plane::Control, "/api/registry"), (Plane::Data, "/mesh/jobs?limit=1")] {
            self.client.get::<Value>(plane, path, Duration::ZERO)?;
        }
        self.has_tokens =
            self.exchange(Plane::Control, None, "/api/registry", Auth::None).is_ok_and(|a| a.status != 200);
        Ok(())
    }

    fn health(&self) -> Result<String, String> {
        for plane in [Plane::Control, Plane::Data] {
            let auth = if plane == Plane::Control { Auth::None } else { Auth::Own };
            let answer = self.exchange(plane, None, "/health", auth)?;
            expect(&answer, 200)?;
        }
        Ok("without a token on the control plane".to_owned())
    }

    /// A path of the other plane, once as a read and once as a write, without a token: the guard comes first.
    fn isolation(&self, plane: Plane) -> Result<String, String> {
        let (other, read, write) = match plane {
            Plane::Control => (Plane::Data, "/mesh/jobs", "/mesh/submit_request"),
            Plane::Data => (Plane::Control, "/api/registry", "/mesh/heartbeat"),
        };
        let port = self.client.endpoint(other).url.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
        for (body, path) in [(None, read), (Some(&b"{}"[..]), write)] {
            let answer = self.exchange(plane, body, path, Auth::None)?;
            expect(&answer, 410)?;
            expect_member(&answer, "error", "port_mismatch")?;
            expect_member(&answer, "expected_port", &port)?;
        }
        Ok(format!("expected_port {port}"))
    }

    fn missing_token(&mut self) -> Verdict {
        self.refused_token(Auth::None, "missing_token")
    }

    fn wrong_token(&mut self) -> Verdict {
        let wrong = self.wrong_text();
        self.refused_token(Auth::Other(&wrong), "bad_token")
    }

    fn refused_token(&self, auth: Auth, reason: &str) -> Verdict {
        if !self.has_tokens {
            return Verdict::Skipped("this hub asks for no token (SHERATAN_HUB_TOKEN_REQUIRED=0)".to_owned());
        }
        let refused = |plane, path: &str| {
            let answer = self.exchange(plane, None, path, auth)?;
            expect(&answer, 403)?;
            expect_member(&answer, "error", "auth_failure")?;
            expect_member(&answer, "reason", reason)
        };
        let both = refused(Plane::Control, "/api/registry").and_then(|()| refused(Plane::Data, &self.probe_path()));
        verdict(both.map(|()| format!("{reason}, on both planes")))
    }

    fn right_token(&self, auth: Auth) -> Result<String, String> {
        for (plane, path) in [(Plane::Control, "/api/registry"), (Plane::Data, "/mesh/jobs?limit=1")] {
            expect(&self.exchange(plane, None, path, auth)?, 200)?;
        }
        Ok("on both planes".to_owned())
    }

    fn bearer_token(&mut self) -> Verdict {
        verdict(self.right_token(Auth::OwnAsBearer))
    }

    fn registry(&mut self) -> Result<String, String> {
        let heartbeat = Heartbeat {
            node_id: NODE.to_owned(),
            health: "GREEN",
            zone: None,
            capabilities: vec![CAPABILITY.to_owned()],
            attestation: Some(attestation()),
        };
        self.client.heartbeat(&heartbeat).map_err(said)?;
        self.heard_at = Some(Instant::now());
        let node = self.node()?;
        let capabilities = &node["capabilities"];
        match (node["status"].as_str(), capabilities.as_array().is_some_and(|all| all.contains(&CAPABILITY.into()))) {
            (Some("ONLINE"), true) => match node["attestation"]["status"].as_str() {
                Some("OK") => Ok(format!("{NODE} is ONLINE, and its attestation is OK")),
                status => Err(format!("the registry says attestation {status:?} of a node that never changes")),
            },
            (status, _) => Err(format!("the registry says status {status:?} and capabilities {capabilities}")),
        }
    }

    /// A low job and then a critical one; pulled once by GET and once by POST.
    fn lease(&mut self) -> Result<String, String> {
        let submits = ["low", "critical"].map(|priority| self.submit(priority, None));
        let answers = self.client.submit_many(&submits).map_err(said)?;
        if let Some(refused) = answers.iter().find(|answer| !answer.ok) {
            return Err(format!("a submit was refused: {refused:?}"));
        }
        let query = format!("max=1&kinds={}&lease_sec={LEASE_SEC}", self.run);
        let first = self.exchange(Plane::Data, None, &format!("/mesh/pull_requests/{NODE}?{query}"), Auth::Own)?;
        expect(&first, 200)?;
        let body = serde_json::json!({"node_id": NODE, "max": 10, "kinds": [self.run], "wait_ms": 1_000, "lease_sec": LEASE_SEC});
        let second = self.exchange(Plane::Data, Some(body.to_string().as_bytes()), "/mesh/pull_requests", Auth::Own)?;
        expect(&second, 200)?;
        for answer in [&first, &second] {
            let pulled: crate::client::calls::Pulled = parse(answer)?;
            self.leases.extend(pulled.jobs);
        }
        let ids: Vec<_> = self.leases.iter().map(|job| Some(job.job_id.clone())).collect();
        let expected = [answers[1].job_id.clone(), answers[0].job_id.clone()];
        if ids == expected {
            Ok("critical before low, by GET and by POST".to_owned())
        } else {
            Err(format!("expected {expected:?}, got {ids:?}"))
        }
    }

    fn fencing(&self) -> Result<String, String> {
        let [first, second] = self.leased()?;
        let mut result = self.result_of(first, "1");
        result.lease_id = Some(second.lease_id.clone());
        expect_refusal(self.client.submit_result(&result).map(|_| ()), 409, "lease_lost")?;
        let job = self.client.job(&first.job_id, Duration::ZERO).map_err(said)?;
        if job.status == "leased" { Ok("and the job stays leased".to_owned()) } else { Err(is_now(&job.status)) }
    }

    fn integrity(&mut self) -> Verdict {
        let checked = self.leased().and_then(|[first, _]| {
            let mut result = self.result_of(first, "1");
            result.integrity.sha256 = "0".repeat(64);
            let answer = self.client.submit_result(&result).map(|_| ());
            expect_refusal(answer, 403, "result_integrity_fail")?;
            let job = self.client.job(&first.job_id, Duration::ZERO).map_err(said)?;
            if job.status == "leased" { Ok("and the job stays leased".to_owned()) } else { Err(is_now(&job.status)) }
        });
        verdict(checked)
    }

    fn complete(&self) -> Result<String, String> {
        let jobs = self.leased()?;
        for leased in jobs {
            let result = self.result_of(leased, r#"{"echo":[1,"ä"]}"#);
            let answer = self.client.submit_result(&result).map_err(said)?;
            let repeated = self.client.submit_result(&result).map_err(said)?;
            if (answer.status.as_str(), answer.duplicate) != ("completed", false) {
                return Err(format!("the answer is {answer:?}"));
            }
            if (repeated.status.as_str(), repeated.duplicate) != ("completed", true) {
                return Err(format!("the answer to the repeated result is {repeated:?}"));
            }
            let job = self.client.job(&leased.job_id, Duration::ZERO).map_err(said)?;
            if !job.is_completed() || job.result.as_deref().map(RawValue::get) != Some(r#"{"echo":[1,"ä"]}"#) {
                return Err(format!("the job is {} with the result {:?}", job.status, job.result));
            }
            if job.integrity_as(&leased.job_id) != Integrity::Whole {
                return Err(format!("the job's checksum {:?} is not of its result", job.integrity));
            }
        }
        Ok("200 with duplicate:true".to_owned())
    }

    fn audit_auth_failure(&mut self) -> Verdict {
        if !self.has_tokens {
            return Verdict::Skipped("this hub asks for no token (SHERATAN_HUB_TOKEN_REQUIRED=0)".to_owned());
        }
        let wrong = self.wrong_text();
        let path = self.probe_path();
        self.audited("AUTH_FAILURE", &path, |lines, text| {
            // The probe without a token and the one with a wrong one.
            let mut reasons: Vec<_> = lines.iter().filter_map(|line| line["details"]["reason"].as_str()).collect();
            reasons.sort_unstable();
            reasons.dedup();
            match (reasons == ["bad_token", "missing_token"], text.contains(&wrong)) {
                (_, true) => Err("the wrong token is in the audit log".to_owned()),
                (false, _) if lines.iter().any(|line| counted_until(line).is_some()) => {
                    Ok("with path, ip, reason; the second one is only counted".to_owned())
                }
                (false, _) => Err(format!("the reasons noted are {reasons:?}")),
                (true, false) => Ok("with path, ip, reason".to_owned()),
            }
        })
    }

    fn audit_port_mismatch(&mut self) -> Verdict {
        let path = self.probe_path();
        let asked = self.exchange(Plane::Control, None, &format!("{path}?secret={}", self.run), Auth::None);
        if let Err(reason) = asked.and_then(|answer| expect(&answer, 410)) {
            return Verdict::Failed(reason);
        }
        self.audited("PORT_MISMATCH", &path, |lines, _| {
            let expected = &lines[0]["details"]["expected"];
            if expected.is_null() {
                Err("the line says no expected port".to_owned())
            } else {
                Ok(format!("expected {expected}"))
            }
        })
    }

    /// The latest lines: each has the number after the one before, and that one's hash.
    /// As JSON with the smoke's own doings in it, and as text.
    fn metrics(&self, plane: Plane) -> Result<String, String> {
        let (key, series) = match plane {
            Plane::Control => ("nodes_online", "sheratan_hub_nodes{status=\"online\"}"),
            Plane::Data => ("submitted_1m", "sheratan_hub_jobs_submitted_total{kind="),
        };
        let json = self.exchange(plane, None, "/api/metrics", Auth::Own)?;
        expect(&json, 200)?;
        let count = parse::<Value>(&json)?[key].as_u64().ok_or_else(|| format!("the JSON has no {key}"))?;
        if count == 0 {
            return Err(format!("{key} is 0 after what this smoke did"));
        }
        let text = self.client.fetch(plane, "/metrics", "text/plain").map_err(said)?;
        expect(&text, 200)?;
        if !String::from_utf8_lossy(&text.body).contains(series) {
            return Err(format!("the text has no {series}"));
        }
        Ok(format!("{key} {count}, and as text for Prometheus"))
    }

    /// The registry and the metrics agree about the active policy.
    fn policy(&self) -> Result<String, String> {
        let read = |path: &str| {
            let answer = self.exchange(Plane::Control, None, path, Auth::Own)?;
            expect(&answer, 200)?;
            parse::<Value>(&answer)
        };
        let (policy, metrics) = (read("/api/registry")?["policy"].clone(), read("/api/metrics")?);
        let (version, sha256) = (policy["version"].as_u64(), policy["sha256"].as_str().unwrap_or_default());
        match version {
            Some(version) if sha256.len() == 64 && metrics["policy_version"] == version => {
                Ok(format!("version {version}"))
            }
            _ => Err(format!("the registry says {policy}, the metrics {}", metrics["policy_version"])),
        }
    }

    /// Where a token is required, what is shown of it is the start of a digest.
    fn rotation(&mut self) -> Verdict {
        let shown = self.exchange(Plane::Control, None, "/api/tokens", Auth::Own).and_then(|answer| {
            expect(&answer, 200)?;
            parse::<Value>(&answer)
        });
        let shown = match shown {
            Ok(shown) => shown,
            Err(error) => return Verdict::Failed(error),
        };
        if shown["required"] == false {
            return Verdict::Skipped("the hub requires no token".into());
        }
        match (shown["active"].as_str().map(str::len), shown["rotation"]["rotation_until_utc"].as_str()) {
            (Some(8), Some(until)) => Verdict::Passed(format!("both tokens are accepted until {until}")),
            (Some(8), None) => Verdict::Passed("no rotation is under way".into()),
            _ => Verdict::Failed(format!("the active token is shown as {}", shown["active"])),
        }
    }

    fn audit_chain(&self) -> Result<String, String> {
        #[derive(serde::Deserialize)]
        struct Page {
            events: Vec<Box<RawValue>>,
        }
        let page = |query: &str| {
            let answer = self.exchange(Plane::Control, None, &format!("/api/audit?{query}"), Auth::Own)?;
            expect(&answer, 200)?;
            parse::<Page>(&answer).map(|page| page.events)
        };
        let latest = page("limit=1")?;
        let latest: Value = latest.first().and_then(|line| serde_json::from_str(line.get()).ok()).unwrap_or_default();
        let Some(last_seq) = latest["seq"].as_u64() else { return Err(format!("the latest line is {latest}")) };
        let after = last_seq.saturating_sub(CHAIN_LINES);
        let mut chain = ChainCheck::of_page();
        for line in page(&format!("after={after}&limit={CHAIN_LINES}"))? {
            let checked = chain.line(line.get().as_bytes());
            checked.map_err(|reason| format!("{reason}: {line}"))?;
        }
        let report = chain.report();
        if report.lines < 2 {
            return Err(format!("{} lines after seq {after}, though the latest is {last_seq}", report.lines));
        }
        Ok(format!("{} lines, seq {} to {}", report.lines, report.first_seq, report.last_seq))
    }

    fn stale(&mut self) -> Verdict {
        let Some(heard_at) = self.heard_at else {
            return Verdict::Skipped("no heartbeat was taken".to_owned());
        };
        let ttl = match self.registered() {
            Ok(registry) => registry["node_ttl_sec"].as_u64().map(Duration::from_secs),
            Err(reason) => return Verdict::Failed(reason),
        };
        let Some(ttl) = ttl.filter(|ttl| *ttl <= self.ttl_wait) else {
            let is = ttl.map_or("not known".to_owned(), |ttl| format!("{} s", ttl.as_secs()));
            let next = "start the hub with --node-ttl-sec 2 to see it";
            return Verdict::Skipped(format!("node TTL is {is}, {next}"));
        };
        let until = heard_at + 2 * ttl + Duration::from_secs(5);
        loop {
            match self.node().map(|node| node["status"].as_str().map(str::to_owned)) {
                Ok(Some(status)) if status == "STALE" => {
                    return Verdict::Passed(format!("after {:.1} s", heard_at.elapsed().as_secs_f64()));
                }
                Ok(_) if Instant::now() < until => std::thread::sleep(ASK_EVERY),
                Ok(status) => return Verdict::Failed(format!("it is {status:?} after {:?}", heard_at.elapsed())),
                Err(reason) => return Verdict::Failed(reason),
            }
        }
    }

    /// Leases and completes the jobs that the key's check left in the queue.
    fn finish_open(&self) {
        let pull = crate::client::calls::Pull {
            node_id: NODE.to_owned(),
            max: 10,
            kinds: vec![self.run.clone()],
            wait_ms: 0,
            lease_sec: LEASE_SEC,
        };
        for job in self.client.pull(&pull).map(|pulled| pulled.jobs).unwrap_or_default() {
            // If this fails, the job expires by itself in a minute; the earlier checks have reported what is wrong.
            let _ = self.client.submit_result(&self.result_of(&job, "null"));
        }
    }

    /// Waits for the first audit line of an event about a path, then judges these lines and the text of their page.
    /// Skipped if there is none since an address has used up its lines.
    fn audited(&self, event: &str, path: &str, judge: impl Fn(&[Value], &str) -> Result<String, String>) -> Verdict {
        let started = Instant::now();
        loop {
            let (page, text) = match self.audit_page() {
                Ok(page) => page,
                Err(reason) => return Verdict::Failed(reason),
            };
            let is_of = |line: &&Value| line["event"] == event && line["details"]["path"] == path;
            let lines: Vec<_> = entries(&page).filter(is_of).cloned().collect();
            if !lines.is_empty() {
                return verdict(judge(&lines, &text));
            }
            if started.elapsed() > AUDIT_MAX {
                return match entries(&page).filter_map(counted_until).max().filter(|until| *until > Timestamp::now()) {
                    Some(until) => Verdict::Skipped(format!(
                        "many requests without a token came from one address: until {until} the hub only counts its events"
                    )),
                    None => Verdict::Failed(format!("no {event} with path {path} within {} s", AUDIT_MAX.as_secs())),
                };
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// The latest lines of the audit log, and their text.
    fn audit_page(&self) -> Result<(Value, String), String> {
        let answer = self.exchange(Plane::Control, None, "/api/audit?limit=1000", Auth::Own)?;
        expect(&answer, 200)?;
        Ok((parse(&answer)?, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    fn node(&self) -> Result<Value, String> {
        Ok(self.registered()?["nodes"][NODE].take())
    }

    fn registered(&self) -> Result<Value, String> {
        let answer = self.exchange(Plane::Control, None, "/api/registry", Auth::Own)?;
        expect(&answer, 200)?;
        parse(&answer)
    }

    fn result_of(&self, job: &LeasedJob, result: &str) -> JobResult {
        let result = RawValue::from_string(result.to_owned()).expect("the checks' results are JSON");
        JobResult {
            job_id: job.job_id.clone(),
            node_id: NODE.to_owned(),
            lease_id: Some(job.lease_id.clone()),
            ok: true,
            integrity: self.signer.sign(None, &job.job_id, true, Some(&result)),
            result: Some(result),
            error: None,
            retryable: true,
            retry_after_ms: None,
            pull: None,
        }
    }

    fn leased(&self) -> Result<[&LeasedJob; 2], String> {
        match &self.leases[..] {
            [first, second] => Ok([first, second]),
            _ => Err("there are no leases to check this with".to_owned()),
        }
    }

    fn submit(&self, priority: &str, key: Option<&str>) -> Submit {
        Submit {
            kind: self.run.clone(),
            params: Some(to_raw_value(&priority).expect("a text is JSON")),
            idempotency_key: key.map(str::to_owned),
            priority: Some(priority.to_owned()),
            requires: vec![CAPABILITY.to_owned()],
            ttl_sec: Some(JOB_TTL_SEC),
            max_attempts: Some(1),
            ..Submit::default()
        }
    }

    fn exchange(&self, plane: Plane, body: Option<&[u8]>, path: &str, auth: Auth) -> Result<Answer, String> {
        self.client.exchange(&Request { plane, body, path, auth, wait: Duration::from_secs(1) }).map_err(said)
    }

    /// A path of the data plane that no other client requests, by which this run's audit lines are found.
    fn probe_path(&self) -> String {
        format!("/mesh/jobs/{}", self.run)
    }

    /// A token that no hub has.
    fn wrong_text(&self) -> String {
        format!("wrong_{}", self.run)
    }
}

/// Until when events like that of a line are only counted, for their address has left as many lines as it may.
fn counted_until(line: &Value) -> Option<Timestamp> {
    line["details"]["counted_until_utc"].as_str()?.parse().ok()
}

/// What the smoke's node attests: the same each time, so that it does not drift.
fn attestation() -> Attestation {
    Attestation {
        schema: "attestation_v1",
        build_id: "sheratan_smoke".to_owned(),
        capability_hash: CAPABILITY.to_owned(),
        runtime: Value::Null,
    }
}

fn verdict(outcome: Result<String, String>) -> Verdict {
    match outcome {
        Ok(detail) => Verdict::Passed(detail),
        Err(detail) => Verdict::Failed(detail),
    }
}

fn said(error: CallError) -> String {
    error.to_string()
}

fn is_now(status: &str) -> String {
    format!("the job is {status} now")
}

fn expect(answer: &Answer, status: u16) -> Result<(), String> {
    if answer.status == status {
        return Ok(());
    }
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    Err(format!("expected {status}, got {}: {text}", answer.status))
}

fn expect_member(answer: &Answer, member: &str, expected: &str) -> Result<(), String> {
    let body: Value = parse(answer)?;
    let found = body[member].as_str().map_or_else(|| body[member].to_string(), str::to_owned);
    if found == expected { Ok(()) } else { Err(format!("{member} is {found}, not {expected}")) }
}

fn expect_refusal(answer: Result<(), CallError>, status: u16, code: &str) -> Result<(), String> {
    match answer {
        Err(CallError::Refused(refused)) if (refused.status, refused.code.as_str()) == (status, code) => Ok(()),
        Err(error) => Err(format!("expected {status} {code}: {error}")),
        Ok(()) => Err(format!("expected {status} {code}, but it was taken")),
    }
}

fn parse<T: for<'de> serde::Deserialize<'de>>(answer: &Answer) -> Result<T, String> {
    serde_json::from_slice(&answer.body).map_err(|error| format!("the answer is not what was expected: {error}"))
}

/// The lines of a page of the audit log, for any name of the member that holds them.
fn entries(page: &Value) -> impl Iterator<Item = &Value> {
    page.as_object().into_iter().flat_map(|page| page.values()).filter_map(Value::as_array).flatten()
}

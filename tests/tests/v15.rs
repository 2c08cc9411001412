//! What v1.5 was asked and what it answered, held against this hub: `tests/v15/` has the recordings.
//!
//! What does not hold yet is listed in [`REQUESTS_MISSING`] and [`ANSWERS_MISSING`], with the reason. An entry that
//! begins to hold fails the test as well, so that the lists only shrink.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sheratan_tests::client::checksum;
use sheratan_tests::{Client, Hub, Response, until};
use std::collections::{BTreeMap, BTreeSet};

const REQUESTS: &str = include_str!("../v15/requests.jsonl");

/// Requests, by name, that are not answered as recorded.
const REQUESTS_MISSING: &[(&str, &str)] = &[];

/// Recorded members, by file and path, that the answers do not have as recorded.
const ANSWERS_MISSING: &[(&str, &str)] =
    &[("audit.jsonl PORT_MISMATCH details path", "v1.5 wrote it without the first slash (and AUTH_FAILURE's with it)")];

/// A line of `requests.jsonl`. A member that this test does not know would go unchecked: it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded<'a> {
    name: String,
    method: String,
    plane: Plane,
    path: String,
    token: Token,
    content_type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    status: u16,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    equal: Vec<String>,
    #[serde(rename = "as")]
    equal_to: Option<String>,
    #[serde(rename = "since")]
    _since: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Plane {
    Control,
    Data,
}

/// How the token is sent.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Token {
    Header,
    Bearer,
    Both,
    None,
}

#[test]
fn every_recorded_request_is_answered_as_recorded_or_listed_as_missing() {
    let hub = Hub::start();
    let mut answers = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in REQUESTS.lines() {
        let request: Recorded = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let answer = request.send(&hub);
        let wrong = request.differences(&answer, &answers);
        found.insert(request.name.clone(), wrong);
        answers.insert(request.name, answer);
    }
    assert_eq!(found.len(), REQUESTS.lines().count(), "names are unique");
    assert_listed(found, REQUESTS_MISSING);
}

#[test]
fn every_recorded_answer_keeps_its_members_or_lists_them_as_missing() {
    let hub = Hub::start();
    let mut found = BTreeMap::new();
    let heartbeat = json!({"node_id": "node-A", "health": "GREEN"});
    hub.control().post("/mesh/heartbeat", &heartbeat).ok();
    let answers = [
        ("health_control.json", include_str!("../v15/health_control.json"), hub.control().get("/health")),
        ("health_data.json", include_str!("../v15/health_data.json"), hub.data().get("/health")),
        ("metrics_control.json", include_str!("../v15/metrics_control.json"), hub.control().get("/metrics")),
        ("metrics_data.json", include_str!("../v15/metrics_data.json"), hub.data().get("/metrics")),
    ];
    for (file, recorded, answer) in answers {
        compare(file, &parse(recorded), Some(&answer.ok()), &mut found);
    }
    compare_registry(&hub.control().get("/registry").ok(), &mut found);
    compare_audit(&hub, &mut found);
    assert_listed(found, ANSWERS_MISSING);
}

impl Recorded<'_> {
    /// Sends the request as a client of v1.5 does, over a connection of its own.
    fn send(&self, hub: &Hub) -> Response {
        let (addr, token) = (self.plane.addr(hub), hub.token());
        let body = self.body.map(body_bytes).unwrap_or_default();
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {addr}\r\n", self.method, self.path);
        if matches!(self.token, Token::Header | Token::Both) {
            head += &format!("X-Sheratan-Token: {token}\r\n");
        }
        if matches!(self.token, Token::Bearer | Token::Both) {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        self.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if self.body.is_some() {
            let content_type = self.content_type.as_deref().unwrap_or("application/json");
            head += &format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
        }
        let mut client = Client::new(addr, None);
        client.send(format!("{head}\r\n").as_bytes()).expect("the hub reads");
        let waits = self.headers.iter().any(|header| header == (&"Expect".to_owned(), &"100-continue".to_owned()));
        if !waits || is_to_continue(&mut client) {
            client.send(body.as_bytes()).expect("the hub reads");
        }
        client.receive().expect("the hub answers")
    }

    /// The differences of the answer from the recorded one.
    fn differences(&self, answer: &Response, before: &BTreeMap<String, Response>) -> Vec<String> {
        let mut wrong = Vec::new();
        if answer.status != self.status {
            let body = String::from_utf8_lossy(&answer.body);
            wrong.push(format!("status {} and not {}: {body}", answer.status, self.status));
        }
        // Asked for only here: an answer without members may have another form.
        let json = || answer.json();
        let missing = self.members.iter().filter(|member| json().get(member).is_none());
        wrong.extend(missing.map(|member| format!("no member {member}")));
        assert_eq!(self.equal.is_empty(), self.equal_to.is_none(), "{}: equal and as come together", self.name);
        if let Some(name) = &self.equal_to {
            let first = before.get(name).unwrap_or_else(|| panic!("{}: no request {name} before it", self.name)).json();
            let other = self
                .equal
                .iter()
                .filter(|member| first.get(member).is_none() || json().get(member) != first.get(member));
            wrong.extend(other.map(|member| format!("another {member} than {name}")));
        }
        wrong
    }
}

impl Plane {
    fn addr(self, hub: &Hub) -> std::net::SocketAddr {
        match self {
            Plane::Control => hub.control,
            Plane::Data => hub.data,
        }
    }
}

/// The body's bytes: those of a text, or the JSON as it was recorded, with its placeholders computed.
fn body_bytes(recorded: &RawValue) -> String {
    let text = recorded.get();
    let body = match parse(text) {
        Value::String(body) => return body,
        body => body,
    };
    let Some(placeholder) = body.pointer("/integrity/sha256").and_then(Value::as_str) else { return text.to_owned() };
    let result = match placeholder.strip_prefix("<that of value ").and_then(|rest| rest.strip_suffix('>')) {
        Some(number) => json!({"value": parse(number)}),
        None => {
            assert_eq!(
                placeholder, "<sha256 of canonical error:null, job_id, ok, result>",
                "a placeholder that is known"
            );
            body["result"].clone()
        }
    };
    let ok = body["ok"].as_bool().expect("a result says whether it is one");
    text.replace(placeholder, &checksum(&body["job_id"], ok, &result, &Value::Null))
}

/// Whether the hub asks for the body (100), rather than answering without it.
fn is_to_continue(client: &mut Client) -> bool {
    let mut first = [0; b"HTTP/1.1 100".len()];
    loop {
        let count = client.stream().peek(&mut first).expect("the hub answers");
        assert_ne!(count, 0, "the hub closed the connection without an answer");
        if count == first.len() {
            return &first == b"HTTP/1.1 100";
        }
    }
}

/// By place: what is wrong there.
type Found = BTreeMap<String, Vec<String>>;

/// Fails for places that are wrong and not listed, listed and right, or listed and not compared.
#[track_caller]
fn assert_listed(found: Found, missing: &[(&str, &str)]) {
    let listed: BTreeSet<&str> = missing.iter().map(|(place, _)| *place).collect();
    assert_eq!(listed.len(), missing.len(), "each is listed once");
    let mut complaints = Vec::new();
    for (place, wrong) in &found {
        match (wrong.is_empty(), listed.contains(place.as_str())) {
            (true, true) => complaints.push(format!("{place}: holds now; take it out of the list")),
            (false, false) => complaints.push(format!("{place}: {}", wrong.join("; "))),
            _ => {}
        }
    }
    let unknown = listed.iter().filter(|place| !found.contains_key(**place));
    complaints.extend(unknown.map(|place| format!("{place}: is listed and not recorded")));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Compares an answer with the recorded one, member by member: those that are there, times with times, numbers with
/// numbers, all else by value.
fn compare(place: &str, recorded: &Value, answer: Option<&Value>, found: &mut Found) {
    if let Value::Object(members) = recorded {
        for (name, value) in members {
            compare(&format!("{place} {name}"), value, answer.and_then(|answer| answer.get(name)), found);
        }
        return;
    }
    let holds = answer.is_some_and(|answer| match recorded {
        Value::Number(_) => answer.is_number(),
        Value::String(_) if is_time(recorded) => is_time(answer),
        _ => answer == recorded,
    });
    let wrong = (!holds).then(|| format!("{} and not as {recorded}", answer.unwrap_or(&json!("absent"))));
    found.entry(place.to_owned()).or_default().extend(wrong);
}

/// The registry: each node has each member that a recorded one has, of a type that it has there.
fn compare_registry(answer: &Value, found: &mut Found) {
    let recorded = parse(include_str!("../v15/registry.json"));
    compare("registry.json schema", &recorded["schema"], answer.get("schema"), found);
    let mut types: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in recorded["nodes"].as_object().expect("nodes by name").values().flat_map(members_of) {
        let types = types.entry(name).or_default();
        // An empty text may have been an object that the printing tool flattened, so it says nothing about the type.
        if value != "" {
            types.insert(type_of(&value));
        }
    }
    let names: BTreeSet<String> = types.keys().cloned().collect();
    types.retain(|name, _| {
        !names.iter().any(|inner| inner.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))
    });
    for (_, node) in answer["nodes"].as_object().expect("nodes by name") {
        let members: BTreeMap<String, Value> = members_of(node).into_iter().collect();
        for (name, types) in &types {
            let holds = members.get(name).is_some_and(|value| types.is_empty() || types.contains(type_of(value)));
            let wrong =
                (!holds).then(|| format!("{} and not one of {types:?}", members.get(name).unwrap_or(&json!("absent"))));
            found.entry(format!("registry.json {name}")).or_default().extend(wrong);
        }
    }
    assert!(found.contains_key("registry.json queue inbound_requests"), "the members were compared: {found:?}");
}

/// The members of a node's record, those of inner objects too; as `@{a=0; b=0}` where the printing tool flattened them.
fn members_of(node: &Value) -> Vec<(String, Value)> {
    let mut members = Vec::new();
    for (name, value) in node.as_object().expect("a node's record is an object") {
        let flat = value.as_str().and_then(|text| text.strip_prefix("@{")).and_then(|text| text.strip_suffix('}'));
        let inner: Map<String, Value> = match (flat, value) {
            (Some(flat), _) => {
                let pairs = flat.split("; ").map(|pair| pair.split_once('=').expect("name=value"));
                pairs.map(|(name, value)| (name.to_owned(), parse(value))).collect()
            }
            (None, Value::Object(inner)) if !inner.is_empty() => inner.clone(),
            (None, value) => {
                members.push((name.clone(), value.clone()));
                continue;
            }
        };
        members.extend(inner.into_iter().map(|(inner, value)| (format!("{name} {inner}"), value)));
    }
    members
}

/// The audit log: the acts that wrote the recorded lines write the same again.
fn compare_audit(hub: &Hub, found: &mut Found) {
    let acts = [
        ("PORT_MISMATCH", hub.control, "GET", "/mesh/pull_requests/NODE_WORK_B"),
        ("PORT_MISMATCH", hub.data, "POST", "/mesh/heartbeat"),
        ("AUTH_FAILURE", hub.control, "GET", "/registry"),
    ];
    let lines: Vec<Value> = include_str!("../v15/audit.jsonl").lines().map(parse).collect();
    for (event, addr, method, path) in acts {
        let is_it = |line: &&Value| line["event"] == event && path.ends_with(line["details"]["path"].as_str().unwrap());
        let recorded = lines.iter().find(is_it).unwrap_or_else(|| panic!("{event} for {path} is recorded"));
        let count = hub.audit(event).len();
        Client::new(addr, None).ask(method, path, &[]);
        until("it is in the audit log", || hub.audit(event).len() > count);
        compare(&format!("audit.jsonl {event}"), recorded, hub.audit(event).last(), found);
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok())
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) if is_time(value) => "time",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

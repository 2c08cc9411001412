//! Requests: built once for each connection. What differs from lifecycle to lifecycle has a fixed length (job id, lease
//! id, checksum) and is written over.

use sha2::{Digest, Sha256};
use std::ops::Range;

/// Bytes of a job's id.
pub const JOB_ID_BYTES: usize = 24;
/// Bytes of a lease's id.
pub const LEASE_ID_BYTES: usize = 42;

/// Where requests go, and what they carry.
#[derive(Clone, Debug)]
pub struct Target {
    /// `Host` of the data plane.
    pub host: String,
    /// The hub's token.
    pub token: String,
    /// Bytes of each job's params and of its result.
    pub payload_bytes: usize,
}

/// The requests of one connection's lifecycles.
pub struct Requests {
    /// Submits a job of this connection's own kind.
    pub submit: Vec<u8>,
    /// Pulls one job of that kind.
    pub pull: Vec<u8>,
    result: Vec<u8>,
    job_id: Range<usize>,
    lease_id: Range<usize>,
    checksum: Range<usize>,
    payload: String,
}

impl Requests {
    /// The requests of the worker of that name, which is its jobs' kind as well: each pull gets the job just submitted.
    pub fn new(target: &Target, worker: &str) -> Self {
        Requests::of_kind(target, worker, worker, 0)
    }

    /// The requests of a worker that runs jobs of a kind, and waits up to `wait_ms` for one.
    pub fn of_kind(target: &Target, worker: &str, kind: &str, wait_ms: u64) -> Self {
        let payload = payload(target.payload_bytes);
        let submit = format!(r#"{{"kind":"{kind}","params":{payload}}}"#);
        let wait = if wait_ms > 0 { format!(r#","wait_ms":{wait_ms}"#) } else { String::new() };
        let pull = format!(r#"{{"node_id":"{worker}","max":1,"kinds":["{kind}"]{wait}}}"#);
        let (job, lease, checksum) = ("j".repeat(JOB_ID_BYTES), "l".repeat(LEASE_ID_BYTES), "c".repeat(64));
        let result = format!(
            r#"{{"job_id":"{job}","node_id":"{worker}","lease_id":"{lease}","ok":true,"result":{payload},"integrity":{{"mode":"sha256","sha256":"{checksum}"}}}}"#
        );
        let result = post(target, "/mesh/submit_result", &result);
        let place = |text: &str| {
            let start = find(&result, text);
            start..start + text.len()
        };
        let (job_id, lease_id, checksum) = (place(&job), place(&lease), place(&checksum));
        Requests {
            submit: post(target, "/mesh/submit_request", &submit),
            pull: post(target, "/mesh/pull_requests", &pull),
            result,
            job_id,
            lease_id,
            checksum,
            payload,
        }
    }

    /// The request that submits the result of a job.
    pub fn result(&mut self, job_id: &[u8; JOB_ID_BYTES], lease_id: &[u8; LEASE_ID_BYTES]) -> &[u8] {
        self.result[self.job_id.clone()].copy_from_slice(job_id);
        self.result[self.lease_id.clone()].copy_from_slice(lease_id);
        let mut hasher = Sha256::new();
        // The canonical form: keys sorted, no white space, absent members as null.
        hasher.update(br#"{"error":null,"job_id":""#);
        hasher.update(job_id);
        hasher.update(br#"","ok":true,"result":"#);
        hasher.update(self.payload.as_bytes());
        hasher.update(b"}");
        write_hex(&mut self.result[self.checksum.clone()], &hasher.finalize());
        &self.result
    }
}

/// A request that submits `count` jobs of a kind at once.
pub fn batch(target: &Target, kind: &str, count: usize) -> Vec<u8> {
    let entry = format!(r#"{{"kind":"{kind}","params":{}}}"#, payload(target.payload_bytes));
    post(target, "/mesh/submit_requests", &format!(r#"{{"requests":[{}]}}"#, vec![entry; count].join(",")))
}

/// A request that submits a job of a kind, which expires.
pub fn submit_with_ttl(target: &Target, kind: &str, ttl_secs: u64) -> Vec<u8> {
    let params = payload(target.payload_bytes);
    post(target, "/mesh/submit_request", &format!(r#"{{"kind":"{kind}","params":{params},"ttl_sec":{ttl_secs}}}"#))
}

/// A request for the metrics as JSON.
pub fn metrics(target: &Target) -> Vec<u8> {
    let Target { host, token, .. } = target;
    let token = if token.is_empty() { String::new() } else { format!("X-Sheratan-Token: {token}\r\n") };
    format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n{token}Accept: application/json\r\n\r\n").into_bytes()
}

/// A health request, which an idle connection sends before it becomes idle.
pub fn livez(target: &Target) -> Vec<u8> {
    format!("GET /livez HTTP/1.1\r\nHost: {}\r\nX-Sheratan-Token: {}\r\n\r\n", target.host, target.token).into_bytes()
}

/// A JSON object of `bytes` bytes, or its frame if that is longer; already canonical.
fn payload(bytes: usize) -> String {
    const FRAME: usize = r#"{"text":""}"#.len();
    format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes.saturating_sub(FRAME)))
}

fn post(target: &Target, path: &str, body: &str) -> Vec<u8> {
    let Target { host, token, .. } = target;
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nX-Sheratan-Token: {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn find(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the request was built with it")
}

fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use sheratan_core::integrity::{checksum, json as hub_json};

    fn requests() -> Requests {
        let target = Target { host: "127.0.0.1:1".into(), token: "secret".into(), payload_bytes: 200 };
        Requests::new(&target, "bench-3")
    }

    /// The body of a request whose head says its length.
    fn body(request: &[u8]) -> Value {
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut head = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(start)) = head.parse(request) else { panic!("a whole head") };
        let header = |name: &str| {
            let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            std::str::from_utf8(header.expect("it has the header").value).expect("a text")
        };
        assert_eq!(header("content-length").parse(), Ok(request.len() - start));
        assert_eq!(header("x-sheratan-token"), "secret");
        serde_json::from_slice(&request[start..]).expect("the body is JSON")
    }

    #[test]
    fn a_submit_has_params_of_the_size_asked_for() {
        let body = body(&requests().submit);
        assert_eq!(body["kind"], "bench-3");
        assert_eq!(body["params"].to_string().len(), 200);
    }

    #[test]
    fn a_pull_asks_for_one_job_of_its_own_kind() {
        assert_eq!(body(&requests().pull), json!({"node_id": "bench-3", "max": 1, "kinds": ["bench-3"]}));
    }

    #[test]
    fn a_result_carries_the_ids_and_the_checksum_of_its_canonical_form() {
        let mut requests = requests();
        for fill in [b'1', b'2'] {
            let body = body(requests.result(&[fill; JOB_ID_BYTES], &[fill; LEASE_ID_BYTES]));
            let job_id = String::from_utf8(vec![fill; JOB_ID_BYTES]).expect("ASCII");
            assert_eq!(body["job_id"], job_id);
            assert_eq!(body["lease_id"].as_str().map(str::len), Some(LEASE_ID_BYTES));
            let result = body["result"].to_string();
            let result = hub_json::parse(result.as_bytes()).expect("it is JSON");
            let sha256 = checksum::result_sha256(None, &job_id, true, Some(result));
            let mut expected = [0; 64];
            write_hex(&mut expected, &sha256);
            assert_eq!(body["integrity"]["sha256"].as_str().map(str::as_bytes), Some(&expected[..]));
        }
    }
}

//! Work: jobs that are leased, completed or dead, by the requests that clients and workers make.

use crate::client::{Response, failure, result};
use crate::hub::{Hub, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

impl Hub {
    /// A hub with these settings, each by its variable without the prefix.
    pub fn set(settings: &[(&str, &str)]) -> Hub {
        let env = settings.iter().map(|(name, value)| (format!("SHERATAN_{name}"), (*value).to_owned())).collect();
        Hub::start_in(TempDir::new().expect("a temporary folder"), Options { args: Vec::new(), env })
    }

    /// The answer to a node's pull with these members beside its name.
    #[track_caller]
    pub fn pull(&self, node: &str, more: Value) -> Value {
        let mut body = json!({"node_id": node});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("members").clone());
        self.data().post("/mesh/pull_requests", &body).ok()
    }

    /// One job of a kind, leased by a node.
    #[track_caller]
    pub fn lease(&self, node: &str, kind: &str) -> Value {
        let pulled = self.pull(node, json!({"kinds": [kind]}));
        assert_eq!(pulled["jobs"].as_array().map(Vec::len), Some(1), "{pulled}");
        pulled["jobs"][0].clone()
    }

    /// Submits a job, and has a node lease it.
    #[track_caller]
    pub fn leased(&self, node: &str, request: Value) -> Value {
        let kind = request["kind"].as_str().expect("a job has a kind").to_owned();
        self.submit(request);
        self.lease(node, &kind)
    }

    /// A node's result of a job.
    pub fn complete(&self, job: &Value, node: &str) -> Response {
        self.data().post("/mesh/submit_result", &result(job, node, &json!("done")))
    }

    /// A node's failure of a job, with these members beside the usual ones.
    pub fn fail(&self, job: &Value, node: &str, error: &str, more: Value) -> Response {
        let mut body = failure(job, node, &json!(error));
        body.as_object_mut().expect("an object").extend(more.as_object().expect("members").clone());
        self.data().post("/mesh/submit_result", &body)
    }

    /// A job that fails for good with this error; its id.
    #[track_caller]
    pub fn dead(&self, request: Value, error: &str) -> String {
        let job = self.leased("worker", request);
        let failed = self.fail(&job, "worker", error, json!({"retryable": false})).ok();
        assert_eq!(failed["status"], "dead");
        job["job_id"].as_str().expect("a job has an id").to_owned()
    }

    /// A job's status.
    #[track_caller]
    pub fn status(&self, job_id: &str) -> String {
        self.job(job_id)["status"].as_str().expect("a job has a status").to_owned()
    }

    /// The sum of the series of a metric whose labels contain a text.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let body = self.data().ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
        let text = String::from_utf8_lossy(&body).into_owned();
        let is_of_name = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{', ','])) && line.contains(labels)
        };
        text.lines().filter(is_of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Response {
    /// Asserts that it is this problem; returns its members.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.json()["error"].as_str()), (status, Some(code)), "{}", self.json());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        self.json()
    }
}

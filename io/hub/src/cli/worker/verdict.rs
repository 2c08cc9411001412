//! Verdict: what the hub's refusal of a result means for the result.
//!
//! Only codes by which the hub judges the result itself are final. Whatever else comes (no answer, a proxy's page, a
//! refused token, a code that this release does not know) says nothing about it: the result is kept and sent again.

use crate::client::CallError;

/// What becomes of a result after a failed call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is sent again.
    Later,
    /// The job is not under this lease any more: the result has no job.
    Late,
    /// The hub cannot accept it in this form, however often it is sent.
    Form,
    /// Its checksum or signature is not what the hub wants: no result of this worker will be accepted.
    Integrity,
}

impl Verdict {
    /// The verdict of a failed call.
    pub fn of(error: &CallError) -> Self {
        match error.code() {
            Some("lease_lost" | "already_final" | "unknown_job") => Verdict::Late,
            Some("bad_request" | "payload_too_large") => Verdict::Form,
            Some("result_integrity_fail") => Verdict::Integrity,
            _ => Verdict::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Access, Applied, Endpoint, Refused};

    #[test]
    fn only_the_hubs_own_judgement_of_a_result_is_final() {
        let refused = |status, code: &str| {
            let (code, detail) = (code.to_owned(), String::new());
            CallError::Refused(Box::new(Refused { status, code, detail, retry_after: None, applied: Applied::No }))
        };
        let endpoint =
            Box::new(Endpoint { url: "http://hub".to_owned(), origin: "the test".to_owned(), access: Access::Open });
        let reason = String::new();
        let table = [
            (refused(409, "lease_lost"), Verdict::Late),
            (refused(409, "already_final"), Verdict::Late),
            (refused(404, "unknown_job"), Verdict::Late),
            (refused(413, "payload_too_large"), Verdict::Form),
            (refused(400, "bad_request"), Verdict::Form),
            (refused(403, "result_integrity_fail"), Verdict::Integrity),
            (refused(403, "auth_failure"), Verdict::Later),
            (refused(404, "unknown_path"), Verdict::Later),
            (refused(410, "port_mismatch"), Verdict::Later),
            (refused(503, "journal_unavailable"), Verdict::Later),
            (refused(418, "a_code_of_a_later_release"), Verdict::Later),
            (CallError::Garbled { endpoint: endpoint.clone(), status: 413, reason, retry_after: None }, Verdict::Later),
            (CallError::Unreachable { endpoint, reason: String::new(), may_have_arrived: true }, Verdict::Later),
            (CallError::Unsendable { reason: String::new() }, Verdict::Later),
        ];
        for (error, verdict) in table {
            assert_eq!(Verdict::of(&error), verdict, "{error:?}");
        }
    }
}

//! Queries: paths and parameters of requests, with what a user typed encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Display;

/// Letters that no part of a path or a query needs to have encoded (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The parameters of a request.
#[derive(Clone, Default, Debug)]
pub struct Query(String);

impl Query {
    /// Adds a parameter.
    pub fn add(&mut self, name: &str, value: impl Display) {
        let and = if self.0.is_empty() { '?' } else { '&' };
        self.0 += &format!("{and}{name}={}", segment(&value.to_string()));
    }

    /// Adds a parameter that may be absent.
    pub fn add_some(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// A path with these parameters.
    pub fn of(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

/// One segment of a path. One that is only dots is encoded whole: clients and proxies resolve such segments.
pub fn segment(text: &str) -> String {
    match text.bytes().all(|byte| byte == b'.') {
        true => "%2E".repeat(text.len()),
        false => utf8_percent_encode(text, ENCODED).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_typed_cannot_change_which_path_or_parameter_is_meant() {
        for (text, encoded) in [
            ("gpu-1.lan", "gpu-1.lan"),
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("ä &=+", "%C3%A4%20%26%3D%2B"),
            ("..", "%2E%2E"),
        ] {
            assert_eq!(segment(text), encoded);
        }
        let mut query = Query::default();
        assert_eq!(query.of("/mesh/jobs"), "/mesh/jobs");
        query.add("kind", "a&status=dead");
        query.add_some("node", None::<&str>);
        query.add_some("limit", Some(3));
        assert_eq!(query.of("/mesh/jobs"), "/mesh/jobs?kind=a%26status%3Ddead&limit=3");
    }
}

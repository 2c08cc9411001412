//! Headers that a request has once: one that is sent twice has no value that both sides agree on (RFC 9110, section
//! 5.3), so the request is refused.

use super::problem::Problem;
use crate::http::Request;

/// The value of a header, without the white space around it; an empty one counts as absent.
pub fn single<'a>(request: &Request<'a>, name: &str) -> Result<Option<&'a [u8]>, Problem> {
    let mut values = request.headers(name);
    let first = values.next();
    match values.next() {
        None => Ok(first.map(<[u8]>::trim_ascii).filter(|value| !value.is_empty())),
        Some(_) => Err(Problem::bad_request(format!("{name} is sent more than once"))),
    }
}

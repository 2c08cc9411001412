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

/// The version that `If-Match` names, if it is there: one that was read as `ETag`.
pub fn if_match(request: &Request) -> Result<Option<u64>, Problem> {
    let Some(tag) = single(request, "If-Match")? else { return Ok(None) };
    let text = std::str::from_utf8(tag).unwrap_or_default();
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let version = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    version.map(Some).ok_or_else(|| Problem::bad_request("If-Match must be an ETag that was read, as \"3\""))
}

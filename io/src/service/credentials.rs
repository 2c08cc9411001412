//! Credentials: the token that a request presents, and texts of a request without it.

use super::header;
use super::problem::Problem;
use crate::http::Request;
use crate::redact::{Redactor, redact_one};
use crate::secret::Secret;
use std::borrow::Cow;

/// Bytes of a path in the audit log: longer paths are cut, so that a line has a bound.
const AUDITED_PATH_BYTES_MAX: usize = 256;

/// `X-Sheratan-Token: T`, else `Authorization: Bearer T`.
pub fn presented_token<'a>(request: &Request<'a>) -> Result<Option<&'a [u8]>, Problem> {
    let authorization = header::single(request, "Authorization")?;
    if let Some(token) = header::single(request, "X-Sheratan-Token")? {
        return Ok(Some(token));
    }
    let bearer = |value: &'a [u8]| {
        let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii_start())
    };
    Ok(authorization.and_then(bearer))
}

/// A path as the audit log shows it. Secrets are redacted in the whole path before it is cut, since the rest of a cut
/// secret could not be recognized.
pub fn audited_path(redactor: &Redactor, request: &Request) -> String {
    let path = without_credentials(request, request.path());
    let mut path = redactor.redact_text(&path).into_owned();
    // A path is visible ASCII, so each byte is a character.
    path.truncate(AUDITED_PATH_BYTES_MAX);
    path
}

/// A text of the request, without the request's credentials: a token that is not this hub's may be valid elsewhere.
pub fn without_credentials<'a>(request: &Request, text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for credentials in credentials(request) {
        if let Cow::Owned(redacted) = redact_one(&Secret::new(credentials), &text) {
            text = Cow::Owned(redacted);
        }
    }
    text
}

/// The values of the token's header and, after the scheme, of `Authorization`.
fn credentials<'a>(request: &Request<'a>) -> impl Iterator<Item = &'a [u8]> {
    let after_scheme = |value: &'a [u8]| {
        let scheme_end = value.iter().position(|byte| *byte == b' ').unwrap_or(0);
        value[scheme_end..].trim_ascii()
    };
    let authorization = request.headers("authorization").map(after_scheme);
    request.headers("x-sheratan-token").chain(authorization)
}

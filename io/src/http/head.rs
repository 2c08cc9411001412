//! Heads: the request line and the headers, checked so that no two readers understand them differently (RFC 9112, 11.2).
//!
//! httparse splits the head; what it takes leniently is refused here: bare CR and LF, folded lines, lengths that
//! contradict each other.

use super::limits::{HEADERS_MAX, Limits};
use std::ops::Range;

/// A request's method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// `PATCH`.
    Patch,
    /// `OPTIONS`.
    Options,
    /// Any other.
    Other,
}

/// A head that was understood. Ranges are of the head's own bytes.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    pub path: Range<usize>,
    pub query: Option<Range<usize>>,
    pub headers: Vec<(Range<usize>, Range<usize>)>,
    pub length: usize,
    pub body: BodyLength,
    pub is_http_10: bool,
    pub is_keep_alive: bool,
    pub expects_continue: bool,
}

/// How a body's end is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    /// So many bytes.
    Known(usize),
    /// It is chunked.
    Chunked,
}

/// A request that is not answered but refused, and ends its connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub status: u16,
    pub code: &'static str,
    pub detail: String,
}

impl Method {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Options => "OPTIONS",
            Method::Other => "other",
        }
    }

    fn from_word(word: &str) -> Method {
        use Method::{Delete, Get, Options, Other, Patch, Post, Put};
        let all = [Get, Method::Head, Post, Put, Delete, Patch, Options];
        all.into_iter().find(|method| method.as_str() == word).unwrap_or(Other)
    }
}

/// Looks for the end of the head in `bytes`, of which `scanned` were looked at before; gives the head's length. Refuses as
/// soon as it shows that there will be none.
pub fn find_end(bytes: &[u8], scanned: usize, limits: &Limits) -> Result<Option<usize>, Refused> {
    for at in scanned..bytes.len() {
        let byte = bytes[at];
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let is_broken = if byte == b'\n' { before != Some(b'\r') } else { before == Some(b'\r') };
        if is_broken {
            return Err(bad("a line must end with CR LF, and neither may stand alone"));
        }
        if byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t') {
            return Err(bad("the head has a control character"));
        }
        if byte == b'\n' && at >= 3 && bytes[at - 3..at] == *b"\r\n\r" {
            return Ok(Some(at + 1));
        }
        if at + 1 >= limits.head_bytes_max {
            break;
        }
    }
    check_size(bytes, limits)?;
    Ok(None)
}

/// An unfinished head that is larger than any may be.
fn check_size(bytes: &[u8], limits: &Limits) -> Result<(), Refused> {
    let line_bytes = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len());
    // The longest method and version that are known take 18 bytes of the line.
    if line_bytes > limits.target_bytes_max + 18 {
        return Err(target_too_long(limits));
    }
    if bytes.len() >= limits.head_bytes_max {
        let detail = format!("the request's head has more than {} bytes", limits.head_bytes_max);
        return Err(Refused { status: 431, code: "headers_too_large", detail });
    }
    Ok(())
}

/// Understands a whole head.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Head, Refused> {
    if bytes.windows(3).any(|window| window[0] == b'\n' && matches!(window[1], b' ' | b'\t')) {
        return Err(bad("a header line must not start with white space"));
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            let detail = format!("the request has more than {HEADERS_MAX} headers");
            return Err(Refused { status: 431, code: "headers_too_large", detail });
        }
        Err(httparse::Error::Version) => {
            return Err(Refused {
                status: 505,
                code: "bad_http",
                detail: "the hub speaks HTTP/1.1 and HTTP/1.0".into(),
            });
        }
        Err(error) => return Err(bad(format!("the request's head cannot be read: {error}"))),
        Ok(_) => return Err(bad("the request's head cannot be read")),
    }
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    let is_http_10 = request.version == Some(0);
    let (path, query) = split_target(bytes, target, limits)?;
    let fields = Fields::read(request.headers, is_http_10)?;
    let range = |part: &[u8]| {
        // httparse hands out pieces of what it was given.
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        start..start + part.len()
    };
    Ok(Head {
        method: Method::from_word(method),
        path,
        query,
        headers: request.headers.iter().map(|header| (range(header.name.as_bytes()), range(header.value))).collect(),
        length: bytes.len(),
        body: fields.body(limits)?,
        is_http_10,
        is_keep_alive: if is_http_10 { fields.says_keep_alive && !fields.says_close } else { !fields.says_close },
        expects_continue: fields.expects_continue && !is_http_10,
    })
}

type Target = (Range<usize>, Option<Range<usize>>);

fn split_target(bytes: &[u8], target: &str, limits: &Limits) -> Result<Target, Refused> {
    if target.len() > limits.target_bytes_max {
        return Err(target_too_long(limits));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(bad("the target has a character that must be percent-encoded"));
    }
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            let path_at = rest.find('/').ok_or_else(|| bad("the target has no path"))?;
            &rest[path_at..]
        }
        _ => target,
    };
    if !origin.starts_with('/') {
        return Err(bad("the target must be a path"));
    }
    let start = origin.as_ptr() as usize - bytes.as_ptr() as usize;
    let end = start + origin.len();
    Ok(match origin.find('?') {
        Some(at) => (start..start + at, Some(start + at + 1..end)),
        None => (start..end, None),
    })
}

/// The headers that the connection itself must understand.
#[derive(Default)]
struct Fields<'a> {
    length: Option<&'a [u8]>,
    is_chunked: bool,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
    hosts: usize,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>], is_http_10: bool) -> Result<Self, Refused> {
        let mut fields = Fields::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let value = header.value.trim_ascii();
            if is("content-length") {
                if fields.length.replace(value).is_some() {
                    return Err(bad("there is more than one Content-Length"));
                }
            } else if is("transfer-encoding") {
                if fields.is_chunked || is_http_10 {
                    return Err(bad("Transfer-Encoding may come once, in HTTP/1.1"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    let detail = "the only Transfer-Encoding that the hub takes is chunked".into();
                    return Err(Refused { status: 501, code: "bad_http", detail });
                }
                fields.is_chunked = true;
            } else if is("connection") {
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    fields.says_close |= token.eq_ignore_ascii_case(b"close");
                    fields.says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("expect") {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    let detail = "the only expectation that the hub meets is 100-continue".into();
                    return Err(Refused { status: 417, code: "bad_http", detail });
                }
                fields.expects_continue = true;
            } else if is("host") {
                fields.hosts += 1;
            }
        }
        if fields.hosts > 1 || fields.hosts == 0 && !is_http_10 {
            return Err(bad("a request must have one Host header"));
        }
        if fields.is_chunked && fields.length.is_some() {
            return Err(bad("a request must not have both Content-Length and Transfer-Encoding"));
        }
        Ok(fields)
    }

    fn body(&self, limits: &Limits) -> Result<BodyLength, Refused> {
        if self.is_chunked {
            return Ok(BodyLength::Chunked);
        }
        let Some(text) = self.length else { return Ok(BodyLength::Known(0)) };
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return Err(bad("Content-Length must be a whole number"));
        }
        let length = std::str::from_utf8(text).ok().and_then(|text| text.parse::<usize>().ok());
        match length {
            Some(length) if length <= limits.body_bytes_max => Ok(BodyLength::Known(length)),
            _ => Err(body_too_large(limits)),
        }
    }
}

/// What cannot be understood, or could be understood in two ways.
pub fn bad(detail: impl Into<String>) -> Refused {
    Refused { status: 400, code: "bad_http", detail: detail.into() }
}

/// The body is larger than one may be.
pub fn body_too_large(limits: &Limits) -> Refused {
    let detail = format!("the body has more than {} bytes (max_body_bytes)", limits.body_bytes_max);
    Refused { status: 413, code: "payload_too_large", detail }
}

fn target_too_long(limits: &Limits) -> Refused {
    let detail = format!("the request's target has more than {} bytes", limits.target_bytes_max);
    Refused { status: 414, code: "uri_too_long", detail }
}

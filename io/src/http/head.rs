//! Heads: finds the end of a request's head, parses it, and refuses one that can be read in more than one way.
//!
//! [`HeadEnd`] reads each byte once as it arrives and checks the lines (CR LF and nothing else, no NUL, no folding, the
//! limits); its refusals do not depend on how the bytes were split. httparse then parses the whole head once. It is
//! lenient where these checks are strict (LF alone, several empty lines), so they come first. This module interprets
//! the head (RFC 9112, sections 3, 6 and 9).

use super::limits::{HEADERS_MAX, METHOD_BYTES_MAX};
use super::refusal::{Fault, Refusal};
use super::{Limits, Method};
use memchr::memchr;
use sheratan_core::Timestamp;
use std::mem::MaybeUninit;
use std::ops::Range;

/// The search for a head's end.
#[derive(Default, Debug)]
pub struct HeadEnd {
    /// When the head's first byte arrived.
    pub since: Option<Timestamp>,
    /// An empty line before the head was skipped: some clients send one after a body (RFC 9112, section 2.2).
    pub is_line_skipped: bool,
    /// The start of the current line.
    line_at: usize,
    /// The line's end was searched up to here.
    scanned: usize,
}

/// A parsed request head.
#[derive(Debug)]
pub struct Head {
    /// Bytes of the head, its empty line included.
    pub len: usize,
    /// How the body's end is found.
    pub framing: Framing,
    /// HTTP/1.0, whose connections close unless asked not to.
    pub is_http10: bool,
    /// Whether the client wants to keep the connection.
    pub is_keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    method: Method,
    path: Option<Range<usize>>,
    query: Option<Range<usize>>,
    headers: Vec<HeaderAt>,
}

/// How a body's end is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// This many bytes; 0 if the head has no length.
    Length(usize),
    /// Chunks, the last of which is empty.
    Chunked,
}

/// The position of a header in the head.
#[derive(Debug)]
struct HeaderAt {
    name_at: u32,
    name_len: u32,
    value_at: u32,
    value_len: u32,
}

impl HeadEnd {
    /// A search that begins after an empty line: a second one is refused.
    pub fn behind_empty_line() -> Self {
        HeadEnd { is_line_skipped: true, ..HeadEnd::default() }
    }

    /// The length of the head, if its end is in `bytes`. Call it again with the same bytes and those that arrived
    /// since.
    pub fn find(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        loop {
            let line_end = memchr(b'\n', &bytes[self.scanned..]).map(|at| self.scanned + at + 1);
            let end = line_end.unwrap_or(bytes.len());
            if self.line_at == 0 && end > limits.request_line_bytes_max() {
                return Err(Refusal::uri_too_long(limits));
            }
            if end > limits.head_bytes_max {
                return Err(Refusal::head_too_large(limits));
            }
            self.scanned = end;
            if line_end.is_none() {
                return Ok(None);
            }
            let line = bytes[self.line_at..end - 1].strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
            let is_first = self.line_at == 0;
            self.line_at = end;
            match (is_first, line.is_empty()) {
                (true, true) => return Err(Fault::EmptyRequestLine.into()),
                (true, false) => check_request_line(line, limits)?,
                (false, true) => return Ok(Some(end)),
                (false, false) => check_line(line)?,
            }
        }
    }
}

fn check_request_line(line: &[u8], limits: &Limits) -> Result<(), Refusal> {
    check_line(line)?;
    let mut words = line.split(|byte| *byte == b' ');
    if words.next().unwrap_or_default().len() > METHOD_BYTES_MAX {
        return Err(Fault::MethodTooLong.into());
    }
    if words.next().unwrap_or_default().len() > limits.target_bytes_max {
        return Err(Refusal::uri_too_long(limits));
    }
    Ok(())
}

fn check_line(line: &[u8]) -> Result<(), Fault> {
    if line[0] == b' ' || line[0] == b'\t' {
        return Err(Fault::FoldedHeader);
    }
    // Without an early return the compiler compares many bytes at once.
    let (has_cr, has_nul) =
        line.iter().fold((false, false), |(has_cr, has_nul), byte| (has_cr | (*byte == b'\r'), has_nul | (*byte == 0)));
    match (has_cr, has_nul) {
        (true, _) => Err(Fault::BareCarriageReturn),
        (_, true) => Err(Fault::Nul),
        (false, false) => Ok(()),
    }
}

impl Head {
    /// Parses a head whose end [`HeadEnd`] found: `bytes` are exactly the head. O(bytes).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let status = parsed
            .parse_with_uninit_headers(bytes, &mut room[..(limits.headers_max as usize).min(HEADERS_MAX)])
            .map_err(|error| refusal_of(error, bytes, limits))?;
        assert_eq!(status, httparse::Status::Complete(bytes.len()), "both find the head's end at the same place");
        let parts = (parsed.method, parsed.path, parsed.version);
        let (Some(method), Some(target), Some(version)) = parts else {
            unreachable!("a complete request line has all its parts");
        };
        if method == "CONNECT" {
            return Err(Refusal::ConnectMethod);
        }
        let (path, query) = split_target(target)?;
        let is_http10 = version == 0;
        let said = Said::of(parsed.headers, is_http10)?;
        Ok(Head {
            len: bytes.len(),
            framing: said.framing(is_http10, limits)?,
            is_http10,
            is_keep_alive: !said.has_close && (!is_http10 || said.has_keep_alive),
            expects_continue: said.expects_continue && !is_http10,
            method: Method::parse(method),
            path: path.map(|path| place(bytes, path.as_bytes())),
            query: query.map(|query| place(bytes, query.as_bytes())),
            headers: parsed.headers.iter().map(|header| HeaderAt::of(bytes, header)).collect(),
        })
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path in the head's bytes; `/` where an absolute URI has none.
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a str {
        self.path.as_ref().map_or("/", |at| text(&bytes[at.clone()]))
    }

    /// The query in the head's bytes.
    pub fn query<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        self.query.as_ref().map(|at| text(&bytes[at.clone()]))
    }

    /// The value of the first header with this name in the head's bytes.
    pub fn header<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.headers(bytes, name).next()
    }

    /// The values of all headers with this name in the head's bytes.
    pub fn headers<'a>(&self, bytes: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
        let is_named = move |at: &&HeaderAt| bytes[at.name()].eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(is_named).map(|at| &bytes[at.value()])
    }
}

impl HeaderAt {
    fn of(bytes: &[u8], header: &httparse::Header) -> Self {
        let small = |value: usize| u32::try_from(value).expect("a head is shorter than 4 GiB");
        let (name, value) = (place(bytes, header.name.as_bytes()), place(bytes, header.value));
        HeaderAt {
            name_at: small(name.start),
            name_len: small(name.len()),
            value_at: small(value.start),
            value_len: small(value.len()),
        }
    }

    fn name(&self) -> Range<usize> {
        self.name_at as usize..(self.name_at + self.name_len) as usize
    }

    fn value(&self) -> Range<usize> {
        self.value_at as usize..(self.value_at + self.value_len) as usize
    }
}

/// The range of `part`, a slice of `whole`, in it.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    assert!(start + part.len() <= whole.len(), "a part lies within its whole");
    start..start + part.len()
}

fn text(ascii: &[u8]) -> &str {
    str::from_utf8(ascii).expect("the target was checked to be ASCII")
}

fn refusal_of(error: httparse::Error, bytes: &[u8], limits: &Limits) -> Refusal {
    match error {
        httparse::Error::HeaderName => Fault::HeaderName.into(),
        httparse::Error::HeaderValue => Fault::HeaderValue.into(),
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders { headers_max: limits.headers_max as usize },
        httparse::Error::Version if names_version(bytes) => Refusal::UnknownVersion,
        _ => Fault::RequestLine.into(),
    }
}

/// Whether the request line's third word is its last, and the name of a version.
fn names_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    matches!(words[..], [_, _, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']])
}

/// The path (`None` in an absolute URI without one) and the query of a target (RFC 9112, section 3.2).
fn split_target(target: &str) -> Result<(Option<&str>, Option<&str>), Fault> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Fault::TargetBytes);
    }
    let path_and_query = match absolute(target) {
        None => target,
        Some(rest) => {
            let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path_and_query) = rest.split_at(authority_len);
            if !is_host(authority.as_bytes()) || authority.is_empty() {
                return Err(Fault::TargetForm);
            }
            path_and_query
        }
    };
    let is_absolute = path_and_query.len() < target.len();
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    match path.starts_with('/') {
        true => Ok((Some(path), query)),
        false if is_absolute && path.is_empty() => Ok((None, query)),
        false => Err(Fault::TargetForm),
    }
}

/// The part of an absolute URI after its scheme.
fn absolute(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Whether the bytes can name a host and a port (RFC 3986, section 3.2.2). An empty Host is allowed.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

/// What the headers specify about the connection and the body.
#[derive(Default)]
struct Said {
    hosts: usize,
    content_length: Option<u64>,
    is_chunked: bool,
    has_close: bool,
    has_keep_alive: bool,
    expects_continue: bool,
}

impl Said {
    fn of(headers: &[httparse::Header], is_http10: bool) -> Result<Self, Refusal> {
        let mut said = Said::default();
        for header in headers {
            said.hear(header, is_http10)?;
        }
        let is_host_right = said.hosts == 1 || said.hosts == 0 && is_http10;
        if is_host_right { Ok(said) } else { Err(Fault::Host.into()) }
    }

    fn hear(&mut self, header: &httparse::Header, is_http10: bool) -> Result<(), Refusal> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // The length distinguishes most headers before a byte is compared.
        match header.name.len() {
            4 if is("host") => {
                self.hosts += 1;
                if !is_host(header.value) {
                    return Err(Fault::Host.into());
                }
            }
            6 if is("expect") => {
                self.expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
                if !self.expects_continue && !is_http10 {
                    return Err(Refusal::UnknownExpectation);
                }
            }
            10 if is("connection") => {
                for option in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.has_close |= option.eq_ignore_ascii_case(b"close");
                    self.has_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if is("content-length") => {
                let length = content_length(header.value).filter(|_| self.content_length.is_none());
                self.content_length = Some(length.ok_or(Fault::ContentLength)?);
            }
            17 if is("transfer-encoding") => {
                if self.is_chunked {
                    return Err(Fault::TransferEncoding.into());
                }
                self.is_chunked = true;
                check_coding(header.value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, is_http10: bool, limits: &Limits) -> Result<Framing, Refusal> {
        match (self.content_length, self.is_chunked) {
            (Some(_), true) => Err(Fault::BothLengths.into()),
            (None, true) if is_http10 => Err(Fault::TransferEncodingInHttp10.into()),
            (None, true) => Ok(Framing::Chunked),
            (length, false) => usize::try_from(length.unwrap_or(0))
                .ok()
                .filter(|length| *length <= limits.body_bytes_max)
                .map(Framing::Length)
                .ok_or(Refusal::payload_too_large(limits)),
        }
    }
}

fn content_length(value: &[u8]) -> Option<u64> {
    let is_number = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Only `chunked` is supported. A list that ends with it is well formed, so its other codings are reported as unknown.
fn check_coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let codings: Vec<_> = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect();
    let chunked_count = codings.iter().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
    let is_last = codings.last().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    let is_known_form = chunked_count == 1 && is_last && codings.iter().all(|coding| !coding.is_empty());
    Err(if is_known_form { Refusal::UnknownCoding } else { Fault::TransferEncoding.into() })
}

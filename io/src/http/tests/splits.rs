//! However the bytes are split, the requests are the same, and so is what is refused.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A request to be sent, and what must be seen of it.
#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    path: String,
    query: Option<String>,
    tag: Option<String>,
    is_http10: bool,
    has_line_before: bool,
    body: Vec<u8>,
    /// Bytes of each chunk; none: the body's length is sent instead.
    chunks: Option<Vec<usize>>,
    has_trailers: bool,
}

impl Asked {
    fn bytes(&self) -> Vec<u8> {
        let line = if self.has_line_before { "\r\n" } else { "" };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let version = if self.is_http10 { "1.0\r\nConnection: Keep-Alive" } else { "1.1\r\nHost: hub:8788" };
        let mut bytes = format!("{line}{} {}{query} HTTP/{version}\r\n", self.method, self.path).into_bytes();
        if let Some(tag) = &self.tag {
            bytes.extend_from_slice(format!("x-tag:{tag}\r\n").as_bytes());
        }
        match &self.chunks {
            Some(sizes) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                self.write_chunks(sizes, &mut bytes);
            }
            None => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
                bytes.extend_from_slice(&self.body);
            }
        }
        bytes
    }

    fn write_chunks(&self, sizes: &[usize], bytes: &mut Vec<u8>) {
        let mut rest = self.body.as_slice();
        for size in sizes.iter().copied().chain([usize::MAX]) {
            let (chunk, behind) = rest.split_at(size.min(rest.len()));
            if !chunk.is_empty() {
                let extension = if self.has_trailers { ";name=\"value\"" } else { "" };
                bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            rest = behind;
        }
        bytes.extend_from_slice(if self.has_trailers { b"0\r\nX-Tag: no\r\n\r\n" } else { b"0\r\n\r\n" });
    }

    fn seen(&self, id: u64) -> Seen {
        Seen {
            id: RequestId(id),
            method: self.method.to_owned(),
            path: self.path.clone(),
            query: self.query.clone(),
            tag: self.tag.as_ref().map(|tag| tag.trim().as_bytes().to_vec()),
            body: self.body.clone(),
        }
    }
}

prop_compose! {
    fn asked()(
        method in select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"]),
        path in "/[a-zA-Z0-9/%._~-]{0,20}",
        query in proptest::option::of("[a-z0-9=&?]{0,10}"),
        tag in proptest::option::of("[ \t]{0,2}([!-~]([ -~]{0,20}[!-~])?)?[ \t]{0,2}"),
        is_http10 in prop::bool::weighted(0.2),
        has_line_before in prop::bool::weighted(0.2),
        body in vec(prop_oneof![any::<u8>(), select(b"\r\n:0".to_vec())], 0..60),
        chunks in proptest::option::of(vec(1_usize..20, 0..5)),
        has_trailers in any::<bool>(),
    ) -> Asked {
        let chunks = chunks.filter(|_| !is_http10);
        Asked { method, path, query, tag, is_http10, has_line_before, body, chunks, has_trailers }
    }
}

/// Sends the bytes in these parts and answers each request at once: what was seen, and what was refused.
fn drive<'a>(limits: &Limits, parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, Option<Refusal>) {
    let mut connection = Connection::new(START, limits);
    let mut all = Vec::new();
    for part in parts {
        connection.received(START, part);
        loop {
            let seen = take(&mut connection, START);
            for request in &seen {
                reply_ok(&mut connection, START, request.id, "{}");
            }
            send(&mut connection, START);
            all.extend(seen);
            if !connection.has_request() {
                break;
            }
        }
    }
    (all, connection.refusal())
}

fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Limits that short inputs meet.
fn tight() -> Limits {
    Limits {
        head_bytes_max: 160,
        target_bytes_max: 24,
        headers_max: 4,
        body_bytes_max: 50,
        pipeline_max: 2,
        output_bytes_max: 300,
        ..Limits::DEFAULT
    }
}

#[test]
fn a_stream_split_at_every_boundary_gives_the_same_requests() {
    let table = [
        "POST /a?b HTTP/1.1\r\nHost: h\r\nX-Tag: t\r\nContent-Length: 5\r\n\r\nabcde",
        "\r\nPUT /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0b\r\n\r\n0\r\n\r\nHTTP\r\n0\r\nT: u\r\n\r\n",
        "GET /d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "HEAD http://h/e HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    let stream = table.concat().into_bytes();
    let whole = drive(&Limits::DEFAULT, [stream.as_slice()]);
    assert_eq!(whole.0.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["/a", "/c", "/d", "/e"]);
    assert_eq!(whole.0[1].body, b"abc\r\n0\r\n\r\nHTTP");
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let parts = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(drive(&Limits::DEFAULT, parts), whole, "split at {first} and {second}");
        }
    }
    assert_eq!(drive(&Limits::DEFAULT, stream.chunks(1)), whole);
}

proptest! {
    #[test]
    fn any_requests_in_any_split_are_seen_as_they_were_asked(
        asked in vec(asked(), 1..6),
        cuts in vec(any::<Index>(), 0..30),
    ) {
        let stream: Vec<u8> = asked.iter().flat_map(Asked::bytes).collect();
        let expected: Vec<_> = asked.iter().zip(0..).map(|(asked, id)| asked.seen(id)).collect();
        prop_assert_eq!(&drive(&Limits::DEFAULT, [stream.as_slice()]), &(expected.clone(), None));
        prop_assert_eq!(&drive(&Limits::DEFAULT, cut(&stream, &cuts)), &(expected.clone(), None));
        prop_assert_eq!(&drive(&Limits::DEFAULT, stream.chunks(1)), &(expected, None));
    }

    #[test]
    fn a_damaged_stream_is_taken_or_refused_alike_in_any_split(
        asked in vec(asked(), 1..4),
        damage in vec((any::<Index>(), 0..4_u8, select(b"\r\n\0 \t:;,?#/0159afxHTP\x7f\xe9".to_vec())), 0..4),
        cuts in vec(any::<Index>(), 0..30),
        is_tight in any::<bool>(),
    ) {
        let mut stream: Vec<u8> = asked.iter().flat_map(Asked::bytes).collect();
        for (at, kind, byte) in damage {
            let at = at.index(stream.len());
            match kind {
                0 => stream[at] = byte,
                1 => stream.insert(at, byte),
                2 => _ = stream.remove(at),
                _ => stream.splice(at..at, b"Content-Length: 7\r\n".iter().copied()).for_each(drop),
            }
        }
        let limits = if is_tight { tight() } else { Limits::DEFAULT };
        let whole = drive(&limits, [stream.as_slice()]);
        prop_assert_eq!(&drive(&limits, cut(&stream, &cuts)), &whole);
        prop_assert_eq!(&drive(&limits, stream.chunks(1)), &whole);
    }
}

//! Answers: the hub's replies to requests, parsed with as little work as possible.
//!
//! Client and hub share the machine, so what the client spends is missing from the figure. The head is parsed by
//! httparse; of the body only the members that the next request needs are looked for, by their spelling in the hub's
//! own compact JSON. That they are found where they should be is checked, so another spelling stops the run.

use std::ops::Range;

/// One complete answer at the start of a buffer.
#[derive(PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The range of the body.
    pub body: Range<usize>,
}

/// Why bytes are not an answer that this client reads.
#[derive(PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// Not HTTP/1.
    Head(httparse::Error),
    /// No `Content-Length`, or one that is no number.
    Length,
}

const HEADERS_MAX: usize = 32;

impl Answer {
    /// The answer at the start of `bytes`; `None` if more bytes are to come.
    pub fn parse(bytes: &[u8]) -> Result<Option<Answer>, Unreadable> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let head_bytes = match head.parse(bytes).map_err(Unreadable::Head)? {
            httparse::Status::Complete(head_bytes) => head_bytes,
            httparse::Status::Partial => return Ok(None),
        };
        let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
        let body = head_bytes..head_bytes + length.ok_or(Unreadable::Length)?;
        let status = head.code.expect("a whole head has a status");
        Ok((bytes.len() >= body.end).then_some(Answer { status, body }))
    }
}

/// The text of exactly `N` bytes between `before` (with its opening quote) and a closing quote.
pub fn text_after<'a, const N: usize>(body: &'a [u8], before: &str) -> Option<&'a [u8; N]> {
    let start = find(body, before.as_bytes())? + before.len();
    let text = body.get(start..)?.first_chunk::<N>()?;
    (body.get(start + N) == Some(&b'"') && !text.contains(&b'"')).then_some(text)
}

/// Whether the body has this spelling of a member.
pub fn has(body: &[u8], spelling: &str) -> bool {
    find(body, spelling.as_bytes()).is_some()
}

fn find(body: &[u8], what: &[u8]) -> Option<usize> {
    // A spelling begins with a quote, of which there are many; the letter behind it tells most of them apart without a
    // call to compare.
    body.windows(what.len()).position(|window| window[1] == what[1] && window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";

    #[test]
    fn an_answer_is_whole_only_with_its_last_byte() {
        for end in 0..ANSWER.len() {
            assert_eq!(Answer::parse(&ANSWER[..end]), Ok(None), "{end} bytes");
        }
        let answer = Answer::parse(ANSWER).expect("readable").expect("whole");
        assert_eq!((answer.status, &ANSWER[answer.body]), (200, &b"{\"ok\":true}"[..]));
    }

    #[test]
    fn bytes_after_an_answer_are_not_its_own() {
        let twice = [ANSWER, ANSWER].concat();
        assert_eq!(Answer::parse(&twice).expect("readable").expect("whole").body.end, ANSWER.len());
    }

    #[test]
    fn an_answer_without_a_length_or_without_http_is_unreadable() {
        assert_eq!(Answer::parse(b"HTTP/1.1 200 OK\r\n\r\n"), Err(Unreadable::Length));
        assert_eq!(Answer::parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Err(Unreadable::Length));
        assert!(matches!(Answer::parse(b"SSH-2.0-x\r\n"), Err(Unreadable::Head(_))));
    }

    #[test]
    fn a_text_is_found_only_with_its_whole_length() {
        let body = br#"{"ok":true,"id":"abcd","x":"ab"}"#;
        assert_eq!(text_after::<4>(body, "\"id\":\""), Some(b"abcd"));
        assert_eq!(text_after::<3>(body, "\"id\":\""), None, "a longer text is another");
        assert_eq!(text_after::<5>(body, "\"id\":\""), None, "a shorter text is another");
        assert_eq!(text_after::<4>(body, "\"no\":\""), None);
        assert_eq!(text_after::<4>(br#"{"id":"abcd"#, "\"id\":\""), None, "a text has an end");
        assert!(has(body, "\"ok\":true") && !has(body, "\"ok\":false"));
    }
}

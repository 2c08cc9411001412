//! HTTP as the actors speak it: requests as text, replies read by their length. Only the hub's side is under test.

use memchr::memmem;
use std::fmt::Write;

/// A reply that has arrived in full.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether the connection ends with it.
    pub is_last: bool,
}

/// A request with a JSON body.
pub fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    let mut text = String::with_capacity(160 + path.len() + body.len());
    write!(
        text,
        "POST {path} HTTP/1.1\r\nHost: hub\r\nX-Sheratan-Token: {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a string takes all");
    text.into_bytes()
}

/// A request that sets what the path names, if its version is the expected one.
pub fn put(path: &str, token: &str, expected: Option<u64>, body: &str) -> Vec<u8> {
    let if_match = expected.map_or(String::new(), |version| format!("If-Match: \"{version}\"\r\n"));
    let length = body.len();
    format!(
        "PUT {path} HTTP/1.1\r\nHost: hub\r\nX-Sheratan-Token: {token}\r\n{if_match}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A request that removes what the path names.
pub fn delete(path: &str, token: &str) -> Vec<u8> {
    format!("DELETE {path} HTTP/1.1\r\nHost: hub\r\nX-Sheratan-Token: {token}\r\n\r\n").into_bytes()
}

/// A request without a body.
pub fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: hub\r\nX-Sheratan-Token: {token}\r\n\r\n").into_bytes()
}

/// Removes the first complete reply from the inbox.
pub fn pop_reply(inbox: &mut Vec<u8>) -> Option<Reply> {
    let head_end = memmem::find(inbox, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&inbox[..head_end]).expect("the hub's heads are ASCII");
    let status = head[9..12].parse().expect("a reply begins with its status");
    let mut body_bytes = 0;
    let mut is_last = false;
    // Both lines that matter begin alike, and most others do not.
    for line in head.lines().skip(1).filter(|line| line.starts_with(['C', 'c'])) {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            body_bytes = value.parse().expect("a length is a number");
        } else if name.eq_ignore_ascii_case("connection") {
            is_last = value.eq_ignore_ascii_case("close");
        }
    }
    if inbox.len() < head_end + body_bytes {
        return None;
    }
    let rest = inbox.split_off(head_end + body_bytes);
    let body = std::mem::replace(inbox, rest).split_off(head_end);
    Some(Reply { status, body, is_last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_popped_when_its_body_is_complete_and_what_follows_stays() {
        let mut inbox = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab".to_vec();
        assert!(pop_reply(&mut inbox).is_none());
        inbox.extend_from_slice(b"cdHTTP/1.1 409 Conflict\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let reply = pop_reply(&mut inbox).expect("it is whole");
        assert_eq!((reply.status, reply.body.as_slice(), reply.is_last), (200, &b"abcd"[..], false));
        let reply = pop_reply(&mut inbox).expect("it is whole");
        assert_eq!((reply.status, reply.is_last, inbox.len()), (409, true, 0));
    }
}

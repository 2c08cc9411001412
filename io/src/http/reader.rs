//! Reader: the input side of a connection, from bytes to whole requests, one after the other.
//!
//! A head's bytes are searched as they arrive and parsed once; a body stays in place and, if it is chunked, is decoded
//! in place. The reader does not decide when a request may begin, and does not handle replies.

use super::chunked::Chunked;
use super::head::{Framing, Head, HeadEnd};
use super::input::Input;
use super::refusal::Awaited;
use super::{Limits, Refusal};
use sheratan_core::{Millis, Timestamp};

/// The unconsumed input, and how far it is parsed.
#[derive(Debug)]
pub struct Reader {
    input: Input,
    stage: Stage,
    /// Whether bodies are read only after [`Reader::admit`].
    checks_heads: bool,
}

#[derive(Debug)]
enum Stage {
    /// Between requests, or in a head.
    Head(HeadEnd),
    /// In a body.
    Body(Body),
    /// A complete request is at the front of the input.
    Whole(Message),
    /// It was returned, and is consumed next.
    Taken(Message),
    /// There are no more requests.
    Ended,
}

/// A body that is arriving, after its head.
#[derive(Debug)]
struct Body {
    head: Head,
    framing: BodyFraming,
    since: Timestamp,
    /// The client waits for `100 Continue`.
    is_awaited: bool,
    /// More of it may be read.
    is_admitted: bool,
}

#[derive(Debug)]
enum BodyFraming {
    Length(usize),
    Chunked(Chunked),
}

/// A complete request's position in the input.
#[derive(Debug)]
struct Message {
    head: Head,
    body_end: usize,
    end: usize,
}

impl Reader {
    /// A reader before its first request.
    pub fn new() -> Self {
        Reader { input: Input::default(), stage: Stage::Head(HeadEnd::default()), checks_heads: false }
    }

    /// From now on a body that is not there with its head is read only after [`Reader::admit`].
    pub fn check_heads(&mut self) {
        self.checks_heads = true;
    }

    /// The head whose body is to be admitted, and its bytes.
    pub fn unadmitted(&self) -> Option<(&Head, &[u8])> {
        let Stage::Body(body) = &self.stage else { return None };
        (!body.is_admitted).then(|| (&body.head, &self.input.bytes()[..body.head.len]))
    }

    /// Admits the body: more of it may be read.
    pub fn admit(&mut self) {
        if let Stage::Body(body) = &mut self.stage {
            body.is_admitted = true;
        }
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.input.bytes().len()
    }

    /// Adds bytes to the input.
    pub fn append(&mut self, bytes: &[u8]) {
        self.input.append(bytes);
    }

    /// Parses up to the next complete request, if a head may begin (`may_begin`) or one has begun.
    pub fn advance(&mut self, now: Timestamp, limits: &Limits, may_begin: bool) -> Result<(), Refusal> {
        if may_begin && matches!(self.stage, Stage::Head(_)) {
            self.read_head(now, limits)?;
        }
        if matches!(self.stage, Stage::Body(_)) {
            self.read_body(limits)?;
        }
        Ok(())
    }

    /// Whether a complete request was not returned yet.
    pub fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Whole(_))
    }

    /// The path of a complete request that was not returned yet.
    pub fn whole_path(&self) -> Option<&str> {
        let Stage::Whole(message) = &self.stage else { return None };
        Some(message.head.path(&self.input.bytes()[..message.head.len]))
    }

    /// Returns the complete request: its head, the head's bytes, its body.
    pub fn take(&mut self) -> Option<(&Head, &[u8], &[u8])> {
        if !self.is_whole() {
            return None;
        }
        let Stage::Whole(message) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            unreachable!("asked for above");
        };
        self.stage = Stage::Taken(message);
        let Stage::Taken(Message { head, body_end, .. }) = &self.stage else { unreachable!("set above") };
        let (head_bytes, body) = self.input.bytes()[..*body_end].split_at(head.len);
        Some((head, head_bytes, body))
    }

    /// Consumes the request that was returned; returns whether it was the client's last.
    pub fn release(&mut self) -> bool {
        let Stage::Taken(message) = &self.stage else { return false };
        let is_last = !message.head.is_keep_alive;
        self.input.consume(message.end);
        self.stage = Stage::Head(HeadEnd::default());
        is_last
    }

    /// Ends the requests: the rest of the input is discarded.
    pub fn end(&mut self) {
        self.input.clear();
        self.stage = Stage::Ended;
    }

    /// Whether there are no more requests.
    pub fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Whether more bytes are needed for the next request.
    pub fn wants_bytes(&self) -> bool {
        match &self.stage {
            Stage::Head(_) => true,
            Stage::Body(body) => body.is_admitted,
            Stage::Whole(_) | Stage::Taken(_) | Stage::Ended => false,
        }
    }

    /// Whether no part of a next request has arrived, and one may.
    pub fn is_between(&self) -> bool {
        matches!(self.stage, Stage::Head(_)) && self.input.is_empty()
    }

    /// Whether there are unconsumed bytes.
    pub fn has_bytes(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether a body is arriving.
    pub fn is_in_body(&self) -> bool {
        matches!(self.stage, Stage::Body(_))
    }

    /// Whether the bytes of the arriving request begin like a HEAD request.
    pub fn is_at_head_request(&self) -> bool {
        self.input.bytes().starts_with(b"HEAD ")
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn awaits_continue(&self) -> bool {
        matches!(&self.stage, Stage::Body(body) if body.is_awaited && body.is_admitted)
    }

    /// `100 Continue` was sent: the body's time begins.
    pub fn continued(&mut self, now: Timestamp) {
        if let Stage::Body(body) = &mut self.stage {
            body.is_awaited = false;
            body.since = now;
        }
    }

    /// The deadline of the head or body that is arriving.
    pub fn timeout(&self, limits: &Limits) -> Option<Timestamp> {
        match &self.stage {
            Stage::Head(search) => Some(search.since? + limits.head_timeout_ms),
            Stage::Body(body) if !body.is_awaited => {
                let received = self.input.bytes().len() - body.head.len;
                let steps = (received / limits.body_step_bytes) as u64;
                let more = Millis::new(limits.body_step_ms.get().saturating_mul(steps));
                Some(body.since + limits.body_timeout_ms + more)
            }
            _ => None,
        }
    }

    /// What is late at that deadline.
    pub fn awaited(&self) -> Awaited {
        if self.is_in_body() { Awaited::Body } else { Awaited::Head }
    }

    /// The socket was not read for a while: the deadline is measured from now.
    pub fn restart_clock(&mut self, now: Timestamp) {
        match &mut self.stage {
            Stage::Head(search) => search.since = search.since.map(|_| now),
            Stage::Body(body) => body.since = now,
            _ => {}
        }
    }

    fn read_head(&mut self, now: Timestamp, limits: &Limits) -> Result<(), Refusal> {
        let Stage::Head(search) = &mut self.stage else { unreachable!("asked for in a head") };
        if !search.is_line_skipped && self.input.bytes().starts_with(b"\r\n") {
            self.input.consume(2);
            *search = HeadEnd::behind_empty_line();
        }
        let bytes = self.input.bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        search.since.get_or_insert(now);
        let Some(len) = search.find(bytes, limits)? else { return Ok(()) };
        let head = Head::parse(&bytes[..len], limits)?;
        let has_body_begun = bytes.len() > len;
        let framing = match head.framing {
            Framing::Length(length) => BodyFraming::Length(length),
            Framing::Chunked => BodyFraming::Chunked(Chunked::new(len, limits)),
        };
        let is_awaited = head.expects_continue && !has_body_begun;
        let is_admitted = !self.checks_heads;
        self.stage = Stage::Body(Body { head, framing, since: now, is_awaited, is_admitted });
        Ok(())
    }

    fn read_body(&mut self, limits: &Limits) -> Result<(), Refusal> {
        let Stage::Body(body) = &mut self.stage else { unreachable!("asked for in a body") };
        let head_len = body.head.len;
        let there = self.input.bytes().len();
        // Bytes that chunked decoding removes count as arrived.
        body.is_awaited &= there == head_len;
        let ends = match &mut body.framing {
            BodyFraming::Length(length) => {
                let end = head_len + *length;
                (there >= end).then_some((end, end))
            }
            BodyFraming::Chunked(chunked) => {
                let is_whole = chunked.decode(self.input.bytes_mut(), limits)?;
                if !is_whole {
                    self.input.truncate(chunked.body_end());
                }
                is_whole.then(|| (chunked.body_end(), chunked.message_end()))
            }
        };
        let Some((body_end, end)) = ends else { return Ok(()) };
        let Stage::Body(body) = std::mem::replace(&mut self.stage, Stage::Ended) else { unreachable!("as above") };
        self.stage = Stage::Whole(Message { head: body.head, body_end, end });
        Ok(())
    }

    /// The bytes of memory held.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.input.capacity()
    }
}

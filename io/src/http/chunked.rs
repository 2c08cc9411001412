//! Chunked bodies, decoded in place (RFC 9112, section 7.1).
//!
//! Each byte that is not data has a state, so that a split anywhere is not a special case and only the decoded body is
//! kept: undecoded bytes after it are cut off after each call. Extensions and trailers are checked, bounded and
//! dropped.

use super::Limits;
use super::grammar::is_token;
use super::refusal::{Fault, Refusal};

/// Digits of a chunk's size: 16 fill 64 bits.
const SIZE_DIGITS_MAX: u32 = 16;

/// A body that is being decoded.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Where the next byte is read.
    read_at: usize,
    /// Where the next byte of data goes.
    write_at: usize,
    /// Bytes of data that may still come.
    room: usize,
    /// Bytes of extensions and trailers that may still come: as many as a head, in the whole body.
    overhead_room: usize,
}

/// What is expected next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size { value: u64, digits: u32 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunked {
    /// A body that begins at `body_at` in the bytes passed to [`Chunked::decode`].
    pub fn new(body_at: usize, limits: &Limits) -> Self {
        Chunked {
            state: State::Size { value: 0, digits: 0 },
            read_at: body_at,
            write_at: body_at,
            room: limits.body_bytes_max,
            overhead_room: limits.head_bytes_max,
        }
    }

    /// Decodes the bytes that have arrived; returns whether the body is complete. O(new bytes).
    ///
    /// If it is not, the caller cuts the bytes off at [`Chunked::body_end`] and appends the next ones there.
    pub fn decode(&mut self, bytes: &mut [u8], limits: &Limits) -> Result<bool, Refusal> {
        while self.read_at < bytes.len() && self.state != State::Done {
            self.state = match self.state {
                State::Data { left } => self.copy_data(bytes, left),
                state => {
                    let byte = bytes[self.read_at];
                    self.read_at += 1;
                    self.step(state, byte, limits)?
                }
            };
        }
        let is_done = self.state == State::Done;
        if !is_done {
            self.read_at = self.write_at;
        }
        Ok(is_done)
    }

    /// Where the decoded body ends.
    pub fn body_end(&self) -> usize {
        self.write_at
    }

    /// Where the next request begins, when the body is complete.
    pub fn message_end(&self) -> usize {
        self.read_at
    }

    fn copy_data(&mut self, bytes: &mut [u8], left: u64) -> State {
        let there = bytes.len() - self.read_at;
        let count = usize::try_from(left).map_or(there, |left| left.min(there));
        bytes.copy_within(self.read_at..self.read_at + count, self.write_at);
        self.read_at += count;
        self.write_at += count;
        match left - count as u64 {
            0 => State::DataCr,
            left => State::Data { left },
        }
    }

    fn step(&mut self, state: State, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        Ok(match (state, byte) {
            (State::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).expect("matched above");
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { value: size, digits: 1.. }, b'\r') => State::SizeEnd { size },
            (State::Size { value: size, digits: 1.. }, b';') => State::Extension { size },
            (State::Size { .. }, _) => return Err(Fault::ChunkSize.into()),
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { .. }, _) if is_text(byte) && self.overhead_room > 0 => self.spend(state),
            (State::Extension { .. }, _) => return Err(Fault::ChunkExtension.into()),
            (State::SizeEnd { size }, b'\n') => self.begin_data(size, limits)?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::DataCr | State::DataLf, _) => return Err(Fault::ChunkEnd.into()),
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) if self.overhead_room == 0 => {
                return Err(Refusal::head_too_large(limits));
            }
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => self.spend(State::TrailerName),
            (State::TrailerValue, _) if is_text(byte) => self.spend(State::TrailerValue),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => return Err(Fault::Trailer.into()),
            (State::SizeEnd { .. } | State::TrailerLf | State::LastLf, _) => {
                return Err(Fault::BareCarriageReturn.into());
            }
            (State::Data { .. } | State::Done, _) => {
                unreachable!("data is taken as a whole, and nothing follows the end")
            }
        })
    }

    fn spend(&mut self, next: State) -> State {
        self.overhead_room -= 1;
        next
    }

    fn begin_data(&mut self, size: u64, limits: &Limits) -> Result<State, Refusal> {
        if size == 0 {
            return Ok(State::TrailerStart);
        }
        let left = usize::try_from(size).ok().and_then(|size| self.room.checked_sub(size));
        self.room = left.ok_or(Refusal::payload_too_large(limits))?;
        Ok(State::Data { left: size })
    }
}

/// A byte of a header's value or an extension: visible, a blank or a tab, or above ASCII (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

//! Chunked bodies (RFC 9112, section 7.1), decoded where they lie: the data moves over the sizes between it.

use super::head::{Refused, bad, body_too_large};
use super::limits::Limits;

/// Bytes of a chunk's size line. Extensions are ignored, and nobody sends long ones.
const SIZE_LINE_MAX: usize = 256;

/// Bytes of all trailers, which are dropped.
const TRAILERS_MAX: usize = 8 * 1024;

/// Where the decoder stands. Offsets are from the start of the body.
#[derive(Debug, Default)]
pub struct Chunked {
    /// Bytes of data, which lie at the start.
    pub decoded: usize,
    /// Bytes that were looked at.
    pub raw: usize,
    phase: Phase,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailers,
}

impl Chunked {
    /// Goes on as far as `body` does; `true` when the body is whole.
    pub fn decode(&mut self, body: &mut [u8], limits: &Limits) -> Result<bool, Refused> {
        loop {
            match self.phase {
                Phase::Size => {
                    let Some(line) = line(&body[self.raw..], SIZE_LINE_MAX)? else { return Ok(false) };
                    let size = size(line)?;
                    if size > limits.body_bytes_max - self.decoded {
                        return Err(body_too_large(limits));
                    }
                    self.raw += line.len() + 2;
                    self.phase = if size == 0 { Phase::Trailers } else { Phase::Data(size) };
                }
                Phase::Data(left) => {
                    let count = left.min(body.len() - self.raw);
                    body.copy_within(self.raw..self.raw + count, self.decoded);
                    self.raw += count;
                    self.decoded += count;
                    if count < left {
                        self.phase = Phase::Data(left - count);
                        return Ok(false);
                    }
                    self.phase = Phase::DataEnd;
                }
                Phase::DataEnd => {
                    let end = &body[self.raw..body.len().min(self.raw + 2)];
                    if !b"\r\n".starts_with(end) {
                        return Err(bad("a chunk is longer than it says"));
                    }
                    if end.len() < 2 {
                        return Ok(false);
                    }
                    self.raw += 2;
                    self.phase = Phase::Size;
                }
                Phase::Trailers => {
                    let Some(line) = line(&body[self.raw..], TRAILERS_MAX)? else { return Ok(false) };
                    self.raw += line.len() + 2;
                    self.trailer_bytes += line.len() + 2;
                    if line.is_empty() {
                        return Ok(true);
                    }
                    if self.trailer_bytes > TRAILERS_MAX {
                        return Err(bad("the trailers are too long"));
                    }
                }
            }
        }
    }
}

/// The line that `bytes` start with, without its end; `None` if it is not whole.
fn line(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Refused> {
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => {
                return match bytes.get(at + 1) {
                    Some(b'\n') => Ok(Some(&bytes[..at])),
                    Some(_) => Err(bad("a chunked body has a CR that ends no line")),
                    None => Ok(None),
                };
            }
            byte if byte.is_ascii_control() && *byte != b'\t' => {
                return Err(bad("a chunked body has a control character in a line"));
            }
            _ if at >= bytes_max => return Err(bad("a chunked body has a line that is too long")),
            _ => {}
        }
    }
    Ok(None)
}

fn size(line: &[u8]) -> Result<usize, Refused> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or(line);
    // White space before an extension is what old clients send; anything else could be read in two ways.
    let digits = digits.trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad("a chunk's size must be a hexadecimal number"));
    }
    let nibble = |digit: &u8| (*digit as char).to_digit(16).expect("all are hexadecimal") as usize;
    Ok(digits.iter().fold(0, |size, digit| size << 4 | nibble(digit)))
}

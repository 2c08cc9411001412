//! Encoding: how commands and snapshot records are written, so that each can grow.
//!
//! A message is a list of members: a tag of one byte, in ascending order, and a value; tag 0 ends the message. A member
//! that has its default value is not written, so an old record reads as if its writer had known the new members and
//! left them at their defaults. An unknown tag, an unknown variant and bytes after the end are refused: to skip them
//! would change what the record means. Numbers are LEB128 (seven bits a byte, the lowest first); texts and byte strings
//! are preceded by their length, lists by their count. Each value has one encoding, so equal states have equal bytes
//! and [`crate::hub::Hub::digest`] may hash them. The layout of each message is a table beside its type (`members!`);
//! `docs/journal-format.md` has all of them.

use std::fmt;

/// Why bytes are not a record that this build can read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Written in another format than the one that this build reads.
    Format(u8),
    /// Written under rules that this build does not know.
    Rules(u16),
    /// The message has a member that this build does not know.
    UnknownTag(&'static str, u8),
    /// The value has a variant that this build does not know.
    UnknownVariant(&'static str, u64),
    /// A required member is missing.
    Missing(&'static str, &'static str),
    /// The record ends within a value.
    Truncated,
    /// Bytes follow the end of the record.
    TrailingBytes(usize),
    /// The value is encoded in a way in which no build encodes it.
    Malformed(&'static str),
}

/// The rest of a record that is being read.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

/// A value with one encoding.
pub(crate) trait Encoded: Sized {
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    pub fn slice(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (slice, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(slice)
    }

    /// A byte string, preceded by its length.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = u64::decode(self)?;
        self.slice(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    /// A list's count. Each item takes at least a byte, so a count above the bytes left is refused before anything is
    /// allocated for it.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count = u64::decode(self)?;
        usize::try_from(count).ok().filter(|count| *count <= self.bytes.len()).ok_or(DecodeError::Truncated)
    }

    /// Checks that the record ends here.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.bytes.len())) }
    }
}

pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u64).encode(out);
    out.extend_from_slice(bytes);
}

impl Encoded for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = from.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(DecodeError::Malformed("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed("number"))
    }
}

impl Encoded for u32 {
    fn encode(&self, out: &mut Vec<u8>) {
        u64::from(*self).encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u32::try_from(u64::decode(from)?).map_err(|_| DecodeError::Malformed("number of 32 bits"))
    }
}

impl Encoded for u16 {
    fn encode(&self, out: &mut Vec<u8>) {
        u64::from(*self).encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u16::try_from(u64::decode(from)?).map_err(|_| DecodeError::Malformed("number of 16 bits"))
    }
}

impl Encoded for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.byte()
    }
}

impl Encoded for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed("flag")),
        }
    }
}

impl<const N: usize> Encoded for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(*from.slice(N)?.first_chunk().expect("a slice of N bytes was read"))
    }
}

/// Used for hashes, whose bits are all random: sixteen bytes, the lowest first.
impl Encoded for u128 {
    fn encode(&self, out: &mut Vec<u8>) {
        self.to_le_bytes().encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(u128::from_le_bytes(Encoded::decode(from)?))
    }
}

impl<T: Encoded> Encoded for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        self.iter().for_each(|item| item.encode(out));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        (0..from.count()?).map(|_| T::decode(from)).collect()
    }
}

/// A member that may be absent. `None` is its default and thus not written, so a value needs no flag.
impl<T: Encoded> Encoded for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_ref().expect("an absent member is its default, which is not written").encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(from).map(Some)
    }
}

impl<T: Encoded> Encoded for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(from).map(Box::new)
    }
}

/// Whether a member has its default value and is not written.
pub(crate) fn is_default<T: Default + PartialEq>(member: &T) -> bool {
    *member == T::default()
}

/// The members of a message, as a table: tag, member, and `required` where there is no default.
macro_rules! members {
    ($message:ident { $($tag:literal $member:ident $(: $required:ident)?),+ $(,)? }) => {
        impl $crate::encoding::Encoded for $message {
            fn encode(&self, out: &mut Vec<u8>) {
                $(members!(@encode self $tag $member $($required)?, out);)+
                out.push(0);
            }

            fn decode(from: &mut $crate::encoding::Reader<'_>) -> Result<Self, $crate::encoding::DecodeError> {
                $(let mut $member = None;)+
                let mut last = 0;
                loop {
                    let tag = from.byte()?;
                    if tag == 0 {
                        break;
                    }
                    if tag <= last {
                        return Err($crate::encoding::DecodeError::Malformed("order of members"));
                    }
                    last = tag;
                    match tag {
                        $($tag => $member = Some($crate::encoding::Encoded::decode(from)?),)+
                        tag => return Err($crate::encoding::DecodeError::UnknownTag(stringify!($message), tag)),
                    }
                }
                Ok($message { $($member: members!(@decode $message $member $($required)?)),+ })
            }
        }
    };
    (@encode $self:ident $tag:literal $member:ident required, $out:ident) => {
        $out.push($tag);
        $crate::encoding::Encoded::encode(&$self.$member, $out);
    };
    (@encode $self:ident $tag:literal $member:ident, $out:ident) => {
        if !$crate::encoding::is_default(&$self.$member) {
            $out.push($tag);
            $crate::encoding::Encoded::encode(&$self.$member, $out);
        }
    };
    (@decode $message:ident $member:ident required) => {
        $member.ok_or($crate::encoding::DecodeError::Missing(stringify!($message), stringify!($member)))?
    };
    (@decode $message:ident $member:ident) => {
        $member.unwrap_or_default()
    };
}
pub(crate) use members;

/// The numbers of an enum without data, as a table.
macro_rules! numbered {
    ($name:ident { $($number:literal $variant:ident),+ $(,)? }) => {
        impl $crate::encoding::Encoded for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(match self { $($name::$variant => $number,)+ });
            }

            fn decode(from: &mut $crate::encoding::Reader<'_>) -> Result<Self, $crate::encoding::DecodeError> {
                match from.byte()? {
                    $($number => Ok($name::$variant),)+
                    other => Err($crate::encoding::DecodeError::UnknownVariant(stringify!($name), other.into())),
                }
            }
        }
    };
}
pub(crate) use numbered;

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NEWER: &str = "start the sheratan-hub that wrote it, or a newer one, on this data folder";
        match self {
            DecodeError::Format(version) => {
                write!(f, "it is written in format {version}, this build reads {}: {NEWER}", crate::envelope::FORMAT)
            }
            DecodeError::Rules(version) => write!(
                f,
                "it was decided under rules version {version}, this build knows those up to {}: {NEWER}",
                crate::rules::RulesVersion::NEWEST.get()
            ),
            DecodeError::UnknownTag(message, tag) => {
                write!(f, "its {message} has a member with tag {tag}, which this build does not know: {NEWER}")
            }
            DecodeError::UnknownVariant(what, number) => {
                write!(f, "its {what} has the variant {number}, which this build does not know: {NEWER}")
            }
            DecodeError::Missing(message, member) => write!(f, "its {message} has no {member}"),
            DecodeError::Truncated => f.write_str("it ends within a value"),
            DecodeError::TrailingBytes(count) => write!(f, "{count} bytes follow its end"),
            DecodeError::Malformed(what) => write!(f, "a {what} in it is written as no hub writes it"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Debug, Default)]
    struct Message {
        id: u64,
        size: Option<u32>,
        list: Vec<u64>,
    }
    members!(Message { 1 id: required, 2 size, 5 list });

    fn bytes_of(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = Message::decode(&mut reader)?;
        reader.end().map(|()| message)
    }

    #[test]
    fn a_member_at_its_default_is_not_written() {
        assert_eq!(bytes_of(&Message { id: 0, ..Message::default() }), [1, 0, 0]);
        let full = Message { id: 300, size: Some(0), list: vec![1, 2] };
        assert_eq!(bytes_of(&full), [1, 0xac, 2, 2, 0, 5, 2, 1, 2, 0]);
        assert_eq!(decode(&bytes_of(&full)), Ok(full));
    }

    #[test]
    fn unknown_and_malformed_messages_are_refused() {
        let table: [(&[u8], DecodeError); 9] = [
            (&[1, 0, 3, 7, 0], DecodeError::UnknownTag("Message", 3)),
            (&[1, 0, 0, 9], DecodeError::TrailingBytes(1)),
            (&[0], DecodeError::Missing("Message", "id")),
            (&[1, 0], DecodeError::Truncated),
            (&[2, 0, 1, 0, 0], DecodeError::Malformed("order of members")),
            (&[1, 0, 1, 0, 0], DecodeError::Malformed("order of members")),
            (&[1, 0x80, 0, 0], DecodeError::Malformed("number")),
            (&[1, 0, 2, 0x80, 0x80, 0x80, 0x80, 0x10, 0], DecodeError::Malformed("number of 32 bits")),
            (&[1, 0, 5, 0xff, 0xff, 3, 0], DecodeError::Truncated),
        ];
        for (bytes, error) in table {
            assert_eq!(decode(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn every_number_has_one_encoding() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            number.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(u64::decode(&mut reader), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
        let eleven_bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(u64::decode(&mut Reader::new(&eleven_bytes)), Err(DecodeError::Malformed("number")));
    }
}

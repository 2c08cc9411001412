//! Envelopes: a command as a record of the journal, with the rules that decided it, and who sent it from where.
//!
//! ```text
//! format (one byte) · rules, by, origin (members) · command (variant and members)
//! ```

use crate::command::Command;
use crate::encoding::{DecodeError, Encoded, Reader, members, numbered};
use crate::rules::RulesVersion;

/// The format of records that this build writes and reads.
pub const FORMAT: u8 = 1;

/// A command as the journal stores it.
#[derive(Clone, PartialEq, Debug)]
pub struct Envelope {
    /// The rules that decided it. A build that does not know them must not replay it: it may decide differently.
    pub rules: RulesVersion,
    pub caller: Caller,
    pub command: Command,
}

/// Who sent a command, and from where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    pub by: Principal,
    pub origin: Origin,
}

/// Who sent a command, as far as its token shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Principal {
    /// The hub itself: its settings at a start, its clock.
    #[default]
    Hub,
    /// A caller without a token, where the operator requires none.
    Anonymous,
    /// A caller with the token that all callers share.
    SharedToken,
    /// `hub.toml`, as it was read at a start.
    Config,
}

/// From where a command was sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Origin {
    /// The machine on which the hub runs.
    #[default]
    Loopback,
    /// An address of a private or link-local network (RFC 1918, RFC 3927, RFC 4193, RFC 4291).
    LocalNetwork,
    /// Any other address.
    Anywhere,
}

impl Caller {
    /// The hub itself.
    pub const HUB: Caller = Caller { by: Principal::Hub, origin: Origin::Loopback };
}

impl Envelope {
    /// Appends the encoding of a command, as decided under `rules` for `caller`, to `buffer`.
    pub fn encode(rules: RulesVersion, caller: Caller, command: &Command, buffer: &mut Vec<u8>) {
        buffer.push(FORMAT);
        Head { rules, by: caller.by, origin: caller.origin }.encode(buffer);
        command.encode(buffer);
    }

    /// Decodes an envelope and copies its payloads once.
    ///
    /// # Errors
    /// For a record with any part that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format = reader.byte()?;
        if format != FORMAT {
            return Err(DecodeError::Format(format));
        }
        let Head { rules, by, origin } = Head::decode(&mut reader)?;
        // Checked first: a command of newer rules may have unknown members, and this is the better error for it.
        if rules > RulesVersion::NEWEST {
            return Err(DecodeError::Rules(rules.get()));
        }
        let command = Command::decode(&mut reader)?;
        reader.end()?;
        Ok(Envelope { rules, caller: Caller { by, origin }, command })
    }
}

impl Principal {
    pub const fn as_str(self) -> &'static str {
        match self {
            Principal::Hub => "hub",
            Principal::Anonymous => "anonymous",
            Principal::SharedToken => "shared_token",
            Principal::Config => "config",
        }
    }
}

impl Origin {
    pub const fn as_str(self) -> &'static str {
        match self {
            Origin::Loopback => "loopback",
            Origin::LocalNetwork => "local_network",
            Origin::Anywhere => "anywhere",
        }
    }

    /// The origin of an address. An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
    pub fn of(address: std::net::IpAddr) -> Origin {
        use std::net::IpAddr;
        let (is_loopback, is_local) = match address.to_canonical() {
            IpAddr::V4(v4) => (v4.is_loopback(), v4.is_private() || v4.is_link_local()),
            IpAddr::V6(v6) => (v6.is_loopback(), v6.is_unique_local() || v6.is_unicast_link_local()),
        };
        match (is_loopback, is_local) {
            (true, _) => Origin::Loopback,
            (false, true) => Origin::LocalNetwork,
            (false, false) => Origin::Anywhere,
        }
    }
}

/// The members before the command.
struct Head {
    rules: RulesVersion,
    by: Principal,
    origin: Origin,
}

members!(Head { 1 rules: required, 2 by, 3 origin });
numbered!(Principal { 0 Hub, 1 Anonymous, 2 SharedToken, 3 Config });
numbered!(Origin { 0 Loopback, 1 LocalNetwork, 2 Anywhere });

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(caller: Caller, command: &Command) -> Vec<u8> {
        let mut bytes = Vec::new();
        Envelope::encode(RulesVersion::NEWEST, caller, command, &mut bytes);
        bytes
    }

    #[test]
    fn an_encoded_envelope_decodes_to_itself() {
        for by in [Principal::Hub, Principal::Anonymous, Principal::SharedToken] {
            for origin in [Origin::Loopback, Origin::LocalNetwork, Origin::Anywhere] {
                let caller = Caller { by, origin };
                let envelope = Envelope { rules: RulesVersion::NEWEST, caller, command: Command::Tick };
                assert_eq!(Envelope::decode(&bytes_of(caller, &Command::Tick)), Ok(envelope));
            }
        }
    }

    #[test]
    fn a_record_that_is_newer_longer_or_truncated_is_refused() {
        let bytes = bytes_of(Caller::HUB, &Command::Tick);
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Envelope::decode(&longer), Err(DecodeError::TrailingBytes(1)));
        let mut newer = bytes.clone();
        newer[0] = FORMAT + 1;
        assert_eq!(Envelope::decode(&newer), Err(DecodeError::Format(FORMAT + 1)));
        let mut newer = bytes.clone();
        newer[2] = RulesVersion::NEWEST.get() as u8 + 1;
        assert_eq!(Envelope::decode(&newer), Err(DecodeError::Rules(RulesVersion::NEWEST.get() + 1)));
        for cut in 0..bytes.len() {
            assert_eq!(Envelope::decode(&bytes[..cut]), Err(DecodeError::Truncated), "{cut} bytes");
        }
    }

    #[test]
    fn an_address_is_of_this_machine_or_a_local_network_or_anywhere() {
        let table = [
            ("127.0.0.9", Origin::Loopback),
            ("::1", Origin::Loopback),
            ("::ffff:127.0.0.1", Origin::Loopback),
            ("10.1.2.3", Origin::LocalNetwork),
            ("172.31.0.1", Origin::LocalNetwork),
            ("172.32.0.1", Origin::Anywhere),
            ("192.168.0.1", Origin::LocalNetwork),
            ("::ffff:192.168.0.1", Origin::LocalNetwork),
            ("169.254.1.1", Origin::LocalNetwork),
            ("fe80::1", Origin::LocalNetwork),
            ("fd00::1", Origin::LocalNetwork),
            ("192.0.2.1", Origin::Anywhere),
            ("2001:db8::1", Origin::Anywhere),
        ];
        for (address, origin) in table {
            assert_eq!(Origin::of(address.parse().unwrap()), origin, "{address}");
        }
    }
}

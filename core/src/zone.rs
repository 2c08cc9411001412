//! Zones: a node runs jobs of its own zone only.

use crate::encoding::{DecodeError, Encoded, Reader};
use crate::name::Name;
use std::fmt;

/// A zone's name; `None` for the default zone, whether a node or job names it or names no zone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Zone(Option<Name>);

impl Zone {
    /// The zone of nodes and jobs that name no zone.
    pub const DEFAULT: Zone = Zone(None);
    /// What the default zone is called.
    pub const DEFAULT_NAME: &str = "default";

    pub fn new(name: Name) -> Self {
        Zone(Some(name).filter(|name| **name != *Zone::DEFAULT_NAME))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(Zone::DEFAULT_NAME)
    }

    /// Bytes of memory that its name takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, Name::bytes)
    }
}

impl From<Option<Name>> for Zone {
    fn from(name: Option<Name>) -> Self {
        name.map_or(Zone::DEFAULT, Zone::new)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Encoded for Zone {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = Name::decode(from)?;
        if *name == *Zone::DEFAULT_NAME { Err(DecodeError::Malformed("zone")) } else { Ok(Zone(Some(name))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_zone_is_one_zone_whether_it_is_named_or_not() {
        assert_eq!(Zone::new(Name::new("default").unwrap()), Zone::DEFAULT);
        assert_eq!(Zone::from(None).as_str(), "default");
        assert_eq!(Zone::new(Name::new("west").unwrap()).as_str(), "west");
    }
}

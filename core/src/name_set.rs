//! Name sets: the capabilities of a node, the requirements of a job, the kinds of a pull.

use crate::encoding::{DecodeError, Encoded, Reader};
use crate::name::Name;
use std::ops::Deref;
use std::sync::Arc;

/// Names in ascending order, without repeats. Shared, not copied; an empty set allocates nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct NameSet(Option<Arc<[Name]>>);

impl NameSet {
    pub const EMPTY: NameSet = NameSet(None);

    /// Whether every name of this set is one of `others`. O(own · log others).
    pub fn is_subset_of(&self, others: &NameSet) -> bool {
        self.iter().all(|name| others.binary_search(name).is_ok())
    }

    /// Bytes of memory that the set takes, its names included.
    pub(crate) fn bytes(&self) -> u64 {
        self.iter().map(|name| name.bytes() + size_of::<Name>() as u64).sum()
    }
}

/// Sorts the names and drops repeats. O(n log n).
impl From<Vec<Name>> for NameSet {
    fn from(mut names: Vec<Name>) -> Self {
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { NameSet::EMPTY } else { NameSet(Some(Arc::from(names))) }
    }
}

impl FromIterator<Name> for NameSet {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        Vec::from_iter(names).into()
    }
}

impl Deref for NameSet {
    type Target = [Name];
    fn deref(&self) -> &[Name] {
        self.0.as_deref().unwrap_or(&[])
    }
}

impl Encoded for NameSet {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        self.iter().for_each(|name| name.encode(out));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let names: Vec<Name> = Encoded::decode(from)?;
        if names.is_sorted_by(|one, next| one < next) {
            Ok(names.into())
        } else {
            Err(DecodeError::Malformed("set of names"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> NameSet {
        names.iter().map(|name| Name::new(name).expect("a valid name")).collect()
    }

    #[test]
    fn a_set_is_sorted_and_has_each_name_once() {
        let texts: Vec<_> = set(&["b", "a", "b"]).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a", "b"]);
        assert_eq!(set(&[]), NameSet::EMPTY);
        assert!(set(&["a", "c"]).is_subset_of(&set(&["a", "b", "c"])));
        assert!(!set(&["a", "d"]).is_subset_of(&set(&["a", "b", "c"])));
        assert!(NameSet::EMPTY.is_subset_of(&NameSet::EMPTY));
    }

    #[test]
    fn a_set_that_is_not_sorted_is_not_read() {
        let mut bytes = Vec::new();
        vec![Name::new("b").unwrap(), Name::new("a").unwrap()].encode(&mut bytes);
        assert!(NameSet::decode(&mut Reader::new(&bytes)).is_err());
        bytes.clear();
        set(&["b", "a"]).encode(&mut bytes);
        assert_eq!(NameSet::decode(&mut Reader::new(&bytes)), Ok(set(&["a", "b"])));
    }
}

//! Words: what a policy may name of requests, nodes and callers, and sets of them.

use crate::envelope::Origin;
use std::fmt;
use std::marker::PhantomData;

/// A word of a fixed list.
pub trait Word: Copy + Eq + fmt::Debug + 'static {
    /// All words of the list, in the order of their numbers.
    const ALL: &'static [Self];

    /// Its number, from 0.
    fn number(self) -> u8;

    /// As documents write it.
    fn as_str(self) -> &'static str;

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|word| word.as_str() == text)
    }
}

/// An enum whose variants are the words of a list.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// As documents write it.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl Word for $name {
            const ALL: &'static [Self] = &[$($name::$variant),+];

            fn number(self) -> u8 {
                self as u8
            }

            fn as_str(self) -> &'static str {
                $name::as_str(self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// The class of a request. Every route has exactly one for each of its effects.
    Operation {
        Read = "read",
        Submit = "submit",
        Pull = "pull",
        Extend = "extend",
        Result = "result",
        Heartbeat = "heartbeat",
        Operate = "operate",
        Admin = "admin",
    }
);

words!(
    /// What a caller may be.
    Role { Observer = "observer", Submitter = "submitter", Node = "node", Operator = "operator", Admin = "admin" }
);

words!(
    /// What a rule does with the requests that it matches.
    Effect { Allow = "allow", Deny = "deny" }
);

words!(
    /// How a node's attestation compares with its baseline: whether it still is what it was first seen as.
    #[derive(Default)]
    AttestationStatus {
        /// It is the baseline.
        Ok = "OK",
        /// It sends none.
        #[default]
        Missing = "MISSING",
        /// It differs from the baseline.
        Drift = "DRIFT",
        /// Its capability hash changed too often.
        SpoofSuspect = "SPOOF_SUSPECT",
    }
);

words!(
    /// Whether a node's heartbeat is signed by the key that is pinned for it.
    #[derive(Default)]
    IdentityStatus {
        Valid = "VALID",
        KeyMismatch = "KEY_MISMATCH",
        InvalidSignature = "INVALID_SIGNATURE",
        MissingSignature = "MISSING_SIGNATURE",
        MissingIdentity = "MISSING_IDENTITY",
        #[default]
        Unpinned = "UNPINNED",
    }
);

words!(
    /// A node's state, from its attestation and identity, or by an operator's order. The order is that of their weight.
    #[derive(Default)]
    PolicyState {
        #[default]
        Normal = "NORMAL",
        /// Shown, and nothing else.
        Warn = "WARN",
        /// It gets no jobs. Its leases run on, and its results are taken.
        Quarantined = "QUARANTINED",
    }
);

words!(
    /// Whose key is pinned for a node.
    Pinning {
        /// The first that signs for its name.
        First = "first",
        /// Only one that comes with a token of that node.
        TokenBound = "token_bound",
        /// Only one that an operator entered.
        Listed = "listed",
    }
);

impl Role {
    /// Whether a caller with this role may make requests of a class, as far as no rule denies it: the table of the wire
    /// contract.
    pub fn may(self, operation: Operation) -> bool {
        use Operation::{Extend, Heartbeat, Operate, Pull, Read, Result, Submit};
        match self {
            Role::Observer => matches!(operation, Read),
            Role::Submitter => matches!(operation, Submit | Read),
            Role::Node => matches!(operation, Heartbeat | Pull | Extend | Result),
            Role::Operator => matches!(operation, Read | Operate),
            Role::Admin => true,
        }
    }
}

impl AttestationStatus {
    /// All of them, in the order of [`Word::ALL`].
    pub const ALL: [AttestationStatus; 4] =
        [AttestationStatus::Ok, AttestationStatus::Missing, AttestationStatus::Drift, AttestationStatus::SpoofSuspect];
}

impl IdentityStatus {
    /// All of them, in the order of [`Word::ALL`].
    pub const ALL: [IdentityStatus; 6] = [
        IdentityStatus::Valid,
        IdentityStatus::KeyMismatch,
        IdentityStatus::InvalidSignature,
        IdentityStatus::MissingSignature,
        IdentityStatus::MissingIdentity,
        IdentityStatus::Unpinned,
    ];

    /// Whether something is wrong.
    pub const fn is_fault(self) -> bool {
        !matches!(self, IdentityStatus::Unpinned | IdentityStatus::Valid)
    }
}

impl Operation {
    /// Whether it is about work that a node holds. What stops it loses that work, so only what names it does.
    pub fn is_held_work(self) -> bool {
        matches!(self, Operation::Extend | Operation::Result)
    }
}

/// A set of words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WordSet<T> {
    bits: u8,
    words: PhantomData<T>,
}

/// The roles of a caller.
pub type Roles = WordSet<Role>;

impl<T: Word> WordSet<T> {
    pub const EMPTY: WordSet<T> = WordSet { bits: 0, words: PhantomData };

    /// The set of all words of the list.
    pub fn all() -> Self {
        T::ALL.iter().copied().collect()
    }

    pub fn contains(self, word: T) -> bool {
        self.bits & 1 << word.number() != 0
    }

    pub fn insert(&mut self, word: T) {
        self.bits |= 1 << word.number();
    }

    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether the sets have a word in common.
    pub fn intersects(self, other: Self) -> bool {
        self.bits & other.bits != 0
    }

    /// Its words, in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = T> {
        T::ALL.iter().copied().filter(move |word| self.contains(*word))
    }
}

impl<T: Word> FromIterator<T> for WordSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(words: I) -> Self {
        let mut set = WordSet::EMPTY;
        words.into_iter().for_each(|word| set.insert(word));
        set
    }
}

impl<T: Word> fmt::Debug for WordSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// From where requests come: `local` is loopback, `lan` a private network, and `any` includes every other address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Origins {
    pub loopback: bool,
    pub local_network: bool,
    pub anywhere: bool,
}

impl Origins {
    /// The words of documents.
    pub(super) const WORDS: [(&'static str, Origins); 3] = [
        ("local", Origins { loopback: true, local_network: false, anywhere: false }),
        ("lan", Origins { loopback: false, local_network: true, anywhere: false }),
        ("any", Origins { loopback: true, local_network: true, anywhere: true }),
    ];

    pub fn contains(self, origin: Origin) -> bool {
        match origin {
            Origin::Loopback => self.loopback,
            Origin::LocalNetwork => self.local_network,
            Origin::Anywhere => self.anywhere,
        }
    }

    pub(super) fn or(self, other: Origins) -> Origins {
        Origins {
            loopback: self.loopback || other.loopback,
            local_network: self.local_network || other.local_network,
            anywhere: self.anywhere || other.anywhere,
        }
    }
}

//! Identity: which key a node's heartbeats are signed with, and whether that is the one that is pinned for it.
//!
//! The shell verifies signatures; what comes here is which key was presented, and whether the signature is that key's
//! ([`Signing`]). The first key whose signature verifies is pinned. From then on a heartbeat under the node's name that is
//! not signed by the pinned key is not the node's: it changes what is known of the node's identity, and nothing else.
//!
//! A signed heartbeat that was recorded is no new one. It must be later than all before it, by the time or the counter that
//! is signed with it: later by one of them is enough, so that neither a clock that was set nor a counter that began again
//! shuts the node out. A node that signs neither has no such protection.

use crate::command::Signing;
use crate::effect::Audit;
use crate::encoding::{DecodeError, Encoded, Reader, members, numbered};
use crate::envelope::Principal;
use crate::limits::{IDENTITY_BYTES, SIGNED_AHEAD_MS_MAX};
use crate::name::Name;
use crate::policy::IdentityStatus;
use crate::time::{Timestamp, Utc};

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey([u8; 32]);

/// What the shell found about a heartbeat's signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verdict {
    /// It has none.
    #[default]
    Unsigned,
    /// It is not that of the presented key, or no key is presented, or the key is weak.
    Invalid,
    /// It is that of the presented key.
    Valid,
}

/// What is known of the identity of a node that ever presented a key or a signature, or whose key an operator pinned.
#[derive(Clone, PartialEq, Debug)]
pub struct Identified {
    /// The pinned key.
    pub key: Option<PublicKey>,
    pub pinned_at: Option<Timestamp>,
    /// Who pinned it: the hub where the key signed first.
    pub pinned_by: Principal,
    pub status: IdentityStatus,
    /// When the status changed last.
    pub changed_at: Timestamp,
    /// Whether the latest heartbeat was invalid because it was recorded.
    pub is_replayed: bool,
    /// How many of its heartbeats were not valid; those that repeat the fault of the one before are not counted.
    pub faults: u32,
    /// The key that the node wants to sign with from now on: pinned when it first signs. Until then both are good, since
    /// the answer may have been lost.
    pub next: Option<PublicKey>,
    /// The highest time that was signed, but at most [`SIGNED_AHEAD_MS_MAX`] ahead of the hub's.
    signed_at: Option<Utc>,
    /// The highest counter that was signed.
    counter: Option<u64>,
    /// The [mark](Signing::mark) of its latest valid heartbeat.
    mark: u64,
}

members!(Identified {
    1 key,
    2 pinned_at,
    3 pinned_by,
    4 status,
    5 changed_at: required,
    6 is_replayed,
    7 faults,
    8 next,
    9 signed_at,
    10 counter,
    11 mark,
});
numbered!(IdentityStatus {
    0 Unpinned,
    1 Valid,
    2 KeyMismatch,
    3 InvalidSignature,
    4 MissingSignature,
    5 MissingIdentity,
});
numbered!(Verdict { 0 Unsigned, 1 Invalid, 2 Valid });

/// What a heartbeat's signature means for the node that it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judgement {
    /// No key is pinned, and the heartbeat has nothing to do with keys.
    Unsigned,
    /// This key is pinned.
    Pins(PublicKey),
    Valid,
    /// Valid, and signed by the key that the node announced.
    Succeeds(PublicKey),
    /// The latest valid heartbeat came again.
    Repeat,
    Fault {
        status: IdentityStatus,
        is_replayed: bool,
    },
}

impl PublicKey {
    pub const fn new(bytes: [u8; 32]) -> Self {
        PublicKey(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Encoded for PublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Encoded::decode(from).map(PublicKey)
    }
}

impl Judgement {
    /// Judges a heartbeat; `known` is what is known of the node that it names.
    pub fn of(known: Option<&Identified>, signing: Option<&Signing>) -> Judgement {
        let fault = |status| Judgement::Fault { status, is_replayed: false };
        let pinned = known.and_then(|known| known.key);
        let (verdict, key) = signing.map_or((Verdict::Unsigned, None), |signing| (signing.verdict, signing.key));
        match (verdict, key, known.zip(pinned), signing) {
            (Verdict::Unsigned, None, None, _) => Judgement::Unsigned,
            (_, None, Some(_), _) => fault(IdentityStatus::MissingIdentity),
            (Verdict::Unsigned, Some(_), _, _) => fault(IdentityStatus::MissingSignature),
            (Verdict::Valid, Some(key), None, _) => Judgement::Pins(key),
            (Verdict::Valid, Some(key), Some((known, pinned)), Some(signing)) => {
                if key == pinned {
                    known.freshness(signing).unwrap_or(Judgement::Valid)
                } else if known.next == Some(key) {
                    known.freshness(signing).unwrap_or(Judgement::Succeeds(key))
                } else {
                    fault(IdentityStatus::KeyMismatch)
                }
            }
            _ => fault(IdentityStatus::InvalidSignature),
        }
    }

    /// Whether the heartbeat is the node's, as far as can be known, and new.
    pub fn is_own(self, known: Option<&Identified>) -> bool {
        match self {
            Judgement::Unsigned | Judgement::Pins(_) | Judgement::Valid | Judgement::Succeeds(_) => true,
            Judgement::Repeat => false,
            Judgement::Fault { .. } => known.is_none_or(|known| known.key.is_none()),
        }
    }

    /// The node's status after it; none if it stays as it is.
    fn status(self) -> Option<IdentityStatus> {
        match self {
            Judgement::Unsigned => Some(IdentityStatus::Unpinned),
            Judgement::Pins(_) | Judgement::Valid | Judgement::Succeeds(_) => Some(IdentityStatus::Valid),
            Judgement::Repeat => None,
            Judgement::Fault { status, .. } => Some(status),
        }
    }
}

impl Identified {
    /// Of a node that presents a key or a signature for the first time.
    pub(super) fn new(now: Timestamp) -> Identified {
        Identified {
            key: None,
            pinned_at: None,
            pinned_by: Principal::Hub,
            status: IdentityStatus::Unpinned,
            changed_at: now,
            is_replayed: false,
            faults: 0,
            next: None,
            signed_at: None,
            counter: None,
            mark: 0,
        }
    }

    /// Whether a heartbeat that is judged so changes nothing here.
    pub(super) fn is_settled(known: Option<&Identified>, judgement: Judgement, signing: Option<&Signing>) -> bool {
        let Some(known) = known else { return judgement == Judgement::Unsigned };
        match judgement {
            Judgement::Repeat => true,
            Judgement::Pins(_) | Judgement::Succeeds(_) => false,
            Judgement::Unsigned => known.status == IdentityStatus::Unpinned,
            Judgement::Fault { status, is_replayed } => (status, is_replayed) == (known.status, known.is_replayed),
            Judgement::Valid => {
                let has_mark = signing.is_some_and(|signing| signing.signed_at.is_some() || signing.counter.is_some());
                let next = signing.and_then(|signing| signing.next);
                known.status == IdentityStatus::Valid && !has_mark && (next.is_none() || next == known.next)
            }
        }
    }

    /// A heartbeat came that is judged so. `utc_now` is what the hub's calendar shows. The events go to `audits`.
    pub(super) fn observe(
        &mut self,
        (now, utc_now): (Timestamp, Utc),
        node: &Name,
        (judgement, signing): (Judgement, Option<&Signing>),
        audits: &mut Vec<Audit>,
    ) {
        let Some(status) = judgement.status() else { return };
        let is_replayed = matches!(judgement, Judgement::Fault { is_replayed: true, .. });
        let is_changed = (status, is_replayed) != (self.status, self.is_replayed);
        self.set_status(now, status);
        self.is_replayed = is_replayed;
        match judgement {
            Judgement::Pins(key) => {
                self.pin(now, Some(key), Principal::Hub);
                audits.push(Audit::IdentityPinned { node: node.clone(), key });
            }
            Judgement::Succeeds(key) => {
                self.pin(now, Some(key), Principal::Hub);
                audits.push(Audit::IdentityRekeyed { node: node.clone(), key: Some(key), status, by: Principal::Hub });
            }
            Judgement::Fault { .. } if is_changed => {
                self.faults = self.faults.saturating_add(1);
                let key = signing.and_then(|signing| signing.key);
                audits.push(Audit::IdentityFault { node: node.clone(), key, status, is_replayed });
            }
            _ => {}
        }
        if let Some(signing) = signing.filter(|_| status == IdentityStatus::Valid) {
            self.advance(utc_now, signing);
        }
    }

    /// An operator pins a key, or has the pinned one forgotten. Whatever was signed before counts no more. Returns whether
    /// anything changed.
    pub(super) fn rekey(&mut self, now: Timestamp, key: Option<PublicKey>, by: Principal) -> bool {
        let before = self.clone();
        if self.key != key || key.is_none() {
            self.pin(now, key, by);
        }
        self.next = None;
        (self.signed_at, self.counter, self.mark) = (None, None, 0);
        // Whether the node has the key is seen with its next heartbeat.
        self.set_status(now, IdentityStatus::Unpinned);
        self.is_replayed = false;
        *self != before
    }

    fn pin(&mut self, now: Timestamp, key: Option<PublicKey>, by: Principal) {
        self.key = key;
        self.pinned_at = key.map(|_| now);
        self.pinned_by = key.map_or(Principal::Hub, |_| by);
        self.next = None;
    }

    /// Why a heartbeat of the pinned key is not a new one, if it is none.
    fn freshness(&self, signing: &Signing) -> Option<Judgement> {
        let has_none = signing.signed_at.is_none() && signing.counter.is_none();
        let knows_none = self.signed_at.is_none() && self.counter.is_none();
        if has_none && knows_none {
            return None;
        }
        // Before the times are compared: one that is far ahead stays later than what counts of it.
        if !knows_none && signing.mark == self.mark {
            return Some(Judgement::Repeat);
        }
        let is_later = later(signing.signed_at, self.signed_at) || later(signing.counter, self.counter);
        let status = IdentityStatus::InvalidSignature;
        (!is_later).then_some(Judgement::Fault { status, is_replayed: true })
    }

    /// A clock that is far ahead must not make all later heartbeats old ones.
    fn advance(&mut self, utc_now: Utc, signing: &Signing) {
        let signed_at = signing.signed_at.map(|at| at.min(utc_now + SIGNED_AHEAD_MS_MAX));
        self.signed_at = self.signed_at.max(signed_at);
        self.counter = self.counter.max(signing.counter);
        self.mark = signing.mark;
        self.next = signing.next.filter(|next| Some(*next) != self.key).or(self.next);
    }

    fn set_status(&mut self, now: Timestamp, status: IdentityStatus) {
        if status != self.status {
            self.status = status;
            self.changed_at = now;
        }
    }

    /// The highest time that was signed, at most five minutes ahead of the hub's.
    pub fn signed_at(&self) -> Option<Utc> {
        self.signed_at
    }

    /// The highest counter that was signed.
    pub fn counter(&self) -> Option<u64> {
        self.counter
    }

    /// Bytes that it takes after a heartbeat.
    pub(super) fn bytes_with(known: Option<&Identified>, signing: Option<&Signing>) -> u64 {
        if known.is_some() || signing.is_some() { IDENTITY_BYTES } else { 0 }
    }
}

fn later<T: Ord>(sent: Option<T>, highest: Option<T>) -> bool {
    sent.is_some_and(|sent| highest.is_none_or(|highest| sent > highest))
}

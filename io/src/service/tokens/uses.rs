//! Uses of tokens: who uses which token of a rotation, by node and address.
//!
//! Ephemeral and bounded: [`USERS_MAX`] users; further ones share one count for each token. O(log users) for each request
//! while a rotation is under way, and for each with a retired token.

use sheratan_core::{Millis, Name, Timestamp, TokenVerdict};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// How often the audit log gets a line about a token and an address.
const REPORT_EVERY: Millis = Millis::from_secs(60);

/// Users that are counted apart: some 200 kB.
const USERS_MAX: usize = 2_048;

/// Who stands for all users for which there is no room.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What a token is, the node that a request was in the name of if it was in one's, and its address.
pub type User = (TokenVerdict, Option<Name>, IpAddr);

/// Uses since a rotation began.
#[derive(Default, Debug)]
pub struct TokenUses {
    by_user: BTreeMap<(u8, Option<Name>, IpAddr), (TokenVerdict, Use)>,
}

/// How often a user used a token, and when last.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    pub count: u64,
    pub last_at: Timestamp,
    reported_at: Timestamp,
    unreported: u64,
}

impl TokenUses {
    /// Counts a use. Returns how many there were since the last line about them, if another one is due.
    pub fn note(&mut self, now: Timestamp, (verdict, node, ip): User) -> Option<u64> {
        let key = (verdict as u8, node, ip.to_canonical());
        let is_room = self.by_user.len() < USERS_MAX || self.by_user.contains_key(&key);
        let key = if is_room { key } else { (verdict as u8, None, OTHERS) };
        let new = Use { count: 0, last_at: now, reported_at: Timestamp::ZERO, unreported: 0 };
        let (_, used) = self.by_user.entry(key).or_insert((verdict, new));
        used.last_at = now;
        used.count += 1;
        used.unreported += 1;
        let is_due = used.count == 1 || now >= used.reported_at + REPORT_EVERY;
        is_due.then(|| {
            used.reported_at = now;
            std::mem::take(&mut used.unreported)
        })
    }

    /// All users, by token.
    pub fn iter(&self) -> impl Iterator<Item = (User, Use)> {
        self.by_user.iter().map(|((_, node, ip), (verdict, used))| ((*verdict, node.clone(), *ip), *used))
    }

    /// When a user used a token last.
    pub fn last(&self, (verdict, node, ip): &User) -> Option<Timestamp> {
        let (_, used) = self.by_user.get(&(*verdict as u8, node.clone(), ip.to_canonical()))?;
        Some(used.last_at)
    }

    /// Whether a node used a token, from any address. O(log users).
    pub fn has_used(&self, verdict: TokenVerdict, node: &Name) -> bool {
        let first = (verdict as u8, Some(node.clone()), IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        self.by_user
            .range(first..)
            .next()
            .is_some_and(|((number, of, _), _)| *number == verdict as u8 && of.as_ref() == Some(node))
    }

    /// Those who used the old token within a time, and not the next one since.
    pub fn still_old(&self, now: Timestamp, within: Millis) -> Vec<(Option<Name>, IpAddr)> {
        let is_still = |(verdict, node, ip): &User, used: &Use| {
            let switched_at = self.last(&(TokenVerdict::Next, node.clone(), *ip));
            *verdict == TokenVerdict::Old
                && now.since(used.last_at) <= within
                && switched_at.is_none_or(|at| at < used.last_at)
        };
        let users = self.iter().filter(|(user, used)| is_still(user, used));
        users.map(|((_, node, ip), _)| (node, ip)).collect()
    }

    /// Another rotation began.
    pub fn clear(&mut self) {
        self.by_user.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TokenVerdict::{Next, Old};

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn node(name: &str) -> Option<Name> {
        Some(Name::new(name).unwrap())
    }

    #[test]
    fn a_token_and_an_address_have_a_line_a_minute() {
        let mut uses = TokenUses::default();
        let counts = [0, 1, 59, 60, 61].map(|secs| uses.note(at(secs), (Old, None, ip(1))));
        assert_eq!(counts, [Some(1), None, None, Some(3), None]);
        assert_eq!(uses.note(at(61), (Next, None, ip(1))), Some(1));
        assert_eq!(uses.note(at(61), (Old, None, ip(2))), Some(1));
    }

    #[test]
    fn who_used_the_next_token_last_has_switched() {
        let mut uses = TokenUses::default();
        uses.note(at(0), (Old, node("a"), ip(1)));
        uses.note(at(0), (Old, node("b"), ip(1)));
        uses.note(at(1), (Next, node("a"), ip(1)));
        let still = |uses: &TokenUses, secs| uses.still_old(at(secs), Millis::from_secs(600));
        assert_eq!(still(&uses, 2), [(node("b"), ip(1))]);
        assert!(uses.has_used(Next, &node("a").unwrap()) && !uses.has_used(Next, &node("b").unwrap()));
        uses.note(at(3), (Old, node("a"), ip(1)));
        assert_eq!(still(&uses, 4).len(), 2, "it went back");
        assert_eq!(still(&uses, 603), [(node("a"), ip(1))], "the other one is silent");
    }

    #[test]
    fn users_for_which_there_is_no_room_are_counted_together() {
        let mut uses = TokenUses::default();
        for number in 0..2 * USERS_MAX as u32 {
            uses.note(at(0), (Old, None, std::net::Ipv4Addr::from_bits(number + 1).into()));
        }
        assert_eq!(uses.by_user.len(), USERS_MAX + 1);
    }
}

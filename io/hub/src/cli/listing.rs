//! Listings: the entries of a resource over as many pages as it takes, as one document.
//!
//! The hub bounds the cost of a page, so one that a filter leaves short or empty may have a successor: cursors are
//! followed until there is none, or the limit is reached.

use super::failure::Failure;
use super::names;
use super::query::Query;
use super::terminal;
use crate::client::document::{Document, Members};
use crate::client::{Client, Plane};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most entries of one listing, each some hundred bytes.
const ENTRIES_MAX: u64 = 100_000;

/// The most entries that are asked for at once: the hub's limit of a page.
const PAGE_MAX: u64 = 1_000;

/// How much is listed.
#[derive(clap::Args, Clone, Debug)]
pub struct ListingArgs {
    /// Maximum number of entries
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=ENTRIES_MAX))]
    limit: u64,
    /// Go on where an earlier list ended: the cursor that it named
    #[arg(long, value_name = "CURSOR", value_parser = names::not_blank)]
    cursor: Option<String>,
}

/// A resource with pages.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    pub plane: Plane,
    pub path: &'static str,
    /// The member of a page that has the entries.
    pub member: &'static str,
    /// Whether that is an object with each entry by its name, and not a list.
    pub is_by_name: bool,
}

/// What was listed.
pub struct Listing {
    resource: Resource,
    /// The entries, each with its name if the resource has them by name.
    entries: Vec<(Option<String>, Box<RawValue>)>,
    /// The other members of the last page; `scanned` is of all.
    others: BTreeMap<String, Box<RawValue>>,
}

impl Listing {
    /// Asks for pages until there is no further one, or the limit is reached.
    pub fn fetch(client: &Client, resource: Resource, query: &Query, args: &ListingArgs) -> Result<Self, Failure> {
        let mut listing = Listing { resource, entries: Vec::new(), others: BTreeMap::new() };
        let mut cursor = args.cursor.clone();
        let mut scanned = 0;
        loop {
            let mut query = query.clone();
            query.add("limit", PAGE_MAX.min(args.limit - listing.entries.len() as u64));
            query.add_some("cursor", cursor.as_ref());
            let page = client.read(resource.plane, &query.of(resource.path), Duration::ZERO)?;
            scanned += page.members.number("scanned").unwrap_or(0);
            let next = listing.take(page);
            let is_full = listing.entries.len() as u64 >= args.limit;
            if next.is_none() || is_full {
                break;
            }
            if next == cursor {
                return Err(Failure::Local(format!("the hub's pages of {} do not advance", resource.path)));
            }
            cursor = next;
        }
        if listing.others.contains_key("scanned") {
            let number = RawValue::from_string(scanned.to_string()).expect("a number is JSON");
            listing.others.insert("scanned".to_owned(), number);
        }
        Ok(listing)
    }

    /// Takes the entries of a page; returns the cursor of the next.
    fn take(&mut self, page: Document) -> Option<String> {
        let member = self.resource.member;
        match self.resource.is_by_name {
            true => {
                let named = page.members.object(member).0.into_iter();
                self.entries.extend(named.map(|(name, entry)| (Some(name), entry)));
            }
            false => self.entries.extend(page.members.entries(member).into_iter().map(|entry| (None, entry))),
        }
        let next = Some(page.members.text("next_cursor")).filter(|cursor| !cursor.is_empty());
        self.others = page.members.0;
        self.others.remove(member);
        next
    }

    /// The entries, each with its name if the resource has them by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Members)> {
        let members = |raw: &RawValue| serde_json::from_str(raw.get()).map(Members).unwrap_or_default();
        self.entries.iter().map(move |(name, raw)| (name.as_deref().unwrap_or_default(), members(raw)))
    }

    /// One document in the form of a page, with all entries.
    pub fn json(&self) -> String {
        let name = |text: &str| serde_json::to_string(text).expect("a text is JSON");
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|(key, raw)| key.as_ref().map_or(raw.get().to_owned(), |key| format!("{}:{raw}", name(key))))
            .collect();
        let (open, close) = if self.resource.is_by_name { ('{', '}') } else { ('[', ']') };
        let others: String = self.others.iter().map(|(key, raw)| format!(",{}:{raw}", name(key))).collect();
        format!("{{{}:{open}{}{close}{others}}}", name(self.resource.member), entries.join(","))
    }

    /// Notes on standard error that there are more, and how to see them.
    pub fn note_more(&self) {
        let cursor: Option<String> =
            self.others.get("next_cursor").and_then(|raw| serde_json::from_str(raw.get()).ok());
        if let Some(cursor) = cursor {
            let count = self.entries.len();
            terminal::note(format_args!(
                "there are more than these {count}: go on with --cursor {}, or raise --limit",
                terminal::printable(&cursor)
            ));
        }
    }
}

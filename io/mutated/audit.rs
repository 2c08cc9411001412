//! The audit log's rules, with mutants.

#[path = "../src/audit/rules.rs"]
mod real;

use crate::audit::Link;
use sheratan_mutants::{Mutant, is_active};

pub(crate) fn next_link(link: &Link, line: &[u8]) -> Link {
    if is_active(Mutant::AuditLinkNotAdvanced) { link.clone() } else { real::next_link(link, line) }
}

pub(crate) fn resumed_link(found: Option<Link>) -> Link {
    real::resumed_link(found.filter(|_| !is_active(Mutant::AuditChainRestarted)))
}

pub(crate) fn must_report_torn(torn: Option<&[u8]>) -> bool {
    real::must_report_torn(torn) && !is_active(Mutant::AuditTailUntold)
}

pub(crate) fn page_begins_here(first_seq: u64, after: u64) -> bool {
    real::page_begins_here(first_seq, after) || is_active(Mutant::PageBeginsLate)
}

//! The check of policy documents: from JSON to a [`Document`].
//!
//! Strict where requests are lenient: an unknown member may be a misspelt restriction, and one that is left out widens
//! the rule it should have narrowed.

use super::PolicyError;
use super::gates::{Gate, Gates};
use super::glob::{Glob, Globs, NONE};
use super::limits::{
    CASES_MAX, DEFER_MS_MAX, DEFER_MS_MIN, GLOB_CHARS_MAX, GLOBS_MAX, ID_CHARS_MAX, QUARANTINE_MIN_MAX,
    QUARANTINE_STEPS, RULES_MAX, TEXT_CHARS_MAX, VERSION_MAX,
};
use super::node_states::NodeStates;
use super::place::{At, Listed, Members};
use super::snapshot::{Attestations, Case, CaseRequest, Document, Operations, Rule, TokenRoles};
use super::words::{
    AttestationStatus, Effect, IdentityStatus, Operation, Origins, Pinning, PolicyState, Role, Roles, Word, WordSet,
};
use crate::envelope::Origin;
use crate::integrity::json::Value;
use crate::name::Name;
use crate::time::Millis;
use std::collections::BTreeMap;

const DOCUMENT: [&str; 10] =
    ["version", "description", "default", "rules", "gates", "node_states", "hub_token", "no_token", "pinning", "cases"];
const RULE: [&str; 11] = [
    "id",
    "effect",
    "zones",
    "capabilities",
    "kinds",
    "operations",
    "roles",
    "origin",
    "attestation",
    "nodes",
    "reason",
];
const REQUEST: [&str; 10] =
    ["operation", "role", "roles", "origin", "zone", "capabilities", "kind", "node", "attestation", "signed"];

pub(super) fn document(value: Value) -> Result<Document, PolicyError> {
    let root = At::root(value);
    let members = root.object(&DOCUMENT)?;
    let version = members.required("version", |at| at.number(1..=VERSION_MAX))?;
    let description = members.optional("description", |at| at.text(TEXT_CHARS_MAX))?;
    let default = members.required("default", |at| at.word())?;
    let mut rule_ids = BTreeMap::new();
    let rules = members.optional("rules", |at| at.list(RULES_MAX, |at| rule(at, &mut rule_ids)))?.unwrap_or_default();
    let gates = members.optional("gates", gates)?.unwrap_or_default();
    let node_states = members.optional("node_states", node_states)?.unwrap_or_default();
    let hub_token = token_roles(&members, "hub_token", TokenRoles::of_hub_token())?;
    let no_token = token_roles(&members, "no_token", TokenRoles::of_no_token())?;
    let pinning = members.optional("pinning", |at| at.word())?.unwrap_or(Pinning::First);
    let cases = members.optional("cases", |at| at.list(CASES_MAX, |at| case(at, &rule_ids)))?.unwrap_or_default();
    Ok(Document { version, description, default, rules, gates, node_states, hub_token, no_token, pinning, cases })
}

/// Rules by their ids, to find those that are there twice and those that cases name.
type RuleIds = BTreeMap<String, usize>;

fn rule(at: At, ids: &mut RuleIds) -> Result<Rule, PolicyError> {
    let members = at.object(&RULE)?;
    let id = members.required("id", rule_id)?;
    let index = ids.len();
    if let Some(first) = ids.insert(id.clone(), index) {
        return Err(members.error("id", format_args!("must be unique: rule {first} has the id {id} too")));
    }
    let effect = members.required("effect", |at| at.word())?;
    Ok(Rule {
        id,
        effect,
        zones: members.optional("zones", globs)?,
        capabilities: members.optional("capabilities", globs)?,
        kinds: members.optional("kinds", globs)?,
        operations: members.optional("operations", operations)?,
        roles: members.optional("roles", |at| at.filled_list(Role::ALL.len(), |at| at.word()))?.map(Roles::from_iter),
        origins: members.optional("origin", origins)?,
        attestation: members.optional("attestation", |at| attestations(at, effect))?,
        nodes: members.optional("nodes", globs)?,
        reason: members.optional("reason", |at| at.text(TEXT_CHARS_MAX))?,
    })
}

/// An id is a word: it stands in lines of the audit log and in URLs.
fn rule_id(at: At) -> Result<String, PolicyError> {
    let id = at.text(ID_CHARS_MAX)?;
    let is_word = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
    if is_word { Ok(id) } else { Err(at.error("must be a word of letters, digits, _, -, . or :")) }
}

fn globs(at: At) -> Result<Globs, PolicyError> {
    at.filled_list(GLOBS_MAX, |at| at.text(GLOB_CHARS_MAX).map(|text| Glob::new(&text))).map(Globs::new)
}

fn operations(at: At) -> Result<Operations, PolicyError> {
    let mut operations = Operations { matched: WordSet::EMPTY, named: WordSet::EMPTY };
    at.filled_list(GLOBS_MAX, |at| {
        let glob = Glob::new(&at.text(GLOB_CHARS_MAX)?);
        let matched: Vec<Operation> =
            Operation::ALL.iter().copied().filter(|operation| glob.matches(operation.as_str())).collect();
        if matched.is_empty() {
            return Err(at.error(format_args!("must match one of {}", Listed(&operation_names()))));
        }
        matched.iter().for_each(|operation| operations.matched.insert(*operation));
        if glob.is_literal() {
            matched.iter().for_each(|operation| operations.named.insert(*operation));
        }
        Ok(())
    })?;
    Ok(operations)
}

fn operation_names() -> Vec<&'static str> {
    Operation::ALL.iter().map(|operation| operation.as_str()).collect()
}

/// One word or a list of them.
fn origins(at: At) -> Result<Origins, PolicyError> {
    let read = |at: At| at.one_of(Origins::WORDS.into_iter());
    if at.is_string() {
        return read(at);
    }
    let words = at.filled_list(Origins::WORDS.len(), read)?;
    Ok(words.into_iter().fold(Origins::default(), Origins::or))
}

fn attestations(at: At, effect: Effect) -> Result<Attestations, PolicyError> {
    let words = AttestationStatus::ALL.iter().map(|word| (word.as_str(), Some(*word))).chain([(NONE, None)]);
    let mut listed = Attestations { words: WordSet::EMPTY, none: false };
    at.filled_list(AttestationStatus::ALL.len() + 1, |at| {
        match at.one_of(words.clone())? {
            Some(word) => listed.words.insert(word),
            None if effect == Effect::Deny => listed.none = true,
            None => {
                return Err(
                    at.error("must not be none: what has no attestation is allowed only where none is asked for")
                );
            }
        }
        Ok(())
    })?;
    Ok(listed)
}

fn gates(at: At) -> Result<Gates, PolicyError> {
    let members = at.object(&operation_names())?;
    let mut gates = Gates::default();
    for operation in Operation::ALL {
        let read = |at: At| {
            at.filled_list(Gate::ALL.len(), |at| {
                let gate = at.one_of(Gate::ALL.into_iter())?;
                // A node's attestation and key come with its heartbeats: a gate that asks for them could never open.
                if *operation == Operation::Heartbeat && !matches!(gate, Gate::Role(_)) {
                    return Err(
                        at.error("must be a role: what a heartbeat brings cannot be asked for before it is taken")
                    );
                }
                Ok(gate)
            })
        };
        if let Some(listed) = members.optional(operation.as_str(), read)? {
            gates.set(*operation, listed);
        }
    }
    Ok(gates)
}

/// A map that is given is whole: words that it does not name are normal.
fn node_states(at: At) -> Result<NodeStates, PolicyError> {
    let members = at.object(&["attestation", "identity", "quarantine_min", "defer_ms"])?;
    let mut states = NodeStates::default();
    if let Some(map) =
        members.optional("attestation", |at| state_map::<AttestationStatus, 4>(at, &NodeStates::ATTESTATION_NAMES))?
    {
        states.attestation = map;
    }
    if let Some(map) =
        members.optional("identity", |at| state_map::<IdentityStatus, 6>(at, &NodeStates::IDENTITY_NAMES))?
    {
        states.identity = map;
    }
    if let Some(minutes) = members.optional("quarantine_min", quarantine_min)? {
        states.quarantine = minutes.map(|minutes| Millis::from_secs(minutes * 60));
    }
    members.optional("defer_ms", |at| defer_ms(at, &mut states))?;
    Ok(states)
}

fn state_map<T: Word, const WORDS: usize>(at: At, names: &[&str]) -> Result<[PolicyState; WORDS], PolicyError> {
    let members = at.object(names)?;
    let mut states = [PolicyState::Normal; WORDS];
    for word in T::ALL {
        if let Some(state) = members.optional(word.as_str(), |at| at.word())? {
            states[usize::from(word.number())] = state;
        }
    }
    Ok(states)
}

fn quarantine_min(at: At) -> Result<[u64; QUARANTINE_STEPS], PolicyError> {
    let minutes = at.list(QUARANTINE_STEPS, |at| at.number(1..=QUARANTINE_MIN_MAX))?;
    let minutes: [u64; QUARANTINE_STEPS] =
        minutes.try_into().map_err(|_| at.error(format_args!("must have {QUARANTINE_STEPS} elements")))?;
    if minutes.is_sorted() { Ok(minutes) } else { Err(at.error("must not get shorter")) }
}

fn defer_ms(at: At, states: &mut NodeStates) -> Result<(), PolicyError> {
    let members = at.object(&["first", "step", "max"])?;
    let number = |name, from| members.optional(name, |at| at.number(from..=DEFER_MS_MAX).map(Millis::new));
    states.defer_first = number("first", DEFER_MS_MIN)?.unwrap_or(states.defer_first);
    states.defer_step = number("step", 0)?.unwrap_or(states.defer_step);
    states.defer_max = number("max", DEFER_MS_MIN)?.unwrap_or(states.defer_max);
    if states.defer_max < states.defer_first {
        return Err(at.error(format_args!(
            "must have a max that is not less than first: {} and {}",
            states.defer_max.get(),
            states.defer_first.get()
        )));
    }
    Ok(())
}

/// The lists may be empty: no roles is what they say then, and nothing wider.
fn token_roles(of: &Members, name: &str, default: TokenRoles) -> Result<TokenRoles, PolicyError> {
    let read = |at: At| {
        let members = at.object(&["roles", "local_roles"])?;
        let roles = |name| members.optional(name, |at| at.list(Role::ALL.len(), |at| at.word()));
        let elsewhere = roles("roles")?.map_or(default.elsewhere, Roles::from_iter);
        let local = roles("local_roles")?.map_or(default.local, Roles::from_iter);
        Ok(TokenRoles { elsewhere, local })
    };
    Ok(of.optional(name, read)?.unwrap_or(default))
}

fn case(at: At, rule_ids: &RuleIds) -> Result<Case, PolicyError> {
    let members = at.object(&["name", "request", "expect", "rule"])?;
    let rule = members.optional("rule", |at| {
        let id = rule_id(at)?;
        if rule_ids.contains_key(&id) { Ok(id) } else { Err(at.error("must be the id of a rule of this document")) }
    })?;
    Ok(Case {
        name: members.required("name", |at| at.text(GLOB_CHARS_MAX))?,
        request: members.required("request", |at| request(at, None))?,
        expect: members.required("expect", |at| at.word())?,
        rule,
    })
}

/// A request; without roles it has those of `default` at its origin, if there is a default.
pub(super) fn request(at: At, default: Option<&TokenRoles>) -> Result<CaseRequest, PolicyError> {
    let members = at.object(&REQUEST)?;
    let (has_role, has_roles) = (members.has("role"), members.has("roles"));
    if has_role && has_roles || (!has_role && !has_roles && default.is_none()) {
        return Err(at.error("must have either role or roles"));
    }
    let role = members.optional("role", |at| at.word::<Role>())?;
    let roles = members.optional("roles", |at| at.list(Role::ALL.len(), |at| at.word()))?;
    let text = |name| members.optional(name, |at| name_at(at).map(|name| name.to_string()));
    let origin = members.required("origin", |at| {
        at.one_of([("local", Origin::Loopback), ("lan", Origin::LocalNetwork), ("any", Origin::Anywhere)].into_iter())
    })?;
    let listed = roles.map(Roles::from_iter).or(role.map(|role| Roles::from_iter([role])));
    Ok(CaseRequest {
        operation: members.required("operation", |at| at.word())?,
        roles: listed.or(default.map(|default| default.at(origin))).unwrap_or(Roles::EMPTY),
        origin,
        zone: text("zone")?,
        capabilities: members.optional("capabilities", |at| at.list(GLOBS_MAX, name_at))?.unwrap_or_default(),
        kind: text("kind")?,
        node: text("node")?,
        attestation: members
            .optional("attestation", |at| {
                let words = AttestationStatus::ALL.iter().map(|word| (word.as_str(), Some(*word)));
                at.one_of(words.chain([(NONE, None)]))
            })?
            .flatten(),
        is_signed: members.optional("signed", |at| at.boolean())?.unwrap_or(false),
    })
}

fn name_at(at: At) -> Result<Name, PolicyError> {
    Name::new(&at.text(GLOB_CHARS_MAX)?).map_err(|error| at.error(error))
}

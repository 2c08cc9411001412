//! Scenario files: a load scenario or a plan of the mesh, distinguished by their members.

use crate::load::scenario::Scenario as Load;
use crate::mesh::plan::Plan;
use serde::de::DeserializeOwned;
use std::fmt;

/// What a file describes.
#[derive(Clone, PartialEq, Debug)]
pub enum Scenario {
    /// A load: the jobs that are submitted, and the nodes that run them.
    Load(Box<Load>),
    /// A run of the mesh, with what goes wrong in it.
    Mesh(Box<Plan>),
}

/// A text is no scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Members that only plans have; `seconds` is the one that every load has.
const PLAN_ONLY: [&str; 5] = ["minutes", "faults", "clients", "zones", "submits_per_min"];

impl Scenario {
    /// What a text describes.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let members: toml::Table = parsed(text)?;
        if members.contains_key("seconds") {
            Load::parse(text).map(|load| Scenario::Load(Box::new(load)))
        } else if PLAN_ONLY.iter().any(|member| members.contains_key(*member)) {
            Plan::parse(text).map(|plan| Scenario::Mesh(Box::new(plan)))
        } else {
            let reason = "it is neither a load scenario, which says its `seconds`, nor a plan of the mesh, which says its \
                          `minutes`";
            Err(ScenarioError { line: 1, reason: reason.to_owned() })
        }
    }
}

/// The value that a text in TOML describes.
pub fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, ScenarioError> {
    toml::from_str(text).map_err(|error| ScenarioError {
        line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
        reason: error.message().to_owned(),
    })
}

/// An error at the line that sets a member or begins a table; at the first if there is none.
pub fn wrong(text: &str, member: &str, reason: String) -> ScenarioError {
    let is_it = |line: &str| {
        let line = line.trim_start().trim_start_matches('[');
        line.strip_prefix(member).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
    };
    ScenarioError { line: text.lines().position(is_it).map_or(1, |index| index + 1), reason }
}

/// A number that must be within bounds; else its member's name, and why not.
pub fn between(member: &'static str, value: u64, first: u64, last: u64) -> Result<(), (&'static str, String)> {
    match (first..=last).contains(&value) {
        true => Ok(()),
        false => Err((member, format!("{member} must be from {first} to {last}, not {value}"))),
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ScenarioError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fault::Fault;

    #[test]
    fn what_a_file_is_its_members_tell() {
        let plan = Plan::of(3, 2).to_string();
        assert!(matches!(Scenario::parse(&plan), Ok(Scenario::Mesh(_))));
        let load = "# It.\nseconds = 1\n[nodes]\ncount = 1\nslots = 1\n";
        assert!(matches!(Scenario::parse(load), Ok(Scenario::Load(_))));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_as_of_the_kind_that_it_is() {
        let plan = Plan { faults: [(Fault::HubKill, 12)].into(), ..Plan::of(3, 2) }.to_string();
        let kills = plan.lines().position(|line| line == "hub_kill = 12").expect("it has a line of its own") + 1;
        let table = [
            (plan.replace("minutes = 2", "minutes = \"two\""), 2, "expected u64"),
            (plan.replace("minutes = 2", "minutes = 2\nhours = 1"), 3, "unknown field `hours`"),
            (plan.replace("minutes = 2\n", ""), 1, "missing field `minutes`"),
            (plan.replace("minutes = 2", "minutes = 9999999"), 2, "minutes must be from 0 to 527040, not 9999999"),
            (
                plan.replace("hub_kill = 12", "hub_kill = 9999"),
                kills,
                "hub_kill must be from 0 to 3600, not 9999 an hour",
            ),
            (plan.replace("hub_kill", "hub_kiss"), kills, "unknown variant `hub_kiss`"),
            ("seconds = 1\n".to_owned(), 1, "the first line must be a comment"),
            ("# It.\nseconds = 1\nslots = 2\n".to_owned(), 3, "unknown field `slots`"),
            ("colour = \"red\"\n".to_owned(), 1, "neither a load scenario"),
            ("# A list.\nkey 3\nsync\n".to_owned(), 2, "expected"),
        ];
        for (text, line, reason) in table {
            let error = Scenario::parse(&text).expect_err("the text is no scenario");
            assert_eq!(error.line, line, "{text}\n{error}");
            assert!(error.reason.contains(reason), "{text}\n{error}");
        }
    }
}

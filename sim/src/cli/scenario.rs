//! Scenarios: parses a word of the command line: the mesh's usual run, a load scenario of the program, or a file.

use super::terminal::line;
use serde_json::{Value, json};
use sheratan_sim::load::library;
use sheratan_sim::load::scenario::Scenario as Load;
use sheratan_sim::mesh::library as plans;
use sheratan_sim::mesh::plan::Plan;
use sheratan_sim::scenario::Scenario;
use std::fs;
use std::path::Path;

/// The name of the mesh's usual run.
pub const DEFAULT: &str = "default";

/// Its description.
const DEFAULT_SHOWS: &str = "The mesh with all that can go wrong; each seed draws what takes part, under which limits, and how \
                             often each fault comes.";

/// A word may mean a name if it has at most one mistake (a wrong, missing, extra or swapped letter) for each three
/// letters.
const LETTERS_PER_MISTAKE: usize = 3;

/// What a word names.
pub enum Named {
    /// The mesh: each seed has a plan of its own.
    Default,
    /// The mesh, as a file plans it.
    Plan(Box<Plan>),
    /// A load.
    Load(Box<Load>),
}

/// Reads what a word names; the error says why it names nothing.
pub fn read(word: &str) -> Result<Named, String> {
    if word == DEFAULT {
        return Ok(Named::Default);
    }
    let text = match library::find(word).or_else(|| plans::find(word)) {
        Some(text) => text.to_owned(),
        None if is_path(word) => fs::read_to_string(word).map_err(|error| format!("{word} cannot be read: {error}"))?,
        None => return Err(unknown(word)),
    };
    match Scenario::parse(&text) {
        Ok(Scenario::Load(load)) => Ok(Named::Load(load)),
        Ok(Scenario::Mesh(plan)) => Ok(Named::Plan(plan)),
        Err(_) if is_history(&text) => {
            Err(format!("{word} is a history of the state machine alone: sheratan-sim model replay {word}"))
        }
        Err(error) => Err(format!("{word}: {error}")),
    }
}

/// Prints the names of scenarios, and what each shows.
pub fn list(names: impl Iterator<Item = &'static str>, is_json: bool) {
    let mut entries = Vec::new();
    for name in names {
        let text = library::find(name).or_else(|| plans::find(name)).unwrap_or(DEFAULT_SHOWS);
        let shows = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
        match is_json {
            true => entries.push(json!({ "name": name, "shows": shows })),
            false => line(format_args!("{name:<20}{shows}")),
        }
    }
    if is_json {
        line(Value::from(entries));
    }
}

/// All names, the mesh's first.
pub fn names() -> impl Iterator<Item = &'static str> {
    [DEFAULT].into_iter().chain(loads()).chain(plans::ALL.iter().map(|(name, _)| *name))
}

/// The names of the load scenarios.
pub fn loads() -> impl Iterator<Item = &'static str> {
    library::ALL.iter().map(|(name, _)| *name)
}

/// Whether a word is meant as a file: no name of a scenario has a dot or a folder in it.
fn is_path(word: &str) -> bool {
    word.contains(['/', '\\', '.']) || Path::new(word).exists()
}

/// Whether a text holds histories for the model check.
fn is_history(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("== "))
}

fn unknown(word: &str) -> String {
    let nearest = names().map(|name| (strsim::damerau_levenshtein(word, name), name)).min();
    let meant = nearest.filter(|(distance, _)| distance * LETTERS_PER_MISTAKE <= word.chars().count());
    let begins = names().find(|name| !word.is_empty() && name.starts_with(word));
    let hint = meant.map(|(_, name)| name).or(begins);
    let hint = hint.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
    let all: Vec<_> = names().collect();
    format!("there is no scenario `{word}`{hint}; there are {}, and files", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one_and_all() {
        let table = [
            ("spkie", " (did you mean spike?)"),
            ("Default", " (did you mean default?)"),
            ("million-node", " (did you mean million-nodes?)"),
            ("thundering", " (did you mean thundering-herd?)"),
            ("calm-seas-ahead", "`; there are default, "),
        ];
        for (word, hint) in table {
            let error = read(word).err().expect("there is no such scenario");
            assert!(error.contains(hint), "{error}");
            let (_, listed) = error.split_once("there are ").expect("it lists what there is");
            let listed = listed.strip_suffix(", and files").expect("files come last");
            assert!(listed.split(", ").eq(names()), "{error}");
        }
    }

    #[test]
    fn every_name_of_the_list_is_a_scenario() {
        for name in names() {
            read(name).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

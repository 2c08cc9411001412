//! The plans that come with the program, by name.

/// A plan's name and its file's text.
type Built = (&'static str, &'static str);

pub const ALL: &[Built] = &[("tamper", include_str!("../../scenarios/tamper.toml"))];

/// The text of the plan of that name.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(built, _)| *built == name).map(|(_, text)| *text)
}

//! The scenarios that come with the program, by name.

/// A scenario's name and its file's text.
type Built = (&'static str, &'static str);

/// All of them, in the order of their page in the docs.
pub const ALL: &[Built] = &[
    ("steady", include_str!("../../scenarios/steady.toml")),
    ("ramp", include_str!("../../scenarios/ramp.toml")),
    ("spike", include_str!("../../scenarios/spike.toml")),
    ("diurnal", include_str!("../../scenarios/diurnal.toml")),
    ("thundering-herd", include_str!("../../scenarios/thundering-herd.toml")),
    ("slow-nodes", include_str!("../../scenarios/slow-nodes.toml")),
    ("overload", include_str!("../../scenarios/overload.toml")),
    ("noisy-neighbour", include_str!("../../scenarios/noisy-neighbour.toml")),
    ("drain-rolling", include_str!("../../scenarios/drain-rolling.toml")),
    ("poison", include_str!("../../scenarios/poison.toml")),
    ("retry-storm", include_str!("../../scenarios/retry-storm.toml")),
    ("duplicate-storm", include_str!("../../scenarios/duplicate-storm.toml")),
    ("impatient-clients", include_str!("../../scenarios/impatient-clients.toml")),
    ("million-nodes", include_str!("../../scenarios/million-nodes.toml")),
    ("ten-million-queued", include_str!("../../scenarios/ten-million-queued.toml")),
];

/// The text of the scenario of that name.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(built, _)| *built == name).map(|(_, text)| *text)
}

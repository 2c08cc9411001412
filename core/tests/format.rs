//! The page of the journal's format has what the source has: every message with its members, every command, setting and
//! snapshot record, each under its number.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Number to name; a member that must be there is `name, required`.
type Table = BTreeMap<u32, String>;

/// Messages that the page calls otherwise than the source.
const RENAMED: [(&str, &str); 9] = [
    ("JobRecord", "Job"),
    ("NodeRecord", "Node"),
    ("KeyRecord", "Key"),
    ("KindRecord", "Kind"),
    ("BudgetRecord", "Budget"),
    ("EarnedRecord", "Earned"),
    ("Earned", "Credits"),
    ("TurnsRecord", "Turns"),
    ("OrderRecord", "Order"),
];

#[test]
fn the_page_has_every_member_of_every_message() {
    let page = page();
    let mut seen = 0;
    for (path, source) in sources(&root().join("src")) {
        for (name, members) in messages(&source) {
            let renamed = RENAMED.iter().find(|(from, _)| *from == name).map_or(name.as_str(), |(_, to)| to);
            // There are two heads: of an envelope, and of a snapshot.
            let shown = match renamed {
                "Head" if path.ends_with("envelope.rs") => "head",
                "Message" => continue,
                other => other,
            };
            let tables = rows_under(&page, &format!("| tag | {shown} | type | default |"));
            assert_eq!(tables, members, "{shown} of {path}: on the page, and in the source");
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen} messages were found");
}

#[test]
fn the_page_has_every_command_setting_and_snapshot_record() {
    let page = page();
    let read = |path: &str| fs::read_to_string(root().join("src").join(path)).expect("the source is there");
    let command = read("command.rs");
    let commands: Table = numbered(&command, " => Command::", "            ").collect();
    assert_eq!(rows_under(&page, "| number | command | what follows the number |"), commands);
    let snapshot = read("snapshot.rs");
    let records: Table = numbered(&snapshot, " => Record::", "            ").collect();
    let shown = rows_under(&page, "| number | record | how many, in which order | what follows the number |");
    assert_eq!(shown, records);
    let settings = read("settings.rs");
    let (_, settings) = settings.split_once("settings! {").expect("they are declared by a macro");
    let settings: Table = settings
        .lines()
        .take_while(|line| !line.starts_with('}'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (number, _, name) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
            Some((number, name.trim_end_matches(':').to_owned()))
        })
        .collect();
    assert_eq!(rows_under(&page, "| number | setting | type | default |"), settings);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("../docs/journal-format.md")).expect("the page is there")
}

/// All files of the source, with their paths.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else {
            let text = fs::read_to_string(&path).expect("a source is text");
            all.push((path.display().to_string(), text));
        }
    }
    all
}

/// The messages that a source declares, each with its members.
fn messages(source: &str) -> Vec<(String, Table)> {
    let declared = source.split("members!(").skip(1).filter_map(|text| {
        let (name, rest) = text.split_once(" {")?;
        let is_name = name.chars().all(char::is_alphanumeric) && name.starts_with(char::is_uppercase);
        let (members, _) = rest.split_once('}')?;
        let members = members.split(',').filter_map(|member| {
            let mut words = member.split_whitespace();
            let (tag, name) = (words.next()?.parse().ok()?, words.next()?.trim_end_matches(':').to_owned());
            Some((tag, if words.next() == Some("required") { name + ", required" } else { name }))
        });
        is_name.then(|| (name.to_owned(), members.collect()))
    });
    declared.collect()
}

/// Lines such as `5 => Command::Submit(…)`.
fn numbered<'a>(source: &'a str, arrow: &'a str, indent: &'a str) -> impl Iterator<Item = (u32, String)> + 'a {
    source.lines().filter_map(move |line| {
        let (number, variant) = line.strip_prefix(indent)?.split_once(arrow)?;
        let end = variant.find(|c: char| !c.is_alphanumeric()).unwrap_or(variant.len());
        Some((number.trim().parse().ok()?, variant[..end].to_owned()))
    })
}

/// The first two columns of the table with this head, and whether the last one says that the member is required.
fn rows_under(page: &str, head: &str) -> Table {
    let mut lines = page.lines().skip_while(|line| *line != head);
    assert_eq!(lines.next(), Some(head), "the page has no such table");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let named = |cells: &[&str]| match cells.last() {
        Some(&"required") => format!("{}, required", cells[1]),
        _ => cells[1].to_owned(),
    };
    cells.map(|cells| (cells[0].parse().expect("a number"), named(&cells))).collect()
}

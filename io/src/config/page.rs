//! The page of operations has every setting, with its default, and with the name that histories have for a limit.

use super::limit::Changes;
use super::table::{SETTINGS, Setting, ValueType};
use sheratan_core::limits::Limits;
use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../docs/operations.md");

#[test]
fn each_limit_is_on_the_page_with_its_default_and_its_name_in_a_history() {
    let rows = rows_under("| setting | default | what it limits | in a history |");
    let shown: BTreeMap<_, _> = rows.iter().map(|cells| (unquoted(&cells[0]), (value(&cells[1]), &cells[3]))).collect();
    let limits: Vec<_> = SETTINGS.iter().filter_map(|setting| Some((setting, in_a_history(setting)?))).collect();
    assert!(limits.len() > 30, "{} limits were found", limits.len());
    for (Setting { name, default, .. }, in_a_history) in &limits {
        let (shown_default, shown_name) = shown.get(*name).unwrap_or_else(|| panic!("the page has no {name}"));
        assert_eq!(shown_default, default, "{name}");
        let shown_name = shown_name.split(':').next().map(unquoted);
        assert_eq!(shown_name.as_deref(), Some(*in_a_history), "{name}");
    }
    assert_eq!(shown.len(), limits.len(), "the page has no others");
}

#[test]
fn each_other_setting_is_on_the_page_with_its_default() {
    let mut shown = BTreeMap::new();
    for cells in rows_under("| setting | default | |") {
        let names: Vec<_> = cells[0].split(',').map(unquoted).collect();
        let defaults: Vec<_> = cells[1].split(',').map(value).collect();
        assert!(defaults.len() == names.len() || defaults == [""], "{cells:?}");
        let defaults = defaults.into_iter().chain(std::iter::repeat(String::new()));
        shown.extend(names.into_iter().zip(defaults));
    }
    let others = SETTINGS.iter().filter(|setting| in_a_history(setting).is_none());
    let others: BTreeMap<_, _> = others.map(|setting| (setting.name.to_owned(), setting.default.to_owned())).collect();
    assert_eq!(shown, others);
}

/// The name of the limit that the setting is, if it is one.
fn in_a_history(setting: &Setting) -> Option<&'static str> {
    let other = match setting.value_type {
        ValueType::Number(..) => (setting.default.parse::<u64>().expect("a number") + 1).to_string(),
        ValueType::Bytes(..) => "77MiB".to_owned(),
        ValueType::Flag => "0".to_owned(),
        ValueType::Word(words) => words[1].to_owned(),
        _ => return None,
    };
    let limits = Limits::default();
    let changed = Changes::parse(&[format!("{}={other}", setting.name)]).ok()?.over(&limits).expect("it is in range");
    let differences = changed.differences(&limits);
    assert_eq!(differences.len(), 1, "{}={other}", setting.name);
    Some(differences[0].name())
}

/// The cells of the table with this head.
fn rows_under(head: &str) -> Vec<Vec<String>> {
    let mut lines = PAGE.lines().skip_while(|line| *line != head);
    assert_eq!(lines.next(), Some(head), "the page has no such table");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn unquoted(cell: &str) -> String {
    cell.trim().trim_matches('`').to_owned()
}

/// A default as the table of settings spells it: without what explains it, and without spaces.
fn value(cell: &str) -> String {
    let is_address = cell.contains('.') && cell.contains(':');
    let value = if is_address { cell } else { cell.split(':').next().unwrap_or_default() };
    value.replace(' ', "")
}

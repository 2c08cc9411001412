//! Reports: figures as tables for a person, or as one JSON object for a program, and whether they meet their targets.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What a run measured.
#[derive(Default)]
pub struct Report {
    tables: Vec<(String, Table)>,
    targets: Vec<Target>,
    figures: Map<String, Value>,
}

/// A figure with a bound.
struct Target {
    what: &'static str,
    measured: f64,
    bound: Bound,
}

/// The bound of a figure.
#[derive(Clone, Copy)]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Report {
    /// Adds a table: a title, the heads of its columns (the first to the left, the others to the right), its rows.
    pub fn table(&mut self, title: impl Into<String>, heads: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(heads).add_rows(rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.tables.push((title.into(), table));
    }

    /// Adds a member to the JSON object.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        let is_new = self.figures.insert(name.to_owned(), value.into()).is_none();
        assert!(is_new, "a figure is reported once: {name}");
    }

    /// Adds a target.
    pub fn target(&mut self, what: &'static str, measured: f64, bound: Bound) {
        self.targets.push(Target { what, measured, bound });
    }

    /// Whether all targets are met.
    pub fn is_met(&self) -> bool {
        self.targets.iter().all(Target::is_met)
    }

    /// The report as one JSON object and a line break.
    pub fn to_json(&self) -> String {
        let mut object = self.figures.clone();
        object.insert("targets".into(), self.targets.iter().map(Target::to_json).collect());
        object.insert("targets_met".into(), self.is_met().into());
        format!("{}\n", Value::Object(object))
    }

    /// The report for a person.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: &dyn std::fmt::Display| writeln!(text, "{words}").expect("a String takes all");
        for (title, table) in &self.tables {
            line(title);
            line(table);
            line(&"");
        }
        self.targets.iter().for_each(|target| line(&target.to_text()));
        text
    }
}

impl Target {
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.measured >= bound,
            Bound::AtMost(bound) => self.measured <= bound,
        }
    }

    fn to_text(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
        };
        let verdict = if self.is_met() { "met   " } else { "MISSED" };
        format!("{verdict} {}: {:.2} ({word} {bound:.2})", self.what, self.measured)
    }

    fn to_json(&self) -> Value {
        let (word, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at_least", bound),
            Bound::AtMost(bound) => ("at_most", bound),
        };
        json!({"what": self.what, "measured": self.measured, word: bound, "met": self.is_met()})
    }
}

/// A count with its thousands separated.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let bytes = digits.as_bytes();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && (bytes.len() - index).is_multiple_of(3) && bytes[index - 1] != b'-' {
            text.push(',');
        }
        text.push(char::from(*byte));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let table = [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567"), (-123456.0, "-123,456")];
        for (value, text) in table {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn a_bound_itself_meets_a_target_and_anything_beyond_misses_it() {
        let met = |measured, bound| {
            let mut report = Report::default();
            report.target("x", 1.0, Bound::AtLeast(0.0));
            report.target("y", measured, bound);
            report.is_met()
        };
        assert!(met(5.0, Bound::AtLeast(5.0)) && !met(4.99, Bound::AtLeast(5.0)));
        assert!(met(1.5, Bound::AtMost(1.5)) && !met(1.51, Bound::AtMost(1.5)));
    }

    #[test]
    fn the_json_has_the_figures_and_the_targets() {
        let mut report = Report::default();
        report.figure("rate", 3.5);
        report.target("rate", 3.5, Bound::AtLeast(4.0));
        let value: Value = serde_json::from_str(&report.to_json()).expect("it is JSON");
        assert_eq!(value["rate"], 3.5);
        assert_eq!(value["targets"][0]["met"], false);
        assert_eq!(value["targets_met"], false);
    }

    #[test]
    fn the_text_says_which_target_is_missed() {
        let mut report = Report::default();
        report.table("Rates", &["what", "per s"], vec![vec!["a".into(), grouped(12345.0)]]);
        report.target("speed", 1.0, Bound::AtLeast(2.0));
        let text = report.to_text();
        assert!(text.contains("12,345") && text.contains("MISSED speed: 1.00 (at least 2.00)"), "{text}");
    }
}

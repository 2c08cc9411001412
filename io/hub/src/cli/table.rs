//! Tables for people: rows of texts in aligned columns, without lines. On a terminal the header is bold, states have
//! colours, and long texts wrap; in a pipe a row is a line.

use super::terminal::{self, printable};
use crate::client::document::Members;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, presets};
use std::io::IsTerminal;

/// A table that is being filled.
pub struct Table {
    table: comfy_table::Table,
    rows: usize,
}

impl Table {
    /// A table with these columns; one whose name begins with `>` is aligned to the right.
    pub fn new(header: &[&str]) -> Self {
        let mut table = plain();
        table.set_header(
            header.iter().map(|name| Cell::new(name.trim_start_matches('>')).add_attribute(Attribute::Bold)),
        );
        for (index, name) in header.iter().enumerate() {
            let column = table.column_mut(index).expect("the header has made it");
            // Two spaces between columns.
            column.set_padding((0, 2));
            if index == 0 {
                // What rows are named by is copied: it is not broken.
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Table { table, rows: 0 }
    }

    /// Adds a row.
    pub fn add(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.table.add_row(comfy_table::Row::from(cells.into_iter().collect::<Vec<_>>()));
        self.rows += 1;
    }

    /// Prints it; without rows only a note on standard error.
    pub fn print(&self, none: &str) {
        if self.rows == 0 {
            return terminal::note(none);
        }
        self.table.lines().for_each(|row| terminal::line(row.trim_end()));
    }
}

fn plain() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING);
    let is_terminal = std::io::stdout().is_terminal();
    table.set_content_arrangement(match is_terminal {
        true => ContentArrangement::Dynamic,
        false => ContentArrangement::Disabled,
    });
    table
}

/// A text as a cell. What a terminal would take for a command is escaped.
pub fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(printable(text.as_ref()))
}

/// A state as a cell, in the colour of what it means.
pub fn state(text: &str) -> Cell {
    let cell = cell(text);
    match text.split(' ').next().unwrap_or_default() {
        "completed" | "ONLINE" | "GREEN" | "open" | "done" => cell.fg(Color::Green),
        "dead" | "failed" | "expired" | "DEAD" | "RED" | "lease_expired" => cell.fg(Color::Red),
        "cancelled" | "superseded" | "STALE" | "YELLOW" | "paused" | "full" | "rate_limited" | "revoked" => {
            cell.fg(Color::Yellow)
        }
        _ => cell,
    }
}

/// Prints members a line each, the named ones first and in that order, then what else there is, without `hidden`.
/// Members that are absent or `null` are left out.
pub fn print_members(members: &Members, first: &[&str], hidden: &[&str]) {
    let others = members.0.keys().map(String::as_str);
    let others = others.filter(|name| !first.contains(name) && !hidden.contains(name) && *name != "ok");
    let names: Vec<_> = first.iter().copied().chain(others).filter(|name| members.raw(name).is_some()).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    for name in names {
        let text = members.text(name);
        let label = terminal::styled(terminal::DIM, format_args!("{:width$}", printable(name)));
        terminal::line(format_args!("{label}  {}", printable(&text)));
    }
}

//! Pages: tables and charts as one HTML file, without scripts or anything from elsewhere, for light and dark screens.

use super::lanes::Lanes;
use super::svg::{Chart, escaped};
use std::fmt::Write;

/// Colours that are distinguishable for people with the common colour blindnesses, in both themes (after Okabe and
/// Ito).
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2024;--dim:#68707a;--paper:#ffffff;--grid:#dfe3e8;--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#aa4499}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--dim:#9aa3ad;--paper:#14171a;--grid:#30363d;--s0:#56b4e9;--s1:#f0803c;--s2:#2fc99a;--s3:#e08ad0}}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin-bottom:.3rem}h2{font-size:1.1rem;margin:2rem 0 .4rem}
p{color:var(--dim);margin:.2rem 0}
table{border-collapse:collapse}th,td{text-align:left;padding:.2rem 1.5rem .2rem 0;border-bottom:1px solid var(--grid);vertical-align:top}
th{font-weight:500;color:var(--dim)}.n{text-align:right;font-variant-numeric:tabular-nums}
pre{font:13px/1.5 ui-monospace,monospace;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
svg{width:100%;height:auto}svg text{fill:var(--dim);font:11px system-ui,sans-serif}
text.y{text-anchor:end}text.x{text-anchor:middle}.grid{stroke:var(--grid)}
.line{fill:none;stroke-width:1.6;stroke-linejoin:round}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}
.b0{fill:var(--s2);fill-opacity:.75}.b1{fill:var(--s2);fill-opacity:.5}.b2{fill:var(--s1)}.b3{fill:var(--s1);fill-opacity:.3}.b4{fill:var(--grid)}svg text.in{fill:var(--ink)}
.legend span{margin-right:1.2rem}.legend i{display:inline-block;width:1.2rem;height:.2rem;vertical-align:middle;margin-right:.4rem}
i.k0{background:var(--s0)}i.k1{background:var(--s1)}i.k2{background:var(--s2)}i.k3{background:var(--s3)}
";

/// A page.
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// Paragraphs below the title.
    pub lead: Vec<String>,
    /// The parts below those.
    pub parts: Vec<Part>,
}

/// A part of a page.
#[derive(Clone, PartialEq, Debug)]
pub enum Part {
    /// Names and values.
    Table {
        /// Its heading.
        title: String,
        /// The names of its columns.
        columns: Vec<String>,
        /// Its rows; the first member of each is its name.
        rows: Vec<Vec<String>>,
    },
    /// Lines over time, with their legend.
    Chart(Chart),
    /// Rows over time.
    Lanes(Lanes),
    /// Lines of text, as they are.
    Text {
        /// Its heading.
        title: String,
        /// The lines.
        text: String,
    },
}

impl Page {
    /// The page as a file's text.
    pub fn to_html(&self) -> String {
        let title = escaped(&self.title);
        let mut out = String::new();
        let mut put = |text: std::fmt::Arguments| out.write_fmt(text).expect("a string takes all");
        put(format_args!("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"));
        put(format_args!("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n"));
        put(format_args!("<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"));
        for paragraph in &self.lead {
            put(format_args!("<p>{}</p>\n", escaped(paragraph)));
        }
        for part in &self.parts {
            match part {
                Part::Table { title, columns, rows } => {
                    put(format_args!("<h2>{}</h2>\n<table>\n<tr>", escaped(title)));
                    for (no, column) in columns.iter().enumerate() {
                        put(format_args!("<th{}>{}</th>", class(no), escaped(column)));
                    }
                    put(format_args!("</tr>\n"));
                    for row in rows {
                        put(format_args!("<tr>"));
                        for (no, cell) in row.iter().enumerate() {
                            put(format_args!("<td{}>{}</td>", class(no), escaped(cell)));
                        }
                        put(format_args!("</tr>\n"));
                    }
                    put(format_args!("</table>\n"));
                }
                Part::Chart(chart) => {
                    put(format_args!("<h2>{}</h2>\n<p class=\"legend\">", escaped(&chart.title)));
                    for (no, series) in chart.series.iter().enumerate() {
                        put(format_args!("<span><i class=\"k{no}\"></i>{}</span>", escaped(&series.name)));
                    }
                    put(format_args!("</p>\n{}", chart.to_svg()));
                }
                Part::Lanes(lanes) => {
                    put(format_args!("<h2>{}</h2>\n{}", escaped(&lanes.title), lanes.to_svg()));
                }
                Part::Text { title, text } => {
                    put(format_args!("<h2>{}</h2>\n<pre>{}</pre>\n", escaped(title), escaped(text)));
                }
            }
        }
        put(format_args!("</body>\n</html>\n"));
        out
    }
}

/// Values are aligned right, so that their digits align; names, in the first column, left.
fn class(column: usize) -> &'static str {
    if column > 0 { " class=\"n\"" } else { "" }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::svg::Series;

    #[test]
    fn every_element_of_a_page_is_closed_and_texts_are_escaped() {
        let series = vec![Series { name: "a & b".into(), points: vec![(0.0, Some(1.0))] }];
        let chart = Chart { title: "<c>".into(), x_label: "s".into(), y_label: "n".into(), series };
        let rows = vec![vec!["<script>".to_owned(), "1".to_owned()]];
        let table = Part::Table { title: "t".into(), columns: vec!["k".into(), "v".into()], rows };
        let page = Page { title: "\"p\"".into(), lead: vec!["l".into()], parts: vec![table, Part::Chart(chart)] };
        let html = page.to_html();
        assert_eq!(unclosed(&html), Vec::<String>::new());
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"), "{html}");
        assert!(!html.contains("href=") && !html.contains("src="), "nothing comes from elsewhere");
    }

    /// The elements that are open at the end, or the first that is closed out of turn.
    pub(crate) fn unclosed(html: &str) -> Vec<String> {
        let mut open: Vec<String> = Vec::new();
        for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()) {
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default().to_owned();
            match tag {
                tag if tag.starts_with('!') || tag.ends_with('/') => {}
                tag if tag.starts_with('/') => {
                    if open.pop().as_deref() != Some(&name) {
                        open.push(format!("/{name}"));
                        return open;
                    }
                }
                _ => open.push(name),
            }
        }
        open
    }
}

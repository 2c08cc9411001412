//! Lanes: spans of time in rows, as SVG over the same time as a chart's.

use super::svg::{LEFT, RIGHT, WIDTH, escaped, put_time_axis};
use std::fmt::Write;

/// The height of a row, of the bar in it, and of what is below the last one.
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// The least width of a bar, so that short ones are visible.
const MARK_WIDTH: f64 = 1.5;

/// The width of a letter, to see whether a label has room in its bar.
const LETTER_WIDTH: f64 = 7.0;

/// Rows over time.
#[derive(Clone, PartialEq, Debug)]
pub struct Lanes {
    /// What they show.
    pub title: String,
    /// What the horizontal axis counts.
    pub x_label: String,
    /// Its end.
    pub x_max: f64,
    /// The rows, from the top.
    pub rows: Vec<Lane>,
}

/// One row.
#[derive(Clone, PartialEq, Debug)]
pub struct Lane {
    /// What it is about.
    pub name: String,
    /// Its bars.
    pub bars: Vec<Bar>,
}

/// From when to when something was so.
#[derive(Clone, PartialEq, Debug)]
pub struct Bar {
    /// Its beginning.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// How it looks.
    pub look: Look,
    /// Its text, if there is room.
    pub label: String,
    /// Its tooltip.
    pub title: String,
}

/// How a bar looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// As it should be.
    Well,
    /// As it should be, in another shade than the one before.
    WellToo,
    /// Not as it should be.
    Bad,
    /// Meant to be bad.
    Harsh,
    /// None of these.
    Plain,
}

impl Look {
    const fn class(self) -> &'static str {
        match self {
            Look::Well => "b0",
            Look::WellToo => "b1",
            Look::Bad => "b2",
            Look::Harsh => "b3",
            Look::Plain => "b4",
        }
    }
}

impl Lanes {
    /// The rows as an `svg` element. A bar's colour is that of its look's class.
    pub fn to_svg(&self) -> String {
        let bottom = ROW * self.rows.len() as f64;
        let height = bottom + BOTTOM;
        let x_max = self.x_max.max(1e-9);
        let x = |value: f64| LEFT + value.clamp(0.0, x_max) / x_max * (WIDTH - LEFT - RIGHT);
        let mut out = String::new();
        let mut put = |text: std::fmt::Arguments| out.write_fmt(text).expect("a string takes all");
        put(format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">\n",
            escaped(&self.title)
        ));
        for (no, row) in self.rows.iter().enumerate() {
            let top = ROW * no as f64;
            put(format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
                top + ROW - 2.0,
                WIDTH - RIGHT,
                top + ROW - 2.0
            ));
            let middle = top + 3.0 + BAR - 3.0;
            put(format_args!("<text class=\"y\" x=\"{}\" y=\"{middle}\">{}</text>\n", LEFT - 6.0, escaped(&row.name)));
            for bar in &row.bars {
                let (from, width) = (x(bar.from), (x(bar.to) - x(bar.from)).max(MARK_WIDTH));
                put(format_args!(
                    "<rect class=\"{}\" x=\"{from:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{BAR}\">\
                     <title>{}</title></rect>\n",
                    bar.look.class(),
                    top + 3.0,
                    escaped(&bar.title)
                ));
                if !bar.label.is_empty() && LETTER_WIDTH * bar.label.chars().count() as f64 <= width {
                    let at = from + width / 2.0;
                    put(format_args!(
                        "<text class=\"x in\" x=\"{at:.1}\" y=\"{middle}\">{}</text>\n",
                        escaped(&bar.label)
                    ));
                }
            }
        }
        put_time_axis(&mut out, x_max, bottom, &self.x_label);
        out.push_str("</svg>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(from: f64, to: f64, label: &str) -> Bar {
        Bar { from, to, look: Look::Bad, label: label.into(), title: format!("{from} < {to}") }
    }

    #[test]
    fn a_bar_is_seen_however_short_it_is_and_has_its_label_where_there_is_room() {
        let rows = vec![Lane { name: "a & b".into(), bars: vec![bar(0.0, 0.001, "short"), bar(50.0, 100.0, "long")] }];
        let svg = Lanes { title: "t".into(), x_label: "s".into(), x_max: 100.0, rows }.to_svg();
        assert_eq!(svg.matches("<rect").count(), 2, "{svg}");
        assert!(svg.contains("width=\"1.5\"") && !svg.contains(">short<") && svg.contains(">long<"), "{svg}");
        assert!(svg.contains("a &amp; b") && svg.contains("0 &lt; 0.001"), "{svg}");
    }

    #[test]
    fn rows_without_time_are_drawn_empty() {
        let rows = vec![Lane { name: "a".into(), bars: vec![bar(0.0, 1.0, "")] }];
        assert!(!Lanes { title: "t".into(), x_label: "s".into(), x_max: 0.0, rows }.to_svg().contains("NaN"));
    }
}

//! Charts: lines over time, as SVG. Colours and fonts are classes, which the page sets for light and dark.

use std::fmt::Write;

/// The size of a chart, in the units of its view box: a page scales it to its own width.
pub(super) const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;

/// Around the plot, for the labels of the axes.
pub(super) const LEFT: f64 = 70.0;
pub(super) const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// About how many ticks an axis has.
const TICKS: f64 = 5.0;

/// Lines over time.
#[derive(Clone, PartialEq, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What the horizontal axis counts: `virtual time (s)`.
    pub x_label: String,
    /// What the vertical one does, with its unit: `jobs`, `jobs/s`.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right; it has a gap where there is no value.
    pub points: Vec<(f64, Option<f64>)>,
}

impl Chart {
    /// The chart as an `svg` element. A line's colour is that of the classes `s0`, `s1`, …
    pub fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-9);
        let y_max = points().filter_map(|(_, y)| *y).fold(0.0, f64::max);
        let y_step = step(if y_max > 0.0 { y_max } else { 1.0 });
        // The axis ends at a tick, above the highest point.
        let y_max = (y_max / y_step).ceil().max(1.0) * y_step;
        let x = |value: f64| LEFT + value / x_max * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / y_max * (HEIGHT - TOP - BOTTOM);
        let mut out = String::new();
        let mut put = |text: std::fmt::Arguments| out.write_fmt(text).expect("a string takes all");
        put(format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">\n",
            escaped(&self.title)
        ));
        for tick in ticks(y_max, y_step) {
            let at = y(tick);
            put(format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>",
                x(x_max)
            ));
            put(format_args!("<text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>\n", LEFT - 6.0, at + 4.0, number(tick)));
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        put(format_args!(
            "<text class=\"x\" x=\"14\" y=\"{middle}\" transform=\"rotate(-90 14 {middle})\">{}</text>\n",
            escaped(&self.y_label)
        ));
        put_time_axis(&mut out, x_max, HEIGHT - BOTTOM, &self.x_label);
        let mut put = |text: std::fmt::Arguments| out.write_fmt(text).expect("a string takes all");
        for (no, series) in self.series.iter().enumerate() {
            put(format_args!("<path class=\"line s{no}\" d=\""));
            let mut pen = 'M';
            for (at, value) in &series.points {
                match value {
                    Some(value) => {
                        put(format_args!("{pen}{:.1} {:.1}", x(*at), y(*value)));
                        pen = 'L';
                    }
                    None => pen = 'M',
                }
            }
            put(format_args!("\"><title>{}</title></path>\n", escaped(&series.name)));
        }
        put(format_args!("</svg>\n"));
        out
    }
}

/// Draws the horizontal axis below a plot that ends at `bottom`: its ticks up to `x_max`, and its label.
pub(super) fn put_time_axis(out: &mut String, x_max: f64, bottom: f64, label: &str) {
    let mut put = |text: std::fmt::Arguments| out.write_fmt(text).expect("a string takes all");
    for tick in ticks(x_max, step(x_max)) {
        let at = LEFT + tick / x_max * (WIDTH - LEFT - RIGHT);
        put(format_args!(
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{bottom}\" x2=\"{at:.1}\" y2=\"{}\"/>",
            bottom + 4.0
        ));
        put(format_args!("<text class=\"x\" x=\"{at:.1}\" y=\"{}\">{}</text>\n", bottom + 16.0, number(tick)));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    put(format_args!("<text class=\"x\" x=\"{middle:.1}\" y=\"{}\">{}</text>\n", bottom + 34.0, escaped(label)));
}

/// The distance of ticks that gives about [`TICKS`] of them: 1, 2 or 5 times a power of ten.
fn step(max: f64) -> f64 {
    let mut power = 1e-6;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if max / (power * factor) <= TICKS {
                return power * factor;
            }
        }
        power *= 10.0;
    }
}

fn ticks(max: f64, step: f64) -> impl Iterator<Item = f64> {
    // Half a step of tolerance would draw one beyond the axis; rounding is far below this.
    (0..=(max / step + 1e-6) as u32).map(move |no| f64::from(no) * step)
}

/// A tick's number, short: `250k` for 250,000.
fn number(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{value:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A text as HTML and SVG have it, in an element or in an attribute.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let table = [(0.9, 0.2), (3.0, 1.0), (100.0, 20.0), (1234.0, 500.0)];
        for (max, expected) in table {
            assert!((step(max) - expected).abs() < 1e-9, "{max}: {}", step(max));
        }
        assert_eq!(ticks(100.0, 20.0).count(), 6);
        assert_eq!([0.0, 0.25, 1500.0, 250_000.0, 2e6].map(number), ["0", "0.25", "1500", "250k", "2M"]);
    }

    #[test]
    fn a_line_has_a_gap_where_there_is_no_value() {
        let points = vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(1.0))];
        let series = vec![Series { name: "p99 < all".into(), points }];
        let chart = Chart { title: "t".into(), x_label: "s".into(), y_label: "ms".into(), series };
        let svg = chart.to_svg();
        let path = svg.lines().find(|line| line.starts_with("<path")).expect("there is a line");
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        assert!(path.contains("<title>p99 &lt; all</title>"), "{path}");
    }

    #[test]
    fn a_chart_without_points_is_drawn_empty() {
        let chart = Chart { title: "t".into(), x_label: "s".into(), y_label: "ms".into(), series: Vec::new() };
        assert!(!chart.to_svg().contains("NaN"));
    }
}

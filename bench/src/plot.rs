//! Line plots as SVG: two axes, ticks, a legend, nothing else.
//!
//! Written here rather than with a plotting crate because the picture takes its colours from the reader's
//! light or dark theme, which only a style sheet inside the file can do. Both axes are logarithmic: costs
//! and latencies are compared as ratios.

use std::fmt::Write;

/// Size of the picture and its margins, in its own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 240.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 64.0;

/// Lines told apart by colour; further ones repeat the colours with another dash.
const COLORS: usize = 8;

/// Legend entries that fit; more lines are drawn, and the legend says how many it leaves out.
const LEGEND_MAX: usize = 18;

/// What the reader sees of one axis.
pub(crate) struct Axis {
    /// What it measures, with its unit.
    pub(crate) label: String,
    /// Position and name of each tick, ascending, at least two. The axis reaches from the first to the last.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// One line.
pub(crate) struct Line {
    /// Its name in the legend.
    pub(crate) name: String,
    /// All positive; points beyond the axes are moved to their ends.
    pub(crate) points: Vec<(f64, f64)>,
    /// A thing to compare with rather than a thing measured: grey and dashed.
    pub(crate) is_reference: bool,
}

impl Axis {
    /// An axis with ticks at 1, 2 and 5 times powers of ten around `values`.
    pub(crate) fn around(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) =
            positive.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let steps = |exponent: i32| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(exponent));
        let all: Vec<f64> =
            (low.log10().floor() as i32 - 1..=high.log10().ceil() as i32 + 1).flat_map(steps).collect();
        let from = all.iter().rposition(|&tick| tick <= low * 1.000_001).unwrap_or(0);
        let to = all.iter().position(|&tick| tick >= high * 0.999_999).unwrap_or(all.len() - 1);
        let to = to.max(from + 1);
        // Beyond four decades the names of all would touch.
        let is_wide = all[to] / all[from] > 1e4;
        let ticks = all[from..=to].iter().enumerate();
        let is_named = |index: usize, tick: f64| {
            !is_wide || index == 0 || index == to - from || (tick.log10() - tick.log10().round()).abs() < 1e-9
        };
        let ticks =
            ticks.filter(|&(index, &tick)| is_named(index, tick)).map(|(_, &tick)| (tick, name(tick)));
        Self { label: label.to_owned(), ticks: ticks.collect() }
    }

    /// The axis of percentiles: by how many samples lie below one that is beyond, from p50 to p99.99.
    pub(crate) fn percentiles() -> Self {
        let ticks = [(2.0, "p50"), (10.0, "p90"), (100.0, "p99"), (1e3, "p99.9"), (1e4, "p99.99")];
        let ticks = ticks.map(|(beyond, name)| (beyond, name.to_owned()));
        Self { label: "share of deliveries that were at least as fast".into(), ticks: ticks.to_vec() }
    }

    /// Where `value` lies between the ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let [first, last] =
            [self.ticks.first(), self.ticks.last()].map(|tick| tick.map_or(1.0, |tick| tick.0));
        let value = value.clamp(first, last);
        (value.ln() - first.ln()) / (last.ln() - first.ln())
    }
}

/// The whole picture.
pub(crate) fn svg(title: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let place = |(at_x, at_y): (f64, f64)| {
        let across = LEFT + x.share(at_x) * (WIDTH - LEFT - RIGHT);
        let down = HEIGHT - BOTTOM - y.share(at_y) * (HEIGHT - TOP - BOTTOM);
        (across, down)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"30\">{}</text>\n",
        escape(title),
        escape(title)
    );
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let first = |axis: &Axis| axis.ticks.first().map_or(1.0, |tick| tick.0);
    for (at, name) in &x.ticks {
        let (across, _) = place((*at, first(y)));
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{across:.1} {TOP}V{bottom}\"/>\
             <text class=\"tick x\" x=\"{across:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 20.0,
            escape(name)
        );
    }
    for (at, name) in &y.ticks {
        let (_, down) = place((first(x), *at));
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {down:.1}H{right}\"/>\
             <text class=\"tick y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 10.0,
            down + 4.0,
            escape(name)
        );
    }
    let _ = writeln!(
        out,
        "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\n\
         <text class=\"label x\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n\
         <text class=\"label x\" transform=\"translate(22 {:.1}) rotate(-90)\">{}</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 16.0,
        escape(&x.label),
        f64::midpoint(TOP, bottom),
        escape(&y.label)
    );
    let mut color = 0;
    for (index, line) in lines.iter().enumerate() {
        let class = if line.is_reference { "reference".to_owned() } else { format!("c{}", color % COLORS) };
        let dash = if !line.is_reference && color >= COLORS { " stroke-dasharray=\"7 4\"" } else { "" };
        color += usize::from(!line.is_reference);
        let points: Vec<String> = line
            .points
            .iter()
            .map(|&point| place(point))
            .map(|(across, down)| format!("{across:.1},{down:.1}"))
            .collect();
        let _ = writeln!(out, "<polyline class=\"line {class}\"{dash} points=\"{}\"/>", points.join(" "));
        for &(at_x, at_y) in &line.points {
            let (across, down) = place((at_x, at_y));
            let _ = writeln!(
                out,
                "<circle class=\"point {class}\" cx=\"{across:.1}\" cy=\"{down:.1}\" r=\"2.6\">\
                 <title>{}: {}</title></circle>",
                escape(&line.name),
                name(at_y)
            );
        }
        legend(&mut out, index, lines.len(), &line.name, &class, dash);
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, index: usize, of: usize, name: &str, class: &str, dash: &str) {
    let left = WIDTH - RIGHT + 18.0;
    let down = TOP + 12.0 + 22.0 * index.min(LEGEND_MAX) as f64;
    if index == LEGEND_MAX {
        let _ = writeln!(
            out,
            "<text class=\"tick\" x=\"{left}\" y=\"{:.1}\">and {} more</text>",
            down + 4.0,
            of - LEGEND_MAX
        );
    } else if index < LEGEND_MAX {
        let _ = writeln!(
            out,
            "<path class=\"line {class}\"{dash} d=\"M{left} {down}h26\"/>\
             <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + 34.0,
            down + 4.0,
            escape(&shortened(name))
        );
    }
}

/// What fits beside the plot.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(28) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// A figure without more digits than it needs: 0.05, 1.5, 12,000.
fn name(value: f64) -> String {
    if value >= 1_000.0 {
        return crate::report::grouped(value.round() as u64);
    }
    let digits = if value >= 100.0 { 0 } else { 4 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Colours that keep their distance on white and on black, also for colour-blind readers.
const STYLE: &str = "\
svg{--paper:#fff;--ink:#1f2328;--soft:#59636e;--grid:#d9dee3;--reference:#7d858d}\
@media(prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#f0f6fc;--soft:#9198a1;--grid:#2b323b;\
--reference:#9198a1}}\
text{font:13px system-ui,sans-serif;fill:var(--ink)}.title{font-size:16px;font-weight:600}\
.tick{fill:var(--soft);font-size:12px}.x{text-anchor:middle}.y{text-anchor:end}.label{fill:var(--soft)}\
.paper{fill:var(--paper)}.grid{stroke:var(--grid);fill:none}.axis{stroke:var(--soft);fill:none}\
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke:var(--c)}\
.point{fill:var(--c);stroke:none}\
.reference{--c:var(--reference)}.line.reference{stroke-dasharray:3 4}\
.c0{--c:#2f81f7}.c1{--c:#e8710a}.c2{--c:#1a9e5f}.c3{--c:#d6409f}.c4{--c:#8b62d9}.c5{--c:#c9960c}\
.c6{--c:#12a5b5}.c7{--c:#d9443f}";

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: &[f64]) -> Vec<String> {
        Axis::around("", values.iter().copied()).ticks.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn axes_enclose_what_they_show() {
        assert_eq!(ticks(&[3_100.0, 4_500.0]), ["2,000", "5,000"]);
        assert_eq!(ticks(&[0.07, 1.0]), ["0.05", "0.1", "0.2", "0.5", "1"]);
        assert_eq!(ticks(&[10.0, 18_000.0]).last().unwrap(), "20,000");
        assert_eq!(ticks(&[10.0]), ["10", "20"]);
        assert_eq!(ticks(&[]), ["1", "2", "5", "10"]);
        assert_eq!(ticks(&[0.1, 90_000.0]), ["0.1", "1", "10", "100", "1,000", "10,000", "100,000"]);
        let axis = Axis::percentiles();
        assert_eq!((axis.share(2.0), axis.share(1e4), axis.share(1e9)), (0.0, 1.0, 1.0));
    }

    #[test]
    fn names_cannot_break_the_file() {
        let line = Line { name: "<a & \"b\">".into(), points: vec![(1.0, 1.0)], is_reference: false };
        let axis = || Axis::around("<&>", [1.0].into_iter());
        let svg = svg("<&>", &axis(), &axis(), &[line]);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let legend = document.descendants().find(|node| node.attribute("class") == Some("name")).unwrap();
        assert_eq!(legend.text(), Some("<a & \"b\">"));
    }
}

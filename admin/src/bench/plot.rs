//! Curves as SVG: a frame, a line with its points, the numbers at the ends. Nothing more is needed to see whether
//! cost grows faster than work.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Common;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 56.0;

/// One small plot.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Name of the file, without `.svg`.
    pub name: &'static str,
    /// What is shown.
    pub title: String,
    /// What grows, with its unit.
    pub x: &'static str,
    /// What it costs, with its unit.
    pub y: &'static str,
    /// The steps of x are factors, not sums.
    pub log_x: bool,
    /// Places.
    pub points: Vec<(f64, f64)>,
}

/// Writes one file per curve where plots were asked for.
pub fn draw(common: &Common, curves: &[Curve]) -> Result<()> {
    let Some(dir) = &common.plot else {
        return Ok(());
    };
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for curve in curves {
        let path: PathBuf = dir.join(format!("{}.svg", curve.name));
        std::fs::write(&path, svg(curve)).with_context(|| format!("write {}", path.display()))?;
        eprintln!("drawn: {}", path.display());
    }
    Ok(())
}

/// The plot as text.
pub fn svg(curve: &Curve) -> String {
    let scale = Scale::of(curve);
    let places = curve.points.iter().map(|point| scale.place(*point));
    let dots: String = curve
        .points
        .iter()
        .zip(places.clone())
        .map(|(point, place)| dot(*point, place))
        .collect();
    format!("{}{dots}{}</svg>\n", frame(curve), line(places))
}

/// Where the numbers of a curve lie in its picture.
struct Scale {
    log_x: bool,
    x_min: f64,
    x_range: f64,
    y_max: f64,
}

impl Scale {
    fn of(curve: &Curve) -> Scale {
        let log_x = curve.log_x;
        let xs = || curve.points.iter().map(|p| along(log_x, p.0));
        let x_max = xs().fold(f64::MIN_POSITIVE, f64::max);
        let x_min = if log_x {
            xs().fold(x_max, f64::min)
        } else {
            0.0
        };
        let ys = curve.points.iter().map(|p| p.1);
        Scale {
            log_x,
            x_min,
            x_range: (x_max - x_min).max(f64::MIN_POSITIVE),
            y_max: ys.fold(f64::MIN_POSITIVE, f64::max) * 1.1,
        }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let right = (along(self.log_x, x) - self.x_min) / self.x_range;
        (
            MARGIN + right * (WIDTH - 1.5 * MARGIN),
            HEIGHT - MARGIN - y / self.y_max * (HEIGHT - 2.0 * MARGIN),
        )
    }
}

fn along(log: bool, x: f64) -> f64 {
    if log { x.max(1.0).log10() } else { x }
}

fn frame(curve: &Curve) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\" font-size=\"13\">{}</text>\n\
         <path d=\"M{MARGIN} {MARGIN}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n\
         <text x=\"{right}\" y=\"{label}\" text-anchor=\"end\">{}</text>\n\
         <text x=\"{MARGIN}\" y=\"{top}\">{}</text>\n",
        escape(&curve.title),
        escape(curve.x),
        escape(curve.y),
        bottom = HEIGHT - MARGIN,
        right = WIDTH - MARGIN / 2.0,
        label = HEIGHT - 12.0,
        top = MARGIN - 12.0,
    )
}

/// One point with its numbers: y above it, x below the axis.
fn dot(point: (f64, f64), (x, y): (f64, f64)) -> String {
    format!(
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\n\
         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
        y - 7.0,
        number(point.1),
        HEIGHT - MARGIN + 14.0,
        number(point.0),
    )
}

fn line(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut line = String::new();
    for (x, y) in places {
        let step = if line.is_empty() { "M" } else { "L" };
        let _ = write!(line, "{step}{x:.1} {y:.1}");
    }
    format!("<path d=\"{line}\" fill=\"none\" stroke=\"steelblue\" stroke-width=\"2\"/>\n")
}

fn number(value: f64) -> String {
    if value == 0.0 || value.abs() >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_point_is_highest_and_rightmost_and_signs_are_escaped() {
        let curve = Curve {
            name: "x",
            title: "a < b".into(),
            x: "n",
            y: "ms",
            log_x: true,
            points: vec![(10.0, 1.0), (1000.0, 4.0)],
        };
        let text = svg(&curve);
        assert!(text.contains("a &lt; b"));
        let circles: Vec<&str> = text.lines().filter(|l| l.starts_with("<circle")).collect();
        assert_eq!(circles.len(), 2);
        assert!(circles[0].contains("cx=\"56.0\""), "{}", circles[0]);
        assert!(circles[1].contains("cx=\"452.0\""), "{}", circles[1]);
        let line = text.lines().find(|l| l.contains("steelblue"));
        let line = line.expect("a line joins the points");
        assert!(
            line.starts_with("<path d=\"M56.0 170.4L452.0 69.5\""),
            "{line}"
        );
    }
}

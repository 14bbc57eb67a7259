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
    let scale_x = |x: f64| if curve.log_x { x.max(1.0).log10() } else { x };
    let x_max = curve
        .points
        .iter()
        .map(|p| scale_x(p.0))
        .fold(f64::MIN_POSITIVE, f64::max);
    let x_min = if curve.log_x {
        curve
            .points
            .iter()
            .map(|p| scale_x(p.0))
            .fold(x_max, f64::min)
    } else {
        0.0
    };
    let y_max = curve
        .points
        .iter()
        .map(|p| p.1)
        .fold(f64::MIN_POSITIVE, f64::max)
        * 1.1;
    let width = (x_max - x_min).max(f64::MIN_POSITIVE);
    let place = |(x, y): (f64, f64)| {
        (
            MARGIN + (scale_x(x) - x_min) / width * (WIDTH - 1.5 * MARGIN),
            HEIGHT - MARGIN - y / y_max * (HEIGHT - 2.0 * MARGIN),
        )
    };
    let mut out = format!(
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
    );
    let mut line = String::new();
    for point in &curve.points {
        let (x, y) = place(*point);
        let _ = write!(
            line,
            "{}{x:.1} {y:.1}",
            if line.is_empty() { "M" } else { "L" }
        );
        let _ = write!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            y - 7.0,
            number(point.1),
            HEIGHT - MARGIN + 14.0,
            number(point.0),
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"{line}\" fill=\"none\" stroke=\"steelblue\" stroke-width=\"2\"/>\n</svg>"
    );
    out
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
    }
}

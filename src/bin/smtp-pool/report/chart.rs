//! Draws the charts as SVG.

use indicatif::HumanCount;
use plotters::prelude::*;

type SvgResult = std::result::Result<String, anyhow::Error>;

/// One bar: its label, and its parts with their colours.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) parts: Vec<(f64, RGBColor)>,
}

const WIDTH: u32 = 860;
const LABELS: i32 = 260;
const LINE: i32 = 24;
const INK: RGBColor = RGBColor(40, 44, 52);

/// Draws horizontal bars. Each has its label in front, and its number and share of `whole` behind.
pub(super) fn bars(bars: &[Bar], whole: u64) -> SvgResult {
    let sum = |bar: &Bar| bar.parts.iter().map(|(value, _)| value).sum::<f64>();
    let most = bars.iter().map(sum).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, LINE as u32 * bars.len().max(1) as u32))
            .into_drawing_area();
        let text = ("sans-serif", 14).into_font().color(&INK);
        let room = f64::from(WIDTH as i32 - LABELS - 140);
        for (number, bar) in (0..).zip(bars) {
            let top = number * LINE;
            let label: String = bar.label.chars().take(38).collect();
            root.draw(&Text::new(label, (0, top + 5), text.clone()))?;
            let mut left = f64::from(LABELS);
            for (value, colour) in &bar.parts {
                let right = left + value / most * room;
                let corners = [(left as i32, top + 3), (right.max(left + 1.0) as i32, top + LINE - 3)];
                root.draw(&Rectangle::new(corners, colour.filled()))?;
                left = right;
            }
            let (count, share) = (HumanCount(sum(bar) as u64), 100.0 * sum(bar) / whole.max(1) as f64);
            let number = format!("{count} · {share:.1} %");
            root.draw(&Text::new(number, (left as i32 + 8, top + 5), text.clone()))?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// Draws a quantity over time. The times are in seconds.
pub(super) fn over_time(points: &[(f64, f64)], unit: &str) -> SvgResult {
    let seconds = points.last().map_or(1.0, |(x, _)| x.max(1.0));
    let (name, of_unit) = match seconds {
        ..300.0 => ("seconds", 1.0),
        ..18_000.0 => ("minutes", 60.0),
        _ => ("hours", 3_600.0),
    };
    let end = seconds / of_unit;
    let most = points.iter().map(|(_, y)| *y).fold(1.0, f64::max) * 1.1;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, 260)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(32)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..end, 0.0..most)?;
        chart
            .configure_mesh()
            .x_desc(format!("{name} since the first verdict"))
            .y_desc(unit)
            .x_label_formatter(&|x: &f64| number(*x))
            .y_label_formatter(&|y: &f64| number(*y))
            .light_line_style(WHITE)
            .draw()?;
        let colour = RGBColor(54, 116, 181);
        chart.draw_series(
            AreaSeries::new(points.iter().map(|(x, y)| (x / of_unit, *y)), 0.0, colour.mix(0.3))
                .border_style(colour),
        )?;
        root.present()?;
    }
    Ok(svg)
}

/// Returns the number as text, with decimals only if it has any.
fn number(value: f64) -> String {
    match (value - value.round()).abs() < 1e-6 {
        true => HumanCount(value.round() as u64).to_string(),
        false => format!("{value:.1}"),
    }
}

/// Draws quantiles of several operations, on a logarithmic scale of milliseconds.
pub(super) fn quantiles(lines: &[(String, [f64; 4])]) -> SvgResult {
    const NAMES: [&str; 4] = ["p50", "p90", "p99", "max"];
    let all = || lines.iter().flat_map(|(_, values)| values);
    let least = all().copied().filter(|value| *value > 0.0).fold(1.0, f64::min) / 2.0;
    let most = all().copied().fold(1.0, f64::max) * 2.0;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, 320)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(32)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..3.8, (least..most).log_scale())?;
        chart
            .configure_mesh()
            .x_labels(5)
            .x_label_formatter(&|x: &f64| NAMES.get(x.round() as usize).copied().unwrap_or_default().into())
            .y_label_formatter(&|y: &f64| if *y < 1.0 { y.to_string() } else { number(*y) })
            .y_desc("milliseconds")
            .light_line_style(WHITE)
            .draw()?;
        for (number, (name, values)) in lines.iter().enumerate() {
            let colour = Palette99::pick(number).to_rgba();
            let points = (0..).zip(values).map(|(x, y)| (f64::from(x), y.max(least)));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        chart.configure_series_labels().border_style(WHITE).background_style(WHITE.mix(0.8)).draw()?;
        root.present()?;
    }
    Ok(svg)
}

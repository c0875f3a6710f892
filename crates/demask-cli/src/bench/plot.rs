//! How the plot of `forward` is drawn: title and names above, then the curves, so that nothing lies over them.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

const WIDTH: u32 = 800;
/// Of the curves with their axes.
const CURVES: u32 = 420;
/// Of a line of text.
const LINE: i32 = 20;
const MARGIN: i32 = 12;
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 96, 32),
    RGBColor(44, 140, 70),
    RGBColor(150, 70, 160),
    RGBColor(140, 100, 60),
    RGBColor(90, 90, 90),
];
/// Of what was to be expected.
const EXPECTED: RGBColor = RGBColor(60, 60, 60);
/// Columns of a dash and of the gap after it.
const DASHES: [u32; 2] = [6, 4];

/// A measured curve.
pub struct Curve<'a> {
    pub name: &'a str,
    /// Tokens of a sequence, microseconds of a token.
    pub measured: Vec<(f64, f64)>,
    /// The first measurement, grown as the operations of a token do; empty where nobody wants to know.
    pub expected: Vec<(f64, f64)>,
}

type Failed = Box<dyn std::error::Error>;

/// The plot as SVG.
pub fn svg(title: [&str; 2], curves: &[Curve<'_>]) -> Result<String, Failed> {
    let mut svg = String::new();
    let names = curves.len() as i32 + i32::from(curves.iter().any(|c| !c.expected.is_empty()));
    let above = 2 * MARGIN + (2 + names) * LINE;
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, above as u32 + CURVES));
        let root = root.into_drawing_area();
        root.fill(&WHITE)?;
        let (top, bottom) = root.split_vertically(above);
        label(&top, title, curves)?;
        draw(&bottom, curves)?;
        root.present()?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The title and what each curve is.
fn label(area: &Area<'_>, title: [&str; 2], curves: &[Curve<'_>]) -> Result<(), Failed> {
    let text = |text: &str, x: i32, line: i32, size: i32| {
        let place = (x, MARGIN + line * LINE + (LINE - size) / 2);
        Text::new(text.to_owned(), place, (FONT, size).into_font())
    };
    area.draw(&text(title[0], MARGIN, 0, 20))?;
    area.draw(&text(title[1], MARGIN, 1, 15))?;
    let [from, to] = [MARGIN, MARGIN + 30];
    let middle = |line: i32| MARGIN + line * LINE + LINE / 2;
    let mut line = 2;
    for (i, curve) in curves.iter().enumerate() {
        let (colour, y) = (colour(i), middle(line));
        area.draw(&PathElement::new(
            [(from, y), (to, y)],
            colour.stroke_width(2),
        ))?;
        area.draw(&Circle::new(((from + to) / 2, y), 3, colour.filled()))?;
        area.draw(&text(curve.name, to + 8, line, 16))?;
        line += 1;
    }
    if curves.iter().any(|curve| !curve.expected.is_empty()) {
        let y = middle(line);
        let [dash, gap] = DASHES.map(|n| n as i32);
        for x in (from..to).step_by((dash + gap) as usize) {
            let dash = [(x, y), ((x + dash).min(to), y)];
            area.draw(&PathElement::new(dash, EXPECTED.stroke_width(1)))?;
        }
        area.draw(&text("grown as its operations", to + 8, line, 16))?;
    }
    Ok(())
}

fn draw(area: &Area<'_>, curves: &[Curve<'_>]) -> Result<(), Failed> {
    let points = || curves.iter().flat_map(|curve| &curve.measured);
    let mut ticks: Vec<f64> = points().map(|p| p.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let expected = curves.iter().flat_map(|curve| &curve.expected);
    let slowest = points()
        .chain(expected)
        .fold(0.0f64, |high, p| p.1.max(high));
    let (shortest, longest) = match ticks.as_slice() {
        [] => (1.0, 2.0),
        // A single length stands in the middle.
        [only] => (only / 2.0, only * 2.0),
        [first, .., last] => (*first, *last),
    };
    // Room for the markers of both ends.
    let lengths = (shortest * 0.93..longest * 1.07).log_scale();
    let times: RangedCoordf64 = (0.0..(slowest * 1.1).max(1e-3)).into();
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(lengths.with_key_points(ticks), times)?;
    chart
        .configure_mesh()
        .x_desc("tokens of a sequence")
        .y_desc("microseconds a token")
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .light_line_style(WHITE)
        .draw()?;
    for (i, curve) in curves.iter().enumerate() {
        let (colour, measured) = (colour(i), curve.measured.iter().copied());
        chart.draw_series(LineSeries::new(measured.clone(), colour.stroke_width(2)))?;
        chart.draw_series(measured.map(|place| Circle::new(place, 3, colour.filled())))?;
    }
    // Last, so that a curve that grew as it had to does not hide it.
    for curve in curves {
        let [dash, gap] = DASHES;
        let (expected, style) = (curve.expected.iter().copied(), EXPECTED.stroke_width(1));
        chart.draw_series(DashedLineSeries::new(expected, dash, gap, style))?;
    }
    Ok(())
}

fn colour(i: usize) -> RGBColor {
    COLOURS[i % COLOURS.len()]
}

/// A number without digits that say nothing.
fn short(x: f64) -> String {
    let text = format!("{x:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, slope: f64) -> Curve<'_> {
        let points = [128.0, 256.0, 1024.0].map(|x| (x, x * slope));
        Curve {
            name,
            measured: points.into(),
            expected: points.into(),
        }
    }

    /// The texts of a plot.
    fn texts(svg: &str) -> Vec<&str> {
        let parts = svg
            .split("</text>")
            .filter_map(|part| part.rsplit('>').next());
        parts
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect()
    }

    #[test]
    fn axes_name_what_was_measured_and_the_names_stand_above() {
        let title = ["tiny, 1 sequence", "avx2, 2 threads"];
        let svg = svg(title, &[curve("one", 1.0), curve("two", 0.5)]).unwrap();
        let texts = texts(&svg);
        for text in [
            "tiny, 1 sequence",
            "avx2, 2 threads",
            "one",
            "two",
            "128",
            "256",
            "1024",
        ] {
            assert!(texts.contains(&text), "{text}: {texts:?}");
        }
        // Nothing but what was measured along the lengths, and no digits for nothing.
        assert!(!texts.contains(&"512"), "{texts:?}");
        assert!(texts.iter().all(|text| !text.ends_with(".0")), "{texts:?}");
        let said = texts.iter().filter(|text| text.contains("operations"));
        assert_eq!(said.count(), 1);
        // A marker for each of three points of two curves and for each name.
        assert_eq!(svg.matches("<circle").count(), 2 * 3 + 2);
    }

    #[test]
    fn one_length_is_a_plot() {
        let points = vec![(128.0, 3.0)];
        let only = Curve {
            name: "one",
            measured: points.clone(),
            expected: points,
        };
        let svg = svg(["", ""], &[only]).unwrap();
        assert!(texts(&svg).contains(&"128"));
    }

    #[test]
    fn numbers_have_no_digits_that_say_nothing() {
        let found = [0.0, 0.25, 0.1 + 0.2, 100.0, 1024.0].map(short);
        assert_eq!(found, ["0", "0.25", "0.3", "100", "1024"]);
    }
}

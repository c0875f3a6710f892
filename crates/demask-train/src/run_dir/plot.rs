//! `loss.svg`: training loss, smoothed, and validation loss over the steps.

use plotters::prelude::*;

use super::Metrics;

const WIDTH: u32 = 800;
const HEIGHT: u32 = 450;
const TRAIN: RGBColor = RGBColor(120, 144, 176);
const VALID: RGBColor = RGBColor(200, 80, 40);

/// The picture, or why it could not be drawn.
pub(super) fn loss_svg(metrics: &[Metrics]) -> Result<String, String> {
    let mut svg = String::new();
    draw(&mut svg, metrics).map_err(|e| e.to_string())?;
    Ok(svg)
}

fn draw(svg: &mut String, metrics: &[Metrics]) -> Result<(), Box<dyn std::error::Error>> {
    let train = smoothed(metrics);
    let valid: Vec<(f64, f64)> = metrics
        .iter()
        .filter_map(|m| Some((m.step as f64, m.valid?)))
        .collect();
    let values = || {
        train
            .iter()
            .chain(&valid)
            .map(|(_, y)| *y)
            .filter(|y| y.is_finite())
    };
    let (low, high) = values().fold((f64::MAX, f64::MIN), |(l, h), y| (l.min(y), h.max(y)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let margin = ((high - low) * 0.05).max(1e-6);
    let last = metrics.last().map_or(1.0, |m| m.step as f64).max(2.0);

    let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(1.0..last, (low - margin)..(high + margin))?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.2}"))
        .light_line_style(WHITE)
        .draw()?;
    chart
        .draw_series(LineSeries::new(train, TRAIN.stroke_width(2)))?
        .label("training (smoothed)")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRAIN.stroke_width(2)));
    if !valid.is_empty() {
        chart
            .draw_series(LineSeries::new(valid, VALID.stroke_width(2)))?
            .label("validation")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], VALID.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(TRAIN)
        .draw()?;
    root.present()?;
    Ok(())
}

/// Means over at most 400 equal stretches of steps, each at its middle.
fn smoothed(metrics: &[Metrics]) -> Vec<(f64, f64)> {
    let stretch = metrics.len().div_ceil(400).max(1);
    let finite: Vec<&Metrics> = metrics.iter().filter(|m| m.loss.is_finite()).collect();
    finite
        .chunks(stretch)
        .map(|part| {
            let n = part.len() as f64;
            let step = part.iter().map(|m| m.step as f64).sum::<f64>() / n;
            (step, part.iter().map(|m| m.loss).sum::<f64>() / n)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(n: u64) -> Vec<Metrics> {
        (1..=n)
            .map(|step| Metrics {
                step,
                loss: 5.0 / step as f64,
                valid: step.is_multiple_of(10).then_some(1.0),
                window: None,
                lr: 0.0,
                grad_norm: 0.0,
                tokens: 0,
                tokens_per_s: 0.0,
                seconds: 0.0,
            })
            .collect()
    }

    #[test]
    fn a_plot_has_both_lines_and_words() {
        let svg = loss_svg(&metrics(1000)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for word in ["training (smoothed)", "validation", "step", "loss"] {
            assert!(svg.contains(word), "{word}");
        }
        assert_eq!(smoothed(&metrics(1000)).len(), 334);
    }

    #[test]
    fn nothing_and_one_step_can_be_drawn() {
        assert!(loss_svg(&[]).is_ok());
        assert!(loss_svg(&metrics(1)).is_ok());
    }
}

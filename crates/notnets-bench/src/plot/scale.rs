//! Axes.

use std::fmt::{Result, Write};

use super::{BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH};

/// Values from bottom to top, between two round ones.
pub struct LogScale {
    /// Where it begins.
    pub least: f64,
    /// Where it ends.
    pub most: f64,
}

impl LogScale {
    /// Lines and labels of the axis.
    pub fn draw(&self, svg: &mut String, label: impl Fn(f64) -> String) -> Result {
        let right = WIDTH - RIGHT;
        let end = LEFT - 6.0;
        for value in self.labelled() {
            let y = self.y(value);
            write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            )?;
            let y = y + 3.5;
            let text = label(value);
            write!(
                svg,
                "<text class=\"axis\" text-anchor=\"end\" x=\"{end:.1}\" y=\"{y:.1}\">{text}</text>"
            )?;
        }
        Ok(())
    }

    /// All round figures, or only the powers of ten if there are too many.
    fn labelled(&self) -> Vec<f64> {
        let all: Vec<_> = self.ticks().collect();
        if all.len() <= 9 {
            return all;
        }
        let ten = |value: &f64| (value.log10() - value.log10().round()).abs() < 1e-9;
        all.into_iter().filter(ten).collect()
    }

    /// From the round figure below the least to the one above the most.
    pub fn around(least: f64, most: f64) -> Self {
        let below = steps().take_while(|step| *step <= least).last().unwrap_or(least);
        let above = steps().find(|step| *step > most).unwrap_or(most * 2.0);
        Self { least: below, most: above }
    }

    /// Where a value stands.
    pub fn y(&self, value: f64) -> f64 {
        let part = (value.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    /// Its round figures.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let least = self.least;
        let most = self.most;
        steps().filter(move |step| (least..=most).contains(step))
    }
}

/// 1, 2, 5, 10 … from a hundredth to a thousand million.
fn steps() -> impl Iterator<Item = f64> {
    (-2..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_figures_and_keep_the_order() {
        let scale = LogScale::around(130.0, 4100.0);
        assert_eq!((scale.least, scale.most), (100.0, 5000.0));
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]);
        assert!(scale.y(130.0) > scale.y(4100.0), "longer is higher up");
        assert_eq!((scale.y(100.0), scale.y(5000.0)), (HEIGHT - BOTTOM, TOP));
        assert_eq!(LogScale::around(1.0, 9e6).labelled().len(), 8, "powers of ten");
    }
}

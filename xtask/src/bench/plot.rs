//! Bar charts as SVG, for the documents.

use std::fmt::Write as _;

/// A bar, and whether it belongs to Tidemill.
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub is_ours: bool,
}

/// Lengths in pixels.
const WIDTH: f64 = 720.0;
const LABEL_WIDTH: f64 = 240.0;
const VALUE_WIDTH: f64 = 80.0;
const TITLE_HEIGHT: f64 = 40.0;
const BAR_HEIGHT: f64 = 22.0;
const ROW_HEIGHT: f64 = 32.0;
const OURS: &str = "#1f6feb";
const OTHERS: &str = "#8b949e";

/// Horizontal bars from 0, so that lengths compare as values do.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let height = TITLE_HEIGHT + ROW_HEIGHT * bars.len() as f64 + 8.0;
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\">\n\
         <title>{0}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"15\" font-weight=\"bold\">{0}</text>\n",
        escaped(title)
    );
    for (row, bar) in bars.iter().enumerate() {
        let top = TITLE_HEIGHT + ROW_HEIGHT * row as f64;
        let share = if most > 0.0 { bar.value.max(0.0) / most } else { 0.0 };
        let length = share * (WIDTH - LABEL_WIDTH - VALUE_WIDTH);
        let baseline = top + BAR_HEIGHT - 6.0;
        let color = if bar.is_ours { OURS } else { OTHERS };
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{baseline:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL_WIDTH}\" y=\"{top:.0}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{baseline:.0}\">{}</text>",
            LABEL_WIDTH - 10.0,
            escaped(&bar.label),
            LABEL_WIDTH + length + 6.0,
            grouped(bar.value)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Thousands separated: `28,500`.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar { label: label.to_owned(), value, is_ours: label == "ours" }
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_others_are_in_proportion() {
        let svg = bars("items a second", &[bar("ours", 50.0), bar("other", 200.0)]);
        assert!(svg.contains("width=\"100.0\" height=\"22\" fill=\"#1f6feb\""), "{svg}");
        assert!(svg.contains("width=\"400.0\" height=\"22\" fill=\"#8b949e\""), "{svg}");
    }

    #[test]
    fn labels_are_escaped() {
        let svg = bars("a < b", &[bar("x & \"y\"", 1.0)]);
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; &quot;y&quot;"), "{svg}");
    }

    #[test]
    fn charts_without_values_have_no_bars_of_odd_length() {
        let svg = bars("nothing", &[bar("zero", 0.0)]);
        assert!(svg.contains("width=\"0.0\"") && !svg.contains("NaN"), "{svg}");
        assert!(bars("nothing", &[]).ends_with("</svg>\n"));
    }

    #[test]
    fn values_are_grouped_in_thousands() {
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(28_500.2), "28,500");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }
}

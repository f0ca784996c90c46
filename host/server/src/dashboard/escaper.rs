//! Values on the page: escaped for HTML, with hidden characters made visible.

use std::fmt;

use askama::filters::{Escaper, Html};
use domain::text::escape_lines;

#[derive(Debug, Clone, Copy)]
pub struct VisibleHtml;

impl Escaper for VisibleHtml {
    fn write_escaped_str<W: fmt::Write>(&self, page: W, text: &str) -> fmt::Result {
        Html.write_escaped_str(page, &escape_lines(text))
    }
}

#[cfg(test)]
mod tests {
    use askama::Template;

    #[derive(Template)]
    #[template(source = "<b title=\"{{ text }}\">{{ text }}</b>{{ markup|safe }}", ext = "html")]
    struct Page<'a> {
        text: &'a str,
        markup: &'a str,
    }

    #[test]
    fn values_are_escaped_for_html_and_for_the_eye() {
        let page = Page { text: "a<i>\"\u{202e}\u{200b}\u{1b}\n&", markup: "<hr>" }.render().unwrap();
        let shown = r"a&#60;i&#62;&#34;\u{202e}\u{200b}\u{1b}".to_owned() + "\n&#38;";
        assert_eq!(page, format!("<b title=\"{shown}\">{shown}</b><hr>"));
    }
}

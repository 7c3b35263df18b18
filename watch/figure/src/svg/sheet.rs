//! Writing SVG elements.

use std::fmt::Write;

use crate::width::width;

/// Which end of a text its coordinate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Left.
    Start,
    /// Centre.
    Middle,
    /// Right.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextStyle {
    /// Font size in pixels.
    pub size: f64,
    /// Bold.
    pub bold: bool,
    /// Italic.
    pub italic: bool,
}

impl TextStyle {
    /// The heading of the figure.
    pub const TITLE: Self = Self { size: 18.0, bold: true, italic: false };
    /// Names of lifelines.
    pub const HEAD: Self = Self { size: 13.0, bold: true, italic: false };
    /// Labels of arrows.
    pub const LABEL: Self = Self { size: 12.0, bold: false, italic: false };
    /// Labels that matter most.
    pub const STRONG: Self = Self { size: 12.0, bold: true, italic: false };
    /// Folds.
    pub const ITALIC: Self = Self { size: 12.0, bold: false, italic: true };
    /// Times, statuses, notes.
    pub const SMALL: Self = Self { size: 11.0, bold: false, italic: false };
    /// Statuses of failures.
    pub const SMALL_STRONG: Self = Self { size: 11.0, bold: true, italic: false };

    /// How wide a text will be.
    pub fn width(self, text: &str) -> f64 {
        width(text, self.size, self.bold)
    }
}

/// An SVG document in the making.
#[derive(Debug)]
pub struct Sheet {
    out: String,
}

impl Sheet {
    /// Begins a document with a white ground. Title and description are for readers who cannot see it.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut out = String::new();
        let (title, description) = (escape(title), escape(description));
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             font-family=\"'DejaVu Sans', Arial, Helvetica, 'Liberation Sans', sans-serif\">\n\
             <title>{title}</title>\n<desc>{description}</desc>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        Self { out }
    }

    /// A text on one line.
    pub fn text(&mut self, x: f64, y: f64, text: &str, style: TextStyle, anchor: Anchor, colour: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let bold = if style.bold { " font-weight=\"bold\"" } else { "" };
        let italic = if style.italic { " font-style=\"italic\"" } else { "" };
        let (size, text) = (style.size, escape(text));
        let _ = writeln!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\"{bold}{italic}{anchor} fill=\"{colour}\">{text}</text>"
        );
    }

    /// A centred text on a white ground, so that lifelines do not strike it through.
    pub fn backed_text(&mut self, x: f64, y: f64, text: &str, style: TextStyle, colour: &str) {
        let width = style.width(text) + 4.0;
        let _ = writeln!(
            self.out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"#ffffff\"/>",
            x - width / 2.0,
            y - style.size + 1.0,
            style.size + 2.0
        );
        self.text(x, y, text, style, Anchor::Middle, colour);
    }

    /// A straight line. An empty `dash` is a solid one.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, stroke: f64, dash: &str) {
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.out,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{stroke}\"{dash}/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A rectangle with round corners.
    pub fn rect(&mut self, at: (f64, f64), size: (f64, f64), radius: f64, fill: &str, border: &str, dash: &str) {
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{radius}\" fill=\"{fill}\" stroke=\"{border}\"{dash}/>",
            at.0, at.1, size.0, size.1
        );
    }

    /// A filled shape.
    pub fn polygon(&mut self, points: &[(f64, f64)], fill: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.out, "<polygon points=\"{}\" fill=\"{fill}\"/>", points.join(" "));
    }

    /// The whole document.
    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// Text as XML content. What XML cannot hold at all is replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            character if character.is_control() => out.push(' '),
            character => out.push(character),
        }
    }
    out
}

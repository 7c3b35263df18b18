//! What is wrong with a network file, and where.

use std::fmt;
use std::ops::Range;

/// A mistake in a network file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFileError {
    /// The bytes of the file that it is about; empty at the end if the file as a whole is.
    pub span: Range<usize>,
    /// Their line, from 1.
    pub line: usize,
    /// Their column in characters, from 1.
    pub column: usize,
    /// The key of that line, if it has one.
    pub key: Option<String>,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl NetworkFileError {
    pub(super) fn new(text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let at = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text[line_start..].lines().next().unwrap_or_default();
        Self {
            span,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key_of(line_text),
            message: message.into(),
        }
    }

    pub(super) fn from_toml(text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(text.len()..text.len());
        Self::new(text, span, error.message())
    }
}

/// What stands before the equals sign, or between the brackets of a table's head.
fn key_of(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with('[') {
        let head = line.trim_matches(['[', ']']);
        return (!head.is_empty()).then(|| head.to_owned());
    }
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && !key.starts_with('#')).then(|| key.to_owned())
}

impl fmt::Display for NetworkFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for NetworkFileError {}

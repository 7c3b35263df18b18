//! Texts of drivers as they may stand on a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text on one line: characters that steer a terminal, hide, or turn the reading direction are written as escapes
/// (`\n`, `\u{1b}`); everything else, runs of spaces too, stays as it is.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => out.extend(character.escape_default()),
            // Writing to a string cannot fail.
            steering if is_steering(steering) => drop(write!(out, "\\u{{{:x}}}", u32::from(steering))),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Control characters, line separators, and characters without a glyph.
fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}')
        || matches!(character, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_spaces_stay() {
        assert_eq!(printable("a   b  é"), "a   b  é");
        assert_eq!(printable("\u{1b}[2J\r\n\tx\u{9b}"), r"\u{1b}[2J\r\n\tx\u{9b}");
        assert_eq!(printable("name\u{202E}sys.exe\u{200B}"), r"name\u{202e}sys.exe\u{200b}");
    }
}

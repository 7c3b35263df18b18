//! Names that fit a pattern, as file systems and whoever filters them compare.

/// What of a pattern stands for more than itself. The last three are what Win32 makes of `*`, `?` and `.` in patterns of DOS.
mod wild {
    /// `*`: anything.
    pub const ANY: u16 = b'*' as u16;
    /// `?`: one character.
    pub const ONE: u16 = b'?' as u16;
    /// `DOS_STAR`: anything but the last dot.
    pub const DOS_STAR: u16 = b'<' as u16;
    /// `DOS_QM`: one character other than a dot; nothing in front of a dot and at the end.
    pub const DOS_QM: u16 = b'>' as u16;
    /// `DOS_DOT`: a dot; nothing at the end.
    pub const DOS_DOT: u16 = b'"' as u16;
}

const DOT: u16 = b'.' as u16;

/// Whether a character of a pattern stands for more than itself.
pub fn is_wild(unit: u16) -> bool {
    matches!(unit, wild::ANY | wild::ONE | wild::DOS_STAR | wild::DOS_QM | wild::DOS_DOT)
}

/// Whether the whole of `name` fits `pattern`, letter by letter: who ignores case passes capitals.
pub fn fits(pattern: &[u16], name: &[u16]) -> bool {
    let last_dot = name.iter().rposition(|&unit| unit == DOT);
    // Which places of the pattern what was read of the name may lead to, the end included.
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    for (position, &unit) in name.iter().enumerate() {
        pass_over_nothing(pattern, &mut places, Some(unit));
        let mut next = vec![false; places.len()];
        for (place, &wanted) in pattern.iter().enumerate().filter(|&(place, _)| places[place]) {
            match wanted {
                wild::ANY => next[place] = true,
                wild::DOS_STAR => next[place] |= last_dot != Some(position),
                wild::ONE => next[place + 1] = true,
                wild::DOS_QM => next[place + 1] |= unit != DOT,
                wild::DOS_DOT => next[place + 1] |= unit == DOT,
                _ => next[place + 1] |= unit == wanted,
            }
        }
        places = next;
    }
    pass_over_nothing(pattern, &mut places, None);
    places[pattern.len()]
}

/// Adds the places that are reached without reading the next character of the name, `None` at its end.
fn pass_over_nothing(pattern: &[u16], places: &mut [bool], next: Option<u16>) {
    for (place, &wanted) in pattern.iter().enumerate() {
        let can_be_nothing = match wanted {
            wild::ANY | wild::DOS_STAR => true,
            wild::DOS_QM => next.is_none_or(|unit| unit == DOT),
            wild::DOS_DOT => next.is_none(),
            _ => false,
        };
        places[place + 1] |= places[place] && can_be_nothing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wild_character_stands_for_what_it_is_documented_to() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a.b", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?", "a", false),
            ("*.txt", "a.txt.bak", false),
            ("*a*b*", "xxaxxbxx", true),
            ("A", "a", false),
            // Up to the last dot, and no further.
            ("<", "abc", true),
            ("<", "a.b", false),
            ("<.txt", "a.b.txt", true),
            ("<b", "a.b", false),
            ("<.<", "a.b.c", true),
            ("<x", "a.bx.c", false),
            // One character, or nothing where there is none in front of a dot.
            (">>>.txt", "ab.txt", true),
            (">.txt", "ab.txt", false),
            ("a>>", "a", true),
            (">a", ".a", false),
            ("a>b", "ab", false),
            // A dot, or nothing at the end.
            ("a\"", "a", true),
            ("a\"", "a.", true),
            ("a\"b", "ab", false),
            ("<\"<", "abc", true),
            (">>\">", "ab.c", true),
            ("", "", true),
            ("", "a", false),
        ] {
            let utf16 = |text: &str| text.encode_utf16().collect::<Vec<_>>();
            assert_eq!(fits(&utf16(pattern), &utf16(name)), expected, "{pattern} {name}");
        }
    }
}

//! Names of files as drivers write them, and patterns.

use nt_abi::NtStatus;
use nt_object::upcase;

const SEPARATOR: u16 = b'\\' as u16;
/// Longest component.
const COMPONENT_UNITS_MAX: usize = 255;

/// A name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// From the volume's root down; none for the root itself.
    pub components: Vec<String>,
    /// It ended in a separator.
    pub names_a_directory: bool,
}

/// Takes apart what follows the volume in a full name, such as `\Windows\a.txt`.
///
/// # Errors
/// STATUS_OBJECT_NAME_INVALID for a component that no file can have.
pub fn parse(name: &[u16]) -> Result<Name, NtStatus> {
    let name = name.strip_prefix(&[SEPARATOR]).unwrap_or(name);
    if name.is_empty() {
        return Ok(Name { components: Vec::new(), names_a_directory: true });
    }
    let trimmed = name.strip_suffix(&[SEPARATOR]);
    let components =
        trimmed.unwrap_or(name).split(|&unit| unit == SEPARATOR).map(component).collect::<Result<_, _>>()?;
    Ok(Name { components, names_a_directory: trimmed.is_some() })
}

/// One component in the host's form. `.` and `..` are names like any other to NT, and no file has them.
fn component(units: &[u16]) -> Result<String, NtStatus> {
    let invalid = NtStatus::OBJECT_NAME_INVALID;
    let text = String::from_utf16(units).map_err(|_| invalid)?;
    if is_spellable(&text) { Ok(text) } else { Err(invalid) }
}

/// Whether a file's name is one that drivers can write.
pub fn is_spellable(name: &str) -> bool {
    let is_allowed = |character: char| character >= ' ' && !"\"*/:<>?\\|".contains(character);
    let is_special = name.is_empty() || name == "." || name == "..";
    !is_special && name.encode_utf16().count() <= COMPONENT_UNITS_MAX && name.chars().all(is_allowed)
}

/// Whether two names differ by case alone, or not at all.
pub fn is_same(one: &str, other: &str) -> bool {
    let upper = |name: &str| name.encode_utf16().map(upcase).collect::<Vec<_>>();
    one == other || upper(one) == upper(other)
}

/// Whether `name` fits `pattern`, in which `*` and `?` stand for anything and for one character. What Win32 makes of
/// patterns that end in dots (`<`, `>`, `"`) is understood as `*`, `?` and `.`, of which the first two may be nothing at
/// the name's end.
pub fn matches(pattern: &[u16], name: &[u16]) -> bool {
    // The classical way with one point to come back to: the last star, and how much of the name it has taken.
    let (mut at, mut position, mut star) = (0, 0, None);
    while position < name.len() {
        match pattern.get(at).map(|&unit| Wild::of(unit)) {
            Some(Wild::Any) => {
                star = Some((at, position));
                at += 1;
                continue;
            }
            Some(wild) if wild.fits(name[position]) => {
                at += 1;
                position += 1;
                continue;
            }
            _ => {}
        }
        let Some((star_at, taken)) = star else { return false };
        star = Some((star_at, taken + 1));
        at = star_at + 1;
        position = taken + 1;
    }
    pattern[at..].iter().all(|&unit| unit != u16::from(b'?') && Wild::of(unit).can_be_nothing())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wild {
    Any,
    One,
    /// `"`: a dot, or nothing at the end.
    Dot,
    Unit(u16),
}

impl Wild {
    fn of(unit: u16) -> Self {
        match u8::try_from(unit) {
            Ok(b'*' | b'<') => Self::Any,
            Ok(b'?' | b'>') => Self::One,
            Ok(b'"') => Self::Dot,
            _ => Self::Unit(unit),
        }
    }

    fn fits(self, unit: u16) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Dot => unit == u16::from(b'.'),
            Self::Unit(own) => upcase(own) == upcase(unit),
        }
    }

    /// Behind the name's end.
    fn can_be_nothing(self) -> bool {
        !matches!(self, Self::Unit(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn names_come_apart_at_separators() {
        let name = |components: &[&str], names_a_directory| {
            Ok(Name { components: components.iter().map(|&text| text.into()).collect(), names_a_directory })
        };
        assert_eq!(parse(&utf16(r"\")), name(&[], true));
        assert_eq!(parse(&utf16(r"\a\b.txt")), name(&["a", "b.txt"], false));
        assert_eq!(parse(&utf16(r"a\")), name(&["a"], true));
    }

    #[test]
    fn names_that_no_file_can_have_are_refused() {
        for bad in [r"\a\\b", r"\..", r"\a\..\b", r"\.", r"\a/b", "\\a\0", r"\a:stream", r"\a*", "\\a\u{1}", r"\\"] {
            assert_eq!(parse(&utf16(bad)), Err(NtStatus::OBJECT_NAME_INVALID), "{bad:?}");
        }
        assert_eq!(parse(&[SEPARATOR, 0xD800]), Err(NtStatus::OBJECT_NAME_INVALID), "half a character");
        assert_eq!(parse(&vec![u16::from(b'a'); 256]), Err(NtStatus::OBJECT_NAME_INVALID));
    }

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, name, fits) in [
            ("*", "a.txt", true),
            ("*.TXT", "a.txt", true),
            ("*.txt", "a.txt.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("<.txt", "a.b.txt", true),
            ("a>>", "a", true),
            ("a\"", "a", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(&utf16(pattern), &utf16(name)), fits, "{pattern} {name}");
        }
    }

    /// What a pattern means, straight from its words, in exponential time.
    fn matches_slowly(pattern: &[u16], name: &[u16]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((42, rest)), _) if matches_slowly(rest, name) => true,
            (Some((42, _)), Some((_, tail))) => matches_slowly(pattern, tail),
            (Some((one, rest)), Some((unit, tail))) if *one == 63 || upcase(*one) == upcase(*unit) => {
                matches_slowly(rest, tail)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_plain_meaning(pattern in "[ab*?]{0,7}", name in "[abAB]{0,8}") {
            let (pattern, name) = (utf16(&pattern), utf16(&name));
            prop_assert_eq!(matches(&pattern, &name), matches_slowly(&pattern, &name));
        }
    }
}

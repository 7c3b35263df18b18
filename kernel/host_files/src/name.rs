//! Names of files as drivers write them, and patterns.

use nt_abi::NtStatus;
use nt_object::{pattern, upcase};

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

/// Whether `name` fits `pattern` in any case.
pub fn matches(pattern: &[u16], name: &[u16]) -> bool {
    let upper = |units: &[u16]| units.iter().map(|&unit| upcase(unit)).collect::<Vec<_>>();
    pattern::fits(&upper(pattern), &upper(name))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

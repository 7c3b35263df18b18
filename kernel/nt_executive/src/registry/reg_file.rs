//! Registry files (`.reg`), as regedit exports them.
//!
//! Text of strangers: whatever it holds gives changes or an error with its line, never a panic. Both headers are
//! understood (`Windows Registry Editor Version 5.00` in UTF-16 or UTF-8, `REGEDIT4`), deletions too.

use std::fmt;

use super::value_type;
use crate::code_page;

/// What a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make a key.
    Create {
        /// Below `\Registry`.
        key: String,
    },
    /// Delete a key and all below it.
    Delete {
        /// Below `\Registry`.
        key: String,
    },
    /// Set a value.
    Set {
        /// Below `\Registry`.
        key: String,
        /// The value's name, empty for the unnamed one.
        name: String,
        /// `REG_xxx`.
        kind: u32,
        /// As drivers read it.
        data: Vec<u8>,
    },
    /// Delete a value.
    Unset {
        /// Below `\Registry`.
        key: String,
        /// The value's name.
        name: String,
    },
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Counted from one.
    pub line: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for Error {}

/// The hives that can be named, and their places below `\Registry`.
const HIVES: [(&str, &str); 7] = [
    ("HKEY_LOCAL_MACHINE", "Machine"),
    ("HKLM", "Machine"),
    ("HKEY_USERS", "User"),
    ("HKU", "User"),
    ("HKEY_CURRENT_USER", r"User\.Default"),
    ("HKCU", r"User\.Default"),
    ("HKEY_CLASSES_ROOT", r"Machine\Software\Classes"),
];

/// Reads a file.
///
/// # Errors
/// The first line that makes no sense.
pub fn parse(bytes: &[u8]) -> Result<Vec<Change>, Error> {
    let text = decode(bytes).map_err(|reason| Error { line: 1, reason })?;
    let mut lines = Lines { rest: text.lines().enumerate() };
    let header = lines.next();
    let is_known = |line: &str| line.starts_with("Windows Registry Editor Version 5") || line == "REGEDIT4";
    match header {
        Some((_, line)) if is_known(line.trim()) => {}
        _ => return Err(Error { line: 1, reason: "the file does not begin as a registry file does" }),
    }
    let mut changes = Vec::new();
    let mut key = None;
    while let Some((number, line)) = lines.next() {
        let fail = |reason| Error { line: number + 1, reason };
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            let change = section_of(section).map_err(fail)?;
            // Values below a deletion have no key.
            key = match &change {
                Change::Create { key } => Some(key.clone()),
                _ => None,
            };
            changes.push(change);
        } else {
            let key = key.as_deref().ok_or(fail("a value stands outside of any key"))?;
            let whole = lines.continued(line);
            changes.push(value_of(key, &whole).map_err(fail)?);
        }
    }
    Ok(changes)
}

/// UTF-16 with a byte order mark, UTF-8, or else the ANSI code page.
fn decode(bytes: &[u8]) -> Result<String, &'static str> {
    if let Some(rest) = bytes.strip_prefix(&[0xFF, 0xFE]) {
        if rest.len() % 2 != 0 {
            return Err("half a character is missing at the end");
        }
        let units: Vec<u16> = rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        return String::from_utf16(&units).map_err(|_| "the file is no valid UTF-16");
    }
    let bytes = bytes.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(bytes);
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let units: Vec<u16> = bytes.iter().map(|&byte| code_page::to_wide(byte)).collect();
            String::from_utf16_lossy(&units)
        }
    })
}

struct Lines<'t> {
    rest: std::iter::Enumerate<std::str::Lines<'t>>,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<(usize, &'t str)> {
        self.rest.next()
    }

    /// A line with those that continue it: binary data is broken by a backslash at the end.
    fn continued(&mut self, first: &str) -> String {
        let mut whole = first.to_owned();
        while is_data(&whole) && whole.ends_with('\\') {
            whole.pop();
            match self.next() {
                Some((_, line)) => whole.push_str(line.trim()),
                None => break,
            }
        }
        whole
    }
}

/// Whether a line's value is not text, whose backslashes mean something else.
fn is_data(line: &str) -> bool {
    !line.ends_with('"')
}

fn section_of(section: &str) -> Result<Change, &'static str> {
    let inner = section.strip_suffix(']').ok_or("the name of a key does not end with ]")?;
    let (deletes, path) = match inner.strip_prefix('-') {
        Some(path) => (true, path),
        None => (false, inner),
    };
    let (hive, below) = path.split_once('\\').unwrap_or((path, ""));
    let place = HIVES.iter().find(|(name, _)| name.eq_ignore_ascii_case(hive)).ok_or("there is no such hive")?.1;
    let key = if below.is_empty() { place.to_owned() } else { format!(r"{place}\{below}") };
    Ok(if deletes { Change::Delete { key } } else { Change::Create { key } })
}

fn value_of(key: &str, line: &str) -> Result<Change, &'static str> {
    let (name, rest) = match line.strip_prefix('@') {
        Some(rest) => (String::new(), rest),
        None => quoted(line).ok_or("the name of a value is not in quotes")?,
    };
    let data = rest.trim_start().strip_prefix('=').ok_or("there is no = behind the name of a value")?.trim();
    let key = key.to_owned();
    if data == "-" {
        return Ok(Change::Unset { key, name });
    }
    let (kind, data) = data_of(data)?;
    Ok(Change::Set { key, name, kind, data })
}

/// Text in quotes at the start, unescaped, and what follows it.
fn quoted(line: &str) -> Option<(String, &str)> {
    let inner = line.strip_prefix('"')?;
    let mut text = String::new();
    let mut letters = inner.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return Some((text, &inner[place + 1..])),
            '\\' => text.push(letters.next()?.1),
            _ => text.push(letter),
        }
    }
    None
}

fn data_of(data: &str) -> Result<(u32, Vec<u8>), &'static str> {
    if data.starts_with('"') {
        let (text, rest) = quoted(data).ok_or("a text does not end with a quote")?;
        if !rest.trim().is_empty() && !rest.trim_start().starts_with(';') {
            return Err("something follows a text");
        }
        let bytes = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        return Ok((value_type::SZ, bytes));
    }
    let (kind, digits) = data.split_once(':').ok_or("there is no such kind of data")?;
    let kind = kind.trim().to_ascii_lowercase();
    if kind == "dword" {
        let number = u32::from_str_radix(digits.trim(), 16).map_err(|_| "a dword is not eight hexadecimal digits")?;
        return Ok((value_type::DWORD, number.to_le_bytes().to_vec()));
    }
    let number = match kind.strip_prefix("hex") {
        Some("") => value_type::BINARY,
        Some(rest) => {
            let inner = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            let inner = inner.ok_or("there is no such kind of data")?;
            u32::from_str_radix(inner, 16).map_err(|_| "the number of a type is not hexadecimal")?
        }
        None => return Err("there is no such kind of data"),
    };
    let digits = digits.split(',').map(str::trim).filter(|byte| !byte.is_empty());
    let bytes: Result<Vec<u8>, _> = digits.map(|byte| u8::from_str_radix(byte, 16)).collect();
    Ok((number, bytes.map_err(|_| "a byte is not two hexadecimal digits")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::utf16;
    use proptest::prelude::*;

    const FILE: &str = r#"Windows Registry Editor Version 5.00

; parameters of a service
[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services\Echo\Parameters]
@="unnamed"
"Port"=dword:00001f90
"Path"="C:\\a \"b\""
"Blob"=hex:01,02,\
  03
"Several"=hex(7):61,00,00,00,00,00
"Old"=-

[-HKLM\Software\Gone]
"#;

    fn set(name: &str, kind: u32, data: Vec<u8>) -> Change {
        let key = r"Machine\SYSTEM\CurrentControlSet\Services\Echo\Parameters".to_owned();
        Change::Set { key, name: name.to_owned(), kind, data }
    }

    fn wide(text: &str) -> Vec<u8> {
        utf16(text).into_iter().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn keys_values_and_deletions_are_read_in_order() {
        let key = r"Machine\SYSTEM\CurrentControlSet\Services\Echo\Parameters".to_owned();
        let expected = vec![
            Change::Create { key: key.clone() },
            set("", value_type::SZ, wide("unnamed")),
            set("Port", value_type::DWORD, vec![0x90, 0x1F, 0, 0]),
            set("Path", value_type::SZ, wide(r#"C:\a "b""#)),
            set("Blob", value_type::BINARY, vec![1, 2, 3]),
            set("Several", value_type::MULTI_SZ, vec![0x61, 0, 0, 0, 0, 0]),
            Change::Unset { key, name: "Old".to_owned() },
            Change::Delete { key: r"Machine\Software\Gone".to_owned() },
        ];
        assert_eq!(parse(FILE.as_bytes()), Ok(expected.clone()));
        let wide: Vec<u8> = [0xFEFF].into_iter().chain(utf16(FILE)).flat_map(u16::to_le_bytes).collect();
        assert_eq!(parse(&wide), Ok(expected));
    }

    #[test]
    fn errors_name_their_line() {
        let error = |text: &str| parse(text.as_bytes()).map(drop).expect_err("no registry file").line;
        assert_eq!(error("hello"), 1);
        assert_eq!(error("REGEDIT4\n\"a\"=\"b\""), 2);
        assert_eq!(error("REGEDIT4\n[HKLM\\a]\n\"x\"=dword:zz"), 3);
        assert_eq!(error("REGEDIT4\n[HKXX\\a]"), 2);
        assert_eq!(error("REGEDIT4\n[HKLM\\a]\n\n\"x\"=\"unfinished"), 4);
        assert_eq!(error("REGEDIT4\n[-HKLM\\a]\n\"x\"=\"y\""), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_lines_are_answered(lines in "(\\[-?HKLM\\\\[a-z\\\\\\]]{0,5}\\]?|\"[a-z\\\\\"]{0,5}\"?=?(hex(\\([0-9a-g]{0,2}\\))?:|dword:|\"|-)?[0-9a-g,\\\\\"]{0,8}|;x|\n){0,20}") {
            let _ = parse(format!("REGEDIT4\n{lines}").as_bytes());
        }

        #[test]
        fn text_survives_being_escaped(text in "[^\r\n]{0,40}") {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            let file = format!("REGEDIT4\n[HKLM\\a]\n\"v\"=\"{escaped}\"\n");
            let changes = parse(file.as_bytes());
            let expected = Change::Set { key: r"Machine\a".into(), name: "v".into(), kind: 1, data: wide(&text) };
            prop_assert_eq!(changes.map(|changes| changes[1].clone()), Ok(expected));
        }
    }
}

//! Names of devices, links, drivers and registry keys among an image's strings.
//!
//! A string is looked for by its beginning, as ASCII and as UTF-16 at any address, and ends at the first character
//! that is not printable ASCII. What a driver puts together at run time is not seen whole.

use std::collections::HashSet;

use pe_image::ImageFile;

use crate::report::{Name, NameKind};

/// Longest name.
const LENGTH_MAX: usize = 260;
/// Most names.
const NAMES_MAX: usize = 512;

/// How names begin, in capitals.
const BEGINNINGS: &[(&str, NameKind)] = &[
    (r"\DEVICE\", NameKind::Device),
    (r"\DOSDEVICES\", NameKind::Link),
    (r"\??\", NameKind::Link),
    (r"\GLOBAL??\", NameKind::Link),
    (r"\DRIVER\", NameKind::Driver),
    (r"\REGISTRY\", NameKind::Registry),
];

/// The names in an image, by kind and then by where they were first seen.
pub fn names(layout: &ImageFile) -> Vec<Name> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for section in layout.sections() {
        let filled = section.offset..section.offset + section.file_size;
        let Some(bytes) = layout.bytes(filled) else { continue };
        let mut next = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if byte != b'\\' || at < next || names.len() == NAMES_MAX {
                continue;
            }
            let Some((kind, text, length)) = name_at(&bytes[at..]) else { continue };
            // What lies inside of it, such as `\Registry\Machine\...\Device\...`, is not a name of its own.
            next = at + length;
            if seen.insert(text.clone()) {
                names.push(Name { kind, text, offset: section.offset + at as u32 });
            }
        }
    }
    names.sort_by_key(|name| (name.kind, name.offset));
    names
}

/// The name at the beginning of some bytes, and the number of bytes it takes.
fn name_at(bytes: &[u8]) -> Option<(NameKind, String, usize)> {
    let narrow = bytes.iter().copied().map(Some);
    let wide = bytes.as_chunks::<2>().0.iter().map(|unit| (unit[1] == 0).then_some(unit[0]));
    if let Some((kind, text)) = named(narrow) {
        let length = text.len();
        return Some((kind, text, length));
    }
    let (kind, text) = named(wide)?;
    let length = 2 * text.len();
    Some((kind, text, length))
}

/// The name that some characters begin with; those that are not ASCII are `None`.
fn named(characters: impl Iterator<Item = Option<u8>> + Clone) -> Option<(NameKind, String)> {
    let begins = |beginning: &str| {
        let capitals = characters.clone().map(|byte| byte.map(|byte| byte.to_ascii_uppercase()));
        capitals.take(beginning.len()).eq(beginning.bytes().map(Some))
    };
    let (_, kind) = BEGINNINGS.iter().find(|(beginning, _)| begins(beginning))?;
    let printable = characters.take(LENGTH_MAX).map_while(|byte| byte.filter(|byte| (0x20..0x7F).contains(byte)));
    Some((*kind, printable.map(char::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_image::{CONSTANTS, TestImage};

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn names_in(bytes: &[u8]) -> Vec<(NameKind, String)> {
        let mut image = TestImage::new();
        image.section(".rdata", bytes, CONSTANTS);
        let layout = ImageFile::read(&image.build()).expect("a valid image");
        names(&layout).into_iter().map(|name| (name.kind, name.text)).collect()
    }

    #[test]
    fn names_are_found_in_both_encodings_at_any_address_and_once() {
        let bytes = [
            b"x".to_vec(),
            wide("\\Device\\Tcp\0"),
            b"\\DosDevices\\Mine\0".to_vec(),
            wide("\\Device\\Tcp\0"),
            wide("\\??\\C:\\file\0"),
            wide("\\REGISTRY\\Machine\\Device\\x\0"),
            b"C:\\Device drivers\\x\0".to_vec(),
        ]
        .concat();
        let found = names_in(&bytes);
        let named = |kind, text: &str| (kind, text.to_owned());
        assert_eq!(
            found,
            [
                named(NameKind::Device, "\\Device\\Tcp"),
                named(NameKind::Link, "\\DosDevices\\Mine"),
                named(NameKind::Link, "\\??\\C:\\file"),
                named(NameKind::Registry, "\\REGISTRY\\Machine\\Device\\x"),
            ]
        );
    }

    #[test]
    fn many_and_long_names_are_bounded() {
        let many: Vec<u8> = (0..2000).flat_map(|number| format!("\\Device\\{number}\0").into_bytes()).collect();
        assert_eq!(names_in(&many).len(), NAMES_MAX);
        let long = format!("\\Device\\{}", "x".repeat(5000));
        assert_eq!(names_in(long.as_bytes())[0].1.len(), LENGTH_MAX);
    }
}

//! The object namespace: directories, names and symbolic links.
//!
//! Read on every open, written when a device or link comes or goes: a look-up reads an immutable snapshot
//! and takes no lock; a change makes a new one. Names compare without case everywhere. NT compares with
//! case when OBJ_CASE_INSENSITIVE is missing; no driver has been seen to depend on two names that differ
//! by case alone, and clients that forget the attribute work here (C-009).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError};

use arc_swap::ArcSwap;
use host_lock::Mutex;
use nt_abi::NtStatus;

/// Most links followed in one look-up; a circle ends here.
const LINKS_MAX: usize = 32;
/// Longest name, in code units: what a UNICODE_STRING can hold.
const NAME_MAX: usize = 0x7FFF;
/// Names of this length, in code units, are looked up without an allocation.
const SHORT_NAME: usize = 64;
const SEPARATOR: u16 = b'\\' as u16;

/// The directories that exist from the start. `\DosDevices` is a link to `\??` (K-098).
const DIRECTORIES: [&str; 6] = [r"\Device", r"\Driver", r"\FileSystem", r"\??", r"\BaseNamedObjects", r"\Callback"];

#[derive(Clone, Debug)]
enum Entry {
    Directory,
    Object { body: u64 },
    Link { target: Vec<u16>, caller: u64 },
}

type Names = HashMap<Vec<u16>, Entry>;

static NAMES: LazyLock<ArcSwap<Names>> = LazyLock::new(|| {
    let mut names = Names::new();
    for directory in DIRECTORIES {
        names.insert(key(&utf16(directory)), Entry::Directory);
    }
    // One directory under all its names: there are no sessions that could have one each.
    for name in [r"\DosDevices", r"\GLOBAL??", r"\??\Global", r"\DosDevices\Global"] {
        names.insert(key(&utf16(name)), Entry::Link { target: utf16(r"\??"), caller: 0 });
    }
    ArcSwap::from_pointee(names)
});

/// Serialises writers.
static CHANGE: Mutex<()> = Mutex::new(());

/// What a name led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The object's body, **not** referenced.
    pub body: u64,
    /// What followed the object's name, with its leading separator; empty if nothing did.
    pub rest: Vec<u16>,
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// A code unit in upper case. Units outside the basic plane and those whose upper case is longer stay; so do, as in
/// NT's table, the micro sign and those whose upper case is ASCII.
pub fn upcase(unit: u16) -> u16 {
    const MICRO_SIGN: u16 = 0xB5;
    if unit < 0x80 {
        return (unit as u8).to_ascii_uppercase().into();
    }
    if unit == MICRO_SIGN {
        return unit;
    }
    let Some(character) = char::from_u32(unit.into()) else { return unit };
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) if !single.is_ascii() => u16::try_from(u32::from(single)).unwrap_or(unit),
        _ => unit,
    }
}

/// Calls `look` with a name in upper case; a short one needs no allocation.
fn with_key<R>(name: &[u16], look: impl FnOnce(&[u16]) -> R) -> R {
    let mut short = [0; SHORT_NAME];
    match short.get_mut(..name.len()) {
        Some(upper) => {
            upper.iter_mut().zip(name).for_each(|(upper, &unit)| *upper = upcase(unit));
            look(upper)
        }
        None => look(&key(name)),
    }
}

fn key(name: &[u16]) -> Vec<u16> {
    name.iter().map(|&unit| upcase(unit)).collect()
}

/// The object a name leads to, through directories and links.
///
/// # Errors
/// STATUS_OBJECT_PATH_SYNTAX_BAD for a name that does not begin with a separator or holds an empty
/// component, STATUS_OBJECT_NAME_INVALID for one that is too long, STATUS_OBJECT_PATH_NOT_FOUND when a
/// directory on the way is missing (K-086), STATUS_OBJECT_NAME_NOT_FOUND when the last component is, and
/// STATUS_OBJECT_TYPE_MISMATCH for a directory.
pub fn lookup(name: &[u16]) -> Result<Found, NtStatus> {
    let names = NAMES.load();
    // Whatever has a name stands in directories, so a name that is an object's needs no walk.
    if let Some(&Entry::Object { body }) = with_key(name, |upper| names.get(upper)) {
        return Ok(Found { body, rest: Vec::new() });
    }
    let mut path = Cow::Borrowed(name);
    for _ in 0..LINKS_MAX {
        match walk(&names, &path)? {
            Step::Object(found) => return Ok(found),
            Step::Again(next) => path = Cow::Owned(next),
        }
    }
    Err(NtStatus::OBJECT_NAME_NOT_FOUND)
}

enum Step {
    Object(Found),
    Again(Vec<u16>),
}

/// One pass over a path, up to the first object or link.
fn walk(names: &Names, path: &[u16]) -> Result<Step, NtStatus> {
    if path.len() > NAME_MAX {
        return Err(NtStatus::OBJECT_NAME_INVALID);
    }
    if path.first() != Some(&SEPARATOR) {
        return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD);
    }
    let upper = key(path);
    let mut end = 0;
    loop {
        let start = end + 1;
        end = upper[start..].iter().position(|&unit| unit == SEPARATOR).map_or(upper.len(), |length| start + length);
        if end == start {
            return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD);
        }
        let is_last = end == upper.len();
        match names.get(&upper[..end]) {
            Some(Entry::Object { body }) => return Ok(Step::Object(Found { body: *body, rest: path[end..].to_vec() })),
            Some(Entry::Link { target, .. }) => return Ok(Step::Again([target, &path[end..]].concat())),
            Some(Entry::Directory) if !is_last => {}
            Some(Entry::Directory) => return Err(NtStatus::OBJECT_TYPE_MISMATCH),
            None if is_last => return Err(NtStatus::OBJECT_NAME_NOT_FOUND),
            None => return Err(NtStatus::OBJECT_PATH_NOT_FOUND),
        }
    }
}

/// Names an object.
///
/// # Errors
/// As [`lookup`], and STATUS_OBJECT_NAME_COLLISION if the name is taken.
pub fn insert_object(name: &[u16], body: u64) -> Result<(), NtStatus> {
    add(name, Entry::Object { body })
}

/// Makes a symbolic link. Its target need not exist. `caller` is the driver instruction to name if it is
/// left behind.
///
/// # Errors
/// As [`insert_object`].
pub fn insert_link(name: &[u16], target: &[u16], caller: u64) -> Result<(), NtStatus> {
    add(name, Entry::Link { target: target.to_vec(), caller })
}

fn add(name: &[u16], entry: Entry) -> Result<(), NtStatus> {
    let _serialised = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = place(name)?;
    let names = NAMES.load();
    if names.contains_key(&name) {
        return Err(NtStatus::OBJECT_NAME_COLLISION);
    }
    let mut changed = Names::clone(&names);
    changed.insert(name, entry);
    NAMES.store(Arc::new(changed));
    Ok(())
}

/// Where a name stands, or a new one goes: its parent directory must exist, links on the way are followed.
///
/// # Errors
/// STATUS_OBJECT_PATH_SYNTAX_BAD or STATUS_OBJECT_PATH_NOT_FOUND.
pub fn place(name: &[u16]) -> Result<Vec<u16>, NtStatus> {
    if name.first() != Some(&SEPARATOR) || name.last() == Some(&SEPARATOR) {
        return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD);
    }
    let upper = key(name);
    let split = upper.iter().rposition(|&unit| unit == SEPARATOR).unwrap_or(0);
    let (mut parent, last) = (upper[..split].to_vec(), &upper[split..]);
    let names = NAMES.load();
    for _ in 0..LINKS_MAX {
        match names.get(&parent) {
            _ if parent.is_empty() => break,
            Some(Entry::Directory) => break,
            Some(Entry::Link { target, .. }) => parent = key(target),
            _ => return Err(NtStatus::OBJECT_PATH_NOT_FOUND),
        }
    }
    parent.extend_from_slice(last);
    Ok(parent)
}

/// Removes an object's or link's name; what it named stays.
///
/// # Errors
/// STATUS_OBJECT_NAME_NOT_FOUND, or as for [`insert_object`].
pub fn remove(name: &[u16]) -> Result<(), NtStatus> {
    let _serialised = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = place(name)?;
    let mut changed = Names::clone(&NAMES.load());
    match changed.remove(&name) {
        Some(Entry::Object { .. } | Entry::Link { .. }) => {
            NAMES.store(Arc::new(changed));
            Ok(())
        }
        Some(Entry::Directory) | None => Err(NtStatus::OBJECT_NAME_NOT_FOUND),
    }
}

/// The name an object was inserted under, in upper case, if it has one. Looks at every name: for rare questions.
pub fn name_of(body: u64) -> Option<Vec<u16>> {
    let names = NAMES.load();
    let found = names.iter().find(|(_, entry)| matches!(entry, Entry::Object { body: named } if *named == body));
    found.map(|(name, _)| name.clone())
}

/// Visits all symbolic links that a driver made, with the driver instruction that did, in the order of their names.
pub fn for_each_link(mut visit: impl FnMut(&[u16], u64)) {
    let names = NAMES.load();
    let mut links: Vec<(&Vec<u16>, u64)> = names
        .iter()
        .filter_map(|(name, entry)| match entry {
            Entry::Link { caller, .. } if *caller != 0 => Some((name, *caller)),
            _ => None,
        })
        .collect();
    links.sort_unstable();
    for (name, caller) in links {
        visit(name, caller);
    }
}

/// A symbolic link's target and the driver instruction that made it.
///
/// # Errors
/// STATUS_OBJECT_NAME_NOT_FOUND if there is no such link.
pub fn lookup_link(name: &[u16]) -> Result<(Vec<u16>, u64), NtStatus> {
    match NAMES.load().get(&place(name)?) {
        Some(Entry::Link { target, caller }) => Ok((target.clone(), *caller)),
        _ => Err(NtStatus::OBJECT_NAME_NOT_FOUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[proves::proves("C-009")]
    #[test]
    fn names_are_found_in_any_case() {
        insert_object(&utf16(r"\Device\NamesTest"), 0x10).expect("a free name");
        let found = lookup(&utf16(r"\DEVICE\namestest")).expect("the object");
        assert_eq!(found, Found { body: 0x10, rest: vec![] });
    }

    #[proves::proves("C-004")]
    #[test]
    fn what_follows_an_object_is_left_over() {
        insert_object(&utf16(r"\Device\RestTest"), 0x20).expect("a free name");
        let found = lookup(&utf16(r"\Device\RestTest\17")).expect("the object");
        assert_eq!(found.rest, utf16(r"\17"));
    }

    #[proves::proves("K-098")]
    #[test]
    fn dos_devices_and_question_marks_are_one_directory() {
        insert_object(&utf16(r"\Device\LinkTest"), 0x30).expect("a free name");
        insert_link(&utf16(r"\DosDevices\LinkTest"), &utf16(r"\Device\LinkTest"), 0).expect("a free name");
        assert_eq!(lookup(&utf16(r"\??\linktest")).expect("through the link").body, 0x30);
        remove(&utf16(r"\??\LinkTest")).expect("the link");
        assert_eq!(lookup(&utf16(r"\DosDevices\LinkTest")), Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    }

    #[proves::proves("K-098")]
    #[test]
    fn global_names_lead_to_the_same_directory() {
        for (made, found) in
            [(r"\DosDevices\Global\A1", r"\??\A1"), (r"\??\A2", r"\GLOBAL??\A2"), (r"\??\Global\A3", r"\DosDevices\A3")]
        {
            insert_object(&utf16(made), 0x40).expect("a free name");
            assert_eq!(lookup(&utf16(found)).expect(found).body, 0x40);
            assert_eq!(lookup(&utf16(made)).expect(made).body, 0x40);
            remove(&utf16(made)).expect("the name");
        }
    }

    #[proves::proves("K-086")]
    #[test]
    fn missing_directory_is_told_from_missing_name() {
        assert_eq!(lookup(&utf16(r"\Device\Nothing")), Err(NtStatus::OBJECT_NAME_NOT_FOUND));
        assert_eq!(lookup(&utf16(r"\Nowhere\Nothing")), Err(NtStatus::OBJECT_PATH_NOT_FOUND));
        assert_eq!(insert_object(&utf16(r"\Nowhere\Thing"), 1), Err(NtStatus::OBJECT_PATH_NOT_FOUND));
    }

    #[test]
    fn circle_of_links_ends() {
        insert_link(&utf16(r"\??\Circle"), &utf16(r"\??\Circle"), 0).expect("a free name");
        assert_eq!(lookup(&utf16(r"\??\Circle")), Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in ["", "Device", r"\", r"\Device\\Tcp", r"\\"] {
            assert_eq!(lookup(&utf16(bad)), Err(NtStatus::OBJECT_PATH_SYNTAX_BAD), "{bad}");
        }
        assert_eq!(lookup(&vec![SEPARATOR; 0x8000]), Err(NtStatus::OBJECT_NAME_INVALID));
    }
}

//! Keys and values as data.
//!
//! Keys are numbered and never renumbered: an open handle keeps the number of a key that was deleted, and every
//! operation on it says so.

use nt_abi::NtStatus;
use nt_object::upcase;

/// A key's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u32);

impl KeyId {
    /// A number that no other key has, and not 0.
    pub fn number(self) -> u64 {
        u64::from(self.0) + 1
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Name in the case it was set with; empty for a key's unnamed value.
    pub name: Vec<u16>,
    /// `REG_xxx`.
    pub kind: u32,
    /// Whatever was set.
    pub data: Vec<u8>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Name in the case it was created with.
    pub name: Vec<u16>,
    /// The key it lies in; itself for the root.
    pub parent: KeyId,
    /// In the order of their names.
    pub subkeys: Vec<KeyId>,
    /// In the order they were first set.
    pub values: Vec<Value>,
    /// Class name.
    pub class: Vec<u16>,
    /// When it or a value of it was last changed, in 100 ns since 1601.
    pub last_write: i64,
    /// Gone with the next boot: only volatile keys may lie in it.
    pub volatile: bool,
    /// Another name for this key.
    link: Option<KeyId>,
    deleted: bool,
}

/// Most keys of a run.
const KEYS_MAX: usize = 1 << 16;
/// Longest name of a key and of a value, in characters.
const KEY_NAME_MAX: usize = 255;
const VALUE_NAME_MAX: usize = 16383;
/// Most bytes of one value.
pub const DATA_MAX: usize = 1 << 20;
/// Links followed on one path.
const LINKS_MAX: usize = 8;

const SEPARATOR: u16 = b'\\' as u16;

/// All keys.
#[derive(Debug)]
pub struct Tree {
    keys: Vec<Key>,
}

fn folded(name: &[u16]) -> impl Iterator<Item = u16> {
    name.iter().map(|&unit| upcase(unit))
}

fn same(a: &[u16], b: &[u16]) -> bool {
    a.len() == b.len() && folded(a).eq(folded(b))
}

/// The components of a path. Separators at either end are passed over, as the registry does.
fn components(path: &[u16]) -> impl Iterator<Item = &[u16]> {
    path.split(|&unit| unit == SEPARATOR).filter(|part| !part.is_empty())
}

impl Tree {
    /// A tree whose root is `\Registry`.
    pub fn new() -> Self {
        Self { keys: vec![Key::new("Registry".encode_utf16().collect(), KeyId(0), false, 0)] }
    }

    /// `\Registry`.
    pub fn root(&self) -> KeyId {
        KeyId(0)
    }

    /// A key that was not deleted.
    ///
    /// # Errors
    /// STATUS_KEY_DELETED.
    pub fn key(&self, id: KeyId) -> Result<&Key, NtStatus> {
        let key = &self.keys[id.0 as usize];
        if key.deleted { Err(NtStatus::KEY_DELETED) } else { Ok(key) }
    }

    fn key_mut(&mut self, id: KeyId) -> Result<&mut Key, NtStatus> {
        let key = &mut self.keys[id.0 as usize];
        if key.deleted { Err(NtStatus::KEY_DELETED) } else { Ok(key) }
    }

    fn child(&self, parent: KeyId, name: &[u16]) -> Result<Option<KeyId>, NtStatus> {
        let key = self.key(parent)?;
        Ok(key.subkeys.iter().copied().find(|id| same(&self.keys[id.0 as usize].name, name)))
    }

    fn followed(&self, mut id: KeyId) -> KeyId {
        for _ in 0..LINKS_MAX {
            match self.keys[id.0 as usize].link {
                Some(target) => id = target,
                None => break,
            }
        }
        id
    }

    /// The key at a path below `from`.
    ///
    /// # Errors
    /// STATUS_OBJECT_NAME_NOT_FOUND, STATUS_KEY_DELETED if `from` is.
    pub fn open(&self, from: KeyId, path: &[u16]) -> Result<KeyId, NtStatus> {
        self.key(from)?;
        components(path).try_fold(from, |id, name| {
            self.child(id, name)?.map(|id| self.followed(id)).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)
        })
    }

    /// Opens the key at a path below `from`, or makes its last component. Gives whether it was made.
    ///
    /// # Errors
    /// STATUS_OBJECT_NAME_NOT_FOUND if its parent does not exist, STATUS_CHILD_MUST_BE_VOLATILE,
    /// STATUS_INVALID_PARAMETER for a name that is too long, STATUS_INSUFFICIENT_RESOURCES.
    pub fn create(&mut self, from: KeyId, path: &[u16], volatile: bool, now: i64) -> Result<(KeyId, bool), NtStatus> {
        let parts: Vec<_> = components(path).collect();
        let Some((last, parents)) = parts.split_last() else {
            return self.key(from).map(|_| (from, false));
        };
        let mut parent = from;
        for name in parents {
            parent = self.open(parent, name)?;
        }
        match self.child(parent, last)? {
            Some(id) => Ok((self.followed(id), false)),
            None => Ok((self.add(parent, last, volatile, now)?, true)),
        }
    }

    /// As [`Tree::create`], making all components that are missing.
    ///
    /// # Errors
    /// As [`Tree::create`].
    pub fn create_all(&mut self, from: KeyId, path: &[u16], now: i64) -> Result<KeyId, NtStatus> {
        components(path).try_fold(from, |parent, name| self.create(parent, name, false, now).map(|(id, _)| id))
    }

    /// Makes `path` another name for the key `target`.
    pub fn link(&mut self, path: &[u16], target: KeyId) -> Result<(), NtStatus> {
        let id = self.create_all(self.root(), path, 0)?;
        self.key_mut(id)?.link = (id != target).then_some(target);
        Ok(())
    }

    fn add(&mut self, parent: KeyId, name: &[u16], volatile: bool, now: i64) -> Result<KeyId, NtStatus> {
        if name.len() > KEY_NAME_MAX {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        if self.key(parent)?.volatile && !volatile {
            return Err(NtStatus::CHILD_MUST_BE_VOLATILE);
        }
        let id = KeyId(self.keys.len() as u32);
        let place = {
            let before = |id: &KeyId| folded(&self.keys[id.0 as usize].name).lt(folded(name));
            self.key(parent)?.subkeys.partition_point(before)
        };
        self.keys.push(Key::new(name.to_vec(), parent, volatile, now));
        let key = self.key_mut(parent)?;
        key.subkeys.insert(place, id);
        key.last_write = now;
        Ok(id)
    }

    /// Deletes a key without subkeys.
    ///
    /// # Errors
    /// STATUS_CANNOT_DELETE if it has some or is the root, STATUS_KEY_DELETED.
    pub fn delete(&mut self, id: KeyId, now: i64) -> Result<(), NtStatus> {
        let key = self.key(id)?;
        if !key.subkeys.is_empty() || id == self.root() {
            return Err(NtStatus::CANNOT_DELETE);
        }
        let parent = key.parent;
        if let Ok(parent) = self.key_mut(parent) {
            parent.subkeys.retain(|&child| child != id);
            parent.last_write = now;
        }
        let key = &mut self.keys[id.0 as usize];
        key.deleted = true;
        key.values = Vec::new();
        Ok(())
    }

    /// Deletes a key and all below it.
    ///
    /// # Errors
    /// As [`Tree::delete`], for the root.
    pub fn delete_all(&mut self, id: KeyId, now: i64) -> Result<(), NtStatus> {
        let mut doomed = vec![id];
        let mut place = 0;
        while let Some(&id) = doomed.get(place) {
            doomed.extend(&self.key(id)?.subkeys);
            place += 1;
        }
        doomed.into_iter().rev().try_for_each(|id| self.delete(id, now))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// STATUS_OBJECT_NAME_NOT_FOUND, STATUS_KEY_DELETED.
    pub fn value(&self, id: KeyId, name: &[u16]) -> Result<&Value, NtStatus> {
        let found = self.key(id)?.values.iter().find(|value| same(&value.name, name));
        found.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)
    }

    /// Sets a value; its name keeps the case it was first set with.
    ///
    /// # Errors
    /// STATUS_INVALID_PARAMETER for a name that is too long, STATUS_INSUFFICIENT_RESOURCES for data that is,
    /// STATUS_KEY_DELETED.
    pub fn set_value(&mut self, id: KeyId, value: Value, now: i64) -> Result<(), NtStatus> {
        if value.name.len() > VALUE_NAME_MAX {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if value.data.len() > DATA_MAX {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let key = self.key_mut(id)?;
        key.last_write = now;
        match key.values.iter_mut().find(|old| same(&old.name, &value.name)) {
            Some(old) => (old.kind, old.data) = (value.kind, value.data),
            None => key.values.push(value),
        }
        Ok(())
    }

    /// Deletes a value.
    ///
    /// # Errors
    /// As [`Tree::value`].
    pub fn delete_value(&mut self, id: KeyId, name: &[u16], now: i64) -> Result<(), NtStatus> {
        let key = self.key_mut(id)?;
        let place = key.values.iter().position(|value| same(&value.name, name));
        key.values.remove(place.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?);
        key.last_write = now;
        Ok(())
    }

    /// Sets a key's class.
    ///
    /// # Errors
    /// STATUS_KEY_DELETED.
    pub fn set_class(&mut self, id: KeyId, class: Vec<u16>) -> Result<(), NtStatus> {
        self.key_mut(id)?.class = class;
        Ok(())
    }

    /// A key's full path, from `\Registry` on.
    pub fn path(&self, mut id: KeyId) -> Vec<u16> {
        let mut names = Vec::new();
        loop {
            let key = &self.keys[id.0 as usize];
            names.push(&key.name);
            if id == key.parent {
                break;
            }
            id = key.parent;
        }
        names.iter().rev().flat_map(|name| std::iter::once(SEPARATOR).chain(name.iter().copied())).collect()
    }
}

impl Key {
    fn new(name: Vec<u16>, parent: KeyId, volatile: bool, now: i64) -> Self {
        Self {
            name,
            parent,
            subkeys: Vec::new(),
            values: Vec::new(),
            class: Vec::new(),
            last_write: now,
            volatile,
            link: None,
            deleted: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::utf16;

    fn tree() -> (Tree, KeyId) {
        let mut tree = Tree::new();
        let id = tree.create_all(tree.root(), &utf16(r"Machine\Software"), 1).expect("a key");
        (tree, id)
    }

    #[test]
    fn paths_are_found_in_any_case_and_created_one_component_at_a_time() {
        let (mut tree, software) = tree();
        assert_eq!(tree.open(tree.root(), &utf16(r"\MACHINE\software\")), Ok(software));
        let missing = tree.create(software, &utf16(r"a\b"), false, 2);
        assert_eq!(missing, Err(NtStatus::OBJECT_NAME_NOT_FOUND));
        let (a, made) = tree.create(software, &utf16("a"), false, 2).expect("a key");
        assert!(made);
        assert_eq!(tree.create(software, &utf16("A"), false, 3), Ok((a, false)));
        assert_eq!(tree.path(a), utf16(r"\Registry\Machine\Software\a"));
    }

    #[test]
    fn subkeys_lie_in_the_order_of_their_names() {
        let (mut tree, id) = tree();
        for name in ["b", "C", "a"] {
            tree.create(id, &utf16(name), false, 0).expect("a key");
        }
        let key = tree.key(id).expect("alive");
        let names: Vec<_> = key.subkeys.iter().map(|&id| tree.key(id).expect("alive").name.clone()).collect();
        assert_eq!(names, [utf16("a"), utf16("b"), utf16("C")]);
    }

    #[test]
    fn deleted_key_stays_deleted_for_those_who_hold_it() {
        let (mut tree, software) = tree();
        let (a, _) = tree.create(software, &utf16("a"), false, 0).expect("a key");
        let machine = tree.open(tree.root(), &utf16("Machine")).expect("a key");
        assert_eq!(tree.delete(machine, 0), Err(NtStatus::CANNOT_DELETE));
        assert_eq!(tree.delete(a, 0), Ok(()));
        assert_eq!(tree.value(a, &[]).err(), Some(NtStatus::KEY_DELETED));
        assert_eq!(tree.create(a, &utf16("b"), false, 0), Err(NtStatus::KEY_DELETED));
        let (again, made) = tree.create(software, &utf16("a"), false, 0).expect("a key");
        assert!(made && again != a);
    }

    #[test]
    fn value_keeps_its_first_name_and_takes_new_data() {
        let (mut tree, id) = tree();
        let value = |name: &str, data: &[u8]| Value { name: utf16(name), kind: 3, data: data.to_vec() };
        tree.set_value(id, value("Name", &[1]), 0).expect("set");
        tree.set_value(id, value("NAME", &[2, 3]), 0).expect("set");
        assert_eq!(tree.value(id, &utf16("name")), Ok(&value("Name", &[2, 3])));
        assert_eq!(tree.delete_value(id, &utf16("nAME"), 0), Ok(()));
        assert_eq!(tree.delete_value(id, &utf16("Name"), 0), Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    }

    #[test]
    fn key_below_a_volatile_one_must_be_volatile() {
        let (mut tree, id) = tree();
        let (v, _) = tree.create(id, &utf16("v"), true, 0).expect("a key");
        assert_eq!(tree.create(v, &utf16("x"), false, 0), Err(NtStatus::CHILD_MUST_BE_VOLATILE));
        assert!(tree.create(v, &utf16("x"), true, 0).is_ok());
    }

    #[test]
    fn linked_key_is_the_same_key() {
        let (mut tree, id) = tree();
        tree.link(&utf16(r"Machine\Other"), id).expect("a link");
        assert_eq!(tree.open(tree.root(), &utf16(r"Machine\Other")), Ok(id));
    }
}

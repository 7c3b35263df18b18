//! The tables of an image, each in a section of its own.

use crate::{CONSTANTS, DATA, TestImage};

impl TestImage {
    /// Adds a table of imports, and gives the offsets of the slots in the order of the names. A name `#n` is an
    /// import by ordinal.
    pub fn imports(&mut self, modules: &[(&str, &[&str])]) -> Vec<u32> {
        let start = self.next();
        let width = if self.is_64_bit { 8 } else { 4 };
        let count: usize = modules.iter().map(|(_, names)| names.len() + 1).sum();
        let lists = 20 * (modules.len() + 1);
        let mut names_at = lists.next_multiple_of(8);
        let mut slots_at = names_at + count * width;
        let mut table = vec![0; slots_at + count * width];
        let mut slots = Vec::new();
        for (number, (module, names)) in modules.iter().enumerate() {
            let descriptor = 20 * number;
            put(&mut table, descriptor, start + names_at as u32);
            put(&mut table, descriptor + 16, start + slots_at as u32);
            let module_at = append(&mut table, &[module.as_bytes(), b"\0"]);
            put(&mut table, descriptor + 12, start + module_at);
            for name in *names {
                let thunk = match name.strip_prefix('#').and_then(|ordinal| ordinal.parse::<u64>().ok()) {
                    Some(ordinal) => ordinal | 1 << (8 * width - 1),
                    None => u64::from(start + append(&mut table, &[b"\0\0", name.as_bytes(), b"\0"])),
                };
                for at in [names_at, slots_at] {
                    table[at..at + width].copy_from_slice(&thunk.to_le_bytes()[..width]);
                }
                slots.push(start + slots_at as u32);
                names_at += width;
                slots_at += width;
            }
            names_at += width;
            slots_at += width;
        }
        self.section(".idata", &table, DATA);
        self.directory(1, start, table.len() as u32);
        slots
    }

    /// Adds a table of exports with names.
    pub fn exports(&mut self, module: &str, exports: &[(&str, u32)]) {
        let start = self.next();
        let mut sorted = exports.to_vec();
        sorted.sort_unstable();
        let (functions, names) = (40, 40 + 4 * sorted.len());
        let ordinals = names + 4 * sorted.len();
        let mut table = vec![0; ordinals + 2 * sorted.len()];
        let module_at = append(&mut table, &[module.as_bytes(), b"\0"]);
        let count = sorted.len() as u32;
        let lists = [functions, names, ordinals].map(|at| start + at as u32);
        let header = [start + module_at, 1, count, count, lists[0], lists[1], lists[2]];
        for (number, word) in header.into_iter().enumerate() {
            put(&mut table, 12 + 4 * number, word);
        }
        for (number, (name, offset)) in sorted.into_iter().enumerate() {
            put(&mut table, functions + 4 * number, offset);
            let name_at = append(&mut table, &[name.as_bytes(), b"\0"]);
            put(&mut table, names + 4 * number, start + name_at);
            table[ordinals + 2 * number..][..2].copy_from_slice(&(number as u16).to_le_bytes());
        }
        self.section(".edata", &table, CONSTANTS);
        self.directory(0, start, table.len() as u32);
    }

    /// Adds a table of relocations of 64-bit addresses.
    pub fn relocations(&mut self, offsets: &[u32]) {
        let mut table = Vec::new();
        for offset in offsets {
            table.extend((offset & !0xFFF).to_le_bytes());
            table.extend(12u32.to_le_bytes());
            table.extend((10 << 12 | (offset & 0xFFF) as u16).to_le_bytes());
            table.extend([0, 0]);
        }
        let start = self.section(".reloc", &table, CONSTANTS);
        self.directory(5, start, table.len() as u32);
    }

    /// Adds a table of functions: where each begins and ends, and its unwind information.
    pub fn functions(&mut self, functions: &[(u32, u32, &[u8])]) {
        let mut information = Vec::new();
        let at: Vec<_> = functions
            .iter()
            .map(|(_, _, unwind)| {
                information.resize(information.len().next_multiple_of(4), 0);
                append(&mut information, &[unwind])
            })
            .collect();
        let start = self.section(".xdata", &information, CONSTANTS);
        let entries = functions.iter().zip(at);
        let table: Vec<_> = entries.flat_map(|((begin, end, _), at)| [*begin, *end, start + at]).collect();
        let table: Vec<_> = table.into_iter().flat_map(u32::to_le_bytes).collect();
        let start = self.section(".pdata", &table, CONSTANTS);
        self.directory(3, start, table.len() as u32);
    }

    /// Adds a load configuration that names the security cookie at an offset. Gives the offset at which it names it,
    /// which must be relocated.
    pub fn load_configuration(&mut self, cookie: u32) -> u32 {
        let mut table = vec![0; 0x60];
        put(&mut table, 0, 0x60);
        table[0x58..].copy_from_slice(&(self.base + u64::from(cookie)).to_le_bytes());
        let start = self.section(".config", &table, CONSTANTS);
        self.directory(10, start, 0x60);
        start + 0x58
    }
}

/// Unwind information of a function that does nothing that must be undone.
pub const UNWIND_NOTHING: &[u8] = &[1, 0, 0, 0];

fn put(table: &mut [u8], at: usize, word: u32) {
    table[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// Appends the parts and gives where the first lies.
fn append(table: &mut Vec<u8>, parts: &[&[u8]]) -> u32 {
    let at = table.len();
    parts.iter().for_each(|part| table.extend(*part));
    at as u32
}

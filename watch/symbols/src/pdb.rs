//! A PDB beside an image.
//!
//! Read once into two tables ordered by offset; the file is not needed afterwards.

use std::io::Cursor;

use pdb2::{FallibleIterator, PDB, SymbolData};

use crate::SourcePlace;

/// Most functions and lines that are kept.
const ENTRIES_MAX: usize = 1 << 24;

#[derive(Default)]
pub struct Pdb {
    functions: Vec<Function>,
    lines: Vec<Line>,
    files: Vec<String>,
}

struct Function {
    begin: u32,
    end: u32,
    name: String,
}

struct Line {
    begin: u32,
    file: usize,
    line: u32,
}

impl Pdb {
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        let mut read = Self::default();
        // What was read before the file stops making sense is kept.
        let _ = read.fill(bytes);
        read.functions.sort_by_key(|function| function.begin);
        read.lines.sort_by_key(|line| line.begin);
        (!read.functions.is_empty() || !read.lines.is_empty()).then_some(read)
    }

    fn fill(&mut self, bytes: Vec<u8>) -> pdb2::Result<()> {
        let mut pdb = PDB::open(Cursor::new(bytes))?;
        let addresses = pdb.address_map()?;
        let names = pdb.string_table()?;
        let information = pdb.debug_information()?;
        let mut modules = information.modules()?;
        while let Some(module) = modules.next()? {
            let Some(module) = pdb.module_info(&module)? else { continue };
            let mut symbols = module.symbols()?;
            while let Some(symbol) = symbols.next()? {
                let Ok(SymbolData::Procedure(procedure)) = symbol.parse() else { continue };
                let Some(begin) = procedure.offset.to_rva(&addresses) else { continue };
                if self.functions.len() < ENTRIES_MAX {
                    let name = procedure.name.to_string().into_owned();
                    self.functions.push(Function { begin: begin.0, end: begin.0.saturating_add(procedure.len), name });
                }
            }
            let program = module.line_program()?;
            let mut lines = program.lines();
            while let Some(line) = lines.next()? {
                let Some(begin) = line.offset.to_rva(&addresses) else { continue };
                let file = program.get_file_info(line.file_index)?;
                let file = self.file(names.get(file.name)?.to_string().into_owned());
                if self.lines.len() < ENTRIES_MAX {
                    self.lines.push(Line { begin: begin.0, file, line: line.line_start });
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, name: String) -> usize {
        // Lines of one file follow each other.
        if self.files.last() != Some(&name) {
            self.files.push(name);
        }
        self.files.len() - 1
    }

    pub fn place(&self, offset: u64) -> Option<SourcePlace> {
        let offset = u32::try_from(offset).ok()?;
        let before = self.functions.partition_point(|function| function.begin <= offset);
        let function = self.functions[..before].last().filter(|function| offset < function.end)?;
        let before = self.lines.partition_point(|line| line.begin <= offset);
        let line = self.lines[..before].last().filter(|line| line.begin >= function.begin);
        Some(SourcePlace {
            function: Some(function.name.clone()),
            file: line.map(|line| self.files[line.file].clone()),
            line: line.map(|line| line.line),
        })
    }
}

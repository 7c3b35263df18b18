//! A PDB beside an image.
//!
//! Read once into two tables ordered by offset; the file is not needed afterwards.

use std::io::Cursor;

use object::Object;
use pdb2::{AddressMap, FallibleIterator, Module, ModuleInfo, PDB, StringTable, SymbolData};

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
    /// Reads a PDB, unless it is that of another build than `image`.
    pub fn read(bytes: Vec<u8>, image: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        // What was read before the file stops making sense is kept.
        let _ = read.fill(bytes, signature(image));
        read.functions.sort_by_key(|function| function.begin);
        read.lines.sort_by_key(|line| line.begin);
        (!read.functions.is_empty() || !read.lines.is_empty()).then_some(read)
    }

    fn fill(&mut self, bytes: Vec<u8>, signature: Option<[u8; 16]>) -> pdb2::Result<()> {
        let mut pdb = PDB::open(Cursor::new(bytes))?;
        let own = pdb.pdb_information()?.guid.to_bytes_le();
        if signature.is_some_and(|signature| signature != own) {
            return Ok(());
        }
        let addresses = pdb.address_map()?;
        let names = pdb.string_table()?;
        let information = pdb.debug_information()?;
        let mut modules = information.modules()?;
        while let Some(module) = modules.next()? {
            if !is_whole(&mut pdb, &module) {
                continue;
            }
            let Some(module) = pdb.module_info(&module)? else { continue };
            // A module that makes no sense, or is of an old form, does not keep the others from being read.
            let _ = self.add_functions(&module, &addresses);
            let _ = self.add_lines(&module, &addresses, &names);
        }
        Ok(())
    }

    fn add_functions(&mut self, module: &ModuleInfo<'_>, addresses: &AddressMap<'_>) -> pdb2::Result<()> {
        let mut symbols = module.symbols()?;
        while let Some(symbol) = symbols.next()? {
            let Ok(SymbolData::Procedure(procedure)) = symbol.parse() else { continue };
            let Some(begin) = procedure.offset.to_rva(addresses) else { continue };
            if self.functions.len() < ENTRIES_MAX {
                let name = procedure.name.to_string().into_owned();
                self.functions.push(Function { begin: begin.0, end: begin.0.saturating_add(procedure.len), name });
            }
        }
        Ok(())
    }

    fn add_lines(
        &mut self,
        module: &ModuleInfo<'_>,
        addresses: &AddressMap<'_>,
        names: &StringTable<'_>,
    ) -> pdb2::Result<()> {
        let program = module.line_program()?;
        let mut lines = program.lines();
        while let Some(line) = lines.next()?
            && self.lines.len() < ENTRIES_MAX
        {
            let Some(begin) = line.offset.to_rva(addresses) else { continue };
            let file = program.get_file_info(line.file_index)?;
            let file = self.file(names.get(file.name)?.to_string().into_owned());
            self.lines.push(Line { begin: begin.0, file, line: line.line_start });
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

/// Whether a module's stream is as long as its parts. `pdb2` takes that for granted.
fn is_whole(pdb: &mut PDB<'_, Cursor<Vec<u8>>>, module: &Module<'_>) -> bool {
    let info = module.info();
    let parts = u64::from(info.symbols_size) + u64::from(info.c13_lines_size);
    let stream = pdb.raw_stream(info.stream).ok().flatten();
    stream.is_some_and(|stream| parts <= stream.as_slice().len() as u64)
}

/// What the linker has written into the image to tell which PDB is its own.
fn signature(image: &[u8]) -> Option<[u8; 16]> {
    let image = object::File::parse(image).ok()?;
    Some(image.pdb_info().ok()??.guid())
}

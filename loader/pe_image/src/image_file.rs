//! An image as it would lie in memory, for judging without loading.

use std::ops::Range;

use arena::plan;

use crate::exports::{self, Exports};
use crate::functions::{self, Function};
use crate::headers::{Headers, Section};
use crate::imports::{self, Import};
use crate::layout::Layout;
use crate::patch::{CodeMap, Plan};
use crate::view::View;
use crate::{ImageError, relocate, security_cookie};

/// A file laid out as in memory, in ordinary memory, not relocated. Images of any processor can be read.
#[derive(Debug)]
pub struct ImageFile {
    headers: Headers,
    layout: Layout,
    image: Vec<u8>,
}

/// The instructions of an image, and which of them loading rewrites.
#[derive(Debug)]
pub struct Code<'a> {
    map: CodeMap<'a>,
    plan: Plan,
}

impl ImageFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not a PE image, or its headers or sections are damaged.
    pub fn read(file: &[u8]) -> Result<Self, ImageError> {
        let headers = Headers::read(file)?;
        let layout = Layout::of(&headers, file)?;
        let mut image = vec![0; layout.size as usize];
        layout.copy(file, &mut image);
        Ok(Self { headers, layout, image })
    }

    /// Whether [`crate::load`] would load it, as far as the file decides that.
    ///
    /// # Errors
    /// What loading would say.
    pub fn check(&mut self) -> Result<(), ImageError> {
        check(&self.headers, &self.layout)?;
        // Tables are judged as they are when the image lies where the first one goes, because relocations can
        // change them; afterwards everything is as the file says again.
        let base = plan::IMAGES;
        let relocated = relocate::relocate(base, &mut self.image, &self.headers)?;
        let outcome = self.check_tables(base);
        relocate::undo(base, &mut self.image, &self.headers, &relocated);
        outcome
    }

    fn check_tables(&self, base: u64) -> Result<(), ImageError> {
        security_cookie::find(View(&self.image), &self.headers, base)?;
        self.exports()?;
        self.imports()?;
        self.functions()?;
        Ok(())
    }

    /// What the image says about itself.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Its sections by offset, without empty ones.
    pub fn sections(&self) -> &[Section] {
        &self.layout.sections
    }

    /// Bytes of the image by offset; `None` outside of it.
    pub fn bytes(&self, range: Range<u32>) -> Option<&[u8]> {
        self.image.get(range.start as usize..range.end as usize)
    }

    /// What it needs of others.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn imports(&self) -> Result<Vec<Import>, ImageError> {
        imports::read(View(&self.image), &self.headers)
    }

    /// What it offers to others.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn exports(&self) -> Result<Exports, ImageError> {
        exports::read(View(&self.image), &self.headers)
    }

    /// The functions it lists for unwinding, of an x86-64 image.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn functions(&self) -> Result<Vec<Function>, ImageError> {
        functions::read(View(&self.image), &self.headers)
    }

    /// Whether its compiler put a security cookie into it, of an x86-64 image.
    ///
    /// # Errors
    /// When the load configuration cannot be read.
    pub fn has_security_cookie(&self) -> Result<bool, ImageError> {
        let cookie = security_cookie::find(View(&self.image), &self.headers, self.headers.preferred_base)?;
        Ok(cookie.is_some())
    }

    /// The instructions of an x86-64 image. `functions` are those of [`ImageFile::functions`].
    ///
    /// # Errors
    /// When its exports or relocations cannot be read.
    pub fn code<'a>(&'a self, functions: &'a [Function]) -> Result<Code<'a>, ImageError> {
        let relocated = relocate::offsets(View(&self.image), &self.headers)?;
        let exports = self.exports()?;
        let roots = roots(&self.headers, &exports, functions);
        let map = CodeMap::of(&self.image, &self.layout, functions, roots, self.headers.preferred_base, &relocated);
        let plan = Plan::make(&map, &relocated);
        Ok(Code { map, plan })
    }
}

impl Code<'_> {
    /// Every instruction that is certainly one, by offset; addresses in it are offsets too.
    pub fn instructions(&self) -> impl Iterator<Item = (u32, iced_x86::Instruction)> {
        self.map.instructions()
    }

    /// The instruction that starts at an offset, if one certainly does.
    pub fn instruction(&self, offset: u32) -> Option<iced_x86::Instruction> {
        self.map.at(offset)
    }

    /// Offsets of the instructions that loading rewrites.
    pub fn rewritten(&self) -> impl Iterator<Item = u32> {
        self.plan.rewritten()
    }

    /// What the instruction at an offset belongs to: the offset of a function, or, where no function is listed, of
    /// the gap between two.
    pub fn owner(&self, offset: u32) -> u32 {
        self.map.owner(offset)
    }
}

/// Whether an image can run here, as far as its headers and sections tell.
///
/// # Errors
/// [`ImageError`] with the reason.
pub fn check(headers: &Headers, layout: &Layout) -> Result<(), ImageError> {
    headers.judge()?;
    if layout.is_code(headers.entry) { Ok(()) } else { Err(ImageError::NoEntryPoint) }
}

/// The offsets that an image is called at from outside.
pub fn roots(headers: &Headers, exports: &Exports, functions: &[Function]) -> Vec<u32> {
    let handlers = functions.iter().filter_map(|function| function.handler);
    exports.numbered.values().copied().chain([headers.entry]).chain(handlers).collect()
}

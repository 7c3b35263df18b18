//! Maps, relocates, patches, protects and binds a driver image (PE32+, x86-64).
//!
//! What becomes of a file: its headers are judged ([`ImageError`] says what to do about a refusal), its sections
//! are copied to a fixed place in the address plan, addresses are relocated, the security cookie gets a value
//! (K-011), imports are bound to stubs made by [`gate::stub`], IRQL accesses and addresses of the shared page are
//! rewritten where that is certainly right, and pages get the protection their sections ask for. Nothing of the
//! image has run when [`load`] returns.
//!
//! Invariants:
//! - A file is hostile: every number in it is checked before it is used, and time and memory are bounded by the
//!   size of the file and of the image it asks for.
//! - An import that nobody implements never refuses an image; it ends the run by name when it is called, or, if it is
//!   a variable, touched.
//! - Code is only patched where decoding from function boundaries proves what it is; the rest is emulated.
//!
//! As on NT, the tables of thread-local storage and of delayed imports are not looked at: the kernel has no slots for
//! the first, and the second is the business of code that is linked into the driver. An image that has one is loaded
//! with a [`Warning`]. Resources are left out; drivers do not load any.

mod error;
mod exports;
mod functions;
mod headers;
mod image_file;
mod imports;
mod layout;
mod mapping;
mod patch;
mod protect;
mod relocate;
mod security_cookie;
#[cfg(test)]
mod tests;
mod view;

use gate::code::CodeArea;
use gate::export::Export;
use gate::image::LoadedImage;

pub use error::{ImageError, Warning};
pub use exports::{Exports, Forwarder};
pub use functions::Function;
pub use headers::{Directory, Headers, MACHINE_AMD64, Section, directory};
pub use image_file::{Code, ImageFile};
pub use imports::Import;
pub use patch::PatchCounts;

use layout::Layout;
use mapping::{Mapping, Place};
use view::View;

/// `IMAGE_SUBSYSTEM_NATIVE`: what drivers are linked for.
pub const SUBSYSTEM_NATIVE: u16 = 1;

/// How an image is bound.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Finds an export of the kernel by module and name.
    pub resolver: &'a dyn Fn(&str, &str) -> Option<&'static Export>,
    /// Finds an export of another driver, by module and name; asked first, so that a driver can
    /// bring its own `tdi.sys`.
    pub drivers: &'a dyn Fn(&str, &str) -> Option<u64>,
    /// In a seeded run, what the security cookie is made from; otherwise it is random.
    pub seed: Option<u64>,
}

impl<'a> LoadOptions<'a> {
    /// Binds to exports of the kernel only, with a random cookie.
    pub fn new(resolver: &'a dyn Fn(&str, &str) -> Option<&'static Export>) -> Self {
        Self { resolver, drivers: &|_, _| None, seed: None }
    }
}

/// An import that nobody implements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingImport {
    /// The module as the image names it.
    pub module: String,
    /// The name, or `#n` for an ordinal.
    pub name: String,
}

/// A mapped image. Unmapped when it is dropped, unless [`Image::register`] was called: code that may have run
/// stays, because nobody knows who still has its address.
#[derive(Debug)]
pub struct Image {
    name: &'static str,
    mapping: Mapping,
    size: u32,
    entry: u64,
    exports: Exports,
    missing: Vec<MissingImport>,
    warnings: Vec<Warning>,
    patches: PatchCounts,
    unregistered: Option<LoadedImage>,
}

/// An image that lies where it will stay, but whose imports lead nowhere yet: what it exports is known, so images can
/// import from one another. Unmapped when it is dropped.
#[derive(Debug)]
pub struct MappedImage {
    name: &'static str,
    headers: Headers,
    layout: Layout,
    mapping: Mapping,
    code: CodeArea,
    plan: patch::Plan,
    exports: Exports,
    imports: Vec<Import>,
}

/// Loads an image that imports from none loaded later. `name` is its file name, under which records and messages
/// name it.
///
/// # Errors
/// [`ImageError`]; nothing stays mapped then.
pub fn load(bytes: &[u8], name: &str, options: &LoadOptions<'_>) -> Result<Image, ImageError> {
    map(bytes, name, options.seed)?.bind(options)
}

/// Maps an image and finds out what it needs and offers. `seed` is that of [`LoadOptions`].
///
/// # Errors
/// [`ImageError`]; nothing stays mapped then.
pub fn map(bytes: &[u8], name: &str, seed: Option<u64>) -> Result<MappedImage, ImageError> {
    let headers = Headers::read(bytes)?;
    headers.judge()?;
    let layout = Layout::of(&headers, bytes)?;
    image_file::check(&headers, &layout)?;
    // Until the end: what is mapped meanwhile lies at the next place.
    let place = Place::next();
    let mut mapping = place.map(layout.size)?;
    let base = mapping.base();
    // SAFETY: just mapped, nothing has run; the only slice until `bind`.
    let image = unsafe { mapping.image() };
    layout.copy(bytes, image);
    let relocated = relocate::relocate(base, image, &headers)?;
    security_cookie::set(base, image, &headers, seed, name)?;
    let exports = exports::read(View(image), &headers)?;
    let imports = imports::read(View(image), &headers)?;
    let functions = functions::read(View(image), &headers)?;
    let roots = image_file::roots(&headers, &exports, &functions);
    let code_map = patch::CodeMap::of(image, &layout, &functions, roots, base, &relocated);
    let plan = patch::Plan::make(&code_map, &relocated);
    let code = mapping.add_code(imports::code_bytes(&imports) + plan.code_bytes())?;
    place.take(&mut mapping);
    // Leaked: stubs name the image in records at any later time.
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    Ok(MappedImage { name, headers, layout, mapping, code, plan, exports, imports })
}

impl MappedImage {
    /// File name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// First address, which the offsets of [`MappedImage::exports`] count from.
    pub fn base(&self) -> u64 {
        self.mapping.base()
    }

    /// What it offers to others.
    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Whether it imports something of this name, from whatever module.
    pub fn imports(&self, name: &str) -> bool {
        self.imports.iter().any(|import| import.name == name)
    }

    /// Binds its imports and makes it ready to run; the seed of `options` has had its effect already.
    ///
    /// # Errors
    /// [`ImageError`]; it is unmapped then.
    pub fn bind(self, options: &LoadOptions<'_>) -> Result<Image, ImageError> {
        let Self { name, headers, layout, mut mapping, mut code, plan, exports, imports } = self;
        let base = mapping.base();
        // SAFETY: nothing has run and nothing is protected; the slice of `map` was last used there.
        let image = unsafe { mapping.image() };
        let missing = imports::bind(&imports, image, &mut code, name, options)?;
        let (patches, moved) = plan.apply(base, image, &mut code);
        code.seal()?;
        let mut warnings = Warning::of(&headers);
        warnings.extend(protect::protect(&mapping, &layout, headers.headers_size)?);
        let table = headers.directory(headers::directory::EXCEPTION);
        let table = base + u64::from(table.offset)..base + u64::from(table.offset) + u64::from(table.size);
        let loaded = LoadedImage::new(name, base, mapping.size(), layout.text(base), moved).with_functions(table);
        let entry = base + u64::from(headers.entry);
        let loaded = loaded.with_entry(entry);
        Ok(Image {
            name,
            size: layout.size,
            entry,
            exports,
            missing,
            warnings,
            patches,
            mapping,
            unregistered: Some(loaded),
        })
    }
}

impl Image {
    /// File name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// First address.
    pub fn base(&self) -> u64 {
        self.mapping.base()
    }

    /// Bytes as the image's header says, for `DRIVER_OBJECT.DriverSize`.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The address of the entry point.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The address of the exported function or variable called `name`, or `#n` for an ordinal, for drivers loaded
    /// later.
    pub fn export(&self, name: &str) -> Option<u64> {
        self.exports.get(name).map(|offset| self.base() + u64::from(offset))
    }

    /// The names of all exports that have one.
    pub fn export_names(&self) -> impl Iterator<Item = &str> {
        self.exports.named.keys().map(String::as_str)
    }

    /// Imports that nobody implements; each ends the run if it is called.
    pub fn missing(&self) -> &[MissingImport] {
        &self.missing
    }

    /// What is unusual about the image.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// How much of its code was rewritten.
    pub fn patches(&self) -> PatchCounts {
        self.patches
    }

    /// Enters the image in the registry that faults and records are explained by. Call it before any code of the
    /// image runs; from here on the image stays mapped until the process ends.
    ///
    /// # Errors
    /// `TooManyImages` when the registry is full. Calling it twice is the same as calling it once.
    pub fn register(&mut self) -> Result<&'static LoadedImage, ImageError> {
        if let Some(image) = self.unregistered.take() {
            self.mapping.keep();
            return gate::image::register(image).ok_or(ImageError::TooManyImages);
        }
        gate::image::find(self.base()).ok_or(ImageError::TooManyImages)
    }

    /// Takes all access away after the driver was unloaded: whatever still calls into it ends the run by name
    /// (bugcheck 0xCE). Addresses are never used for another image.
    ///
    /// # Errors
    /// What the operating system says; a call into the driver then runs instead of ending the run.
    pub fn retire(&self) -> Result<(), ImageError> {
        if let Some(image) = gate::image::find(self.base()) {
            image.set_unloaded();
        }
        Ok(self.mapping.close()?)
    }
}

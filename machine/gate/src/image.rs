//! Which driver images are mapped, readable from signal handlers.
//!
//! Invariants: entries are only ever added, so a reference to one is valid until the process ends; an address
//! range belongs to one image for the whole run, so an address in an unloaded driver still names it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use nt_abi::DriverObject;

use crate::{memory, recorder};

/// Most images of a run.
pub const IMAGES_MAX: usize = 128;

/// A mapped driver image.
#[derive(Debug)]
pub struct LoadedImage {
    /// File name, such as `tdi_client.sys`.
    pub name: &'static str,
    /// First address.
    pub base: u64,
    /// Bytes, in whole pages, including code generated for it behind the image proper.
    pub size: u64,
    /// Address ranges of its executable sections.
    pub text: Vec<Range<u64>>,
    /// Instructions that were moved elsewhere, ordered by where they are now.
    pub moved: Vec<MovedInstruction>,
    /// Its entry point, 0 if unknown.
    pub entry: u64,
    /// Where its function table lies (`.pdata`, the exception directory); empty if it has none.
    pub functions: Range<u64>,
    driver: AtomicU64,
    unloaded: AtomicBool,
}

/// An instruction that the loader moved out of an image's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedInstruction {
    /// Where it is now.
    pub now: u64,
    /// Where the driver's compiler had put it.
    pub was: u64,
}

impl LoadedImage {
    /// An image that has no driver object yet.
    pub fn new(name: &str, base: u64, size: u64, text: Vec<Range<u64>>, moved: Vec<MovedInstruction>) -> Self {
        // Leaked like the image itself.
        let name = Box::leak(name.to_owned().into_boxed_str());
        let (driver, unloaded) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { name, base, size, text, moved, entry: 0, functions: 0..0, driver, unloaded }
    }

    /// The same with its function table at `functions`, an address range inside the image. What lies there is
    /// not trusted: it is read when something is unwound, never before.
    pub fn with_functions(self, functions: Range<u64>) -> Self {
        Self { functions, ..self }
    }

    /// The same with its entry point.
    pub fn with_entry(self, entry: u64) -> Self {
        Self { entry, ..self }
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.base) < self.size
    }

    /// Whether `address` lies in an executable section, or in code moved out of one.
    pub fn is_code(&self, address: u64) -> bool {
        self.text.iter().any(|range| range.contains(&address)) || self.unmoved(address) != address
    }

    /// The address of its `DRIVER_OBJECT`, 0 if it has none yet.
    pub fn driver(&self) -> u64 {
        self.driver.load(Ordering::Relaxed)
    }

    /// Notes the driver object made for it.
    pub fn set_driver(&self, driver: u64) {
        self.driver.store(driver, Ordering::Relaxed);
    }

    /// Whether the driver was unloaded.
    pub fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Relaxed)
    }

    /// Notes that the driver was unloaded: a fault in its range is now `DRIVER_UNLOADED_...` (0xCE).
    pub fn set_unloaded(&self) {
        self.unloaded.store(true, Ordering::Relaxed);
    }

    /// Where the driver's compiler had put the instruction that is now at `address`.
    pub fn unmoved(&self, address: u64) -> u64 {
        match self.moved.binary_search_by_key(&address, |moved| moved.now) {
            Ok(index) => self.moved[index].was,
            Err(_) => address,
        }
    }
}

static IMAGES: [AtomicPtr<LoadedImage>; IMAGES_MAX] = [const { AtomicPtr::new(std::ptr::null_mut()) }; IMAGES_MAX];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Adds an image, also to the trace's list. `None` when [`IMAGES_MAX`] images were registered.
pub fn register(image: LoadedImage) -> Option<&'static LoadedImage> {
    let index = COUNT
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| (count < IMAGES_MAX).then_some(count + 1))
        .ok()?;
    let image = Box::leak(Box::new(image));
    // Release: whoever finds the pointer sees the image.
    IMAGES[index].store(image, Ordering::Release);
    if let Some(trace) = recorder::trace() {
        trace.image(image.name, image.base, image.size);
    }
    Some(image)
}

/// All images, in the order of their registration.
pub fn all() -> impl Iterator<Item = &'static LoadedImage> {
    let count = COUNT.load(Ordering::Acquire).min(IMAGES_MAX);
    // SAFETY: a pointer in the list leads to a leaked image.
    IMAGES[..count].iter().filter_map(|slot| unsafe { slot.load(Ordering::Acquire).as_ref() })
}

/// The image that `address` lies in.
pub fn find(address: u64) -> Option<&'static LoadedImage> {
    all().find(|image| image.contains(address))
}

/// The image that `address` lies in, and the offset that its author knows the place by.
pub fn place(address: u64) -> Option<(&'static LoadedImage, u64)> {
    let image = find(address)?;
    Some((image, image.unmoved(address) - image.base))
}

/// The image whose driver object names `routine`, in its dispatch table or elsewhere. For reports: the object is the driver's
/// to write to, so it may name anything.
pub(crate) fn naming(routine: u64) -> Option<&'static LoadedImage> {
    const WORDS: usize = size_of::<DriverObject>() / size_of::<u64>();
    let names = |image: &&LoadedImage| {
        image.driver() != 0
            && memory::read_value::<[u64; WORDS]>(image.driver()).is_ok_and(|words| words.contains(&routine))
    };
    // Unused fields are null.
    all().filter(|_| routine != 0).find(names)
}

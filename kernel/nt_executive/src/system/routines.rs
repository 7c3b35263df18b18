//! What drivers find by name at run time: the kernel's exports behind stubs, like those that imports are bound to.
//!
//! The bare functions would not do: raising, blame, IRQL limits and the seeded scheduler all rest on what a stub notes.
//! The sandbox lets no code be made once drivers run, so all stubs are made before, if any driver can ask for them.

use std::collections::HashMap;
use std::io;
use std::sync::OnceLock;

use arena::{PAGE, Region, plan};
use gate::code::CodeArea;
use gate::export::Export;
use gate::stub;

/// Whose imports these count as.
const IMAGE: &str = "a driver that looked it up";
const MODULE: &str = "ntoskrnl.exe";

static STUBS: OnceLock<HashMap<&'static str, u64>> = OnceLock::new();

/// Makes a stub for every export. Once, before the sandbox is closed; later calls change nothing.
///
/// # Errors
/// The operating system's, or `OutOfMemory` when the run has too many imports.
pub fn prepare() -> io::Result<()> {
    if STUBS.get().is_none() {
        let _ = STUBS.set(make()?);
    }
    Ok(())
}

fn make() -> io::Result<HashMap<&'static str, u64>> {
    let exports = || crate::table::all();
    let bytes = (exports().count() as u64 * stub::STUB_BYTES_MAX).next_multiple_of(PAGE as u64);
    let region = Region::reserve(plan::LOOKED_UP, bytes as usize)?;
    region.commit(bytes)?;
    // SAFETY: page-aligned, committed, and known to nobody else.
    let mut code = unsafe { CodeArea::over(region.base(), bytes) };
    let mut stubs = HashMap::new();
    for export in exports() {
        let address = stub::bind(&mut code, IMAGE, MODULE, export.name, Some(export));
        stubs.insert(export.name, address.ok_or(io::ErrorKind::OutOfMemory)?);
    }
    code.seal()?;
    // Drivers keep these addresses.
    std::mem::forget(region);
    Ok(stubs)
}

/// What a driver may call, or read if it is a variable.
pub fn address(export: &'static Export) -> u64 {
    // Without `prepare`, which nobody can tell but this crate's own tests.
    STUBS.get().and_then(|stubs| stubs.get(export.name)).copied().unwrap_or_else(|| export.address())
}

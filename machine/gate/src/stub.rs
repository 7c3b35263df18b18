//! Import stubs: the few instructions between a driver's call and the function of the host.
//!
//! One is generated for each import of each image. It notes the driver's return address, where that lies and the
//! import's number in the thread's block, compares the IRQL with the export's limit, gives the scheduler its say in seeded mode,
//! and jumps to the function with every argument as the driver left it.
//!
//! Invariants: stubs change no register that carries an argument or that win64 preserves; they use r10 and r11
//! only.
//!
//! An import that nobody implements has no stub: it is bound to a page of its own without any access, whose number
//! is the import's, so that the run ends with its name whether the driver calls it as a function or touches it as a
//! variable; an import table does not say which of the two it is.

use std::arch::naked_asm;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, PoisonError};

use arena::{PAGE, Region, plan};
use host_lock::Mutex;
use nt_abi::Irql;

use crate::bugcheck;
use crate::code::CodeArea;
use crate::export::{Export, ExportKind};
use crate::thread::{CALLER_OFFSET, ENTRY_OFFSET, IMPORT_OFFSET, IRQL_OFFSET};
use crate::{finding, thread};

/// Most imports of all images together.
pub const IMPORTS_MAX: usize = 1 << 16;
/// Most bytes that one stub takes in a [`CodeArea`].
pub const STUB_BYTES_MAX: u64 = 112;

/// An import of an image.
#[derive(Debug)]
pub struct Import {
    /// Its number in the run.
    pub number: u32,
    /// The image that imports it.
    pub image: &'static str,
    /// The module it imports from, as the image names it.
    pub module: &'static str,
    /// The name, or `#n` for an ordinal.
    pub name: &'static str,
    /// What it is bound to, `None` if nobody implements it.
    pub export: Option<&'static Export>,
}

static IMPORTS: [AtomicPtr<Import>; IMPORTS_MAX] = [const { AtomicPtr::new(std::ptr::null_mut()) }; IMPORTS_MAX];
/// Image, module and name of every import, with the address of its export.
type Key = (&'static str, &'static str, &'static str, usize);
/// The number of every import.
static NUMBERS: Mutex<BTreeMap<Key, u32>> = Mutex::new(BTreeMap::new());

/// The import with a number.
pub fn import(number: u64) -> Option<&'static Import> {
    let slot = IMPORTS.get(usize::try_from(number).ok()?)?;
    // SAFETY: a pointer in the list leads to a leaked import.
    unsafe { slot.load(Ordering::Acquire).as_ref() }
}

/// Binds an import: gives the address that goes into the image's import table.
///
/// For a variable that is its cell; for a function a stub made in `code`; for an import that nobody implements
/// (`export` is `None`) a place that nobody can touch. `None` when `code` is full or the run has [`IMPORTS_MAX`]
/// imports.
pub fn bind(
    code: &mut CodeArea,
    image: &'static str,
    module: &str,
    name: &str,
    export: Option<&'static Export>,
) -> Option<u64> {
    if let Some(export) = export
        && let ExportKind::Data(cell) = export.kind
    {
        return Some(cell());
    }
    let number = number(image, module, name, export)?;
    let Some(export) = export else { return missing_place(number) };
    code.append(&stub_for(number, export.irql_max, export.address()))
}

/// The pages of imports that nobody implements, one for each number; never given any access.
static MISSING: LazyLock<Option<Region>> =
    LazyLock::new(|| Region::reserve(plan::MISSING_IMPORTS, (IMPORTS_MAX + 1) * PAGE).ok());
/// Where they begin, for signal handlers; 0 while there are none.
static MISSING_BASE: AtomicU64 = AtomicU64::new(0);

/// What a driver gets as the address of an import that nobody implements.
fn missing_place(number: u32) -> Option<u64> {
    let base = MISSING.as_ref()?.base();
    MISSING_BASE.store(base, Ordering::Release);
    Some(base + u64::from(number) * PAGE as u64)
}

/// The import that nobody implements whose place `address` lies in.
pub(crate) fn missing_at(address: u64) -> Option<&'static Import> {
    let base = MISSING_BASE.load(Ordering::Acquire);
    if base == 0 {
        return None;
    }
    import(address.checked_sub(base)? / PAGE as u64)
}

/// The imports of an image that nobody implements.
pub(crate) fn missing_of(image: &str) -> impl Iterator<Item = &'static Import> {
    (1..).map_while(import).filter(move |import| import.export.is_none() && import.image == image)
}

/// The number of an import. An image that is loaded again under its name gets the numbers it had, so that loading
/// and unloading do not use numbers up.
fn number(image: &'static str, module: &str, name: &str, export: Option<&'static Export>) -> Option<u32> {
    let address = export.map_or(0, |export| std::ptr::from_ref(export) as usize);
    let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&number) = numbers.get(&(image, module, name, address)) {
        return Some(number);
    }
    // Number 0 is no import.
    let number = numbers.len() + 1;
    let slot = IMPORTS.get(number)?;
    // Leaked: names must be readable in a bugcheck at any later time.
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let (module, name) = (leak(module), leak(name));
    slot.store(Box::leak(Box::new(Import { number: number as u32, image, module, name, export })), Ordering::Release);
    numbers.insert((image, module, name, address), number as u32);
    Some(number as u32)
}

/// Called by every stub bound from now on, before the function: the seeded scheduler's chance to run another
/// thread. Set it before the first image is bound; 0 arguments, and all those of the import are preserved.
pub fn set_preemption_hook(hook: extern "win64" fn()) {
    HOOK.store(hook as usize, Ordering::Release);
}

static HOOK: AtomicUsize = AtomicUsize::new(0);

fn stub_for(number: u32, irql_max: Irql, function: u64) -> Vec<u8> {
    let through = match HOOK.load(Ordering::Acquire) {
        0 => None,
        _ => Some(call_hook as *const () as u64),
    };
    let mut code = Vec::with_capacity(STUB_BYTES_MAX as usize);
    // mov r11, [rsp]; mov gs:[CALLER], r11
    code.extend([0x4C, 0x8B, 0x1C, 0x24]);
    code.extend([0x65, 0x4C, 0x89, 0x1C, 0x25]);
    code.extend((CALLER_OFFSET as u32).to_le_bytes());
    // mov gs:[ENTRY], rsp
    code.extend([0x65, 0x48, 0x89, 0x24, 0x25]);
    code.extend((ENTRY_OFFSET as u32).to_le_bytes());
    // mov qword ptr gs:[IMPORT], number
    code.extend([0x65, 0x48, 0xC7, 0x04, 0x25]);
    code.extend((IMPORT_OFFSET as u32).to_le_bytes());
    code.extend(number.to_le_bytes());
    let direct = jump(function, through);
    if irql_max < Irql::HIGH {
        // cmp byte ptr gs:[IRQL], irql_max; ja over the direct jump
        code.extend([0x65, 0x80, 0x3C, 0x25]);
        code.extend((IRQL_OFFSET as u32).to_le_bytes());
        code.push(irql_max.0);
        code.extend([0x77, direct.len() as u8]);
        code.extend(&direct);
        code.extend(jump(function, Some(too_high as *const () as u64)));
    } else {
        code.extend(&direct);
    }
    code
}

/// Jumps to `function`, or to `through` with the function in r10.
fn jump(function: u64, through: Option<u64>) -> Vec<u8> {
    let mut code = Vec::new();
    // mov r10, function
    code.extend([0x49, 0xBA]);
    code.extend(function.to_le_bytes());
    match through {
        // jmp r10
        None => code.extend([0x41, 0xFF, 0xE2]),
        // mov r11, through; jmp r11
        Some(through) => {
            code.extend([0x49, 0xBB]);
            code.extend(through.to_le_bytes());
            code.extend([0x41, 0xFF, 0xE3]);
        }
    }
    code
}

/// Calls the hook and goes on to r10.
#[unsafe(naked)]
unsafe extern "win64" fn call_hook() {
    naked_asm!(
        // rax too: `__chkstk` takes its argument there.
        "push rax",
        "push rcx",
        "push rdx",
        "push r8",
        "push r9",
        "push r10",
        "sub rsp, 40",
        "call [rip + {hook}]",
        "add rsp, 40",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "jmp r10",
        hook = sym HOOK,
    )
}

/// Reports that the IRQL is above the import's limit and goes on to r10, by way of the hook if there is one.
#[unsafe(naked)]
unsafe extern "win64" fn too_high() {
    naked_asm!(
        "push rcx",
        "push rdx",
        "push r8",
        "push r9",
        "push r10",
        "sub rsp, 32",
        "call {report}",
        "add rsp, 32",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdx",
        "pop rcx",
        "cmp qword ptr [rip + {hook}], 0",
        "jne {call_hook}",
        "jmp r10",
        report = sym report_too_high,
        call_hook = sym call_hook,
        hook = sym HOOK,
    )
}

extern "win64" fn report_too_high() {
    let Some(import) = bugcheck::serving() else { return };
    let Some(export) = import.export else { return };
    finding(
        "K-9.1",
        format_args!(
            "{} was called at {}; it may be called at {} or below.",
            import.name,
            level(thread::irql()),
            level(export.irql_max)
        ),
        thread::caller(),
    );
}

/// A level in the words of the documentation.
fn level(irql: Irql) -> &'static str {
    match irql {
        Irql::PASSIVE => "PASSIVE_LEVEL",
        Irql::APC => "APC_LEVEL",
        Irql::DISPATCH => "DISPATCH_LEVEL",
        _ => "an interrupt level",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_bound_again_keeps_its_number_and_another_gets_its_own() {
        let first = number("a.sys", "ntoskrnl.exe", "IoCallDriver", None).expect("room");
        assert_eq!(number("a.sys", "ntoskrnl.exe", "IoCallDriver", None), Some(first));
        let other = number("b.sys", "ntoskrnl.exe", "IoCallDriver", None).expect("room");
        assert_ne!(other, first, "records name the image that called");
        assert_eq!(import(u64::from(other)).map(|import| import.image), Some("b.sys"));
    }
}

//! `sprintf` and its relatives: the kernel's printf into buffers of drivers.
//!
//! A pointer among the arguments that cannot be read raises an access violation, as it does in Windows.

use gate::memory::{self, Fault};

use crate::format::{Flavour, format};
use crate::varargs::Words;
use crate::{code_page, raise};

gate::exports! {
    /// The printf family.
    pub static TABLE in "ntoskrnl.exe";
    variadic "sprintf" = sprintf(arguments: *const u64) -> i32, rules "K-205";
    variadic "_snprintf" = snprintf(arguments: *const u64) -> i32, rules "K-205";
    variadic "_snprintf_s" = snprintf_s(arguments: *const u64) -> i32, rules "K-205";
    variadic "sprintf_s" = sprintf_s(arguments: *const u64) -> i32, rules "K-205";
    variadic "swprintf" = swprintf(arguments: *const u64) -> i32, rules "K-205";
    variadic "_swprintf" = swprintf(arguments: *const u64) -> i32, rules "K-205";
    variadic "_snwprintf" = snwprintf(arguments: *const u64) -> i32, rules "K-205";
    variadic "_snwprintf_s" = snwprintf_s(arguments: *const u64) -> i32, rules "K-205";
    variadic "swprintf_s" = swprintf_s(arguments: *const u64) -> i32, rules "K-205";
    "vsprintf" = vsprintf(buffer: u64, template: u64, arguments: u64) -> i32, rules "K-205";
    "_vsnprintf" = vsnprintf(buffer: u64, count: u64, template: u64, arguments: u64) -> i32, rules "K-205";
    "_vsnprintf_s" = vsnprintf_s(buffer: u64, size: u64, count: u64, template: u64, arguments: u64) -> i32, rules "K-205";
    "vsprintf_s" = vsprintf_s(buffer: u64, size: u64, template: u64, arguments: u64) -> i32, rules "K-205";
    "vswprintf" | "_vswprintf" = vswprintf(buffer: u64, template: u64, arguments: u64) -> i32, rules "K-205";
    "_vsnwprintf" = vsnwprintf(buffer: u64, count: u64, template: u64, arguments: u64) -> i32, rules "K-205";
    "_vsnwprintf_s" = vsnwprintf_s(buffer: u64, size: u64, count: u64, template: u64, arguments: u64) -> i32, rules "K-205";
    "vswprintf_s" = vswprintf_s(buffer: u64, size: u64, template: u64, arguments: u64) -> i32, rules "K-205";
}

/// Longest format and longest output that is kept: nothing a driver means to print is longer, and a string without
/// an end must not fill the host's memory.
const UNITS_MAX: usize = 1 << 20;
/// `_TRUNCATE`.
const TRUNCATE: u64 = u64::MAX;

/// A call's parameters, before its arguments.
#[derive(Clone, Copy)]
struct Call {
    flavour: Flavour,
    buffer: u64,
    template: u64,
    arguments: u64,
}

/// How long a text was, and what was kept of it.
struct Printed {
    text: Vec<u16>,
    length: usize,
}

impl Call {
    /// Formats, keeping up to `keep` characters.
    fn print(&self, keep: usize) -> Result<Printed, Fault> {
        let template = match self.flavour {
            Flavour::Narrow => {
                memory::read_c_string(self.template, UNITS_MAX)?.into_iter().map(code_page::to_wide).collect()
            }
            Flavour::Wide => memory::read_wide_c_string(self.template, UNITS_MAX)?,
        };
        let mut words = Words::new(self.arguments);
        let keep = keep.min(UNITS_MAX);
        let mut text = Vec::new();
        let formatted = format(self.flavour, &template, &mut words, &mut |unit| {
            if text.len() < keep {
                text.push(unit);
            }
        });
        if let Some(fault) = words.fault().or(formatted.unreadable.map(Fault::reading)) {
            return Err(fault);
        }
        Ok(Printed { text, length: formatted.units })
    }

    /// Stores characters, and a terminator behind them if asked for.
    fn store(&self, text: &[u16], terminate: bool) -> Result<(), Fault> {
        let units = text.iter().copied().chain(terminate.then_some(0));
        let bytes: Vec<u8> = match self.flavour {
            Flavour::Narrow => units.map(code_page::to_narrow).collect(),
            Flavour::Wide => units.flat_map(u16::to_le_bytes).collect(),
        };
        memory::write(self.buffer, &bytes)
    }

    /// `sprintf`: as long as it gets.
    fn unbounded(&self) -> Result<i32, Fault> {
        let printed = self.print(UNITS_MAX)?;
        self.store(&printed.text, true)?;
        Ok(printed.text.len() as i32)
    }

    /// `_snprintf`: up to `count` characters; -1 if that is too few. The terminator is stored only where it fits.
    fn counted(&self, count: u64) -> Result<i32, Fault> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let printed = self.print(count)?;
        self.store(&printed.text, printed.text.len() < count)?;
        Ok(if printed.length <= count { printed.length as i32 } else { -1 })
    }

    /// `_snprintf_s`: always terminated within `size`. What does not fit gives -1: cut at `count`, or at the size if
    /// `count` is _TRUNCATE, and an empty text otherwise.
    fn secure(&self, size: u64, count: u64) -> Result<i32, Fault> {
        if self.buffer == 0 || size == 0 {
            return Ok(if self.buffer == 0 && size == 0 && count == 0 { 0 } else { -1 });
        }
        let room = usize::try_from(size).unwrap_or(usize::MAX) - 1;
        let wanted = if count == TRUNCATE { room } else { usize::try_from(count).unwrap_or(usize::MAX) };
        let printed = self.print(wanted.min(room))?;
        if printed.length <= wanted.min(room) {
            self.store(&printed.text, true)?;
            return Ok(printed.length as i32);
        }
        let keep = if wanted <= room { wanted.min(printed.text.len()) } else { 0 };
        self.store(&printed.text[..keep], true)?;
        Ok(-1)
    }
}

/// The result, or the fault raised.
fn finish(printed: Result<i32, Fault>) -> i32 {
    printed.unwrap_or_else(|fault| {
        raise::access_violation(fault);
        -1
    })
}

/// The words a variadic function was called with: `N` parameters, then the arguments' address.
///
/// # Safety
/// `arguments` is what a shim passed.
unsafe fn parameters<const N: usize>(arguments: *const u64) -> ([u64; N], u64) {
    // SAFETY: the caller's promise: the words lie on the driver's stack.
    unsafe { (*arguments.cast::<[u64; N]>(), arguments.add(N) as u64) }
}

macro_rules! variadic {
    ($($name:ident [$($parameter:ident),*] = $va:ident;)*) => {
        $(unsafe extern "win64" fn $name(arguments: *const u64) -> i32 {
            // SAFETY: called by the shim, which stored the register arguments in front of the others.
            unsafe {
                let ([$($parameter),*], rest) = parameters(arguments);
                $va($($parameter,)* rest)
            }
        })*
    };
}

variadic! {
    sprintf [buffer, template] = vsprintf;
    snprintf [buffer, count, template] = vsnprintf;
    snprintf_s [buffer, size, count, template] = vsnprintf_s;
    sprintf_s [buffer, size, template] = vsprintf_s;
    swprintf [buffer, template] = vswprintf;
    snwprintf [buffer, count, template] = vsnwprintf;
    snwprintf_s [buffer, size, count, template] = vsnwprintf_s;
    swprintf_s [buffer, size, template] = vswprintf_s;
}

unsafe extern "win64" fn vsprintf(buffer: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Narrow, buffer, template, arguments }.unbounded())
}

unsafe extern "win64" fn vsnprintf(buffer: u64, count: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Narrow, buffer, template, arguments }.counted(count))
}

unsafe extern "win64" fn vsnprintf_s(buffer: u64, size: u64, count: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Narrow, buffer, template, arguments }.secure(size, count))
}

unsafe extern "win64" fn vsprintf_s(buffer: u64, size: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Narrow, buffer, template, arguments }.secure(size, size))
}

unsafe extern "win64" fn vswprintf(buffer: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Wide, buffer, template, arguments }.unbounded())
}

unsafe extern "win64" fn vsnwprintf(buffer: u64, count: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Wide, buffer, template, arguments }.counted(count))
}

unsafe extern "win64" fn vsnwprintf_s(buffer: u64, size: u64, count: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Wide, buffer, template, arguments }.secure(size, count))
}

unsafe extern "win64" fn vswprintf_s(buffer: u64, size: u64, template: u64, arguments: u64) -> i32 {
    finish(Call { flavour: Flavour::Wide, buffer, template, arguments }.secure(size, size))
}

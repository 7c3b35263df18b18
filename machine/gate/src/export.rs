//! One row of an export table: what a driver can import, as data.
//!
//! Each kernel crate declares its rows with [`exports!`](crate::exports); the macro checks at compile time that
//! the function has the signature written in the row and the drivers' calling convention.

use std::fmt;

pub use nt_abi::Irql;

/// An export of the kernel.
#[derive(Clone, Copy)]
pub struct Export {
    /// The module that drivers name, such as `ntoskrnl.exe`.
    pub module: &'static str,
    /// The name that drivers import.
    pub name: &'static str,
    /// What the import is bound to.
    pub kind: ExportKind,
    /// The signature as written in the table.
    pub signature: Signature,
    /// Highest level a driver may call it at (kernel-services.md, section 9.1).
    pub irql_max: Irql,
    /// The rules it follows, separated by blanks.
    pub rules: &'static str,
    /// The module that declares the row: its family.
    pub family: &'static str,
}

/// A signature as written in the table, such as `(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus`; for
/// variadic functions, the host's.
pub type Signature = &'static str;

/// What an import is bound to.
#[derive(Clone, Copy)]
pub enum ExportKind {
    /// A function of the host, its true type erased.
    Function(unsafe extern "win64" fn()),
    /// A variable: the function gives the address of the cell that drivers read.
    Data(fn() -> u64),
}

impl Export {
    /// The address of the function, or of the cell.
    pub fn address(&self) -> u64 {
        match self.kind {
            ExportKind::Function(function) => function as usize as u64,
            ExportKind::Data(cell) => cell(),
        }
    }

    #[doc(hidden)]
    pub const EMPTY: Self = Self {
        module: "",
        name: "",
        kind: ExportKind::Data(|| 0),
        signature: "",
        irql_max: Irql::HIGH,
        rules: "",
        family: "",
    };
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}{} at {:?} or below", self.module, self.name, self.signature, self.irql_max)
    }
}

#[doc(hidden)]
pub const fn count(rows: &[&[Export]]) -> usize {
    let (mut row, mut count) = (0, 0);
    while row < rows.len() {
        count += rows[row].len();
        row += 1;
    }
    count
}

#[doc(hidden)]
pub const fn flatten<const N: usize>(rows: &[&[Export]]) -> [Export; N] {
    let mut all = [Export::EMPTY; N];
    let (mut row, mut next) = (0, 0);
    while row < rows.len() {
        let mut name = 0;
        while name < rows[row].len() {
            all[next] = rows[row][name];
            next += 1;
            name += 1;
        }
        row += 1;
    }
    all
}

/// Declares a table of exports.
///
/// ```
/// # use nt_abi::{Irp, NtStatus};
/// unsafe extern "win64" fn io_reuse_irp(_irp: *mut Irp, _status: NtStatus) {}
/// /// A variadic one takes the address of its arguments, one per 64-bit word.
/// unsafe extern "win64" fn debug_print(_arguments: *const u64) -> u32 { 0 }
/// fn file_object_type_cell() -> u64 { 0x1000 }
///
/// gate::exports! { pub static TABLE in "ntoskrnl.exe";
///     "IoReuseIrp" = io_reuse_irp(irp: *mut Irp, status: NtStatus), irql <= DISPATCH, rules "K-024";
///     variadic "DbgPrint" = debug_print(arguments: *const u64) -> u32, rules "K-180";
///     data "IoFileObjectType" = file_object_type_cell, rules "K-157";
/// }
/// assert_eq!(TABLE[0].signature, "(irp: *mut Irp, status: NtStatus)");
/// ```
///
/// A row may begin with `variadic` or `data`. It is one name or several separated by `|`, the function or cell, the highest level to call it at (any, if
/// left out) and the rules it follows.
#[macro_export]
macro_rules! exports {
    ($(#[$table_meta:meta])* $vis:vis static $table:ident in $module:literal;
     $($(#[$meta:meta])* $($kind:ident)? $($name:literal)|+ = $function:ident $(($($parameters:tt)*))? $(-> $result:ty)?
       $(, irql <= $irql:ident)?, rules $rules:literal;)*) => {
        $(#[$table_meta])*
        $vis static $table: &[$crate::export::Export] = {
            const ROWS: &[&[$crate::export::Export]] = &[$($crate::export_row! {
                [$($kind)?] [$($name)+] $module, $function [$($($parameters)*)?] [$($result)?] [$($irql)?] $rules
            }),*];
            const ALL: [$crate::export::Export; $crate::export::count(ROWS)] = $crate::export::flatten(ROWS);
            &ALL
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! export_row {
    // A variable.
    ([data] [$($name:literal)+] $module:literal, $cell:ident [] [] [] $rules:literal) => {
        &[$($crate::export::Export {
            module: $module,
            name: $name,
            kind: $crate::export::ExportKind::Data($cell),
            signature: "",
            irql_max: $crate::export::Irql::HIGH,
            rules: $rules,
            family: module_path!(),
        }),+]
    };
    // A function with any number of arguments: a shim stores the four in registers where the others lie, just
    // above the return address, and passes the address of the first.
    ([variadic] [$($name:literal)+] $module:literal, $function:ident [$parameter:ident : $ty:ty] [$($result:ty)?] [$($irql:ident)?] $rules:literal) => {{
        #[unsafe(naked)]
        unsafe extern "win64" fn shim() {
            ::core::arch::naked_asm!(
                ".cfi_startproc",
                "mov [rsp + 8], rcx",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], r8",
                "mov [rsp + 32], r9",
                "lea rcx, [rsp + 8]",
                "sub rsp, 40",
                ".cfi_adjust_cfa_offset 40",
                "call {function}",
                "add rsp, 40",
                "ret",
                ".cfi_endproc",
                function = sym $function,
            )
        }
        const SIGNATURE: &str =
            concat!("(", stringify!($parameter), ": ", stringify!($ty), ", ...)" $(, " -> ", stringify!($result))?);
        const IRQL_MAX: $crate::export::Irql = $crate::export_row!(@irql $($irql)?);
        const _: unsafe extern "win64" fn(*const u64) $(-> $result)? = $function as unsafe extern "win64" fn($ty) $(-> $result)?;
        &[$($crate::export::Export {
            module: $module,
            name: $name,
            kind: $crate::export::ExportKind::Function(shim),
            signature: SIGNATURE,
            irql_max: IRQL_MAX,
            rules: $rules,
            family: module_path!(),
        }),+]
    }};
    // A function.
    ([] [$($name:literal)+] $module:literal, $function:ident [$($parameter:ident : $ty:ty),* $(,)?] [$($result:ty)?] [$($irql:ident)?] $rules:literal) => {{
        const TYPED: unsafe extern "win64" fn($($ty),*) $(-> $result)? = $function;
        // SAFETY: between function pointers; the erased type is never called.
        #[allow(clippy::useless_transmute, reason = "a function without parameters has the erased type already")]
        const ERASED: unsafe extern "win64" fn() = unsafe { ::core::mem::transmute(TYPED) };
        const SIGNATURE: &str = $crate::export_row!(@signature [$($parameter : $ty),*] [$($result)?]);
        const IRQL_MAX: $crate::export::Irql = $crate::export_row!(@irql $($irql)?);
        &[$($crate::export::Export {
            module: $module,
            name: $name,
            kind: $crate::export::ExportKind::Function(ERASED),
            signature: SIGNATURE,
            irql_max: IRQL_MAX,
            rules: $rules,
            family: module_path!(),
        }),+]
    }};
    (@irql) => { $crate::export::Irql::HIGH };
    (@irql $irql:ident) => { $crate::export::Irql::$irql };
    (@signature [] []) => { "()" };
    (@signature [] [$result:ty]) => { concat!("() -> ", stringify!($result)) };
    (@signature [$first:ident : $first_ty:ty $(, $parameter:ident : $ty:ty)*] [$($result:ty)?]) => {
        concat!("(", stringify!($first), ": ", stringify!($first_ty) $(, ", ", stringify!($parameter), ": ", stringify!($ty))*, ")"
            $(, " -> ", stringify!($result))?)
    };
}

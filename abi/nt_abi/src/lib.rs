//! Layouts, status codes and constants of NT and TDI as an x64 driver sees them.
//!
//! Layouts only: nothing here behaves. Every structure is `repr(C)`, its size and the offsets that
//! drivers touch inline are asserted at compile time against `x64-layouts.txt` of the reference and,
//! in `tests/mingw_layouts.rs`, compared with what mingw-w64 compiles.
//!
//! Values that a driver supplies are *open enumerations* (a transparent integer with named
//! constants): an unlisted value is data, never undefined behaviour.

#![no_std]
#![forbid(unsafe_code)]

mod open_enum;

pub mod dispatcher;
pub mod ea;
pub mod exception;
pub mod file;
pub mod io;
pub mod irql;
pub mod mdl;
pub mod object;
pub mod status;
pub mod string;
pub mod tdi;
pub mod unwind;

pub use dispatcher::{DispatcherHeader, KernelEvent, ListEntry};
pub use file::FileObject;
pub use io::{DeviceObject, DriverObject, IoStackLocation, IoStatusBlock, Irp, MajorFunction};
pub use irql::Irql;
pub use mdl::Mdl;
pub use object::{Handle, ObjectAttributes};
pub use status::NtStatus;
pub use string::{AnsiString, UnicodeString};

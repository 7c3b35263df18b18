//! The dispatch routines of `\Driver\HostFiles`, win64 like any driver's.

use std::os::fd::AsFd;

use gate::memory::{self, Fault};
use nt_abi::file::file_flags;
use nt_abi::{DeviceObject, DriverObject, FileObject, IoStackLocation, Irp, MajorFunction, NtStatus};
use nt_io::{completion, irp};
use rustix::{fs, io};

use crate::volume::{self, Create, Volume};
use crate::{folder, status};

type Routine = unsafe extern "win64" fn(*mut DeviceObject, *mut Irp) -> NtStatus;

/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;
/// The offset that means the end of the file, in a write.
const END_OF_FILE: u64 = u64::MAX;

/// Fills in the driver object's dispatch table. Other requests stay refused.
///
/// # Safety
/// `driver` is a driver object of our own.
pub unsafe fn install(driver: *mut DriverObject) {
    for major in [
        MajorFunction::CREATE,
        MajorFunction::CLEANUP,
        MajorFunction::CLOSE,
        MajorFunction::READ,
        MajorFunction::WRITE,
        MajorFunction::QUERY_INFORMATION,
        MajorFunction::SET_INFORMATION,
        MajorFunction::DIRECTORY_CONTROL,
        MajorFunction::FLUSH_BUFFERS,
    ] {
        let routine: Routine = dispatch;
        // SAFETY: the caller's promise.
        unsafe { (*driver).major_function[usize::from(major.0)] = routine as *const () as u64 };
    }
}

/// What a request came to. A warning such as STATUS_BUFFER_OVERFLOW has information too.
pub struct Outcome {
    pub status: NtStatus,
    pub information: u64,
}

impl Outcome {
    pub fn success(information: u64) -> Self {
        Self { status: NtStatus::SUCCESS, information }
    }
}

/// A request as its handler sees it.
pub struct Request {
    pub irp: *mut Irp,
    /// A copy of the current location.
    pub location: IoStackLocation,
}

impl Request {
    pub fn file(&self) -> *mut FileObject {
        self.location.file_object
    }

    /// A parameter of 32 bits.
    pub fn parameter(&self, index: usize) -> u32 {
        self.location.parameters[index] as u32
    }

    /// The sender's buffer: the device takes requests without buffering, so it may come either way.
    pub fn buffer(&self) -> u64 {
        // SAFETY: the packet and its MDL are the sender's, who holds them until the request ends.
        unsafe {
            let mdl = (*self.irp).mdl_address;
            if mdl.is_null() { (*self.irp).user_buffer } else { (*mdl).start_va + u64::from((*mdl).byte_offset) }
        }
    }

    /// Where a file that is waited on goes on. Others have no place of their own.
    pub fn move_to(&self, offset: u64) {
        let file = self.file();
        // SAFETY: the request's file object.
        unsafe {
            if (*file).flags & file_flags::SYNCHRONOUS_IO != 0 {
                (*file).current_byte_offset = offset as i64;
            }
        }
    }
}

/// A bad buffer of a driver, as a status.
pub fn fault(_: Fault) -> NtStatus {
    NtStatus::ACCESS_VIOLATION
}

unsafe extern "win64" fn dispatch(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine, with a packet that this routine then holds, and completes once.
    unsafe {
        let request = Request { irp, location: *irp::current_location(irp) };
        let outcome = match volume::current() {
            Some(volume) => serve(volume, &request),
            None => Err(NtStatus::DEVICE_NOT_READY),
        };
        let Outcome { status, information } = outcome.unwrap_or_else(|status| Outcome { status, information: 0 });
        completion::complete_with(irp, status, information)
    }
}

fn serve(volume: &Volume, request: &Request) -> Result<Outcome, NtStatus> {
    match request.location.major_function {
        MajorFunction::CREATE => create(volume, request),
        MajorFunction::READ => read(volume, request),
        MajorFunction::WRITE => write(volume, request),
        MajorFunction::QUERY_INFORMATION => volume.query_information(request),
        MajorFunction::SET_INFORMATION => volume.set_information(request),
        MajorFunction::DIRECTORY_CONTROL => volume.directory_control(request),
        MajorFunction::FLUSH_BUFFERS => {
            let (file, _) = volume.host_file(request.file())?;
            fs::fsync(&file).map_err(status::of)?;
            Ok(Outcome::success(0))
        }
        MajorFunction::CLEANUP => {
            volume.cleanup(request.file());
            Ok(Outcome::success(0))
        }
        MajorFunction::CLOSE => {
            volume.close(request.file());
            Ok(Outcome::success(0))
        }
        _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
    }
}

fn create(volume: &Volume, request: &Request) -> Result<Outcome, NtStatus> {
    /// Where the access asked for lies in the security context.
    const DESIRED_ACCESS: u64 = 0x10;
    if request.location.parameters[3] as u32 != 0 {
        return Err(NtStatus::EAS_NOT_SUPPORTED);
    }
    let file = request.file();
    let options = request.parameter(1);
    // SAFETY: the request's file object, whose name is read as a driver's string since filters replace it.
    let (related, name) = unsafe { ((*file).related_file_object, &raw const (*file).file_name as u64) };
    let create = Create {
        file,
        related,
        name: memory::read_unicode(name).map_err(fault)?,
        access: memory::read_value(request.location.parameters[0] + DESIRED_ACCESS).map_err(fault)?,
        disposition: options >> 24,
        options: options & 0x00FF_FFFF,
        attributes: u32::from(request.location.parameters[2] as u16),
        share: u32::from((request.location.parameters[2] >> 16) as u16),
    };
    volume.create(&create).map(Outcome::success)
}

fn read(volume: &Volume, request: &Request) -> Result<Outcome, NtStatus> {
    let (file, is_directory) = volume.host_file(request.file())?;
    let (length, offset) = (request.parameter(0) as usize, request.location.parameters[2]);
    if is_directory {
        return Err(NtStatus::INVALID_DEVICE_REQUEST);
    }
    if offset as i64 <= -1 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut chunk = vec![0; length.min(CHUNK)];
    let mut done = 0;
    while done < length {
        let wanted = (length - done).min(CHUNK);
        let got = io::pread(&file, &mut chunk[..wanted], offset + done as u64).map_err(status::of)?;
        if got == 0 {
            break;
        }
        memory::write(request.buffer() + done as u64, &chunk[..got]).map_err(fault)?;
        done += got;
    }
    if done == 0 && length > 0 {
        return Err(NtStatus::END_OF_FILE);
    }
    request.move_to(offset + done as u64);
    Ok(Outcome::success(done as u64))
}

fn write(volume: &Volume, request: &Request) -> Result<Outcome, NtStatus> {
    let (file, is_directory) = volume.host_file(request.file())?;
    let (length, mut offset) = (request.parameter(0) as usize, request.location.parameters[2]);
    if is_directory {
        return Err(NtStatus::INVALID_DEVICE_REQUEST);
    }
    if offset == END_OF_FILE || volume.only_appends(request.file()) {
        offset = folder::metadata(file.as_fd())?.size;
    }
    if i64::try_from(offset.saturating_add(length as u64)).is_err() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut chunk = vec![0; length.min(CHUNK)];
    let mut done = 0;
    while done < length {
        let wanted = (length - done).min(CHUNK);
        memory::read(request.buffer() + done as u64, &mut chunk[..wanted]).map_err(fault)?;
        let put = io::pwrite(&file, &chunk[..wanted], offset + done as u64).map_err(status::of)?;
        done += put;
        if put == 0 {
            return Err(NtStatus::DISK_FULL);
        }
    }
    request.move_to(offset + done as u64);
    Ok(Outcome::success(done as u64))
}

//! File objects: open, cleanup, close (C-070 to C-091, C-133 to C-153).

use nt_abi::dispatcher::DispatcherType;
use nt_abi::file::file_flags;
use nt_abi::io::{MAJOR_FUNCTIONS, device_flags, irp_flags};
use nt_abi::object::attributes;
use nt_abi::{
    DeviceObject, FileObject, Handle, IoStackLocation, IoStatusBlock, Irp, Irql, KernelEvent, MajorFunction, NtStatus,
    UnicodeString,
};
use nt_dispatcher::{event, wait};
use nt_object::{Found, ObjectType};
use trace::{Counter, Event, OpenKind};

use crate::build::{self, DeviceControl, Reply, Transfer};
use crate::device::{self, DEVICE};
use crate::ea;
use crate::irp::{self, Owner};

/// Longest EA buffer that is looked at; a TDI address needs a few dozen bytes.
const EA_MAX: u32 = 64 << 10;
/// Longest EA buffer that is copied without an allocation.
const SHORT_EA: usize = 128;
/// Longest name, in code units, that is recorded without an allocation.
const SHORT_NAME: usize = 64;

/// `FILE_SYNCHRONOUS_IO_ALERT` and `FILE_SYNCHRONOUS_IO_NONALERT` of the create options.
const SYNCHRONOUS_IO_ALERT: u32 = 0x10;
const SYNCHRONOUS_IO_NONALERT: u32 = 0x20;

/// Files.
pub static FILE: ObjectType = ObjectType::new("File", delete, handle_closed);

/// What `ZwCreateFile` is told.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// Full name.
    pub name: &'a [u16],
    /// `OBJ_xxx`.
    pub attributes: u32,
    /// Desired access.
    pub access: u32,
    /// Create disposition << 24 | create options, as the create parameters hold them.
    pub options: u32,
    /// File attributes.
    pub file_attributes: u16,
    /// `FILE_SHARE_xxx`.
    pub share: u16,
    /// The EA buffer's address and length in the caller's memory.
    pub ea: (u64, u32),
}

/// What an open came to.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Final status.
    pub status: NtStatus,
    /// `IoStatus.Information`: what the driver said, or the offset of a bad EA entry.
    pub information: u64,
    /// The handle, if the open succeeded.
    pub handle: Handle,
}

impl Opened {
    fn failed(status: NtStatus, information: u64) -> Self {
        Self { status, information, handle: Handle(0) }
    }
}

/// The security context a create request points to; transports do not look inside.
#[repr(C)]
struct SecurityContext {
    quality_of_service: u64,
    access_state: u64,
    desired_access: u32,
    full_create_options: u32,
}

/// Opens a device by name: a file object, a create request to the top of the device's stack, a handle.
///
/// IRQL: PASSIVE_LEVEL.
pub fn open(open: &Open<'_>, caller: u64) -> Opened {
    finish_open(open, find_device(open.name).and_then(|target| open_file(open, target, caller)))
}

/// As [`open`], by a name relative to an open file: on the same device, which is told what the name is relative to.
///
/// IRQL: PASSIVE_LEVEL.
pub fn open_relative(root: Handle, open: &Open<'_>, caller: u64) -> Opened {
    let (body, _) = match nt_object::reference_by_handle(root, Some(FILE.block())) {
        Ok(root) => root,
        Err(status) => return finish_open(open, Err((status, 0))),
    };
    let related = body as *mut FileObject;
    // SAFETY: referenced; a file object holds its device.
    let device = unsafe { device::of_file(related) };
    nt_object::reference(device as u64);
    let opened = finish_open(open, open_file(open, Target { device, rest: open.name.to_vec(), related }, caller));
    nt_object::dereference(body);
    opened
}

/// What an open is for.
struct Target {
    /// Referenced for the open.
    device: *mut DeviceObject,
    /// What the file is called on it.
    rest: Vec<u16>,
    /// The file that the name is relative to, or null.
    related: *mut FileObject,
}

fn find_device(name: &[u16]) -> Result<Target, (NtStatus, u64)> {
    let Found { body, rest } = nt_object::lookup(name).map_err(|status| (status, 0))?;
    let is_device = nt_object::type_of(body).is_some_and(|kind| std::ptr::eq(kind, &DEVICE));
    if !is_device || !nt_object::try_reference(body) {
        return Err((NtStatus::OBJECT_TYPE_MISMATCH, 0));
    }
    Ok(Target { device: body as *mut DeviceObject, rest, related: std::ptr::null_mut() })
}

/// Records an open that failed.
fn finish_open(open: &Open<'_>, outcome: Result<Opened, (NtStatus, u64)>) -> Opened {
    let opened = outcome.unwrap_or_else(|(status, information)| Opened::failed(status, information));
    if opened.handle.0 == 0 {
        let name = String::from_utf16_lossy(open.name);
        let event =
            Event::FileOpened { file: 0, device: 0, handle: 0, status: opened.status.0, kind: OpenKind::Device };
        gate::record_with_text(event, &name);
    }
    opened
}

fn open_file(open: &Open<'_>, target: Target, caller: u64) -> Result<Opened, (NtStatus, u64)> {
    let plain = |status| (status, 0);
    let Target { device, rest, related } = target;
    let body = device as u64;
    let mut ea = EaList::copy(open.ea).inspect_err(|_| {
        nt_object::dereference(body);
    })?;
    // SAFETY: referenced above.
    let is_taken = unsafe { (*device).flags & device_flags::EXCLUSIVE != 0 && device::open_count(device) > 0 };
    let file = if is_taken { None } else { new_file(device, &rest, open, caller) };
    let Some(file) = file else {
        nt_object::dereference(body);
        let status = if is_taken { NtStatus::ACCESS_DENIED } else { NtStatus::INSUFFICIENT_RESOURCES };
        return Err(plain(status));
    };
    // SAFETY: a file object of our own, over a referenced device. What it is relative to is looked at by the create
    // only: it is referenced no longer than that.
    let outcome = unsafe {
        (*file).related_file_object = related;
        let outcome = send_create(file, open, ea.bytes_mut());
        (*file).related_file_object = std::ptr::null_mut();
        outcome
    };
    if !outcome.status.is_success() {
        // SAFETY: as above. Without a device the deletion sends nothing (C-081).
        unsafe { forget_device(file) };
        nt_object::dereference(file as u64);
        return Err((outcome.status, outcome.information));
    }
    let kernel = open.attributes & attributes::KERNEL_HANDLE != 0;
    let handle = nt_object::insert(file as u64, open.access, kernel, caller);
    // From here on the handle's reference keeps the file object; without one this sends CLEANUP and CLOSE.
    // SAFETY: as above.
    let kind = unsafe { kind_of(file) };
    if handle.is_some() {
        // SAFETY: as above.
        unsafe { (*file).flags |= file_flags::HANDLE_CREATED };
        gate::count(Counter::Opens, 1);
        let event = Event::FileOpened {
            file: file as u64,
            device: device as u64,
            handle: handle.map_or(0, |handle| handle.0),
            status: outcome.status.0,
            kind,
        };
        record_with_name(event, open.name);
    }
    nt_object::dereference(file as u64);
    let handle = handle.ok_or(plain(NtStatus::INSUFFICIENT_RESOURCES))?;
    Ok(Opened { status: outcome.status, information: outcome.information, handle })
}

/// Records an event with a name. Opens are frequent, so a short one is not allocated for.
fn record_with_name(event: Event, name: &[u16]) {
    let mut text = [0; 3 * SHORT_NAME];
    if name.len() > SHORT_NAME {
        return gate::record_with_text(event, &String::from_utf16_lossy(name));
    }
    let mut end = 0;
    for character in char::decode_utf16(name.iter().copied()) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        end += character.encode_utf8(&mut text[end..]).len();
    }
    gate::record_with_text(event, std::str::from_utf8(&text[..end]).unwrap_or_default());
}

/// What the transport made of the open, by the convention of `FsContext2` (C-089).
unsafe fn kind_of(file: *mut FileObject) -> OpenKind {
    // SAFETY: the caller's file object.
    match unsafe { (*file).fs_context2 } {
        1 => OpenKind::TransportAddress,
        2 => OpenKind::ConnectionEndpoint,
        3 => OpenKind::ControlChannel,
        _ => OpenKind::Device,
    }
}

/// A copy of the caller's EA buffer.
struct EaList {
    length: usize,
    short: [u8; SHORT_EA],
    /// Used instead for long ones.
    long: Vec<u8>,
}

impl EaList {
    /// Copied and checked (C-033 to C-036).
    fn copy((address, length): (u64, u32)) -> Result<Self, (NtStatus, u64)> {
        let mut list = Self { length: 0, short: [0; SHORT_EA], long: Vec::new() };
        if address == 0 || length == 0 {
            return Ok(list);
        }
        if length > EA_MAX {
            return Err((NtStatus::INVALID_PARAMETER, 0));
        }
        list.length = length as usize;
        if list.length > SHORT_EA {
            list.long.resize(list.length, 0);
        }
        gate::memory::read(address, list.bytes_mut()).map_err(|_| (NtStatus::ACCESS_VIOLATION, 0))?;
        ea::check(list.bytes_mut()).map_err(|offset| (NtStatus::EA_LIST_INCONSISTENT, offset as u64))?;
        Ok(list)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self.short.get_mut(..self.length) {
            Some(short) => short,
            None => &mut self.long,
        }
    }
}

fn new_file(device: *mut DeviceObject, rest: &[u16], open: &Open<'_>, caller: u64) -> Option<*mut FileObject> {
    let file = nt_object::create(&FILE, size_of::<FileObject>() as u64, caller)? as *mut FileObject;
    // SAFETY: a new body of this size; the device is referenced.
    unsafe {
        (*file).kind = FileObject::TYPE;
        (*file).size = size_of::<FileObject>() as i16;
        (*file).device_object = device;
        if open.options & (SYNCHRONOUS_IO_ALERT | SYNCHRONOUS_IO_NONALERT) != 0 {
            (*file).flags |= file_flags::SYNCHRONOUS_IO;
        }
        (*file).shared_read = u8::from(open.share & 1 != 0);
        (*file).shared_write = u8::from(open.share & 2 != 0);
        (*file).shared_delete = u8::from(open.share & 4 != 0);
        (*file).file_name = owned_string(rest);
        event::initialize(&raw mut (*file).lock, DispatcherType::SYNCHRONIZATION_EVENT, false);
        event::initialize(&raw mut (*file).event, DispatcherType::NOTIFICATION_EVENT, false);
        device::count_open(device, 1);
    }
    Some(file)
}

/// A string in a buffer of its own.
fn owned_string(units: &[u16]) -> UnicodeString {
    if units.is_empty() {
        return UnicodeString::EMPTY;
    }
    let length = (units.len() * 2) as u16;
    let buffer = Box::into_raw(units.to_vec().into_boxed_slice()) as *mut u16;
    UnicodeString { length, maximum_length: length, _pad: 0, buffer }
}

/// Lets go of a file object's device.
unsafe fn forget_device(file: *mut FileObject) {
    // SAFETY: the caller's file object, which nobody uses any more. The name's buffer stays: filters replace it,
    // so it cannot be told whose it is now, and names that go on behind a device are rare.
    unsafe {
        let device = device::of_file(file);
        (*file).device_object = std::ptr::null_mut();
        (*file).file_name = UnicodeString::EMPTY;
        device::count_open(device, -1);
        nt_object::dereference(device as u64);
    }
}

unsafe fn send_create(file: *mut FileObject, open: &Open<'_>, ea: &mut [u8]) -> IoStatusBlock {
    let context = SecurityContext {
        quality_of_service: 0,
        access_state: 0,
        desired_access: open.access,
        full_create_options: open.options & 0x00FF_FFFF,
    };
    let system_buffer = if ea.is_empty() { 0 } else { ea.as_mut_ptr() as u64 };
    // SAFETY: the caller's file object; the context and the EA copy live until the request is complete.
    unsafe {
        send(file, MajorFunction::CREATE, |irp, location| {
            (*irp).flags = irp_flags::CREATE_OPERATION | irp_flags::SYNCHRONOUS_API;
            (*irp).system_buffer = system_buffer;
            (*location).parameters = [
                std::ptr::from_ref(&context) as u64,
                open.options.into(),
                u64::from(open.file_attributes) | u64::from(open.share) << 16,
                ea.len() as u64,
            ];
        })
    }
}

/// Sends a request of the I/O manager's own to the top of the file's device stack and waits for its end, also
/// when it was pended (C-147 to C-150, K-057).
unsafe fn send(
    file: *mut FileObject,
    major: MajorFunction,
    fill: impl FnOnce(*mut Irp, *mut IoStackLocation),
) -> IoStatusBlock {
    // Counted here and not where requests are sent, because filters send them on.
    match major {
        MajorFunction::CLEANUP => gate::count(Counter::Cleanups, 1),
        MajorFunction::CLOSE => gate::count(Counter::Closes, 1),
        _ => {}
    }
    // SAFETY: the caller's file object; event and status block live until the request is complete.
    unsafe {
        let device = device::related(file);
        let Some(irp) = irp::allocate((*device).stack_size, Owner::Manager, 0) else {
            return IoStatusBlock::new(NtStatus::INSUFFICIENT_RESOURCES, 0);
        };
        let mut done: KernelEvent = std::mem::zeroed();
        event::initialize(&mut done, DispatcherType::NOTIFICATION_EVENT, false);
        let location = irp::next_location(irp);
        (*location).major_function = major;
        (*location).file_object = file;
        (*irp).user_event = &mut done;
        (*irp).user_iosb = &raw mut (*irp).io_status;
        (*irp).thread = gate::thread::current_thread_object();
        (*irp).original_file_object = file;
        fill(irp, location);
        if !send_to_its_end(device, irp, &mut done) {
            return IoStatusBlock::new(NtStatus::UNHANDLED_EXCEPTION, 0);
        }
        let outcome = (*irp).io_status;
        irp::free(irp);
        outcome
    }
}

/// Sends a packet and waits until it is complete. A driver that neither completes it nor says that it is pending has
/// lost it (K-053): that is a finding, and the sender goes on with what the dispatch routine returned.
///
/// `false` if an exception passed the dispatch routine first. Drivers below may still have the packet, so it is left to them,
/// and nobody is told of its end.
unsafe fn send_to_its_end(device: *mut DeviceObject, irp: *mut Irp, done: &mut KernelEvent) -> bool {
    let done = std::ptr::from_mut(done);
    // SAFETY: the caller's packet, and its event.
    unsafe {
        let major = (*irp::next_location(irp)).major_function;
        let status = irp::call_driver(device, irp);
        if status == NtStatus::PENDING {
            wait::wait_single(done as u64, None);
        } else if event::read(done) == 0 {
            if gate::seh::is_leaving() {
                (*irp).user_event = std::ptr::null_mut();
                (*irp).user_iosb = std::ptr::null_mut();
                return false;
            }
            let routine = (*device::driver(device)).major_function[usize::from(major.0) % MAJOR_FUNCTIONS];
            let message = format_args!(
                "the dispatch routine for {major:?} returned {status:?} without having completed, forwarded or pended \
                 the request"
            );
            gate::finding("K-053", message, routine);
            (*irp).io_status = IoStatusBlock::new(status, 0);
        }
    }
    true
}

/// A handle of a file object was closed: at the last one CLEANUP goes out (C-133).
fn handle_closed(body: u64, remaining: i64) {
    if remaining == 0 {
        // SAFETY: the handle's reference still stands.
        unsafe { cleanup(body as *mut FileObject) };
    }
}

unsafe fn cleanup(file: *mut FileObject) {
    // SAFETY: the caller's live file object.
    unsafe {
        send(file, MajorFunction::CLEANUP, |irp, _| {
            (*irp).flags = irp_flags::CLOSE_OPERATION | irp_flags::SYNCHRONOUS_API;
        });
        (*file).flags |= file_flags::CLEANUP_COMPLETE;
    }
}

/// The last reference of a file object is gone: CLOSE goes out (C-134), after a CLEANUP if there never was a
/// handle (C-138).
fn delete(body: u64) {
    let file = body as *mut FileObject;
    // SAFETY: the object is being deleted by us and its memory stays valid until we return.
    unsafe {
        if (*file).device_object.is_null() {
            return;
        }
        if (*file).flags & file_flags::CLEANUP_COMPLETE == 0 {
            cleanup(file);
        }
        send(file, MajorFunction::CLOSE, |irp, _| {
            (*irp).flags = irp_flags::CLOSE_OPERATION | irp_flags::SYNCHRONOUS_API;
        });
        forget_device(file);
    }
    gate::record(Event::FileDeleted { file: body });
}

/// Closes a handle, of whatever type.
///
/// Above PASSIVE_LEVEL this is a finding (C-129); it is then done at PASSIVE_LEVEL all the same, because
/// neither a lost handle nor a deadlock would help anybody.
pub fn close(handle: Handle) -> NtStatus {
    let level = gate::irql();
    if level > Irql::PASSIVE {
        gate::finding(
            "C-129",
            format_args!("ZwClose was called at {level:?}: it is a PASSIVE_LEVEL call"),
            gate::caller(),
        );
        gate::set_irql(Irql::PASSIVE);
    }
    let closed = nt_object::close(handle);
    gate::set_irql(level);
    match closed {
        Ok(_) => NtStatus::SUCCESS,
        Err(status) => status,
    }
}

/// Sends a request of the file's on the caller's behalf and waits for its end: `build` makes the packet.
///
/// # Errors
/// STATUS_INVALID_HANDLE or STATUS_OBJECT_TYPE_MISMATCH for a handle of no use, or why no packet could be made.
pub(crate) fn send_and_wait(
    handle: Handle,
    build: impl FnOnce(*mut DeviceObject, Reply) -> Result<*mut Irp, NtStatus>,
) -> Result<IoStatusBlock, NtStatus> {
    let (body, _) = nt_object::reference_by_handle(handle, Some(FILE.block()))?;
    // SAFETY: the file is referenced.
    let outcome = unsafe { send_and_wait_on(body as *mut FileObject, build) };
    nt_object::dereference(body);
    outcome
}

/// [`send_and_wait`] for a file object that the caller holds.
///
/// # Safety
/// `file` is a referenced file object.
pub(crate) unsafe fn send_and_wait_on(
    file: *mut FileObject,
    build: impl FnOnce(*mut DeviceObject, Reply) -> Result<*mut Irp, NtStatus>,
) -> Result<IoStatusBlock, NtStatus> {
    // SAFETY: the caller's promise; the event and the block live until the request is complete.
    unsafe {
        let device = device::related(file);
        let mut done: KernelEvent = std::mem::zeroed();
        event::initialize(&mut done, DispatcherType::NOTIFICATION_EVENT, false);
        let mut iosb = IoStatusBlock::new(NtStatus::PENDING, 0);
        let irp = build(device, Reply { event: &mut done, iosb: &mut iosb })?;
        (*irp::next_location(irp)).file_object = file;
        (*irp).original_file_object = file;
        if !send_to_its_end(device, irp, &mut done) {
            return Err(NtStatus::UNHANDLED_EXCEPTION);
        }
        if iosb.status == NtStatus::PENDING {
            iosb = (*irp).io_status;
        }
        irp::free(irp);
        Ok(iosb)
    }
}

/// The routine that requests of a kind for the file's device go to, 0 if the handle is of no use. For reports.
pub fn dispatch_routine(handle: Handle, major: MajorFunction) -> u64 {
    let Ok((body, _)) = nt_object::reference_by_handle(handle, Some(FILE.block())) else { return 0 };
    // SAFETY: the file is referenced, and so is its device by it.
    let routine = unsafe {
        let device = device::related(body as *mut FileObject);
        let driver = if device.is_null() { std::ptr::null_mut() } else { device::driver(device) };
        driver.as_ref().map_or(0, |driver| driver.major_function[usize::from(major.0)])
    };
    nt_object::dereference(body);
    routine
}

/// Sends a device control request on behalf of the command line and waits for it.
///
/// # Errors
/// Why the handle is of no use.
pub fn device_control(handle: Handle, code: u32, input: &[u8], output: &mut [u8]) -> Result<IoStatusBlock, NtStatus> {
    let request = DeviceControl {
        code,
        input: (input.as_ptr() as u64, input.len() as u32),
        output: (output.as_mut_ptr() as u64, output.len() as u32),
        major: MajorFunction::DEVICE_CONTROL,
    };
    // SAFETY: the buffers live until the request is complete.
    send_and_wait(handle, |device, reply| unsafe { build::device_control(device, request, reply, Owner::Manager, 0) })
}

/// Sends a read on behalf of the command line and waits for it.
///
/// # Errors
/// As [`device_control`].
pub fn read(handle: Handle, buffer: &mut [u8], offset: u64) -> Result<IoStatusBlock, NtStatus> {
    let buffer = (buffer.as_mut_ptr() as u64, buffer.len() as u32);
    let request = Transfer { major: MajorFunction::READ, buffer, offset, key: 0 };
    // SAFETY: the buffer lives until the request is complete.
    send_and_wait(handle, |device, reply| unsafe { build::transfer(device, request, reply, Owner::Manager, 0) })
}

/// Sends a write on behalf of the command line and waits for it.
///
/// # Errors
/// As [`device_control`].
pub fn write(handle: Handle, buffer: &[u8], offset: u64) -> Result<IoStatusBlock, NtStatus> {
    let buffer = (buffer.as_ptr() as u64, buffer.len() as u32);
    let request = Transfer { major: MajorFunction::WRITE, buffer, offset, key: 0 };
    // SAFETY: the buffer lives until the request is complete.
    send_and_wait(handle, |device, reply| unsafe { build::transfer(device, request, reply, Owner::Manager, 0) })
}

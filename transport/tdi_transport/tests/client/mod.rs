//! A TDI client in Rust: opens files, sends IRPs through the device stack, registers win64 handlers.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod handlers;

use std::cell::UnsafeCell;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use net_api::Network;
use nt_abi::dispatcher::DispatcherType;
use nt_abi::io::control;
use nt_abi::mdl::mdl_flags;
use nt_abi::object::attributes;
use nt_abi::tdi::{ConnectionInformation, TdiEvent, TdiRequest, disconnect_flags, receive_flags};
use nt_abi::{
    DeviceObject, FileObject, Handle, IoStatusBlock, Irp, KernelEvent, MajorFunction, Mdl, NtStatus, ObjectAttributes,
    UnicodeString, ea,
};
use nt_dispatcher::{event, wait};
use nt_io::file::{self, FILE};
use nt_io::irp::{self, Owner};
use nt_io::{cancel, device};
use tdi_core::transport_address;
use tdi_transport::{Leftover, Transport};

/// One second in NT's relative form.
pub const SECOND: i64 = -10_000_000;
/// A wait that only fails when something is lost.
pub const LONG: i64 = 30 * SECOND;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `test` on a kernel thread against a transport over `network`; at the end nothing may be left.
pub fn with_transport(network: Arc<dyn Network>, test: impl FnOnce(&'static Transport) + Send) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    on_kernel_thread(|| {
        let _ = gate::fault::install();
        nt_object::set_deferred_delete(|body, delete| {
            nt_dispatcher::work::queue(Box::new(move || delete(body)));
        });
        let transport = tdi_transport::start(network, &tdi_core::Config::DEFAULT).expect("a transport");
        let running = Running(transport);
        test(transport);
        nt_dispatcher::work::drain();
        assert_eq!(leftovers(transport), []);
        drop(running);
        let mut left = 0;
        irp::for_each_live(|_, _| left += 1);
        assert_eq!(left, 0, "packets");
    });
}

/// Stops the transport, also when the test fails, so that the next test can start one.
struct Running(&'static Transport);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Whether this process was started by [`again`].
pub fn is_child() -> bool {
    std::env::var_os("DRYDOCK_TEST_CHILD").is_some()
}

/// Runs the test `name` of this program in a process of its own, where [`is_child`] is true.
pub fn again(name: &str) -> Output {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("DRYDOCK_TEST_CHILD", "1")
        .output()
        .expect("this program can be started again")
}

/// Runs the test `name` again and gives the rules of its findings in order.
#[track_caller]
pub fn findings_of(name: &str) -> Vec<String> {
    let output = again(name);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let rule = |line: &str| Some(line.strip_prefix("finding ")?.split(' ').next()?.to_owned());
    said.lines().filter_map(rule).collect()
}

/// Runs `work` on a kernel thread of its own.
pub fn on_kernel_thread(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = || {
            nt_dispatcher::thread::adopt_current().expect("a kernel thread");
            work();
        };
        scope.spawn(run).join().expect("the test's thread");
    });
}

pub fn leftovers(transport: &Transport) -> Vec<Leftover> {
    let mut all = Vec::new();
    transport.for_each_leftover(|leftover| all.push(leftover));
    all
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// One EA entry.
pub fn ea_entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut entry = 0_u32.to_le_bytes().to_vec();
    entry.extend([0, name.len() as u8]);
    entry.extend((value.len() as u16).to_le_bytes());
    entry.extend(name);
    entry.push(0);
    entry.extend(value);
    entry
}

/// The EA list that opens a transport address.
pub fn address_ea(address: SocketAddr) -> Vec<u8> {
    ea_entry(ea::TRANSPORT_ADDRESS, transport_address::encode(address).as_bytes())
}

/// The EA list that opens a connection endpoint.
pub fn endpoint_ea(context: u64) -> Vec<u8> {
    ea_entry(ea::CONNECTION_CONTEXT, &context.to_le_bytes())
}

/// An open file: a handle and a reference, as TDI clients hold them.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub handle: Handle,
    pub object: *mut FileObject,
}

// SAFETY: what tests do with it from several threads is what drivers do.
unsafe impl Send for File {}
// SAFETY: as above.
unsafe impl Sync for File {}

/// Which of the two goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    HandleFirst,
    ReferenceFirst,
}

/// How `ZwCreateFile` is called, apart from name and EA list.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub access: u32,
    pub object_attributes: u32,
    pub file_attributes: u32,
    pub share: u16,
    pub disposition: u32,
    pub options: u32,
}

impl How {
    /// FILE_OPEN with GENERIC_READ | GENERIC_WRITE | SYNCHRONIZE.
    pub const USUAL: Self = Self {
        access: 0xC010_0000,
        object_attributes: attributes::KERNEL_HANDLE | attributes::CASE_INSENSITIVE,
        file_attributes: 0x80,
        share: 0,
        disposition: 1,
        options: 0,
    };
}

/// Calls an export of the I/O manager as drivers do: by its row in the table.
pub fn call(name: &str, arguments: &[u64]) -> u64 {
    let mut rows = nt_io::TABLES.iter().copied().flatten();
    let export = rows.find(|row| row.name == name).unwrap_or_else(|| panic!("{name} is not exported"));
    // SAFETY: tests pass what the function's row in the table says.
    unsafe { gate::call::call_n(export.address(), arguments) }
}

/// Calls `ZwCreateFile`. What it returns, the status block and the
/// handle, of which the last two are not touched if the export does not.
pub fn zw_create_file(device: &str, list: &[u8], how: How) -> (NtStatus, IoStatusBlock, Handle) {
    let mut name = utf16(device);
    let bytes = (name.len() * 2) as u16;
    let mut object_name = UnicodeString { length: bytes, maximum_length: bytes, _pad: 0, buffer: name.as_mut_ptr() };
    let object_attributes = ObjectAttributes {
        length: size_of::<ObjectAttributes>() as u32,
        _pad: 0,
        root_directory: Handle(0),
        object_name: &raw mut object_name,
        attributes: how.object_attributes,
        _pad2: 0,
        security_descriptor: 0,
        security_quality_of_service: 0,
    };
    let (mut handle, mut iosb) = (Handle(0), IoStatusBlock::new(NtStatus(0xDEAD_BEEF), 0xDEAD_BEEF));
    let arguments = [
        &raw mut handle as u64,
        how.access.into(),
        &raw const object_attributes as u64,
        &raw mut iosb as u64,
        0,
        how.file_attributes.into(),
        how.share.into(),
        how.disposition.into(),
        how.options.into(),
        if list.is_empty() { 0 } else { list.as_ptr() as u64 },
        list.len() as u64,
    ];
    let status = call("ZwCreateFile", &arguments) as u32;
    (NtStatus(status), iosb, handle)
}

/// Opens a device with this EA list.
pub fn try_open_as(device: &str, list: &[u8], how: How) -> Result<File, NtStatus> {
    let (status, iosb, handle) = zw_create_file(device, list, how);
    assert_eq!(iosb.status, status);
    if !status.is_success() {
        assert_eq!(handle, Handle(0), "no handle of a failed open");
        return Err(status);
    }
    assert_eq!(iosb.information, 0, "C-079");
    let (body, _) = nt_object::reference_by_handle(handle, Some(FILE.block())).expect("the file object");
    Ok(File { handle, object: body as *mut FileObject })
}

/// Opens a device with this EA list and share access.
pub fn try_open(device: &str, list: &[u8], share: u16) -> Result<File, NtStatus> {
    try_open_as(device, list, How { share, ..How::USUAL })
}

#[track_caller]
pub fn open_address(local: &str) -> File {
    try_open(r"\Device\Tcp", &address_ea(local.parse().expect("an address")), 0).expect("an address")
}

#[track_caller]
pub fn open_endpoint(context: u64) -> File {
    try_open(r"\device\TCP", &endpoint_ea(context), 0).expect("an endpoint")
}

impl File {
    pub fn device(&self) -> *mut DeviceObject {
        // SAFETY: an open file.
        unsafe { device::related(self.object) }
    }

    pub fn close_handle(&self) {
        assert_eq!(file::close(self.handle), NtStatus::SUCCESS);
    }

    pub fn dereference(&self) {
        nt_object::dereference(self.object as u64);
    }

    pub fn close(&self, order: Order) {
        match order {
            Order::HandleFirst => {
                self.close_handle();
                self.dereference();
            }
            Order::ReferenceFirst => {
                self.dereference();
                self.close_handle();
            }
        }
    }
}

/// A buffer with the MDL chain that describes it, one member per part.
pub struct Buffer {
    pub bytes: Box<[u8]>,
    mdls: Box<[UnsafeCell<Mdl>]>,
}

// SAFETY: as for `File`.
unsafe impl Send for Buffer {}

impl Buffer {
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len();
        Self::in_parts(bytes, &[length])
    }

    /// A chain of members of these lengths.
    pub fn in_parts(bytes: Box<[u8]>, parts: &[usize]) -> Self {
        let mut offset = 0;
        let mut member = |&length: &usize| {
            let at = bytes.as_ptr() as u64 + offset as u64;
            offset += length;
            UnsafeCell::new(Mdl {
                next: ptr::null_mut(),
                size: size_of::<Mdl>() as i16,
                flags: mdl_flags::SOURCE_IS_NONPAGED_POOL,
                _pad: 0,
                process: 0,
                mapped_system_va: at,
                start_va: at & !0xFFF,
                byte_count: length as u32,
                byte_offset: (at & 0xFFF) as u32,
            })
        };
        let mdls: Box<[_]> = parts.iter().map(&mut member).collect();
        for pair in mdls.windows(2) {
            // SAFETY: nobody else knows the members yet.
            unsafe { (*pair[0].get()).next = pair[1].get() };
        }
        Self { bytes, mdls }
    }

    pub fn zeroed(length: usize) -> Self {
        Self::new(vec![0; length])
    }

    pub fn mdl(&self) -> *mut Mdl {
        self.mdls.first().map_or(ptr::null_mut(), UnsafeCell::get)
    }
}

/// A request of the client's own, on an IRP that it allocated and keeps.
pub struct Request {
    pub irp: *mut Irp,
    done: Box<UnsafeCell<KernelEvent>>,
    pub returned: NtStatus,
}

// SAFETY: as for `File`.
unsafe impl Send for Request {}
// SAFETY: as for `File`.
unsafe impl Sync for Request {}

unsafe extern "win64" fn signal(_device: *mut DeviceObject, _irp: *mut Irp, done: *mut KernelEvent) -> NtStatus {
    // SAFETY: the request's own event.
    unsafe { event::set(done) };
    NtStatus::MORE_PROCESSING_REQUIRED
}

impl Request {
    /// A packet for a device, with the request in its next location.
    pub fn new(file: &File, minor: TdiRequest, parameters: [u64; 4], mdl: *mut Mdl) -> Self {
        Self::with_spare_locations(file, minor, parameters, mdl, 0)
    }

    /// The same with so many locations more than the device needs.
    pub fn with_spare_locations(
        file: &File,
        minor: TdiRequest,
        parameters: [u64; 4],
        mdl: *mut Mdl,
        spare: i8,
    ) -> Self {
        let done: Box<UnsafeCell<KernelEvent>> = Box::default_event();
        // SAFETY: a packet of our own.
        unsafe {
            let irp = irp::allocate((*file.device()).stack_size + spare, Owner::Driver, 0).expect("a packet");
            let location = irp::next_location(irp);
            (*location).major_function = MajorFunction::INTERNAL_DEVICE_CONTROL;
            (*location).minor_function = minor.0;
            (*location).parameters = parameters;
            (*location).device_object = file.device();
            (*location).file_object = file.object;
            (*location).completion_routine = signal as *const () as u64;
            (*location).context = done.get() as u64;
            (*location).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
            (*irp).mdl_address = mdl;
            Self { irp, done, returned: NtStatus::PENDING }
        }
    }

    /// Replaces the completion routine.
    pub fn on_completion(self, routine: u64, context: u64) -> Self {
        // SAFETY: a packet of our own that was not sent yet.
        unsafe {
            let location = irp::next_location(self.irp);
            (*location).completion_routine = routine;
            (*location).context = context;
        }
        self
    }

    /// Sends it.
    pub fn send(mut self, file: &File) -> Self {
        // SAFETY: a filled packet of our own.
        self.returned = unsafe { irp::call_driver(file.device(), self.irp) };
        self
    }

    /// Makes it an IRP_MJ_DEVICE_CONTROL of a code with METHOD_NEITHER or METHOD_BUFFERED, as the I/O manager builds
    /// it from these buffers.
    fn into_control(self, code: u32, input: &[u8], output: &mut [u8]) -> Self {
        let place = |bytes: *const u8, length: usize| if length == 0 { 0 } else { bytes as u64 };
        let (from, to) = (place(input.as_ptr(), input.len()), place(output.as_ptr(), output.len()));
        let is_neither = code & 3 == 3;
        // SAFETY: a filled packet of our own, which was not sent.
        unsafe {
            let location = irp::next_location(self.irp);
            (*location).major_function = MajorFunction::DEVICE_CONTROL;
            (*location).minor_function = 0;
            let direct = if is_neither { from } else { 0 };
            (*location).parameters = [output.len() as u64, input.len() as u64, code.into(), direct];
            (*self.irp).user_buffer = to;
            (*self.irp).system_buffer = if is_neither { 0 } else { from };
        }
        self
    }

    /// Makes it one that an event handler can return (C-218).
    pub fn into_current(self) -> Self {
        // SAFETY: a filled packet of our own, which was not sent.
        unsafe {
            (*self.irp).current_location -= 1;
            (*self.irp).current_stack_location = irp::next_location(self.irp);
        }
        self
    }

    pub fn is_done(&self) -> bool {
        // SAFETY: initialised in `new`.
        unsafe { wait::wait_single(self.done.get() as u64, Some(0)) == NtStatus::SUCCESS }
    }

    /// Waits for its end. Status and information.
    #[track_caller]
    pub fn wait(&self) -> (NtStatus, u64) {
        // SAFETY: initialised in `new`; the packet is ours again afterwards.
        unsafe {
            assert_eq!(wait::wait_single(self.done.get() as u64, Some(LONG)), NtStatus::SUCCESS, "it never ended");
            let outcome = (*self.irp).io_status;
            if self.returned != NtStatus::PENDING {
                assert_eq!(self.returned, outcome.status, "C-573");
            }
            (outcome.status, outcome.information)
        }
    }

    pub fn cancel(&self) -> bool {
        // SAFETY: the packet exists as long as this.
        unsafe { cancel::cancel(self.irp) }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: as in `cancel`.
        unsafe { irp::free_by_driver(self.irp) }
    }
}

trait DefaultEvent {
    fn default_event() -> Self;
}

impl DefaultEvent for Box<UnsafeCell<KernelEvent>> {
    fn default_event() -> Self {
        // SAFETY: all bytes zero is a valid KernelEvent, and nobody else knows it yet.
        unsafe {
            let event = Box::new(UnsafeCell::new(std::mem::zeroed()));
            event::initialize(event.get(), DispatcherType::NOTIFICATION_EVENT, false);
            event
        }
    }
}

/// A TDI_CONNECTION_INFORMATION with an address buffer behind it.
pub struct Information {
    pub block: Box<ConnectionInformation>,
    pub address: Box<[u8]>,
}

impl Information {
    pub fn new(address: Box<[u8]>) -> Self {
        let block = ConnectionInformation {
            user_data_length: 0,
            _pad: 0,
            user_data: 0,
            options_length: 0,
            _pad2: 0,
            options: 0,
            remote_address_length: address.len() as i32,
            _pad3: 0,
            remote_address: address.as_ptr() as u64,
        };
        Self { block: Box::new(block), address }
    }

    pub fn of(address: SocketAddr) -> Self {
        Self::new(transport_address::encode(address).as_bytes().into())
    }

    pub fn pointer(&self) -> u64 {
        ptr::from_ref(&*self.block) as u64
    }
}

/// Requests as clients send them, to the end.
impl File {
    pub fn request(&self, minor: TdiRequest, parameters: [u64; 4], mdl: *mut Mdl) -> Request {
        Request::new(self, minor, parameters, mdl).send(self)
    }

    #[track_caller]
    pub fn associate(&self, address: &File) -> NtStatus {
        self.request(TdiRequest::ASSOCIATE_ADDRESS, [address.handle.0, 0, 0, 0], ptr::null_mut()).wait().0
    }

    #[track_caller]
    pub fn disassociate(&self) -> NtStatus {
        self.request(TdiRequest::DISASSOCIATE_ADDRESS, [0; 4], ptr::null_mut()).wait().0
    }

    pub fn start_connect(&self, remote: &Information, timeout: Option<&i64>) -> Request {
        let timeout = timeout.map_or(0, |timeout| ptr::from_ref(timeout) as u64);
        // RequestFlags is garbage (C-190).
        let parameters = [0xDEAD_BEEF, remote.pointer(), 0, timeout];
        self.request(TdiRequest::CONNECT, parameters, ptr::null_mut())
    }

    #[track_caller]
    pub fn connect(&self, remote: SocketAddr) -> NtStatus {
        let remote = Information::of(remote);
        self.start_connect(&remote, None).wait().0
    }

    pub fn start_disconnect(&self, flags: u32, timeout: Option<&i64>) -> Request {
        let timeout = timeout.map_or(0, |timeout| ptr::from_ref(timeout) as u64);
        self.request(TdiRequest::DISCONNECT, [flags.into(), 0, 0, timeout], ptr::null_mut())
    }

    #[track_caller]
    pub fn disconnect(&self, flags: u32) -> NtStatus {
        let timeout = 20 * SECOND;
        self.start_disconnect(flags, Some(&timeout)).wait().0
    }

    #[track_caller]
    pub fn abort(&self) -> NtStatus {
        self.disconnect(disconnect_flags::ABORT)
    }

    #[track_caller]
    pub fn release(&self) -> NtStatus {
        self.disconnect(disconnect_flags::RELEASE)
    }

    pub fn start_send(&self, buffer: &Buffer, length: usize, flags: u32) -> Request {
        let word = length as u64 | u64::from(flags) << 32;
        self.request(TdiRequest::SEND, [word, 0, 0, 0], buffer.mdl())
    }

    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> (NtStatus, u64) {
        let buffer = Buffer::new(bytes);
        self.start_send(&buffer, bytes.len(), 0).wait()
    }

    pub fn start_receive(&self, buffer: &Buffer, flags: u32) -> Request {
        let word = buffer.bytes.len() as u64 | u64::from(flags) << 32;
        self.request(TdiRequest::RECEIVE, [word, 0, 0, 0], buffer.mdl())
    }

    /// One TDI_RECEIVE.
    #[track_caller]
    pub fn receive(&self, room: usize) -> Result<Vec<u8>, NtStatus> {
        let buffer = Buffer::zeroed(room);
        match self.start_receive(&buffer, receive_flags::NORMAL).wait() {
            (NtStatus::SUCCESS, count) => Ok(buffer.bytes[..count as usize].to_vec()),
            (status, _) => Err(status),
        }
    }

    /// Receives until the remote node releases.
    #[track_caller]
    pub fn receive_all(&self) -> Result<Vec<u8>, NtStatus> {
        let mut all = Vec::new();
        loop {
            let part = self.receive(64 << 10)?;
            if part.is_empty() {
                return Ok(all);
            }
            all.extend(part);
        }
    }

    #[track_caller]
    pub fn set_handler(&self, event: TdiEvent, routine: u64, context: u64) -> NtStatus {
        let parameters = [event.0.into(), routine, context, 0];
        self.request(TdiRequest::SET_EVENT_HANDLER, parameters, ptr::null_mut()).wait().0
    }

    /// A device control request. The number is how many bytes came back.
    #[track_caller]
    pub fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> (NtStatus, u64) {
        let request = Request::new(self, TdiRequest(0), nothing(), ptr::null_mut());
        request.into_control(code, input, output).send(self).wait()
    }

    /// TDI_QUERY_INFORMATION.
    #[track_caller]
    pub fn query(&self, kind: u32, room: usize) -> (NtStatus, Vec<u8>) {
        let buffer = Buffer::zeroed(room);
        let (status, count) = self.request(TdiRequest::QUERY_INFORMATION, [kind.into(), 0, 0, 0], buffer.mdl()).wait();
        (status, buffer.bytes[..count as usize].to_vec())
    }
}

/// An address and an endpoint that are associated.
#[track_caller]
pub fn open_pair(context: u64) -> (File, File) {
    let address = open_address("0.0.0.0:0");
    let endpoint = open_endpoint(context);
    assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
    (address, endpoint)
}

/// Parameters of another file's request, for statuses on the wrong kind.
pub fn nothing() -> [u64; 4] {
    [0; 4]
}

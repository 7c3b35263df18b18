//! Clients and providers meet in tdi.sys, through its export rows as drivers call them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nt_abi::{Irql, NtStatus, UnicodeString};
use proves::proves;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// What the client's handlers were told, in order.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn on_kernel_thread(test: impl FnOnce() + Send) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    told();
    thread::scope(|scope| {
        let run = || {
            nt_dispatcher::thread::adopt_current().expect("a kernel thread");
            test();
        };
        scope.spawn(run).join().expect("the test's thread");
    });
}

fn told() -> Vec<String> {
    std::mem::take(&mut *TOLD.lock().unwrap_or_else(PoisonError::into_inner))
}

fn tell(text: String) {
    assert_eq!(gate::irql(), Irql::PASSIVE, "D-250");
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

fn call(name: &str, arguments: &[u64]) -> u64 {
    let export = tdi_library::resolve("tdi.sys", name).expect(name);
    // SAFETY: tests pass what the function's row in the table says.
    unsafe { gate::call::call_n(export.address(), arguments) }
}

fn status(name: &str, arguments: &[u64]) -> NtStatus {
    NtStatus(call(name, arguments) as u32)
}

/// A registration call, whose last argument is where the handle goes.
fn register(name: &str, arguments: &[u64]) -> u64 {
    let mut handle = 0_u64;
    let all = [arguments, &[&raw mut handle as u64]].concat();
    assert_eq!(status(name, &all), NtStatus::SUCCESS, "{name}");
    handle
}

struct Name {
    string: Box<UnicodeString>,
    _units: Vec<u16>,
}

impl Name {
    fn new(text: &str) -> Self {
        let mut units: Vec<u16> = text.encode_utf16().collect();
        let length = (units.len() * 2) as u16;
        let string = UnicodeString { length, maximum_length: length, _pad: 0, buffer: units.as_mut_ptr() };
        Self { string: Box::new(string), _units: units }
    }

    fn at(&self) -> u64 {
        std::ptr::from_ref(&*self.string) as u64
    }
}

fn text(name: u64) -> String {
    if name == 0 {
        return String::new();
    }
    String::from_utf16(&gate::memory::read_unicode(name).expect("a string")).expect("UTF-16")
}

unsafe extern "win64" fn binding(opcode: u32, device: u64, bindings: *const u16) {
    let list = match bindings.is_null() {
        true => String::new(),
        // SAFETY: a multi-string of the library.
        false => String::from_utf16_lossy(&unsafe { units_until_nul(bindings) }),
    };
    assert_eq!(list, text(device), "each device is bound to itself");
    tell(format!("{opcode} {}", text(device)));
}

unsafe fn units_until_nul(from: *const u16) -> Vec<u16> {
    // SAFETY: the caller's string ends with a NUL.
    (0..).map(|at| unsafe { *from.add(at) }).take_while(|&unit| unit != 0).collect()
}

unsafe extern "win64" fn add_address(address: *const u8, device: u64, context: *const u8) {
    // SAFETY: a TA_ADDRESS and a TDI_PNP_CONTEXT of this test.
    unsafe { tell(format!("add {} {} {}", *address.add(4), text(device), *context.add(2))) };
}

unsafe extern "win64" fn delete_address(address: *const u8, device: u64, context: *const u8) {
    // SAFETY: as above.
    unsafe { tell(format!("delete {} {} {}", *address.add(4), text(device), *context.add(2))) };
}

/// A TDI20_CLIENT_INTERFACE_INFO.
fn information(power: u64) -> [u64; 7] {
    let add: unsafe extern "win64" fn(*const u8, u64, *const u8) = add_address;
    [2, 0, power, binding as *const () as u64, 0, add as *const () as u64, delete_address as *const () as u64]
}

fn register_client(power: u64) -> u64 {
    // Drivers make up paths that no service has; nobody looks it up.
    let name = Name::new(r"\Registry\Machine\System\CurrentControlSet\Services\NoSuchService");
    let mut information = information(power);
    information[1] = name.at();
    register("TdiRegisterPnPHandlers", &[information.as_ptr() as u64, 56])
}

#[proves("D-240", "D-241", "D-243", "D-244", "D-246", "D-247", "D-251", "D-255", "D-254")]
#[test]
fn client_hears_of_what_is_there_and_of_what_comes_and_goes() {
    on_kernel_thread(|| {
        let (provider_name, tcp, udp) = (Name::new("Tcpip"), Name::new(r"\Device\Tcp"), Name::new(r"\Device\Udp"));
        let provider = register("TdiRegisterProvider", &[provider_name.at()]);
        let first = register("TdiRegisterDeviceObject", &[tcp.at()]);
        let device = Name::new(r"\DEVICE\TCPIP_{0}");
        let (address, context) = ([1_u8, 0, 2, 0, 77], [4_u8, 0, 2, 0]);
        let add = |name: &Name| {
            let arguments = [address.as_ptr() as u64, name.at(), context.as_ptr() as u64];
            register("TdiRegisterNetAddress", &arguments)
        };
        let known = add(&device);
        let client = register_client(0);
        assert_eq!(told(), [r"1 \Device\Tcp", r"add 77 \DEVICE\TCPIP_{0} 2"]);
        let second = register("TdiRegisterDeviceObject", &[udp.at()]);
        assert_eq!(status("TdiProviderReady", &[provider]), NtStatus::SUCCESS);
        assert_eq!(told(), [r"1 \Device\Udp", "4 Tcpip", "5 "]);
        assert_eq!(status("TdiEnumerateAddresses", &[client]), NtStatus::SUCCESS);
        assert_eq!(told(), [r"add 77 \DEVICE\TCPIP_{0} 2"]);
        assert_eq!(status("TdiDeregisterNetAddress", &[known]), NtStatus::SUCCESS);
        assert_eq!(status("TdiDeregisterDeviceObject", &[first]), NtStatus::SUCCESS);
        assert_eq!(told(), [r"delete 77 \DEVICE\TCPIP_{0} 2", r"2 \Device\Tcp"]);
        let late = register_client(0);
        assert_eq!(told(), [r"1 \Device\Udp", "4 Tcpip", "5 "]);
        for client in [client, late] {
            assert_eq!(status("TdiDeregisterPnPHandlers", &[client]), NtStatus::SUCCESS);
        }
        assert_eq!(status("TdiDeregisterDeviceObject", &[second]), NtStatus::SUCCESS);
        assert_eq!(status("TdiDeregisterProvider", &[provider]), NtStatus::SUCCESS);
        assert_eq!(told(), Vec::<String>::new());
        for name in ["TdiDeregisterPnPHandlers", "TdiDeregisterDeviceObject", "TdiDeregisterProvider"] {
            assert_eq!(status(name, &[client]), NtStatus::INVALID_HANDLE, "{name}");
        }
    });
}

#[proves("D-242")]
#[test]
fn registration_of_another_version_or_size_is_refused() {
    on_kernel_thread(|| {
        let mut information = information(0);
        let mut handle = 0_u64;
        let mut register = |information: &[u64; 7], size: u64| {
            let arguments = [information.as_ptr() as u64, size, &raw mut handle as u64];
            status("TdiRegisterPnPHandlers", &arguments)
        };
        assert_eq!(register(&information, 48), NtStatus(0xC001_0005));
        information[0] = 1;
        assert_eq!(register(&information, 56), NtStatus(0xC001_0004));
    });
}

static INSIDE: AtomicBool = AtomicBool::new(false);
static LEFT: AtomicBool = AtomicBool::new(false);

unsafe extern "win64" fn slow_bind(_device: u64) {
    INSIDE.store(true, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(20));
    LEFT.store(true, Ordering::SeqCst);
}

#[proves("D-254")]
#[test]
fn deregistration_waits_for_a_handler_that_runs_elsewhere() {
    on_kernel_thread(|| {
        let client = register("TdiRegisterNotificationHandler", &[slow_bind as *const () as u64, 0]);
        thread::scope(|scope| {
            scope.spawn(|| {
                nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                let name = Name::new(r"\Device\Slow");
                let device = register("TdiRegisterDeviceObject", &[name.at()]);
                assert_eq!(status("TdiDeregisterDeviceObject", &[device]), NtStatus::SUCCESS);
            });
            while !INSIDE.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            assert_eq!(status("TdiDeregisterNotificationHandler", &[client]), NtStatus::SUCCESS);
            assert!(LEFT.load(Ordering::SeqCst));
        });
    });
}

static OWN: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU32 = AtomicU32::new(0);

unsafe extern "win64" fn deregister_itself(_device: u64) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    assert_eq!(status("TdiDeregisterNotificationHandler", &[OWN.load(Ordering::SeqCst)]), NtStatus::SUCCESS);
}

#[proves("D-250")]
#[test]
fn handler_may_deregister_itself() {
    on_kernel_thread(|| {
        OWN.store(
            register("TdiRegisterNotificationHandler", &[deregister_itself as *const () as u64, 0]),
            Ordering::SeqCst,
        );
        let name = Name::new(r"\Device\Once");
        for _ in 0..2 {
            let device = register("TdiRegisterDeviceObject", &[name.at()]);
            assert_eq!(status("TdiDeregisterDeviceObject", &[device]), NtStatus::SUCCESS);
        }
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    });
}

static POWER_ANSWER: AtomicU32 = AtomicU32::new(0);

unsafe extern "win64" fn power(_device: u64, event: u64, first: u64, second: u64) -> NtStatus {
    tell(format!("power {event} {first} {second}"));
    NtStatus(POWER_ANSWER.load(Ordering::SeqCst))
}

unsafe extern "win64" fn provider_complete(event: u64, status: NtStatus) {
    tell(format!("complete {event} {status:?}"));
}

#[proves("D-252", "D-253")]
#[test]
fn provider_hears_when_the_last_client_has_answered() {
    on_kernel_thread(|| {
        let clients = [register_client(power as *const () as u64), register_client(0)];
        told();
        let name = Name::new(r"\Device\Tcp");
        let request = || status("TdiPnPPowerRequest", &[name.at(), 7, 1, 2, provider_complete as *const () as u64]);
        for answer in [NtStatus::SUCCESS, NtStatus::INSUFFICIENT_RESOURCES] {
            POWER_ANSWER.store(answer.0, Ordering::SeqCst);
            assert_eq!(request(), answer);
            assert_eq!(told(), ["power 7 1 2"]);
        }
        POWER_ANSWER.store(NtStatus::PENDING.0, Ordering::SeqCst);
        assert_eq!(request(), NtStatus::PENDING);
        told();
        call("TdiPnPPowerComplete", &[clients[0], 7, NtStatus::DEVICE_NOT_READY.0.into()]);
        assert_eq!(told(), ["complete 7 DEVICE_NOT_READY"]);
        for client in clients {
            assert_eq!(status("TdiDeregisterPnPHandlers", &[client]), NtStatus::SUCCESS);
        }
    });
}

//! Who offers transports, devices and addresses, and who wants to hear of them (section 12).
//!
//! Invariants:
//! - A client hears of everything that exists during its registration, and of every change after it, in the order in
//!   which the providers told (D-243, D-255).
//! - Handlers are called at PASSIVE_LEVEL with no lock held; they may come back (D-250).
//! - Once a client is deregistered none of its handlers runs or will run (D-254), except the one that deregistered it.
//!
//! Not modelled: binding lists from the registry; each device is bound to itself.

mod exports;
mod power;

use std::collections::BTreeMap;
use std::sync::PoisonError;

use gate::call;
use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::{KernelEvent, NtStatus, UnicodeString};
use nt_dispatcher::{event, wait};

pub use exports::TABLE;

/// What the binding handler is told (D-244).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Add = 1,
    Delete = 2,
    ProviderReady = 4,
    NetReady = 5,
}

/// A registration, as its owner holds it: an opaque number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registration(pub u64);

impl Registration {
    /// The number in front of the first.
    const BEFORE_FIRST: u64 = 0x7D1_0000;
}

/// A client's handlers; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handlers {
    /// `TDI_PNP_POWER_HANDLER`.
    pub power: u64,
    /// `TDI_BINDING_HANDLER`.
    pub binding: u64,
    /// `TDI_ADD_ADDRESS_HANDLER_V2`.
    pub add_address: u64,
    /// `TDI_DEL_ADDRESS_HANDLER_V2`.
    pub delete_address: u64,
    /// The older pair: bind and unbind.
    pub bind: u64,
    /// See [`Handlers::bind`].
    pub unbind: u64,
}

struct Client {
    handlers: Handlers,
    /// Threads that are in one of its handlers.
    callers: Vec<u64>,
    /// The event, on the stack of whoever waits for it, that is set when the last of them is back.
    idle: Option<u64>,
}

struct Address {
    device: Box<[u16]>,
    /// A TA_ADDRESS.
    address: Box<[u8]>,
    /// A TDI_PNP_CONTEXT, or nothing.
    context: Box<[u8]>,
}

/// Everything that is registered, by number, so in the order of registration.
#[derive(Default)]
struct Registry {
    last: u64,
    providers: BTreeMap<u64, (Box<[u16]>, bool)>,
    devices: BTreeMap<u64, Box<[u16]>>,
    addresses: BTreeMap<u64, Address>,
    clients: BTreeMap<u64, Client>,
    is_net_ready: bool,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    last: Registration::BEFORE_FIRST,
    providers: BTreeMap::new(),
    devices: BTreeMap::new(),
    addresses: BTreeMap::new(),
    clients: BTreeMap::new(),
    is_net_ready: false,
});

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn next(&mut self) -> u64 {
        self.last += 8;
        self.last
    }
}

/// News for clients.
#[derive(Clone, Debug)]
enum News {
    Binding(Opcode, Box<[u16]>),
    Address { is_new: bool, device: Box<[u16]>, address: Box<[u8]>, context: Box<[u8]> },
}

impl Address {
    fn news(&self, is_new: bool) -> News {
        let (device, address, context) = (self.device.clone(), self.address.clone(), self.context.clone());
        News::Address { is_new, device, address, context }
    }
}

/// A transport announces itself (`TdiRegisterProvider`).
pub fn register_provider(name: &[u16]) -> Registration {
    let mut registry = registry();
    let number = registry.next();
    registry.providers.insert(number, (name.into(), false));
    Registration(number)
}

/// A transport is fully bound (`TdiProviderReady`). The first one to be ready makes the network ready, of which
/// clients hear once (D-246).
///
/// # Errors
/// STATUS_INVALID_HANDLE.
pub fn provider_ready(provider: Registration) -> Result<(), NtStatus> {
    let (name, is_first) = {
        let mut registry = registry();
        let (name, is_ready) = registry.providers.get_mut(&provider.0).ok_or(NtStatus::INVALID_HANDLE)?;
        *is_ready = true;
        let name = name.clone();
        (name, !std::mem::replace(&mut registry.is_net_ready, true))
    };
    tell_all(&News::Binding(Opcode::ProviderReady, name));
    if is_first {
        tell_all(&News::Binding(Opcode::NetReady, Box::default()));
    }
    Ok(())
}

/// A transport goes.
///
/// # Errors
/// STATUS_INVALID_HANDLE.
pub fn deregister_provider(provider: Registration) -> Result<(), NtStatus> {
    registry().providers.remove(&provider.0).map(drop).ok_or(NtStatus::INVALID_HANDLE)
}

/// A device appears.
pub fn register_device(name: &[u16]) -> Registration {
    let number = {
        let mut registry = registry();
        let number = registry.next();
        registry.devices.insert(number, name.into());
        number
    };
    tell_all(&News::Binding(Opcode::Add, name.into()));
    Registration(number)
}

/// A device goes.
///
/// # Errors
/// STATUS_INVALID_HANDLE.
pub fn deregister_device(device: Registration) -> Result<(), NtStatus> {
    let name = registry().devices.remove(&device.0).ok_or(NtStatus::INVALID_HANDLE)?;
    tell_all(&News::Binding(Opcode::Delete, name));
    Ok(())
}

/// A local address appears: a TA_ADDRESS, the device it belongs to, and a TDI_PNP_CONTEXT or nothing (D-247).
pub fn register_address(device: &[u16], address: &[u8], context: &[u8]) -> Registration {
    let address = Address { device: device.into(), address: address.into(), context: context.into() };
    let news = address.news(true);
    let number = {
        let mut registry = registry();
        let number = registry.next();
        registry.addresses.insert(number, address);
        number
    };
    tell_all(&news);
    Registration(number)
}

/// A local address goes (D-251).
///
/// # Errors
/// STATUS_INVALID_HANDLE.
pub fn deregister_address(address: Registration) -> Result<(), NtStatus> {
    let gone = registry().addresses.remove(&address.0).ok_or(NtStatus::INVALID_HANDLE)?;
    tell_all(&gone.news(false));
    Ok(())
}

/// A client wants to hear. It is told of all that exists before this returns (D-243).
///
/// IRQL: PASSIVE_LEVEL.
pub fn register_client(handlers: Handlers) -> Registration {
    let (number, news) = {
        let mut registry = registry();
        let number = registry.next();
        registry.clients.insert(number, Client { handlers, callers: Vec::new(), idle: None });
        let devices = registry.devices.values().map(|name| News::Binding(Opcode::Add, name.clone()));
        let addresses = registry.addresses.values().map(|address| address.news(true));
        let ready = registry.providers.values().filter(|(_, is_ready)| *is_ready);
        let ready = ready.map(|(name, _)| News::Binding(Opcode::ProviderReady, name.clone()));
        let mut news: Vec<_> = devices.chain(addresses).chain(ready).collect();
        if registry.is_net_ready {
            news.push(News::Binding(Opcode::NetReady, Box::default()));
        }
        (number, news)
    };
    news.iter().for_each(|news| tell(number, news));
    Registration(number)
}

/// Tells a client of all addresses once more (`TdiEnumerateAddresses`).
pub fn enumerate_addresses(client: Registration) {
    let news: Vec<_> = registry().addresses.values().map(|address| address.news(true)).collect();
    news.iter().for_each(|news| tell(client.0, news));
}

/// A client does not want to hear any more. Waits for handlers that run on other threads (D-254).
///
/// # Errors
/// STATUS_INVALID_HANDLE.
///
/// IRQL: PASSIVE_LEVEL.
pub fn deregister_client(client: Registration) -> Result<(), NtStatus> {
    let here = gate::thread::current_thread_object();
    // SAFETY: all bytes zero is a value of a KernelEvent.
    let mut idle: KernelEvent = unsafe { std::mem::zeroed() };
    let address = &raw mut idle;
    {
        let mut registry = registry();
        let entry = registry.clients.get_mut(&client.0).ok_or(NtStatus::INVALID_HANDLE)?;
        // From here on nobody finds a handler to enter.
        entry.handlers = Handlers::default();
        entry.callers.retain(|&caller| caller != here);
        if entry.callers.is_empty() {
            registry.clients.remove(&client.0);
            return Ok(());
        }
        // SAFETY: the event's own memory, which nobody else knows yet.
        unsafe { event::initialize(address, DispatcherType::NOTIFICATION_EVENT, false) };
        entry.idle = Some(address as u64);
    }
    // SAFETY: initialised above. It is set under the registry's lock, which the next line takes before it goes.
    unsafe { wait::wait_single(address as u64, None) };
    registry().clients.remove(&client.0);
    Ok(())
}

fn tell_all(news: &News) {
    let clients: Vec<_> = registry().clients.keys().copied().collect();
    clients.into_iter().for_each(|client| tell(client, news));
}

/// Calls a client's handler, if it has one for this, and no exception has passed one that was called before.
fn tell(client: u64, news: &News) {
    if gate::seh::is_leaving() {
        return;
    }
    enter(client, |handlers| {
        match news {
            News::Binding(opcode, name) => tell_binding(handlers, *opcode, name),
            News::Address { is_new, device, address, context } => {
                let handler = if *is_new { handlers.add_address } else { handlers.delete_address };
                if handler != 0 {
                    let device = Text::new(device);
                    let context = if context.is_empty() { 0 } else { context.as_ptr() as u64 };
                    // SAFETY: a routine that a driver registered for this; what it is shown lives until it returns.
                    // The older form takes the address alone and ignores the rest.
                    unsafe { call::call3(handler, address.as_ptr() as u64, device.address(), context) };
                }
            }
        };
    });
}

fn tell_binding(handlers: Handlers, opcode: Opcode, name: &[u16]) {
    let text = Text::new(name);
    let device = if name.is_empty() { 0 } else { text.address() };
    if handlers.binding != 0 {
        // A multi-string with one member: the device itself.
        let bindings: Vec<u16> = name.iter().copied().chain([0, 0]).collect();
        let list = if name.is_empty() { 0 } else { bindings.as_ptr() as u64 };
        // SAFETY: a routine that a driver registered for this; what it is shown lives until it returns.
        unsafe { call::call3(handlers.binding, opcode as u64, device, list) };
    }
    let older = match opcode {
        Opcode::Add => handlers.bind,
        Opcode::Delete => handlers.unbind,
        Opcode::ProviderReady | Opcode::NetReady => 0,
    };
    if older != 0 && !gate::seh::is_leaving() {
        // SAFETY: as above.
        unsafe { call::call1(older, device) };
    }
}

/// Runs `run` as a call into a client, which cannot be deregistered meanwhile. `None` if it is gone.
fn enter<R>(client: u64, run: impl FnOnce(Handlers) -> R) -> Option<R> {
    let here = gate::thread::current_thread_object();
    let handlers = {
        let mut registry = registry();
        let entry = registry.clients.get_mut(&client)?;
        entry.callers.push(here);
        entry.handlers
    };
    let result = run(handlers);
    let mut registry = registry();
    if let Some(entry) = registry.clients.get_mut(&client) {
        // It may have been taken out by a deregistration from inside.
        if let Some(at) = entry.callers.iter().position(|&caller| caller == here) {
            entry.callers.swap_remove(at);
        }
        if entry.callers.is_empty()
            && let Some(idle) = entry.idle.take()
        {
            // SAFETY: initialised when it was stored; whoever waits for it takes this lock before it goes.
            unsafe { event::set(idle as *mut KernelEvent) };
        }
    }
    Some(result)
}

/// A UNICODE_STRING with its characters.
struct Text {
    string: Box<UnicodeString>,
    _units: Box<[u16]>,
}

impl Text {
    fn new(units: &[u16]) -> Self {
        let mut units: Box<[u16]> = units.into();
        let length = u16::try_from(units.len() * 2).unwrap_or(0);
        let string = UnicodeString { length, maximum_length: length, _pad: 0, buffer: units.as_mut_ptr() };
        Self { string: Box::new(string), _units: units }
    }

    fn address(&self) -> u64 {
        std::ptr::from_ref(&*self.string) as u64
    }
}

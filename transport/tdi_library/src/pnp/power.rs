//! Power and PnP events that a provider passes on to clients (D-252, D-253).

use std::sync::PoisonError;

use gate::call;
use host_lock::{Mutex, MutexGuard};
use nt_abi::NtStatus;

use super::{enter, registry};

/// A TdiPnPPowerRequest that clients have not all answered.
struct Pending {
    /// The NET_PNP_EVENT, by which answers name it.
    event: u64,
    /// Clients that said PENDING and have not completed yet.
    clients: Vec<u64>,
    status: NtStatus,
    /// The provider's completion routine.
    completion: u64,
    /// All clients have been asked, so the last answer ends it.
    is_asked: bool,
}

static PENDING: Mutex<Vec<Pending>> = Mutex::new(Vec::new());

fn pending() -> MutexGuard<'static, Vec<Pending>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a provider passes on: addresses of its own structures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) device: u64,
    pub(super) event: u64,
    pub(super) contexts: [u64; 2],
    pub(super) completion: u64,
}

/// Asks every client that has a handler. The first failure is the answer; PENDING if one is still at it, and then the
/// provider's completion routine is called with the answer.
pub(super) fn request(request: Request) -> NtStatus {
    let clients: Vec<_> = registry().clients.keys().copied().collect();
    let Request { event, completion, .. } = request;
    pending().push(Pending { event, clients: Vec::new(), status: NtStatus::SUCCESS, completion, is_asked: false });
    for client in clients {
        // Entered before the call: the answer may come from another thread before the handler has returned.
        with(event, |pending| pending.clients.push(client));
        let asked = enter(client, |handlers| {
            (handlers.power != 0).then(|| {
                let arguments = [request.device, event, request.contexts[0], request.contexts[1]];
                // SAFETY: a routine that a driver registered for this; what it is shown is the provider's.
                NtStatus(unsafe { call::driver(handlers.power, arguments) } as u32)
            })
        });
        if let Some(status) = asked.flatten().or(Some(NtStatus::SUCCESS)).filter(|&status| status != NtStatus::PENDING)
        {
            answer(event, client, status);
        }
    }
    let mut all = pending();
    let Some(at) = all.iter().position(|pending| pending.event == event) else { return NtStatus::SUCCESS };
    if all[at].clients.is_empty() {
        return all.swap_remove(at).status;
    }
    all[at].is_asked = true;
    NtStatus::PENDING
}

fn with(event: u64, change: impl FnOnce(&mut Pending)) {
    if let Some(pending) = pending().iter_mut().find(|pending| pending.event == event) {
        change(pending);
    }
}

fn answer(event: u64, client: u64, status: NtStatus) {
    with(event, |pending| {
        pending.clients.retain(|&other| other != client);
        if !status.is_success() && pending.status.is_success() {
            pending.status = status;
        }
    });
}

/// A client that said PENDING is done (`TdiPnPPowerComplete`).
pub(super) fn complete(client: u64, event: u64, status: NtStatus) {
    if status == NtStatus::PENDING {
        let message = "TdiPnPPowerComplete was called with STATUS_PENDING, which says nothing";
        gate::finding("D-252", message, gate::caller());
        return;
    }
    answer(event, client, status);
    let over = {
        let mut all = pending();
        let at =
            all.iter().position(|pending| pending.event == event && pending.is_asked && pending.clients.is_empty());
        at.map(|at| all.swap_remove(at))
    };
    if let Some(Pending { status, completion, .. }) = over.filter(|over| over.completion != 0) {
        // SAFETY: the routine that the provider gave for this.
        unsafe { call::call2(completion, event, status.0.into()) };
    }
}

//! IRP_MJ_CLEANUP and IRP_MJ_CLOSE (chapters 6.3 to 6.5).
//!
//! CLEANUP is what the remote node sees: the machines end what is under way, and the request completes when
//! nothing of this file object is out at the client any more, on whatever thread (C-160, C-568, C-569). CLOSE frees
//! what is left and says nothing to anybody (C-171).

use nt_abi::{FileObject, NtStatus};
use nt_io::irp;
use tdi_core::{AddressId, EndpointId};

use crate::dispatch::Sent;
use crate::endpoint::Caller;
use crate::transport::Transport;

impl Transport {
    /// Serves a CLEANUP.
    pub(crate) fn cleanup(&self, sent: &Sent) -> NtStatus {
        let file = sent.file();
        if let Some(mut endpoint) = self.endpoint_of(file) {
            let now = endpoint.tick();
            endpoint.core.handle_cleanup(now);
            let id = endpoint.core.id();
            let is_quiet = self.pump(endpoint, None).is_quiet;
            return if is_quiet { sent.complete(NtStatus::SUCCESS, 0) } else { self.finish_endpoint_cleanup(sent, id) };
        }
        if let Some(mut address) = self.address_of(file) {
            address.core.handle_cleanup();
            if let Some(datagrams) = &mut address.datagrams {
                datagrams.cleanup();
            }
            let id = address.core.id();
            drop(address);
            self.pump_address(id);
            return self.finish_address_cleanup(sent, id);
        }
        // Requests on control channels never pend, and they go on working (C-146).
        sent.complete(NtStatus::SUCCESS, 0)
    }

    fn finish_endpoint_cleanup(&self, sent: &Sent, id: EndpointId) -> NtStatus {
        let busy = self.endpoints.lock(id).and_then(|endpoint| (!endpoint.core.is_quiet()).then_some(endpoint.caller));
        if busy.is_some_and(|caller| self.may_wait_for(caller))
            && let Some(mut endpoint) = self.endpoints.lock(id)
            && !endpoint.core.is_quiet()
            && endpoint.cleanup() == 0
        {
            // SAFETY: a packet that was sent to us; whoever finds the endpoint quiet completes it, and needs the
            // lock for that.
            unsafe { irp::mark_pending(sent.irp) };
            endpoint.awaited.get_or_insert_default().cleanup = sent.irp as u64;
            return NtStatus::PENDING;
        }
        sent.complete(NtStatus::SUCCESS, 0)
    }

    fn finish_address_cleanup(&self, sent: &Sent, id: AddressId) -> NtStatus {
        let busy = self.addresses.lock(id).and_then(|address| address.is_busy().then_some(address.caller));
        if busy.is_some_and(|caller| self.may_wait_for(caller))
            && let Some(mut address) = self.addresses.lock(id)
            && address.is_busy()
            && address.cleanup == 0
        {
            // SAFETY: as in `finish_endpoint_cleanup`.
            unsafe { irp::mark_pending(sent.irp) };
            address.cleanup = sent.irp as u64;
            return NtStatus::PENDING;
        }
        sent.complete(NtStatus::SUCCESS, 0)
    }

    /// Whether this thread may wait until `caller` is back from its client. Not if that is this very thread: then
    /// the rest follows when its client call returns (C-142). Nor if this thread is itself in a client call at
    /// DISPATCH_LEVEL: two handlers that close each other's endpoint would wait for ever.
    fn may_wait_for(&self, caller: Caller) -> bool {
        !caller.is_here() && !self.is_raised_here()
    }

    /// Whether the calling thread is in a client call at DISPATCH_LEVEL. Asked only when a CLEANUP finds its file in
    /// use, so it may look at everything.
    fn is_raised_here(&self) -> bool {
        let here = Caller::here(true);
        let mut found = false;
        self.endpoints.for_each(|_, endpoint| found |= endpoint.caller == here);
        self.addresses.for_each(|_, address| found |= address.caller == here);
        found
    }

    /// Serves a CLOSE.
    pub(crate) fn close_file(&self, file: *mut FileObject) {
        if let Some(mut endpoint) = self.endpoint_of(file) {
            endpoint.is_closed = true;
            self.leave(endpoint);
        } else if let Some(mut address) = self.address_of(file) {
            address.is_closed = true;
            self.leave_address(address);
        } else if let Some(channel) = self.channel_of(file) {
            self.channels.remove(channel);
        }
    }
}

//! The caller's duties: polling, delivering, answering.

use nt_abi::NtStatus;
use nt_abi::tdi::{disconnect_flags, receive_flags};
use tdi_core::{
    AddressOutput, ConnectAnswer, DataKind, Indication, IndicationResult, OfferAnswer, Outcome, Output, RequestId,
    ReturnedReceive,
};

use super::network::spell;
use super::{Answer, Welcome, World};

impl World {
    /// Until nobody has anything to do any more.
    pub fn run(&mut self) {
        loop {
            let mut is_idle = true;
            for at in 0..self.sites.len() {
                while let Some(output) = self.sites[at].endpoint.poll_output() {
                    is_idle = false;
                    self.serve(at, output);
                }
            }
            for at in 0..self.addresses.len() {
                while let Some(output) = self.addresses[at].poll_output() {
                    is_idle = false;
                    self.serve_address(at, output);
                }
            }
            if is_idle {
                return;
            }
        }
    }

    fn serve(&mut self, at: usize, output: Output) {
        match output {
            Output::Network(command) => self.do_network(at, &command),
            Output::Address(id, message) => {
                let endpoint = self.sites[at].endpoint.id();
                self.addresses[id.index as usize].handle_message(endpoint, message);
            }
            Output::Complete(completion) => {
                let id = completion.id;
                let word = self.note_completion(id, completion.status, completion.information, completion.peer);
                self.client_acts(&word);
                self.sites[at].endpoint.handle_completion_delivered(id);
            }
            Output::Indicate(indication) => {
                assert!(self.sites[at].endpoint.is_indicating());
                let result = self.call_handler(at, indication);
                let now = self.now;
                let fault = self.sites[at].endpoint.handle_indication_result(now, result);
                self.faults.extend(fault);
            }
        }
    }

    /// Notes the completion of a request, once, and returns the story's word for it.
    #[track_caller]
    pub(super) fn note_completion(
        &mut self,
        id: RequestId,
        status: NtStatus,
        information: u64,
        peer: Option<std::net::SocketAddr>,
    ) -> String {
        let issued = self.requests.get_mut(&id).expect("a request that was issued");
        issued.completions.push((status, information));
        issued.peer = peer;
        assert_eq!(issued.completions.len(), 1, "{} completed twice", issued.label);
        let count = if information == 0 { String::new() } else { format!("/{information}") };
        let word = format!("{}={status:?}{count}", issued.label);
        self.tell(word.clone());
        word
    }

    /// What the client has planned for the inside of this call.
    fn client_acts(&mut self, word: &str) {
        while let Some(at) = self.deeds.iter().position(|(wanted, _)| word.starts_with(wanted.as_str())) {
            let (_, deed) = self.deeds.remove(at);
            deed(self);
        }
    }

    fn call_handler(&mut self, at: usize, indication: Indication) -> IndicationResult {
        match indication {
            Indication::Disconnect { handler, flags } => {
                assert!(handler.is_registered());
                let name = if flags == disconnect_flags::RELEASE { "RELEASE" } else { "ABORT" };
                let word = format!("gone:{name}");
                self.tell(word.clone());
                self.client_acts(&word);
                IndicationResult::Disconnect
            }
            Indication::Receive { handler, is_chained, flags, data, start } => {
                assert!(handler.is_registered() && start < data.len());
                assert_ne!(flags & receive_flags::ENTIRE_MESSAGE, 0);
                let is_expedited = flags & receive_flags::EXPEDITED != 0;
                assert_ne!(is_expedited, flags & receive_flags::NORMAL != 0);
                let kind = if is_expedited { DataKind::Expedited } else { DataKind::Normal };
                assert_eq!(is_chained, handler == super::handler(nt_abi::tdi::TdiEvent::CHAINED_RECEIVE));
                let word = spell(kind, &data[start..]);
                let word = if is_chained { format!("chain:{word}") } else { word };
                self.tell(word.clone());
                self.client_acts(&word);
                let answer = self.answers.pop_front().unwrap_or(Answer::takes((data.len() - start) as u32));
                let receive = answer.receive.map(|(length, flags)| {
                    let id = self.issue(at, "returned", vec![0; length as usize]);
                    ReturnedReceive { id, length, flags }
                });
                if is_chained && answer.status == NtStatus::PENDING {
                    return IndicationResult::Kept;
                }
                IndicationResult::Receive { status: answer.status, taken: answer.taken, receive, data }
            }
        }
    }

    fn serve_address(&mut self, at: usize, output: AddressOutput) {
        match output {
            AddressOutput::Deliver { endpoint, listen, offer } => {
                let endpoint = &mut self.sites[endpoint.index as usize].endpoint;
                if endpoint.handle_offer(self.now, listen, &offer) == OfferAnswer::Returned {
                    self.addresses[at].handle_offer_returned(offer);
                }
            }
            AddressOutput::IndicateConnect { handler, offer } => {
                assert!(handler.is_registered());
                self.tell("offered");
                self.client_acts("offered");
                let answer = match self.welcomes.pop_front().unwrap_or(Welcome::Refuse) {
                    Welcome::Refuse => ConnectAnswer::Rejected,
                    Welcome::With(site) => {
                        let id = self.issue(site, "acceptirp", Vec::new());
                        let address = self.addresses[at].id();
                        let endpoint = &mut self.sites[site].endpoint;
                        match endpoint.handle_accept_irp(self.now, id, address, &offer) {
                            Outcome::Taken => ConnectAnswer::Accepted,
                            Outcome::Done(status) => {
                                self.note_completion(id, status, 0, None);
                                ConnectAnswer::Rejected
                            }
                        }
                    }
                };
                self.addresses[at].handle_connect_result(offer.id, answer);
            }
            AddressOutput::Refuse(_) => self.tell("refuse"),
            AddressOutput::TellClosed(endpoint) => {
                let address = self.addresses[at].id();
                self.sites[endpoint.index as usize].endpoint.handle_address_closed(self.now, address);
            }
            AddressOutput::IndicateError { event, handler, status } => {
                assert!(handler.is_registered());
                self.tell(format!("{event:?}:{status:?}"));
                self.client_acts("ERROR");
                self.addresses[at].handle_error_indicated();
            }
            AddressOutput::Listen(on) => self.tell(if on { "listening" } else { "deaf" }),
        }
    }
}

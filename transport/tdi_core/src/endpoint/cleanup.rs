//! The last handle was closed.

use super::Endpoint;
use super::output::Waiting;
use super::state::{Connected, Release, State};
use crate::ids::ConnectionNumber;
use crate::status::{Cause, During, fate};
use crate::time::Instant;

impl Endpoint {
    /// The last handle was closed (C-155, C-157, C-163). A second call does nothing (C-567).
    ///
    /// The CLEANUP is to be completed once [`Endpoint::is_quiet`] (C-160, C-568, C-569).
    pub fn handle_cleanup(&mut self, now: Instant) {
        self.now = now;
        self.drop_leftovers_for(Cause::CleanedUp);
        match &self.state {
            State::CleanedUp => return,
            State::Connected(_) => self.part(),
            State::Idle => {}
            State::Connecting { .. } | State::Listening { .. } | State::Offered { .. } | State::Accepting { .. } => {
                self.end_setup(Cause::CleanedUp);
            }
        }
        self.enter(State::CleanedUp);
        self.detach();
        self.normal.free();
        self.expedited.free();
    }

    /// Ends E, R or W for good. The remote node is told of an abort if it loses something, or if the
    /// client has not taken all that came; otherwise of a release, and what was sent still arrives.
    /// While a receive handler runs, which of the two is not known before it returns.
    fn part(&mut self) {
        let State::Connected(connected) = self.enter(State::Idle) else { return };
        let is_lent = self.normal.is_lent() || self.expedited.is_lent();
        let has_unread = self.normal.is_ready() || self.expedited.is_ready();
        if let Some(link) = self.link.take() {
            if !self.sends.is_empty() || has_unread {
                self.leave(link.number, false);
            } else if is_lent {
                self.parting = Some(link.number);
            } else {
                self.leave(link.number, true);
            }
        }
        self.fail_requests(Cause::CleanedUp);
        if let Connected { release: Some(Release { request: Some(id), .. }), .. } = connected {
            self.complete(id, fate(Cause::CleanedUp, During::Releasing));
        }
    }

    /// Tells the network the end of a connection.
    pub(super) fn leave(&mut self, connection: ConnectionNumber, in_order: bool) {
        let end = if in_order { Waiting::Close(connection) } else { Waiting::Abort(connection) };
        self.outputs.push(end);
    }
}

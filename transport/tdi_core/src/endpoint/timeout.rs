//! Time limits.

use super::Endpoint;
use super::state::{Connected, State};
use crate::status::{Cause, During, fate};
use crate::time::Instant;

impl Endpoint {
    /// When to call [`Endpoint::handle_timeout`]; ask after draining the outputs.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.waits.iter().filter_map(|wait| wait.deadline).min();
        let state = match &self.state {
            State::Connecting { deadline, .. } | State::Offered { deadline } => Some(*deadline),
            State::Connected(Connected { release: Some(release), .. }) => release.deadline(),
            State::Connected(_)
            | State::Idle
            | State::Listening { .. }
            | State::Accepting { .. }
            | State::CleanedUp => None,
        };
        waits.into_iter().chain(state).min()
    }

    /// Time has come to `now`; harmless at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        while let Some(wait) = self.waits.remove(|wait| is_due(wait.deadline)) {
            self.complete(wait.id, fate(Cause::TimedOut, During::Releasing));
        }
        match &self.state {
            State::Connecting { deadline, .. } | State::Offered { deadline } if *deadline <= now => {
                self.end_setup(Cause::TimedOut);
            }
            State::Connected(Connected { release: Some(release), .. }) if is_due(release.deadline()) => {
                // The remote node has released: what is unread is no reason to call that a failure (C-331).
                if release.patience <= now {
                    self.keep_leftovers();
                } else {
                    self.end_connection(Cause::TimedOut);
                }
            }
            State::Connected(_)
            | State::Connecting { .. }
            | State::Offered { .. }
            | State::Idle
            | State::Listening { .. }
            | State::Accepting { .. }
            | State::CleanedUp => {}
        }
        self.settle();
    }
}

//! The end of a child whose time is up, or whose run was stopped from outside.
//!
//! On a thread of its own: the supervisor's may be held up by whoever reads its output, and a driver must not run on for
//! that.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stop;

/// How often it is looked whether the child's time is up.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a child may take to record its own death after the time limit.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A child that is ended when its time is up, and when its supervisor goes on without it.
pub struct Limited(Arc<Mutex<State>>);

struct State {
    child: Child,
    /// Its end, once it is known: then its process id means nothing any more.
    status: Option<ExitStatus>,
    /// When the time began to count, if it has a limit and did.
    counting: Option<(Instant, Duration)>,
    /// When it was asked to end.
    asked: Option<Instant>,
    /// The signal to the supervisor that it was asked for.
    stopped: Option<i32>,
    /// When it was killed because it did not.
    killed: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Its exit status.
    pub status: ExitStatus,
    /// It was asked to end, by its time limit or a signal to the supervisor.
    pub asked: bool,
    /// The signal to the supervisor, if it was asked for that.
    pub stopped: Option<i32>,
    /// It did not end when it was asked to, and was killed.
    pub killed: bool,
}

impl Limited {
    /// Watches over `child`. It has all the time in the world until [`Limited::begin`].
    pub fn new(child: Child) -> Self {
        let state = State { child, status: None, counting: None, asked: None, stopped: None, killed: false };
        let state = Arc::new(Mutex::new(state));
        let watched = Arc::downgrade(&state);
        thread::spawn(move || {
            while let Some(state) = watched.upgrade() {
                if !lock(&state).look() {
                    return;
                }
                drop(state);
                thread::sleep(LOOK_EVERY);
            }
        });
        Self(state)
    }

    /// From here on its time counts.
    pub fn begin(&self, timeout: Option<Duration>) {
        lock(&self.0).counting = timeout.map(|timeout| (Instant::now(), timeout));
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// What `waitpid` says.
    pub fn try_wait(&self) -> io::Result<Option<End>> {
        let mut state = lock(&self.0);
        let status = match state.status {
            None => state.child.try_wait()?,
            known => known,
        };
        state.status = status;
        Ok(status.map(|status| End {
            status,
            asked: state.asked.is_some(),
            stopped: state.stopped,
            killed: state.killed,
        }))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        if state.status.is_none() {
            // Errors tell that it is gone already.
            let _ = state.child.kill();
            state.status = state.child.wait().ok();
        }
    }
}

impl State {
    /// Ends the child if it is time to; whether there is anything left to watch over.
    fn look(&mut self) -> bool {
        if self.status.is_some() {
            return false;
        }
        match self.asked {
            None if stop::stop_signal().is_some()
                || self.counting.is_some_and(|(since, limit)| since.elapsed() > limit) =>
            {
                // The child's handler records where the driver is before it exits.
                let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGUSR2);
                self.asked = Some(Instant::now());
                self.stopped = stop::stop_signal();
            }
            Some(since) if since.elapsed() > LAST_WORDS && !self.killed => {
                self.killed = self.child.kill().is_ok();
            }
            _ => {}
        }
        true
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

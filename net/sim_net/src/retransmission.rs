//! When bytes that nobody acknowledges are sent again (RFC 6298).
//!
//! smoltcp has such a timer, but doubles its interval with every time-out and halves it only when it can measure a
//! round trip again: with bytes that were never sent before. Where one packet in ten is lost, what is repeated gets
//! lost again before it comes to that, until a minute passes between two attempts and the connection dies of it.
//! Hosts take the doubling back with the first acknowledgement of something new, and so does this timer. It cannot
//! set smoltcp's; it runs beside it, and the earlier one counts: see [`Connection::skip`](crate::connection::Connection::skip).

use smoltcp::wire::TcpSeqNumber;

use crate::link::Time;
use crate::packet::Carries;

const SECOND: Time = 1_000_000_000;
/// The interval before a round trip was measured.
const FIRST: Time = SECOND;
/// The shortest interval is that of Windows. The RFC would rather have a second, which no host takes.
const SHORTEST: Time = 300_000_000;
const LONGEST: Time = 60 * SECOND;

/// The retransmission timer of one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Retransmission {
    /// The number after the last byte that was sent, as far as it takes up any; see [`crate::packet::number_by_next`].
    pub(crate) next: Option<TcpSeqNumber>,
    /// The number after a byte that was sent into a shut window.
    asked: Option<TcpSeqNumber>,
    acknowledged: Option<TcpSeqNumber>,
    round_trip: Option<RoundTrip>,
    /// What the round trip is being measured with: the number after it, and when it was sent.
    sample: Option<(TcpSeqNumber, Time)>,
    /// When the timer was started, if it runs.
    since: Option<Time>,
    /// How often in a row it has run out.
    time_outs: u32,
}

/// A measured round trip, smoothed, and how much it varies.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    smoothed: Time,
    variation: Time,
}

impl RoundTrip {
    fn measured(earlier: Option<Self>, now: Time) -> Self {
        match earlier {
            None => Self { smoothed: now, variation: now / 2 },
            Some(Self { smoothed, variation }) => {
                Self { smoothed: (7 * smoothed + now) / 8, variation: (3 * variation + smoothed.abs_diff(now)) / 4 }
            }
        }
    }
}

impl Retransmission {
    /// Notes what was sent. `heard` says that it was on account of a packet from the remote side.
    pub(crate) fn sent(&mut self, now: Time, carries: Carries, heard: bool) {
        match carries {
            Carries::Nothing => {}
            Carries::New(end) => {
                self.next = Some(end);
                self.sample.get_or_insert((end, now));
            }
            Carries::Question(end) => {
                self.asked = Some(end);
                self.time_out(now);
            }
            Carries::Old => {
                // An acknowledgement of it would not tell which of the two it is for.
                self.sample = None;
                // Unless smoltcp was told of a loss, a timer has run out: this one, or its own.
                if !heard {
                    self.time_out(now);
                }
            }
        }
    }

    /// All bytes up to before `number` have arrived.
    pub(crate) fn acknowledge(&mut self, now: Time, number: TcpSeqNumber) {
        let Some(next) = self.next else { return };
        if self.acknowledged.is_some_and(|earlier| number <= earlier) {
            return;
        }
        if number > next {
            // The window was open when the question came; anything else was never sent.
            if self.asked.is_none_or(|asked| number > asked) {
                return;
            }
            self.next = Some(number);
        }
        self.acknowledged = Some(number);
        if let Some((_, sent)) = self.sample.take_if(|(end, _)| number >= *end) {
            self.round_trip = Some(RoundTrip::measured(self.round_trip, now - sent));
        }
        self.since = None;
    }

    /// Lets the timer run if something has not arrived yet, or `is_shut`: if it could not be sent.
    pub(crate) fn run(&mut self, now: Time, is_shut: bool) {
        if self.since.is_none() {
            self.time_outs = 0;
        }
        let is_waiting = is_shut || self.next != self.acknowledged;
        self.since = is_waiting.then_some(self.since.unwrap_or(now));
    }

    /// When something is to be sent again, if nothing is acknowledged until then.
    pub(crate) fn due_at(&self) -> Option<Time> {
        let interval = self.round_trip.map_or(FIRST, |trip| (trip.smoothed + 4 * trip.variation).max(SHORTEST));
        let doubled = interval.saturating_mul(1 << self.time_outs.min(16));
        Some(self.since? + doubled.min(LONGEST))
    }

    /// Whether it is time to send something again.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// The timer has run out, if it ran: starts it again, for twice the time.
    pub(crate) fn time_out(&mut self, now: Time) {
        if self.since.is_some() {
            self.since = Some(now);
            self.time_outs += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: TcpSeqNumber = TcpSeqNumber(-5);

    /// Sends bytes up to before this one, for the first time.
    fn send(timer: &mut Retransmission, second: Time, end: usize) {
        timer.sent(second * SECOND, Carries::New(START + end), false);
        timer.run(second * SECOND, false);
    }

    fn acknowledge(timer: &mut Retransmission, second: Time, number: usize) {
        timer.acknowledge(second * SECOND, START + number);
        timer.run(second * SECOND, false);
    }

    fn due(timer: &Retransmission) -> Option<Time> {
        timer.due_at().map(|at| at / SECOND)
    }

    /// A timer of a connection with round trips of 2 s; the first byte is acknowledged.
    fn measured() -> Retransmission {
        let mut timer = Retransmission::default();
        send(&mut timer, 0, 1);
        acknowledge(&mut timer, 2, 1);
        timer
    }

    #[test]
    fn timer_runs_while_something_is_not_acknowledged() {
        let mut timer = Retransmission::default();
        assert_eq!(due(&timer), None);
        send(&mut timer, 5, 10);
        send(&mut timer, 6, 20);
        assert_eq!(due(&timer), Some(6));
        acknowledge(&mut timer, 6, 10);
        // A round trip of 1 s, and four times the half of it for its variation.
        assert_eq!(due(&timer), Some(9));
        acknowledge(&mut timer, 7, 20);
        assert_eq!(due(&timer), None);
    }

    #[test]
    fn acknowledgement_of_something_new_takes_the_doubling_back() {
        let mut timer = measured();
        send(&mut timer, 10, 10);
        send(&mut timer, 10, 20);
        assert_eq!(due(&timer), Some(16));
        for (at, next) in [(16, 28), (28, 52), (52, 100), (100, 160), (160, 220)] {
            timer.sent(at * SECOND, Carries::Old, false);
            assert_eq!(due(&timer), Some(next));
        }
        acknowledge(&mut timer, 200, 1);
        assert_eq!(due(&timer), Some(220), "nothing new");
        acknowledge(&mut timer, 200, 10);
        assert_eq!(due(&timer), Some(206));
    }

    #[test]
    fn what_was_sent_twice_measures_nothing() {
        let mut timer = measured();
        send(&mut timer, 10, 10);
        timer.sent(11 * SECOND, Carries::Old, true);
        acknowledge(&mut timer, 90, 10);
        send(&mut timer, 100, 20);
        assert_eq!(due(&timer), Some(106));
    }

    #[test]
    fn shut_window_is_asked_about_less_and_less_often_until_it_opens() {
        let mut timer = measured();
        timer.run(10 * SECOND, true);
        assert_eq!(due(&timer), Some(16));
        timer.sent(16 * SECOND, Carries::Question(START + 2), false);
        timer.run(17 * SECOND, true);
        assert_eq!((due(&timer), timer.next), (Some(28), Some(START + 1)));
        // It was open for the question.
        acknowledge(&mut timer, 18, 2);
        assert_eq!((due(&timer), timer.next), (None, Some(START + 2)));
        timer.run(20 * SECOND, true);
        assert_eq!(due(&timer), Some(26));
    }

    #[test]
    fn acknowledgement_of_what_was_not_sent_is_none() {
        let mut timer = measured();
        send(&mut timer, 10, 10);
        acknowledge(&mut timer, 11, 11);
        assert_eq!((due(&timer), timer.next), (Some(16), Some(START + 10)));
    }
}
